"""What an engineer would try first, beside the model: simple peers, fitted to the same solves.

One of them is made here, a reduced basis: the equation itself, where it is linear, on the modes of
known solutions.

    M du/dt + K u = f,   u = V y:      V'M V dy/dt + V'K V y = V'f    (Galerkin)

`V` are the leading modes of the training split's solutions by proper orthogonal decomposition
(Sirovich, 1987, part I), which pyMOR finds. `M`, `K` and `f` are each sample's own, assembled
whenever it is asked, so that materials and geometry may differ from one to the next. The small
system is solved in time by its eigenvectors: exactly, as what drives it is constant between frames.
"""

import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from scipy.linalg import eigh, solve
from threadpoolctl import threadpool_limits

from mno.core.absent import Absent
from mno.evaluation.config import IntervalConfig, ToolName
from mno.evaluation.evaluator import AnySplit, some_samples
from mno.evaluation.intervals import intervals
from mno.evaluation.kalman_peer import fit_kalman_filter, make_ensemble_filter
from mno.evaluation.metrics import mean_over
from mno.evaluation.simple_peers import GUESSES, Answer, Arrays, Peer, errors_of_peer, fit_peer
from mno.evaluation.solver import solver_of
from mno.evaluation.timing import one_thread, times_of
from mno.evaluation.trial import errors_of
from mno.scenarios.linear import LinearSystem
from mno.surrogate.description import Description

MODES = 160  # at most; fewer where the solutions have no more
_SAMPLES = 400  # of the training split that they are made of, at most, evenly spread
_SOLUTIONS = 2000  # of these samples, frames drawn at random, at most
_SECONDS = 0.2  # for which answers of each are timed


def measure_tools(
    names: Sequence[ToolName], training: AnySplit, validation: AnySplit, test: AnySplit,
    description: Description, config: IntervalConfig, model: Answer | None = None,
) -> list[dict[str, Any]]:  # fmt: skip
    """Fit simple peers to what a model was trained on, and measure them on the test split.

    An ensemble filter solves as many runs as it has members for each run that it tells, so that it
    is measured on a few of them alone.

    Returns:
        For each, in the order given: its `name`, and `why` there is none, or: the `error`, mean
        relative L2, and its `interval` or why there is none; `ms` that an answer takes, one sample
        at a time, on one thread; and `seconds`, the processor time of fitting it and choosing its
        hyperparameters; beside an observer, the `rmse` of each output, and, of a tool that was
        measured on some `samples` alone, that of the `model`, and `model_error`, on the same.
    """
    found = []
    for name in names:
        with one_thread(), threadpool_limits(limits=1):
            if description.times and name not in GUESSES:
                peer = Absent("peers.own_times")
            elif name == "kalman_filter":
                peer = fit_kalman_filter(training, validation, description)
            elif name == "ensemble_filter":
                peer = make_ensemble_filter(training, description)
            elif name == "reduced_basis":
                peer = fit_reduced_basis(training, description)
            else:
                peer = fit_peer(name, training, validation, description)
            if isinstance(peer, Absent):
                found.append({"name": name, "why": peer})
                continue
            more: dict[str, Any] = {}
            if description.observes:
                some = some_samples(test, peer.asked or len(test))
                given, truth = description.given(some.fields), description.truth(some.fields)
                told = peer.predict(given)
                errors, more = errors_of(told, truth), {"rmse": _rmse(told, truth)}
                if peer.asked and model:
                    its = model(given)
                    more |= {"samples": len(some), "model": _rmse(its, truth)}
                    more |= {"model_error": float(errors_of(its, truth).mean())}
            else:
                errors = errors_of_peer(peer, test, description)
            one = description.given({key: field[:1] for key, field in test.fields.items()})
            ms = 1e3 * times_of(lambda peer=peer, one=one: peer.predict(one), _SECONDS).median
        figure = mean_over(errors, np.ones(len(errors), bool))
        found.append({
            "name": name, "error": figure.value(), "interval": intervals({"": figure}, config)[""],
            "ms": ms, "seconds": round(peer.seconds, 2), **more,
        })  # fmt: skip
    return found


def _rmse(found: Arrays, truth: Arrays) -> dict[str, float]:
    """Return the root mean square error of each output, in its unit."""
    errors = {name: (found[name] - true).astype(np.float64) for name, true in truth.items()}
    return {name: float(np.sqrt(np.nanmean(error**2))) for name, error in errors.items()}


def fit_reduced_basis(training: AnySplit, description: Description) -> Peer | Absent:
    """Find the modes; none where the equation is not known to be linear, or without pyMOR."""
    start = time.process_time()
    scenario = solver_of(training.schema)
    if isinstance(scenario, Absent):
        return scenario
    first, *others = description.outputs
    known = scenario.linear_system(next(_each(description.given(some_samples(training, 1).fields))))
    if others or known is None:
        return Absent("peers.not_linear")
    try:
        from pymor.algorithms.pod import pod
        from pymor.core.logger import set_log_levels
        from pymor.vectorarrays.numpy import NumpyVectorSpace
    except ImportError:
        return Absent("peers.no_pymor")
    set_log_levels({"pymor": "WARN"})

    def system(one: Arrays) -> LinearSystem:
        its = scenario.linear_system(one)
        assert its is not None
        return its

    some = some_samples(training, _SAMPLES).fields
    pairs = zip(some[first], _each(description.given(some)), strict=True)
    points = len(known.source.T)
    levelled = [(solved - system(one).level).reshape(-1, points) for solved, one in pairs]
    solutions = np.concatenate(levelled)
    rows = np.random.default_rng(0).permutation(len(solutions))[:_SOLUTIONS]
    columns = np.asfortranarray(solutions[rows].T, dtype=np.float64)
    array = NumpyVectorSpace.from_numpy(columns)  # pyright: ignore[reportCallIssue]
    found, *_ = pod(array, modes=MODES)
    modes = found.to_numpy()
    shape = some[first].shape[1 + (first in description.states) :]
    times = [axis.points for axis in training.schema.axes if axis.name == "time"]

    def solution(one: Arrays) -> np.ndarray:
        its = system(one)
        if first not in description.states:
            return _steady(its, modes)
        given, interval = one[first], float(times[0][1] - times[0][0])
        return _in_time(its, modes, given[-1].ravel(), its.source[len(given) - 1 :], interval)

    def answer(inputs: Arrays) -> dict[str, np.ndarray]:
        found = np.stack([solution(one) for one in _each(inputs)]).astype(np.float32)
        return {first: found.reshape(*found.shape[:-1], *shape)}

    settings = {"modes": float(modes.shape[1])}
    return Peer("reduced_basis", settings, len(some[first]), time.process_time() - start, answer)


def _each(inputs: Arrays) -> Iterator[dict[str, np.ndarray]]:
    for row in range(len(next(iter(inputs.values())))):
        yield {name: field[row] for name, field in inputs.items()}


def _steady(system: LinearSystem, modes: np.ndarray) -> np.ndarray:
    stiffness = modes.T @ (system.stiffness @ modes)
    return modes @ solve(stiffness, modes.T @ system.source, assume_a="pos") + system.level


def _in_time(
    system: LinearSystem, modes: np.ndarray, begin: np.ndarray, source: np.ndarray, interval: float
) -> np.ndarray:
    """Return the frames after each interval, `(frames, points)`, from one to begin with."""
    assert system.mass is not None
    heavy = modes.T * system.mass
    rates, vectors = eigh(modes.T @ (system.stiffness @ modes), heavy @ modes)
    y = vectors.T @ (heavy @ (begin - system.level))
    decay, gain = np.exp(-rates * interval), -np.expm1(-rates * interval) / rates
    frames = []
    for force in source @ modes @ vectors:
        y = decay * y + gain * force
        frames.append(y)
    return np.array(frames) @ vectors.T @ modes.T + system.level
