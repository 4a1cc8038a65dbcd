"""Samples of a scenario, and the checks that they do not pass."""

from __future__ import annotations

import numpy as np

from mno.scenarios.base import Fields, Scenario


def solved(
    scenario: Scenario, seed: int = 0
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    inputs = scenario.sample(np.random.default_rng(seed))
    return inputs, scenario.solve(inputs)


def failures(scenario: Scenario, inputs: Fields, outputs: Fields) -> set[str]:
    """Names of the checks that a sample does not pass; NaN does not pass."""
    values = scenario.check(inputs, outputs)
    assert set(values) == {check.name for check in scenario.checks}
    return {check.name for check in scenario.checks if not values[check.name] <= check.tolerance}
