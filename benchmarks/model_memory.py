"""Extra memory of a training step: `python -m benchmarks.model_memory U-Net 128x128 1 2`.

Prints the peak of the resident memory during a step, less what was resident before, in bytes. The
step is not the first one: code, threads, weights, gradients and the optimiser's averages are there,
from a step on a small grid, and so are the fields. Its process measures nothing else, and gives
freed memory back at once: what is told is what the step needs at a time.
"""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial

from benchmarks.memory import GIVING_BACK, extra_peak, is_told
from benchmarks.model_cases import Problem, Training
from benchmarks.timing import use_threads

WARM_UP_POINTS = 16


def extra_memory(model: str, problem: Problem, threads: int) -> int | None:
    """Measure a model of `MODELS`; `None` where the system does not tell (not Linux)."""
    if not is_told():
        return None
    arguments = [model, *problem.arguments(), str(threads)]
    command = [sys.executable, "-m", "benchmarks.model_memory", *arguments]
    environment = {**os.environ, **GIVING_BACK}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    return int(done.stdout)


def _measure(model: str, problem: Problem) -> int:
    training = Training(model, len(problem.shape))
    training.step(Problem((WARM_UP_POINTS,) * len(problem.shape), 1).batch())
    return extra_peak(partial(training.step, problem.batch()))


if __name__ == "__main__":
    use_threads(int(sys.argv[-1]))
    print(_measure(sys.argv[1], Problem.from_arguments(*sys.argv[2:-1])))
