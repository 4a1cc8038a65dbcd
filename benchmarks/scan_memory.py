"""Extra memory of a scan, in a process of its own: `python -m benchmarks.scan_memory ours 16384 2`.

Prints the peak of the resident memory during the forward and backward pass, less what was resident
before (the inputs and the gradient that the backward pass starts from), divided by the bytes of
the inputs. So it holds the output, all gradients and whatever is kept or used in between.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from functools import partial

from torch import Tensor

from benchmarks.memory import extra_peak, is_told
from benchmarks.scan_peers import channels_last, lean_loop, mambapy_scan
from benchmarks.scan_problem import Scan, both_passes, make_cotangent, make_inputs, ours
from benchmarks.timing import use_threads

PEERS: dict[str, Scan] = {"mambapy": mambapy_scan, "loop": lean_loop}
WARM_UP_LENGTH = 64


def extra_memory(side: str, length: int, threads: int) -> float | None:
    """Measure `ours` or one of `PEERS`; `None` where the system does not tell (not Linux)."""
    if not is_told():
        return None
    command = [sys.executable, "-m", "benchmarks.scan_memory", side, str(length), str(threads)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return float(done.stdout)


def _measure(side: str, length: int) -> float:
    scan = PEERS.get(side, ours)
    both_passes(scan, *_arguments(side, WARM_UP_LENGTH))  # loads code and starts threads
    inputs, cotangent = _arguments(side, length)
    extra = extra_peak(partial(both_passes, scan, inputs, cotangent))
    return extra / sum(x.numel() * x.element_size() for x in inputs)


def _arguments(side: str, length: int) -> tuple[Sequence[Tensor], Tensor]:
    inputs, cotangent = make_inputs(length), make_cotangent(length)
    if side in PEERS:
        return channels_last(inputs), cotangent.mT.contiguous()
    return inputs, cotangent


if __name__ == "__main__":
    use_threads(int(sys.argv[3]))
    print(_measure(sys.argv[1], int(sys.argv[2])))
