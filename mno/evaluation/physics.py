"""Physical consistency: what a scenario checks on its own solutions, measured on predictions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from mno.core.errors import MnoError
from mno.evaluation.samples import some_samples
from mno.evaluation.solving import solver_of
from mno.scenarios.base import Scenario, split_samples
from mno.surrogate.trust.trust import equation_residual

if TYPE_CHECKING:
    from mno.data.reading import Split, StoredSplit
    from mno.surrogate.surrogate import Surrogate

Arrays: TypeAlias = Mapping[str, np.ndarray]


def physical_consistency(
    surrogate: Surrogate, test: Split | StoredSplit, count: int, batch_size: int
) -> dict[str, Any] | str:
    """Measure what the scenario checks, on predictions and on the truth beside them.

    The scenario's checks (residual, balance of mass, energy or flux, bounds) are those that every
    sample of its datasets passes; a surrogate is not made to pass them, so the tolerance is the
    solver's and says how far from a solution a prediction is. Checks of what is given alone are
    left out. Frames that were given stand before those predicted. The residual of the equation in
    torch, where the scenario has one, is what training may punish.

    Args:
        surrogate: The trained operator.
        test: Samples it was not trained on.
        count: How many of them are looked at, evenly spread over the split.
        batch_size: Samples per forward pass.

    Returns:
        For each of `checks` and for `residual`, `median`, `p95` and `largest` over the samples of
        `prediction` and `truth`; NaN where a value is not a number. In place of what cannot be
        measured, why.
    """
    scenario = solver_of(test.schema)
    if isinstance(scenario, str):
        return scenario
    samples = some_samples(test, count)
    description = surrogate.description
    predicted = _predicted(surrogate, samples.fields, batch_size)
    checks = {check.name: check for check in scenario.checks if not check.of_given}
    found, true = (_checked(scenario, fields) for fields in (predicted, samples.fields))
    residuals = [
        equation_residual(description, samples.schema, fields)
        for fields in (predicted, samples.fields)
    ]
    return {
        "samples": len(samples),
        "checks": {
            name: {
                "description": check.description,
                "tolerance": check.tolerance,
                "prediction": _summary(found[name]),
                "truth": _summary(true[name]),
            }
            for name, check in checks.items()
        },
        "residual": residuals[0]
        if isinstance(residuals[0], str) or isinstance(residuals[1], str)
        else {"prediction": _summary(residuals[0]), "truth": _summary(residuals[1])},
    }


def _predicted(surrogate: Surrogate, fields: Arrays, batch_size: int) -> dict[str, np.ndarray]:
    """Return whole fields whose outputs are predicted, of states after the given frames."""
    description = surrogate.description
    given, truth = description.given(fields), description.truth(fields)
    steps = truth[description.states[0]].shape[1] if description.rolls_out else None
    answer = surrogate.predict(given, batch_size, steps)
    states = {
        name: np.concatenate([given[name], answer[name]], axis=1) for name in description.states
    }
    return {**fields, **answer, **states}


def _checked(scenario: Scenario, fields: Arrays) -> dict[str, np.ndarray]:
    """Return the value of each check on each sample; NaN where it cannot be computed."""
    rows = []
    for given, solved in split_samples(scenario.fields, fields):
        try:
            with np.errstate(all="ignore"):
                rows.append(scenario.check(given, solved))
        except (MnoError, ValueError, ArithmeticError):
            rows.append({})
    names = [check.name for check in scenario.checks]
    return {name: np.array([row.get(name, math.nan) for row in rows]) for name in names}


def _summary(values: np.ndarray) -> dict[str, float]:
    with np.errstate(invalid="ignore"):
        median, p95, largest = np.quantile(values, [0.5, 0.95, 1.0])
    return {"median": float(median), "p95": float(p95), "largest": float(largest)}
