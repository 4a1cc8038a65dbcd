"""Whole models: a training step of each backbone with mamba, with attention, and of baselines."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial

from benchmarks.model_cases import Problem, installed_models, num_parameters
from benchmarks.model_memory import extra_memory
from benchmarks.model_report import Measured, report
from benchmarks.model_times import step_times
from benchmarks.page import Section

THREADS = 2
PROBLEMS = (Problem((64, 64), 4), Problem((128, 128), 1), Problem((8192,), 2))
"""All with 16,384 points in a step."""

AT_ONCE = 2
"""Processes that measure memory at the same time, which does not depend on how fast they are."""


def run() -> Section:
    return report([measure(problem) for problem in PROBLEMS])


def measure(problem: Problem) -> Measured:
    """Measure the models that are installed: times in one process, memory in one for each."""
    models, dims = installed_models(), len(problem.shape)
    parameters = {model: num_parameters(model, dims) for model in models}
    times = step_times(problem, THREADS)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        memory = pool.map(partial(extra_memory, problem=problem, threads=THREADS), models)
        return Measured(problem, parameters, times, dict(zip(models, memory, strict=True)))
