"""The verdict: break-even, indicators, what speaks against a surrogate, on which conditions."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from costs import ASKED, COST, USED, decision_of
from hypothesis import given
from hypothesis import strategies as st

from mno.core.absent import Absent, as_json
from mno.core.errors import InputError
from mno.evaluation.config import EconomicsConfig, KpiConfig
from mno.evaluation.decision import (
    Kpi,
    break_even,
    check_kpis,
    indicators,
    solves_to_break_even,
)
from mno.evaluation.learning import LearningCurve

SECONDS = st.floats(1e-6, 1e6)
NO_SOLVER = Absent("solver.not_recorded")
RESTORED = Absent("cost.restored")


def cost(solver: float | str = 2000.0, latency: float = 1000.0, **spent: Any) -> dict[str, Any]:
    stages = {"generate": 100.0, "train": 60.0, "evaluate": 40.0} | spent
    return {
        "latency_ms": latency,
        "solver": solver if isinstance(solver, Absent) else {"ms": solver},
        "spent": {k: v if isinstance(v, Absent) else {"cpu_seconds": v} for k, v in stages.items()},
    }


def test_what_was_spent_over_what_a_solve_saves() -> None:
    found = break_even(cost(), 10, EconomicsConfig(queries_per_day=50.0))
    assert (found["state"], found["solves"], found["days"]) == ("reached", 200, 4.0)
    assert found["total_spent"] == 200.0
    assert found["saved_a_day"] == 50.0
    assert (found["solver_source"], found["data_source"]) == ("measured", "recorded")


def test_a_part_of_a_solve_is_a_whole_one() -> None:
    assert solves_to_break_even(10.0, 4.0, 1.0) == 4


@given(SECONDS, SECONDS, SECONDS)
def test_no_fewer_solves_would_do(spent: float, solver: float, surrogate: float) -> None:
    solves = solves_to_break_even(spent, solver, surrogate)
    if solver <= surrogate:
        assert solves is None
        return
    assert solves is not None and solves >= 1
    slack = 1e-9 * spent
    assert solves * (solver - surrogate) >= spent - slack
    assert (solves - 1) * (solver - surrogate) <= spent + slack


@given(SECONDS, SECONDS, st.floats(1.01, 100.0))
def test_more_spent_never_pays_earlier(spent: float, solver: float, times: float) -> None:
    before, after = (solves_to_break_even(s, solver, solver / 2) for s in (spent, times * spent))
    assert before is not None and after is not None and before <= after


@pytest.mark.parametrize("latency", [2000.0, 5000.0])
def test_a_surrogate_that_is_not_faster_never_pays(latency: float) -> None:
    found = break_even(cost(latency=latency), 10, EconomicsConfig(queries_per_day=1e9))
    assert (found["state"], found["solves"], found["days"]) == ("never", None, None)


def test_the_users_own_solver_takes_the_place_of_the_measured_one_for_the_data_too() -> None:
    found = break_even(cost(), 10, EconomicsConfig(solver_seconds=11.0))
    assert (found["solver_seconds"], found["solver_source"]) == (11.0, "given")
    assert (found["spent"]["data"], found["data_source"]) == (110.0, "computed")
    assert found["solves"] == 21  # (110 + 60 + 40) / (11 - 1)


def test_data_that_nobody_recorded_cost_a_solve_each() -> None:
    found = break_even(cost(generate=RESTORED), 10, EconomicsConfig())
    assert (found["spent"]["data"], found["data_source"]) == (20.0, "computed")
    assert found["state"] == "reached"


def test_a_training_that_nobody_recorded_leaves_it_unknown() -> None:
    found = break_even(cost(train=RESTORED), 10, EconomicsConfig(queries_per_day=2.0))
    assert (found["state"], found["solves"], found["total_spent"]) == ("unknown", None, None)
    assert found["why"] == f"training {RESTORED}"
    assert found["saved_a_day"] == 2.0


def test_trainings_of_a_learning_curve_are_spent_too() -> None:
    found = break_even(cost(learning_curve=300.0), 10, EconomicsConfig())
    assert list(found["spent"]) == ["data", "training", "learning_curve", "evaluation"]
    assert (found["total_spent"], found["solves"]) == (500.0, 500)
    lost = break_even(cost(learning_curve=RESTORED), 10, EconomicsConfig())
    assert (lost["state"], lost["why"]) == ("unknown", f"learning_curve {RESTORED}")


def test_without_a_solver_nothing_is_known_until_the_user_names_its_cost() -> None:
    unknown = break_even(cost(NO_SOLVER), 10, EconomicsConfig())
    assert (unknown["state"], unknown["why"]) == ("unknown", NO_SOLVER)
    assert unknown["solver_source"] is None
    named = break_even(cost(NO_SOLVER), 10, EconomicsConfig(solver_seconds=3.0))
    assert named["solves"] == 65  # (30 + 60 + 40) / (3 - 1)


def test_money_is_time_at_the_hourly_rate() -> None:
    economics = EconomicsConfig(hourly_rate=36.0, currency="EUR", queries_per_day=10.0)
    money = break_even(cost(), 10, economics)["money"]
    assert money["currency"] == "EUR"
    assert money["spent"] == pytest.approx(2.0)
    assert money["a_solve"] == pytest.approx(0.02)
    assert money["a_prediction"] == pytest.approx(0.01)
    assert money["saved_a_day"] == pytest.approx(0.1)
    assert break_even(cost(), 10, EconomicsConfig())["money"] is None


MEASURED: dict[str, Any] = {
    "relative_l2": 0.02,
    "fields": {"pressure": {"unit": "Pa", "rmse": 3.0, "max_error": 9.0}},
    "intervals": {
        "relative_l2": [0.018, 0.024],
        "fields": {"pressure": {"rmse": [2.0, 4.0], "max_error": Absent("interval.largest")}},
    },
}
COSTS = {
    "latency_ms": 5.0, "latency_p95_ms": 8.0, "throughput_per_s": 400.0, "peak_memory_mib": 500.0,
}  # fmt: skip


def statuses(config: KpiConfig, speedup: float | Absent = 4.0, **metrics: Any) -> list[str]:
    return [kpi.status for kpi in indicators(config, MEASURED | metrics, COSTS, speedup)]


def test_nothing_asked_for_is_no_indicator() -> None:
    assert statuses(KpiConfig()) == []


@pytest.mark.parametrize(
    ("target", "status"),
    [(0.03, "met"), (0.024, "met"), (0.02, "undecided"), (0.018, "missed"), (0.01, "missed")],
)
def test_an_interval_with_the_target_inside_leaves_it_undecided(target: float, status: str) -> None:
    assert statuses(KpiConfig(relative_l2=target)) == [status]


@pytest.mark.parametrize(("target", "status"), [(0.02, "met"), (0.0199, "missed")])
def test_without_an_interval_the_value_decides(target: float, status: str) -> None:
    assert statuses(KpiConfig(relative_l2=target), intervals={}) == [status]


def test_a_field_has_its_own_unit_and_interval() -> None:
    config = KpiConfig(rmse={"pressure": 3.5}, max_error={"pressure": 9.0})
    rmse, largest = indicators(config, MEASURED, COSTS, 1.0)
    assert (rmse.unit, rmse.status, rmse.interval) == ("Pa", "undecided", (2.0, 4.0))
    assert (largest.status, largest.interval) == ("met", None)


def test_costs_have_upper_and_lower_bounds() -> None:
    met = KpiConfig(
        latency_ms=5.0, latency_p95_ms=8.0, throughput_per_s=400.0, memory_mib=500.0, speedup=4.0
    )
    assert statuses(met) == ["met"] * 5
    missed = KpiConfig(
        latency_ms=4.9, latency_p95_ms=7.9, throughput_per_s=401.0, memory_mib=499.0, speedup=4.1
    )
    assert statuses(missed) == ["missed"] * 5


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_no_finite_number_misses(value: float) -> None:
    assert statuses(KpiConfig(relative_l2=1e9), relative_l2=value) == ["missed"]
    speedup = Kpi("speedup", None, "1", 2.0, "at_least", value)
    assert speedup.status == "missed"


def test_intervals_that_are_no_numbers_are_none() -> None:
    metrics = {"intervals": {"relative_l2": [math.nan, math.nan]}}
    assert statuses(KpiConfig(relative_l2=0.03), 4.0, **metrics) == ["met"]


def test_what_cannot_be_known_says_why() -> None:
    (kpi,) = indicators(KpiConfig(speedup=2.0), MEASURED, COSTS, NO_SOLVER)
    assert (kpi.status, kpi.value) == ("unknown", NO_SOLVER)
    (kpi,) = indicators(KpiConfig(rmse={"depth": 2.0}), MEASURED, COSTS, 1.0)
    assert (kpi.status, kpi.value) == ("unknown", Absent("kpi.not_predicted", {"field": "depth"}))


def test_an_indicator_of_a_field_that_is_not_predicted_is_refused() -> None:
    check_kpis(KpiConfig(rmse={"pressure": 1.0}), ["pressure"])
    with pytest.raises(InputError, match=r"max_error\.depth: depth is not predicted here"):
        check_kpis(KpiConfig(max_error={"depth": 1.0}), ["pressure"])


METRICS = {"relative_l2": 0.02, "baseline_relative_l2": 0.5, "fields": {}}


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
    assert decided(near, curve=NO_SOLVER)[0] == "not_worth_it"


@pytest.mark.parametrize(
    ("kpis", "economics", "changed", "code"),
    [
        (KpiConfig(), USED, {}, "no_accuracy_kpi"),
        (KpiConfig(latency_ms=50.0), USED, {}, "no_accuracy_kpi"),
        (ASKED, EconomicsConfig(), {}, "volume_unknown"),
        (ASKED, EconomicsConfig(queries_per_day=1.0), {}, "pays_late"),
        (ASKED, USED, {"solver": NO_SOLVER}, "solver_unknown"),
        (ASKED, USED, {"spent": COST["spent"] | {"train": NO_SOLVER}}, "spent_unknown"),
        (KpiConfig(relative_l2=0.03, memory_mib=999.0), USED, {"peak_memory_mib": NO_SOLVER},
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
