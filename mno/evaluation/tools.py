"""What an engineer would try first, beside the model: simple peers, fitted to the same solves."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from mno.core.absent import Absent
from mno.data.reading import Split, StoredSplit
from mno.evaluation.config import IntervalConfig, ToolName
from mno.evaluation.intervals import intervals
from mno.evaluation.kalman_peer import fit_kalman_filter
from mno.evaluation.metrics import mean_over
from mno.evaluation.reduced_basis import fit_reduced_basis
from mno.evaluation.simple_peers import GUESSES, Peer, errors_of_peer, fit_peer
from mno.evaluation.timing import one_thread, times_of
from mno.surrogate.description import Description

_SECONDS = 0.2  # for which answers of each are timed


def measure_tools(
    names: Sequence[ToolName],
    training: Split | StoredSplit,
    validation: Split | StoredSplit,
    test: Split | StoredSplit,
    description: Description,
    config: IntervalConfig,
) -> list[dict[str, Any]]:
    """Fit simple peers to what a model was trained on, and measure them on the test split.

    Returns:
        For each, in the order given: its `name`, and `why` there is none, or: the `error`, mean
        relative L2, and its `interval` or why there is none; `ms`, the median of an answer alone,
        on one thread; and `seconds`, the processor time of fitting it and choosing its
        hyperparameters; beside an observer, the `rmse` of each output.
    """
    found = []
    for name in names:
        with one_thread(), threadpool_limits(limits=1):
            if description.times and name not in GUESSES:
                peer = Absent("peers.own_times")
            elif name == "kalman_filter":
                peer = fit_kalman_filter(training, validation, description)
            elif name == "reduced_basis":
                peer = fit_reduced_basis(training, description)
            else:
                peer = fit_peer(name, training, validation, description)
            if isinstance(peer, Absent):
                found.append({"name": name, "why": peer})
                continue
            errors = errors_of_peer(peer, test, description)
            rmse = _rmse(peer, test, description) if description.observes else {}
            one = description.given({key: field[:1] for key, field in test.fields.items()})
            alone = times_of(lambda peer=peer, one=one: peer.predict(one), _SECONDS)
        figure = mean_over(errors, np.ones(len(errors), bool))
        found.append({
            "name": name, "error": figure.value(), "interval": intervals({"": figure}, config)[""],
            "ms": 1e3 * alone.median, "seconds": round(peer.seconds, 2), **rmse,
        })  # fmt: skip
    return found


def _rmse(peer: Peer, test: Split | StoredSplit, description: Description) -> dict[str, Any]:
    """Return the root mean square error of each output, in its unit."""
    fields = {name: array[:] for name, array in test.fields.items()}
    found, truth = peer.predict(description.given(fields)), description.truth(fields)
    squares = {
        n: np.nanmean((found[n] - true).astype(np.float64) ** 2) for n, true in truth.items()
    }
    return {"rmse": {name: float(np.sqrt(square)) for name, square in squares.items()}}
