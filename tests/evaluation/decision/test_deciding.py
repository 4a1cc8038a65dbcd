"""The verdict: what speaks against a surrogate, on which conditions it is worth it, and why."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from costs import ASKED, COST, USED, decision_of

from mno.core.absent import Absent, as_json
from mno.evaluation.config import EconomicsConfig, KpiConfig
from mno.evaluation.learning import LearningCurve

METRICS = {"relative_l2": 0.02, "baseline_relative_l2": 0.5, "fields": {}}
NONE = Absent("solver.not_recorded")


def decided(
    kpis: KpiConfig = ASKED, economics: EconomicsConfig = USED, curve: Any = None, **changed: Any
) -> tuple[str, list[str]]:
    metrics, cost = ({k: changed.get(k, v) for k, v in d.items()} for d in (METRICS, COST))
    metrics |= {k: v for k, v in changed.items() if k == "persistence_relative_l2"}
    found = decision_of(metrics, kpis, economics, cost, curve)
    json.dumps(found, default=as_json)
    sides = [reason["side"] for reason in found["reasons"]]
    assert sides == sorted(sides, key=["against", "condition", "for"].index)
    return found["verdict"], [reason["code"] for reason in found["reasons"]]


def test_a_good_and_fast_surrogate_that_is_used_is_worth_it() -> None:
    verdict, codes = decided()
    assert (verdict, codes) == ("worth_it", ["better_than_guess", "kpis_met", "faster", "pays"])


def test_predictions_that_are_no_numbers_are_unusable_before_all_else() -> None:
    verdict, codes = decided(relative_l2=math.nan)
    assert verdict == "not_worth_it"
    assert codes[0] == "unusable"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (0.5, "no_better_than_guess"),
        (0.7, "no_better_than_guess"),
        (0.4, "barely_better_than_guess"),
    ],
)
def test_a_guess_that_is_about_as_good_speaks_against_it(error: float, code: str) -> None:
    verdict, codes = decided(KpiConfig(relative_l2=1.0), relative_l2=error)
    assert (verdict, codes[0]) == ("not_worth_it", code)


def test_keeping_the_last_frame_is_a_guess_too() -> None:
    assert decided(persistence_relative_l2=0.03)[1][0] == "barely_better_than_guess"
    assert decided(persistence_relative_l2=0.9)[0] == "worth_it"


def test_no_error_at_all_is_better_than_any_guess() -> None:
    assert decided(relative_l2=0.0)[0] == "worth_it"
    assert decided(relative_l2=0.0, baseline_relative_l2=0.0)[0] == "worth_it"


def test_a_solver_that_is_as_fast_speaks_against_it() -> None:
    verdict, codes = decided(solver={"ms": 10.0})
    assert (verdict, codes[0]) == ("not_worth_it", "never_pays")


def test_a_coarser_solver_that_is_as_good_and_as_fast_speaks_against_it() -> None:
    def compared(how: str, ms: float) -> dict[str, Any]:
        return {"model": {"error": 0.02, "ms": 10.0}, "solver": {"ms": ms, "how": how}}

    assert decided(equal_error=compared("at_most", 9.0))[1][0] == "coarser_solver_as_good"
    assert decided(equal_error=compared("interpolated", 9.0))[0] == "not_worth_it"
    assert decided(equal_error=compared("at_least", 9.0))[0] == "worth_it"
    own = EconomicsConfig(queries_per_day=3000.0, solver_seconds=2.0)
    assert decided(ASKED, own, equal_error=compared("at_most", 9.0))[0] == "worth_it"


def test_a_missed_target_speaks_against_it() -> None:
    verdict, codes = decided(KpiConfig(relative_l2=0.03, latency_ms=1.0))
    assert (verdict, codes[0]) == ("not_worth_it", "kpi_missed")


def test_a_missed_target_that_more_data_meet_is_a_condition() -> None:
    curve = LearningCurve.fit([200, 400, 800], [0.04, 0.0283, 0.02])  # a power of -1/2
    near, far = KpiConfig(relative_l2=0.017), KpiConfig(relative_l2=1e-6)
    verdict, codes = decided(near, curve=curve)
    assert (verdict, codes[0]) == ("worth_it_if", "kpi_missed_needs_data")
    values = decision_of(METRICS, near, curve=curve)["reasons"][0]["values"]
    assert 800 < values["samples"] < 2000
    assert values["more_solves"] == pytest.approx(1.25 * (values["samples"] - 800), abs=2)
    assert decided(far, curve=curve)[0] == "not_worth_it"
    assert decided(near, curve=NONE)[0] == "not_worth_it"


@pytest.mark.parametrize(
    ("kpis", "economics", "changed", "code"),
    [
        (KpiConfig(), USED, {}, "no_accuracy_kpi"),
        (KpiConfig(latency_ms=50.0), USED, {}, "no_accuracy_kpi"),
        (ASKED, EconomicsConfig(), {}, "volume_unknown"),
        (ASKED, EconomicsConfig(queries_per_day=1.0), {}, "pays_late"),
        (ASKED, USED, {"solver": NONE}, "solver_unknown"),
        (ASKED, USED, {"spent": COST["spent"] | {"train": NONE}}, "spent_unknown"),
        (KpiConfig(relative_l2=0.03, memory_mib=999.0), USED, {"peak_memory_mib": NONE},
         "kpi_unknown"),
    ],
)  # fmt: skip
def test_what_is_open_is_a_condition(
    kpis: KpiConfig, economics: EconomicsConfig, changed: dict[str, Any], code: str
) -> None:
    verdict, codes = decided(kpis, economics, **changed)
    assert (verdict, codes[0]) == ("worth_it_if", code)


@pytest.mark.parametrize(
    ("held", "code"), [(90, "better_than_guess"), (86, "better_than_guess"), (80, "bounds_fail")]
)
def test_bounds_that_hold_too_seldom_are_a_condition(held: int, code: str) -> None:
    rate = {"count": held, "samples": 100, "expected": [0.84, 0.95]}
    trust = {"level": 0.9, "measured": {"coverage": {"pressure": {"rmse": [None, rate]}}}}
    assert decision_of(METRICS, trust=trust)["reasons"][0]["code"] == code
