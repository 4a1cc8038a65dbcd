"""Samples that a scenario draws and solves anew, for a trial."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from threadpoolctl import threadpool_limits

from mno.core.errors import MnoError, first_line
from mno.data.reading import Split
from mno.evaluation.robustness.streams import stream
from mno.evaluation.solving import other_solver, solver_of

if TYPE_CHECKING:
    from mno.data.reading import Schema


def solved_anew(
    schema: Schema,
    count: int,
    seed: int,
    resolution: int | None = None,
    changed: Mapping[str, Any] | None = None,
) -> Split | str:
    """Draw and solve samples of a dataset's scenario, or of another near it.

    Sample k is drawn from the same stream whatever is changed, so that it is the same problem but
    for the change. None of them is a sample of the dataset.

    Args:
        schema: The dataset's.
        count: Samples.
        seed: Of their streams.
        resolution: Points along each space axis; the dataset's if not given.
        changed: Parameters in place of the dataset's, by name.

    Returns:
        The samples; or, in one line, why there are none.
    """
    own = solver_of(schema)
    scenario = own if isinstance(own, str) else other_solver(schema, resolution, changed)
    if isinstance(scenario, str):
        return scenario
    try:
        # One thread, so that the order of summation in BLAS does not depend on the machine's cores.
        with threadpool_limits(limits=1):
            made = list(scenario.make(range(count), lambda n: stream(seed, "solved", n)))
    except MnoError as error:
        return f"the solver cannot solve them: {first_line(error)}"
    fields = {
        field.name: np.stack([{**given, **solved}[field.name] for given, solved in made])
        for field in scenario.fields
    }
    there = replace(schema, fields=scenario.fields, axes=scenario.axes)
    return Split("solved", there, fields, np.arange(count))
