"""Two models of the same fields, measured in pairs: latency, memory, physical consistency.

What was recorded of them at different hours, on machines that did other work, cannot be compared.
So their calls alternate, and each is loaded into a fresh process for its memory.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mno.core.absent import Absent
from mno.data.reading import Split, StoredSplit
from mno.evaluation.memory import Process
from mno.evaluation.solver import physical_consistency
from mno.evaluation.timing import one_thread, seconds_of
from mno.surrogate.surrogate import Surrogate

_MOST_CALLS, _FEWEST_CALLS = 200, 5
_WARM = 2  # calls that also pay for what is set up once

Sides = dict[str, float]


def measure_beside(
    own: Path,
    champion: Path,
    test: Split | StoredSplit,
    physics: Mapping[str, Any] | str,
    *,
    samples: int,
    batch_size: int,
    seconds: float = 1.0,
) -> dict[str, Sides | str]:
    """Measure the models in two folders.

    Args:
        own: Folder of the first.
        champion: Folder of the second.
        test: Samples to predict; the first of them, for latency and memory.
        physics: What `physical_consistency` found of the first on these samples: it is no
            matter of time or machine, and is not measured twice.
        samples: How many are looked at for physical consistency.
        batch_size: Samples per forward pass there.
        seconds: Time for the alternating calls.

    Returns:
        `latency_ms` (median of single predictions, one thread), `peak_memory_mib` (of a
        process that loads the model and predicts one sample) and `physics.CHECK` (95th
        percentile over predictions): each `own` and `champion`; or, in one line, why not.

    Raises:
        InputError: One of them cannot be loaded, or does not predict these samples.
    """
    folders = {"own": own, "champion": champion}
    models = {side: Surrogate.load(folder) for side, folder in folders.items()}
    first = {name: field[:1] for name, field in test.fields.items()}
    given = {side: model.description.given(first) for side, model in models.items()}
    at_work = {s: Process(["predict", str(folder)], given[s]) for s, folder in folders.items()}
    theirs = physical_consistency(models["champion"], test, samples, batch_size)
    memory = {side: process.peak_mib() for side, process in at_work.items()}
    return {
        "latency_ms": _latency(models, given, seconds),  # last, when nothing of ours works beside
        "peak_memory_mib": _figures(memory),
        **_checks(physics, theirs),
    }


def _latency(
    models: Mapping[str, Surrogate], given: Mapping[str, Mapping[str, np.ndarray]], budget: float
) -> Sides:
    times: dict[str, list[float]] = {side: [] for side in models}
    calls, spent = -_WARM, 0.0
    with one_thread():
        while calls < _MOST_CALLS and (calls < _FEWEST_CALLS or spent < budget):
            for side, model in models.items():
                times[side].append(seconds_of(lambda m=model, x=given[side]: m.predict(x, 1)))
                spent += times[side][-1]
            calls += 1
    return {side: 1e3 * float(np.median(found[_WARM:])) for side, found in times.items()}


def _checks(own: Mapping[str, Any] | str, champion: Mapping[str, Any] | Absent) -> dict[str, Any]:
    """Return the 95th percentile of each check over the predictions of both."""
    if isinstance(own, str) or isinstance(champion, Absent):
        return {"physics": str(own if isinstance(own, str) else champion)}
    sides = {"own": own["checks"], "champion": champion["checks"]}
    return {
        f"physics.{name}": _figures(
            {side: checks[name]["prediction"]["p95"] for side, checks in sides.items()}
        )
        for name in sides["own"]
        if name in sides["champion"]
    }


def _figures(found: Mapping[str, float | Absent]) -> Sides | str:
    """Return the figures of both; or why one of them is none."""
    figures: Sides = {}
    for side, value in found.items():
        if isinstance(value, Absent):
            return f"{side}: {value}"
        if not math.isfinite(value):
            return f"{side}: {value} is no figure"
        figures[side] = float(value)
    return figures
