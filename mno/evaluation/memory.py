"""Peak memory of a process that does nothing but predict, or nothing but solve.

The evaluating process holds data and figures as well, and keeps what it frees, so that its own
memory says little. A fresh process loads the model (or the solver), is given a few samples, and
answers with the most that was resident of it (`VmHWM`), libraries included.
"""

import io
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mno.core.absent import Absent
from mno.core.errors import first_line

_TIMEOUT = 300.0


def peak_mib(task: list[str], inputs: Mapping[str, np.ndarray]) -> float | Absent:
    """Return the peak of a process's resident memory in MiB, or why it is not known.

    Its task is `["predict", folder of the model]`, or `["solve", scenario, resolution, parameters
    as JSON]`; it is given arrays by name: samples to predict at once, or one to solve.
    """
    command = [sys.executable, "-m", __name__, *task]
    with tempfile.TemporaryFile() as given:
        np.savez(given, allow_pickle=False, **inputs)
        given.seek(0)
        try:
            done = subprocess.run(command, stdin=given, capture_output=True, timeout=_TIMEOUT)
        except subprocess.TimeoutExpired:
            return Absent("memory.too_long", {"seconds": _TIMEOUT})
    if done.returncode:
        *_, last = ["", *done.stderr.decode(errors="replace").strip().splitlines()]
        return Absent("memory.failed", {"said": last}) if last else Absent("memory.silent")
    return float(done.stdout.split()[-1])


def own_peak_mib() -> float:
    """Return the most that was ever resident of this process, in MiB."""
    # getrusage would count what the process was before it became this program.
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    (peak,) = (line.split()[1] for line in lines if line.startswith("VmHWM:"))
    return int(peak) / 2**10


def _work(kind: str, *what: str) -> None:
    with np.load(io.BytesIO(sys.stdin.buffer.read()), allow_pickle=False) as arrays:
        inputs = dict(arrays)
    if kind == "predict":
        from mno.surrogate.surrogate import Surrogate

        Surrogate.load(what[0]).predict(inputs, len(next(iter(inputs.values()))))
    else:  # does without torch
        from mno.scenarios.base import make_scenario

        make_scenario(what[0], int(what[1]), json.loads(what[2])).solve(inputs)


if __name__ == "__main__":
    answer = os.dup(1)
    os.dup2(2, 1)  # what a solver prints is no answer
    try:
        _work(*sys.argv[1:])
        os.write(answer, str(own_peak_mib()).encode())
    except Exception as error:  # whatever it is, the one who waits is told in one line
        sys.exit(first_line(error) or type(error).__name__)
