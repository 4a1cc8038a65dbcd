"""The scan and its peers where the C library keeps freed memory, in a process of its own.

glibc takes that wish from the environment, when a process starts.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import partial

from benchmarks.memory import KEEPING
from benchmarks.scan_peers import PEERS, channels_last, is_installed
from benchmarks.scan_problem import both_passes, make_cotangent, make_inputs, ours
from benchmarks.timing import Times, in_turn, use_threads

LENGTH = 1024


def times_with_kept_memory(threads: int) -> Times:
    """Time forward and backward passes of `ours` and of the peers that are installed."""
    command = [sys.executable, "-m", "benchmarks.scan_kept_memory", str(threads)]
    environment = {**os.environ, **KEEPING}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    return json.loads(done.stdout)


def _measure() -> Times:
    inputs, cotangent = make_inputs(LENGTH), make_cotangent(LENGTH)
    moved, moved_cotangent = channels_last(inputs), cotangent.mT.contiguous()
    functions = {
        name: partial(both_passes, scan, moved, moved_cotangent)
        for name, scan in PEERS.items()
        if is_installed(scan)
    }
    functions["ours"] = partial(both_passes, ours, inputs, cotangent)
    return in_turn(functions, 9, pause=0.01, settle=0.05)


if __name__ == "__main__":
    use_threads(int(sys.argv[1]))
    print(json.dumps(_measure()))
