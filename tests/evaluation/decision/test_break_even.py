"""Break-even: exact cases, and what holds for all."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mno.core.absent import Absent
from mno.evaluation.config import EconomicsConfig
from mno.evaluation.decision import break_even, solves_to_break_even

SECONDS = st.floats(1e-6, 1e6)

NONE = Absent("solver.imported", {"scenario": "plant"})
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
    unknown = break_even(cost(NONE), 10, EconomicsConfig())
    assert (unknown["state"], unknown["why"]) == ("unknown", NONE)
    assert unknown["solver_source"] is None
    named = break_even(cost(NONE), 10, EconomicsConfig(solver_seconds=3.0))
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
