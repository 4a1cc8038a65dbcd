"""What an engineer would try first, beside the model: simple peers, fitted to the same solves."""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from mno.core.absent import Absent
from mno.evaluation.config import IntervalConfig, ToolName
from mno.evaluation.evaluator import AnySplit, some_samples
from mno.evaluation.intervals import intervals
from mno.evaluation.kalman_peer import fit_kalman_filter, make_ensemble_filter
from mno.evaluation.metrics import mean_over
from mno.evaluation.reduced_basis import fit_reduced_basis
from mno.evaluation.simple_peers import GUESSES, Answer, Arrays, errors_of_peer, fit_peer
from mno.evaluation.timing import one_thread, times_of
from mno.evaluation.trial import errors_of
from mno.surrogate.description import Description

_SECONDS = 0.2  # for which answers of each are timed


def measure_tools(
    names: Sequence[ToolName],
    training: AnySplit,
    validation: AnySplit,
    test: AnySplit,
    description: Description,
    config: IntervalConfig,
    model: Answer | None = None,
) -> list[dict[str, Any]]:
    """Fit simple peers to what a model was trained on, and measure them on the test split.

    An ensemble filter solves as many runs as it has members for each run that it tells, so that it
    is measured on a few of them alone.

    Returns:
        For each, in the order given: its `name`, and `why` there is none, or: the `error`, mean
        relative L2, and its `interval` or why there is none; `ms` that an answer takes,
        on one thread; and `seconds`, the processor time of fitting it and choosing its
        hyperparameters; beside an observer, the `rmse` of each output, and, of a tool that was
        measured on some `samples` alone, that of the `model` on the same.
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
                begun = time.perf_counter()
                told = peer.predict(given)
                ms = 1e3 * (time.perf_counter() - begun) / len(some)
                errors, more = errors_of(told, truth), {"rmse": _rmse(told, truth)}
                if peer.asked and model:
                    more |= {"samples": len(some), "model": _rmse(model(given), truth)}
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
    squares = {
        n: np.nanmean((found[n] - true).astype(np.float64) ** 2) for n, true in truth.items()
    }
    return {name: float(np.sqrt(square)) for name, square in squares.items()}
