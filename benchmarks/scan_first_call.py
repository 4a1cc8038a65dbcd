"""The first scan of a fresh process, which compiles it or loads it from the cache.

`python -m benchmarks.scan_first_call 2` prints its figures as JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class FirstCall:
    """Seconds that the parts of a process took."""

    imports: float
    first: float
    second: float


def first_calls(threads: int) -> dict[str, FirstCall]:
    """Run a process with an empty cache, and one more with what it left there."""
    command = [sys.executable, "-m", "benchmarks.scan_first_call", str(threads)]
    results = {}
    with tempfile.TemporaryDirectory() as cache:
        environment = os.environ | {"XDG_CACHE_HOME": cache}
        for name in ("empty cache", "filled cache"):
            done = subprocess.run(
                command, check=True, env=environment, stdout=subprocess.PIPE, text=True
            )
            results[name] = FirstCall(**json.loads(done.stdout))
    return results


def _measure(threads: int) -> FirstCall:
    marks = [time.perf_counter()]
    from benchmarks.scan_problem import both_passes, make_cotangent, make_inputs, ours
    from benchmarks.timing import use_threads

    use_threads(threads)
    inputs, cotangent = make_inputs(64), make_cotangent(64)
    marks.append(time.perf_counter())
    for _ in range(2):
        both_passes(ours, inputs, cotangent)
        marks.append(time.perf_counter())
    return FirstCall(*(b - a for a, b in zip(marks, marks[1:], strict=False)))


if __name__ == "__main__":
    print(json.dumps(asdict(_measure(int(sys.argv[1])))))
