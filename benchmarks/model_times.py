"""Training steps of all models in turn: `python -m benchmarks.model_times 128x128 1 2`.

Prints the seconds of each round by name of the model as JSON. The process is like that of the
line's training stage: it keeps freed memory, and its waiting threads soon sleep.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import partial

from benchmarks.memory import KEEPING
from benchmarks.model_cases import Problem, Training, installed_models
from benchmarks.timing import Times, in_turn, use_threads

ROUNDS = 3
PAUSE = 0.01
STAGE = {**KEEPING, "GOMP_SPINCOUNT": "10000"}


def step_times(problem: Problem, threads: int) -> Times:
    """Time the models that are installed, in a process of their own."""
    command = [sys.executable, "-m", "benchmarks.model_times", *problem.arguments(), str(threads)]
    environment = {**os.environ, **STAGE}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    return json.loads(done.stdout)


def _measure(problem: Problem) -> Times:
    batch = problem.batch()
    steps = {
        model: partial(Training(model, len(problem.shape)).step, batch)
        for model in installed_models()
    }
    return in_turn(steps, ROUNDS, pause=PAUSE)


if __name__ == "__main__":
    use_threads(int(sys.argv[-1]))
    print(json.dumps(_measure(Problem.from_arguments(*sys.argv[1:-1]))))
