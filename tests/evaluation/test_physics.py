"""Physical consistency: the scenario's checks on predictions, beside the truth."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from small_lines import Line, line

from mno.core.absent import Absent, as_json
from mno.evaluation.solver import physical_consistency
from mno.scenarios.base import make_scenario
from mno.surrogate.surrogate import Surrogate
from tests.support.untrained import broken


def found(small: Line, surrogate: Surrogate | None = None, count: int = 4) -> Any:
    return physical_consistency(surrogate or small.surrogate, small.test, count, 8)


@pytest.mark.parametrize(
    ("scenario", "history"), [("darcy", 1), ("diffusion_reaction", 2), ("darcy_ring", 1)]
)
def test_the_truth_keeps_tolerances_that_predictions_break(scenario: str, history: int) -> None:
    result = found(line(scenario, history=history))
    assert result["samples"] == 4
    assert result["checks"]
    for check in result["checks"].values():
        assert check["truth"]["largest"] <= check["tolerance"]
    assert any(c["prediction"]["median"] > c["tolerance"] for c in result["checks"].values())
    for check in result["checks"].values():
        low, high, most = (check["prediction"][key] for key in ("median", "p95", "largest"))
        assert low <= high <= most
    json.dumps(result, allow_nan=False, default=as_json)


def test_checks_of_what_was_given_are_left_out() -> None:
    assert "initial" not in found(line("diffusion_reaction", history=2))["checks"]
    assert "mesh" not in found(line("darcy_ring"))["checks"]


def test_values_are_those_of_the_scenarios_own_check() -> None:
    small = line("darcy")
    scenario = make_scenario("darcy", 16, {})
    rows = np.arange(4) * len(small.test) // 4
    given = {"permeability": small.test.fields["permeability"][rows]}
    answer = small.surrogate.predict(given)
    values = [
        scenario.check({"permeability": a}, {"pressure": p})["flux_balance"]
        for a, p in zip(given["permeability"], answer["pressure"], strict=True)
    ]
    check = found(small)["checks"]["flux_balance"]
    assert check["prediction"]["largest"] == max(values)
    assert check["prediction"]["median"] == pytest.approx(np.median(values))


def test_the_residual_of_the_truth_is_that_of_the_solver() -> None:
    residual = found(line("darcy"))["residual"]
    assert residual["truth"]["largest"] < 1e-4 < residual["prediction"]["median"]
    none = Absent("residual.none_written", {"scenario": "darcy_ring"})
    assert found(line("darcy_ring"))["residual"] == none


@pytest.mark.parametrize(("scenario", "history"), [("darcy", 1), ("diffusion_reaction", 2)])
def test_a_prediction_that_is_not_a_number_has_no_physics_and_no_crash(
    scenario: str, history: int
) -> None:
    small = line(scenario, history=history)
    result = found(small, broken(small.surrogate))
    for check in result["checks"].values():
        assert math.isnan(check["prediction"]["largest"])
        assert math.isfinite(check["truth"]["largest"])
    assert math.isnan(result["residual"]["prediction"]["median"])


def test_imported_data_have_no_checks_and_say_so() -> None:
    small = line("darcy")
    schema = replace(small.test.schema, scenario="plant", sources=({"file": "a", "sha256": "0"},))
    test = replace(small.test, schema=schema)
    found = physical_consistency(small.surrogate, test, 4, 8)
    assert isinstance(found, Absent)
    assert "imported" in str(found)
