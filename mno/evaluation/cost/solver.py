"""What the scenario's own solver costs: times of solving the test inputs, on one thread, warm."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
from threadpoolctl import threadpool_limits

from mno.core.errors import MnoError
from mno.evaluation.cost.timing import Times, seconds_of
from mno.scenarios.base import Fields, Scenario, split_samples

if TYPE_CHECKING:
    from mno.data.reading import Split, StoredSplit

MOST_PROBLEMS = 32


def given_of(test: Split | StoredSplit, samples: int = MOST_PROBLEMS) -> Iterator[Fields]:
    """Yield what the solver is given of the first samples of a split, shape `dims` by name."""
    fields = {field.name: test.fields[field.name][:samples] for field in test.schema.fields}
    for given, _ in islice(split_samples(test.schema.fields, fields), samples):
        yield given


def solver_times(scenario: Scenario, test: Split | StoredSplit, budget: float) -> Times | str:
    """Time the solver on the inputs of test samples, each once, at the dataset's grid.

    Args:
        scenario: At the dataset's parameters and resolution.
        test: The test split.
        budget: Seconds; the sample in hand when they have passed is the last.

    Returns:
        The times; or, in one line, why there are none.
    """
    if budget <= 0:
        return "not measured: evaluate.economics.comparison_seconds is 0"
    times: list[float] = []
    with threadpool_limits(limits=1):
        scenario.compile()
        for number, given in enumerate(given_of(test)):
            try:
                if not number:
                    scenario.solve(given)  # pays for what is set up once
                times.append(seconds_of(lambda g=given: scenario.solve(g)))
            except MnoError as error:
                return f"the solver fails on a test sample: {error}"
            if sum(times) >= budget:
                break
    return Times(np.array(times))
