"""The verdict: break-even, indicators, what speaks against a surrogate, on which conditions."""

import json
import math
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mno.core.absent import Absent, as_json
from mno.core.errors import InputError
from mno.evaluation.config import EconomicsConfig, KpiConfig
from mno.evaluation.decision import break_even, check_kpis, indicators, solves_to_break_even
from mno.evaluation.learning import LearningCurve
from mno.report.language import Words
from mno.report.sections.decision import _sentence
from tests.evaluation.made import ASKED, COST, USED, decision_of

SECONDS = st.floats(1e-6, 1e6)
NO_SOLVER = Absent("solver.not_recorded")
RESTORED = Absent("cost.restored")


def cost(solver=2000.0, latency=1000.0, exact=None, **spent):
    stages = {"generate": 100.0, "train": 60.0, "evaluate": 40.0} | spent
    return {
        "latency_ms": latency,
        "throughput_per_s": 4.0,
        "batch_size": 8,
        "equal_error": {"solver": exact} if exact else Absent("cost.off"),
        "solver": solver if isinstance(solver, Absent) else {"ms": solver},
        "spent": {k: v if isinstance(v, Absent) else {"cpu_seconds": v} for k, v in stages.items()},
    }


NEVER = {"state": "never", "solves": None, "days": None}
SPENT = {"data": 100.0, "training": 60.0, "evaluation": 40.0}


@pytest.mark.parametrize(
    ("given", "economics", "expected"),
    [
        ({}, {"queries_per_day": 50.0}, {"state": "reached", "solves": 200, "days": 4.0}),
        ({}, {"queries_per_day": 50.0}, {"total_spent": 200.0, "saved_a_day": 50.0}),
        ({}, {}, {"solver_source": "measured", "data_source": "recorded", "money": None}),
        ({"latency": 2000.0}, {"queries_per_day": 1e9}, NEVER),
        ({"latency": 5000.0}, {"queries_per_day": 1e9}, NEVER),
        # What the user's own solver costs is taken for the data, too: (110 + 60 + 40) / (11 - 1).
        ({}, {"solver_seconds": 11.0}, {"solver_source": "given", "solver_seconds": 11.0}),
        ({}, {"solver_seconds": 11.0}, {"spent": SPENT | {"data": 110.0}, "solves": 21}),
        ({"generate": RESTORED}, {}, {"spent": SPENT | {"data": 20.0}, "state": "reached"}),
        ({"generate": RESTORED}, {}, {"data_source": "computed"}),
        ({"train": RESTORED}, {}, {"state": "unknown", "solves": None, "total_spent": None}),
        ({"train": RESTORED}, {"queries_per_day": 2.0}, {"saved_a_day": 2.0}),
        ({"train": RESTORED}, {}, {"why": f"training {RESTORED}"}),
        # In batches of 8, 200 / (2 - 0.25).
        ({}, {}, {"batch": {"samples": 8, "surrogate_seconds": 0.25, "solves": 115}}),
        # The cheapest solve that is as exact is the comparator: 200 / (1.5 - 1).
        ({"exact": {"ms": 1500.0, "how": "at_most"}}, {}, {"solver_source": "equal_error"}),
        ({"exact": {"ms": 1500.0, "how": "interpolated"}}, {}, {"solves": 400}),
        ({"exact": {"ms": 1500.0, "how": "at_most"}}, {}, {"solve_seconds": 2.0}),
        ({"exact": {"ms": 1500.0, "how": "at_least"}}, {}, {"solves": 200}),
        ({"exact": {"ms": 1500.0, "how": "at_most"}}, {"solver_seconds": 11.0}, {"solves": 21}),
        ({"learning_curve": 300.0}, {}, {"total_spent": 500.0, "solves": 500}),
        ({"learning_curve": RESTORED}, {}, {"why": f"learning_curve {RESTORED}"}),
        ({"solver": NO_SOLVER}, {}, {"state": "unknown", "why": NO_SOLVER, "solver_source": None}),
        # (30 + 60 + 40) / (3 - 1)
        ({"solver": NO_SOLVER}, {"solver_seconds": 3.0}, {"solves": 65}),
    ],
)
def test_what_was_spent_is_set_against_what_a_solve_saves(given, economics, expected):
    found = break_even(cost(**given), 10, EconomicsConfig(**economics))
    assert {key: found[key] for key in expected} == expected
    parts = ["data", "training", "learning_curve", "evaluation"]
    assert list(found["spent"]) == [part for part in parts if part in found["spent"]]


@given(SECONDS, SECONDS, SECONDS)
def test_no_fewer_solves_would_do(spent, solver, surrogate):
    assert solves_to_break_even(10.0, 4.0, 1.0) == 4  # a part of a solve is a whole one
    solves = solves_to_break_even(spent, solver, surrogate)
    if solver <= surrogate:
        assert solves is None
        return
    assert solves is not None and solves >= 1
    slack = 1e-9 * spent
    assert solves * (solver - surrogate) >= spent - slack
    assert (solves - 1) * (solver - surrogate) <= spent + slack


@given(SECONDS, SECONDS, st.floats(1.01, 100.0))
def test_more_spent_never_pays_earlier(spent, solver, times):
    before, after = (solves_to_break_even(s, solver, solver / 2) for s in (spent, times * spent))
    assert before is not None and after is not None and before <= after


def test_money_is_time_at_the_hourly_rate():
    economics = EconomicsConfig(hourly_rate=36.0, currency="EUR", queries_per_day=10.0)
    money = break_even(cost(), 10, economics)["money"]
    assert money["currency"] == "EUR"
    assert money["spent"] == pytest.approx(2.0)
    assert money["a_solve"] == pytest.approx(0.02)
    assert money["a_prediction"] == pytest.approx(0.01)
    assert money["saved_a_day"] == pytest.approx(0.1)


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


AS_MEASURED = {"latency_ms": 5.0, "latency_p95_ms": 8.0, "throughput_per_s": 400.0}
AS_MEASURED |= {"memory_mib": 500.0, "speedup": 4.0}
TOO_MUCH = {"latency_ms": 4.9, "latency_p95_ms": 7.9, "throughput_per_s": 401.0}
TOO_MUCH |= {"memory_mib": 499.0, "speedup": 4.1}


@pytest.mark.parametrize(
    ("targets", "measured", "statuses"),
    [
        ({}, {}, []),
        ({"relative_l2": 0.03}, {}, ["met"]),  # above its interval
        ({"relative_l2": 0.024}, {}, ["met"]),
        ({"relative_l2": 0.02}, {}, ["undecided"]),
        ({"relative_l2": 0.018}, {}, ["missed"]),
        ({"relative_l2": 0.01}, {}, ["missed"]),
        ({"relative_l2": 0.02}, {"intervals": {}}, ["met"]),
        ({"relative_l2": 0.0199}, {"intervals": {}}, ["missed"]),
        ({"relative_l2": 0.03}, {"intervals": {"relative_l2": [math.nan, math.nan]}}, ["met"]),
        ({"relative_l2": 1e9}, {"relative_l2": math.nan}, ["missed"]),
        ({"relative_l2": 1e9}, {"relative_l2": math.inf}, ["missed"]),
        (AS_MEASURED, {}, ["met"] * 5),
        (TOO_MUCH, {}, ["missed"] * 5),
    ],
)
def test_targets_are_met_missed_or_undecided(targets, measured, statuses):
    found = indicators(KpiConfig(**targets), MEASURED | measured, COSTS, 4.0)
    assert [kpi.status for kpi in found] == statuses


def test_a_field_has_its_own_unit_and_interval():
    config = KpiConfig(rmse={"pressure": 3.5}, max_error={"pressure": 9.0})
    rmse, largest = indicators(config, MEASURED, COSTS, 1.0)
    assert (rmse.unit, rmse.status, rmse.interval) == ("Pa", "undecided", (2.0, 4.0))
    assert (largest.status, largest.interval) == ("met", None)


def test_what_cannot_be_known_says_why():
    (kpi,) = indicators(KpiConfig(speedup=2.0), MEASURED, COSTS, math.inf)
    assert kpi.status == "missed"
    (kpi,) = indicators(KpiConfig(speedup=2.0), MEASURED, COSTS, NO_SOLVER)
    assert (kpi.status, kpi.value) == ("unknown", NO_SOLVER)
    (kpi,) = indicators(KpiConfig(rmse={"depth": 2.0}), MEASURED, COSTS, 1.0)
    assert (kpi.status, kpi.value) == ("unknown", Absent("kpi.not_predicted", {"field": "depth"}))


def test_an_indicator_of_a_field_that_is_not_predicted_is_refused():
    check_kpis(KpiConfig(rmse={"pressure": 1.0}), ["pressure"])
    with pytest.raises(InputError, match=r"max_error\.depth: depth is not predicted here"):
        check_kpis(KpiConfig(max_error={"depth": 1.0}), ["pressure"])


METRICS = {"relative_l2": 0.02, "baseline_relative_l2": 0.5, "fields": {}}


def decided(kpis=ASKED, economics=USED, curve=None, **changed):
    metrics, cost = ({k: changed.get(k, v) for k, v in d.items()} for d in (METRICS, COST))
    metrics |= {k: v for k, v in changed.items() if k == "persistence_relative_l2"}
    found = decision_of(metrics, kpis, economics, cost, curve)
    json.dumps(found, default=as_json)
    sides = [reason["side"] for reason in found["reasons"]]
    assert sides == sorted(sides, key=["against", "condition", "for"].index)
    return found["verdict"], [reason["code"] for reason in found["reasons"]]


def test_a_good_and_fast_surrogate_that_is_used_is_worth_it():
    verdict, codes = decided()
    expected = ["better_than_guess", "kpis_met", "faster_at_equal_error", "pays"]
    assert (verdict, codes) == ("worth_it", expected)


ANY = KpiConfig(relative_l2=1.0)


@pytest.mark.parametrize(
    ("kpis", "changed", "verdict", "first"),
    [
        (ASKED, {"relative_l2": math.nan}, "not_worth_it", "unusable"),
        (ANY, {"relative_l2": 0.5}, "not_worth_it", "no_better_than_guess"),
        (ANY, {"relative_l2": 0.7}, "not_worth_it", "no_better_than_guess"),
        (ANY, {"relative_l2": 0.4}, "not_worth_it", "barely_better_than_guess"),
        (ASKED, {"persistence_relative_l2": 0.03}, "not_worth_it", "barely_better_than_guess"),
        (ASKED, {"persistence_relative_l2": 0.9}, "worth_it", "better_than_guess"),
        (ASKED, {"relative_l2": 0.0}, "worth_it", "better_than_guess"),
        (ASKED, {"relative_l2": 0.0, "baseline_relative_l2": 0.0}, "worth_it", "better_than_guess"),
        (
            ASKED,
            {"solver": {"ms": 1.0}, "equal_error": Absent("cost.off")},
            "not_worth_it",
            "never_pays",
        ),
        # A prediction takes 10 ms alone, and 2 in a batch.
        (
            ASKED,
            {"solver": {"ms": 9.0}, "equal_error": Absent("cost.off")},
            "worth_it_if",
            "pays_in_batches",
        ),
        (KpiConfig(relative_l2=0.03, latency_ms=1.0), {}, "not_worth_it", "kpi_missed"),
    ],
)
def test_errors_guesses_speed_and_targets_decide(kpis, changed, verdict, first):
    found, codes = decided(kpis, **changed)
    assert (found, codes[0]) == (verdict, first)


def test_a_coarser_solver_that_is_as_good_and_as_fast_speaks_against_it():
    def compared(how, ms):
        return {"model": {"error": 0.02, "ms": 10.0}, "solver": {"ms": ms, "how": how}}

    assert decided(equal_error=compared("at_most", 1.0))[1][0] == "coarser_solver_as_good"
    assert decided(equal_error=compared("interpolated", 1.0))[0] == "not_worth_it"
    assert decided(equal_error=compared("at_most", 9.0))[1][0] == "pays_in_batches"
    assert decided(equal_error=compared("at_least", 1.0))[0] == "worth_it"
    own = EconomicsConfig(queries_per_day=3000.0, solver_seconds=2.0)
    verdict, codes = decided(ASKED, own, equal_error=compared("at_most", 9.0))
    assert (verdict, codes[0]) == ("worth_it_if", "measured_never"), "the user's figure decides if"
    verdict, codes = decided(ASKED, own, equal_error=compared("at_most", 900.0))
    assert verdict == "worth_it" and {"faster_as_given", "measured_beside"} < set(codes)
    known = decision_of(METRICS, ASKED, own, {**COST, "equal_error": compared("at_most", 9.0)})
    words = Words.of("en", "decision")
    said = _sentence(known["reasons"][0], known["break_even"], words)
    assert all(figure in said for figure in ("that you gave", words.duration(2.0), "never pays"))


@pytest.mark.parametrize(
    ("questions", "verdict", "code"),
    [
        (20000, "worth_it", "asked_enough"),  # 3000 / (0.3 - 0.01) = 10345
        (10345, "worth_it", "asked_enough"),
        (10344, "worth_it_if", "asked_enough_in_batches"),  # 3000 / (0.3 - 1 / 512) = 10066
        (10065, "not_worth_it", "asked_too_seldom"),
    ],
)
def test_questions_that_are_asked_are_set_against_those_it_takes(questions, verdict, code):
    found, codes = decided(ASKED, EconomicsConfig(questions=questions))
    assert found == verdict and code in codes


@pytest.mark.parametrize(
    ("questions", "spent", "verdict", "code"),
    [
        (500000, {}, "worth_it_if", "pays_in_batches"),  # 3000 / (0.009 - 1 / 512) = 425726
        (400000, {}, "not_worth_it", "asked_too_seldom_in_batches"),
        (500000, {"train": RESTORED}, "worth_it_if", "spent_unknown"),
    ],
)
def test_questions_count_too_where_one_by_one_it_never_pays(questions, spent, verdict, code):
    slow = {**COST, "solver": {"ms": 9.0}, "equal_error": Absent("cost.off")}
    slow["spent"] = COST["spent"] | spent
    found = decision_of(METRICS, ASKED, EconomicsConfig(questions=questions), slow)
    (reason,) = (r for r in found["reasons"] if r["side"] != "for")
    assert (found["verdict"], reason["code"]) == (verdict, code)
    for language in ("en", "ja"):
        said = _sentence(reason, found["break_even"], Words.of(language, "decision"))
        assert str(reason["values"].get("batch_solves", "")) in re.sub(r"\D", "", said)


def test_what_pays_in_batches_alone_is_said_with_all_its_numbers():
    slow = {**COST, "solver": {"ms": 9.0}, "equal_error": Absent("cost.off")}
    found = decision_of(METRICS, ASKED, USED, slow)
    (reason,) = (r for r in found["reasons"] if r["code"] == "pays_in_batches")
    solves = found["break_even"]["batch"]["solves"]
    assert solves == reason["values"]["batch_solves"]
    said = _sentence(reason, found["break_even"], Words.of("en", "decision"))
    assert str(solves) in re.sub(r"\D", "", said)


@pytest.mark.parametrize("questions", [None, 10065.0, 10344.0, 20000.0])
def test_batches_that_are_slower_than_the_solver_leave_no_gap_in_what_is_said(questions):
    slow = {**COST, "throughput_per_s": 1e-3}
    found = decision_of(METRICS, ASKED, EconomicsConfig(questions=questions), slow)
    assert found["break_even"]["batch"]["solves"] is None
    told = [reason["values"] for reason in found["reasons"]]
    assert all(values.get("batch_solves", 0) is not None for values in told)


@pytest.mark.parametrize(
    ("error", "ms", "seconds", "asked", "code"),
    [
        (0.03, 1.0, 1.0, None, None),  # worse than the model, whatever it costs
        (0.02, 1.0, 1.0, None, "tool_as_good"),
        (0.01, 10.0, 1000.0, None, "tool_as_good"),
        (0.01, 1010.0, 500.0, None, "tool_as_good_below"),  # 500 s less to make, 1 s more to ask
        (0.01, 9.0, 2000.0, None, "tool_as_good_beyond"),
        (0.01, 1010.0, 500.0, 1.0, "tool_as_good"),  # asked 365 times
        (0.01, 1010.0, 500.0, 2.0, None),
        (0.01, 9.0, 2000.0, 2.0, None),
        (0.01, 20.0, 2000.0, None, None),
    ],
)
def test_a_simple_tool_that_does_as_well_for_less_speaks_against_it(
    error, ms, seconds, asked, code
):
    tools = [{"name": "ridge", "error": error, "interval": None, "ms": ms, "seconds": seconds}]
    tools.append({"name": "reduced_basis", "why": NO_SOLVER})  # there is none, which says nothing
    worse = {"error": 0.005, "model_error": 0.004}  # than the model on the same samples
    tools.append({"name": "ensemble_filter", **worse, "interval": None, "ms": 0.1, "seconds": 0.0})
    economics = EconomicsConfig(queries_per_day=asked, horizon_days=365)
    found = decision_of(METRICS, ASKED, economics, {**COST, "tools": tools})
    named = {r["code"]: r for r in found["reasons"] if r["code"].startswith("tool_")}
    assert list(named) == ([code] if code else [])
    if code == "tool_as_good_below":
        assert named[code]["values"]["solves"] == 500
    elif code == "tool_as_good":
        assert found["verdict"] == "not_worth_it"


def test_a_missed_target_that_more_data_meet_is_a_condition():
    curve = LearningCurve.fit([200, 400, 800], [0.04, 0.0283, 0.02])  # a power of -1/2
    near, far = KpiConfig(relative_l2=0.017), KpiConfig(relative_l2=1e-6)
    verdict, codes = decided(near, curve=curve)
    assert (verdict, codes[0]) == ("worth_it_if", "kpi_missed_needs_data")
    values = decision_of(METRICS, near, curve=curve)["reasons"][0]["values"]
    assert 800 < values["samples"] < 2000
    assert values["more_solves"] == pytest.approx(1.25 * (values["samples"] - 800), abs=2)
    assert decided(far, curve=curve)[0] == "not_worth_it"
    assert decided(near, curve=NO_SOLVER)[0] == "not_worth_it"


def test_a_target_that_data_in_hand_should_meet_and_do_not_is_missed():
    """As where the test split is farther off than the validation split that the curve is of."""
    curve = LearningCurve.fit([200, 400, 800], [0.008, 0.00566, 0.004])
    verdict, codes = decided(KpiConfig(relative_l2=0.007), curve=curve)
    assert verdict == "not_worth_it" and "kpi_missed" in codes


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
def test_what_is_open_is_a_condition(kpis, economics, changed, code):
    verdict, codes = decided(kpis, economics, **changed)
    assert (verdict, codes[0]) == ("worth_it_if", code)


@pytest.mark.parametrize(
    ("held", "code"), [(90, "better_than_guess"), (86, "better_than_guess"), (80, "bounds_fail")]
)
def test_bounds_that_hold_too_seldom_are_a_condition(held, code):
    rate = {"count": held, "samples": 100, "expected": [0.84, 0.95]}
    trust = {"level": 0.9, "measured": {"coverage": {"pressure": {"rmse": [None, rate]}}}}
    assert decision_of(METRICS, trust=trust)["reasons"][0]["code"] == code


def test_a_figure_no_better_than_a_guess_is_a_condition():
    fields = {"pressure": {"rmse": 1.0, "baseline_rmse": 2.0, "persistence_rmse": 1.0}}
    found = decision_of({**METRICS, "fields": fields})
    assert found["verdict"] == "worth_it_if" and found["reasons"][0]["code"] == "weak"
    assert found["reasons"][0]["values"] == {"count": 1}
    fields["pressure"]["persistence_rmse"] = 1.5
    assert decision_of({**METRICS, "fields": fields})["verdict"] == "worth_it"


def test_physics_that_predictions_break_are_a_condition_energy_first():
    kept = {"tolerance": 1e-3, "prediction": {"median": 1e-4, "largest": 1e-3}}
    broken = {"tolerance": 1e-3, "prediction": {"median": 1e-4, "largest": 2e-3}}
    unknown = {"tolerance": 1e-3, "prediction": {"median": math.nan, "largest": math.nan}}
    checks = {"range": broken, "mass": kept, "heat": unknown, "energy": broken}
    found = decision_of({**METRICS, "physics": {"checks": checks}})["reasons"][0]
    assert (found["side"], found["code"]) == ("condition", "physics_broken")
    assert found["values"] == {"checks": ["energy", "range", "heat"]}
    assert decision_of({**METRICS, "physics": {"checks": {"mass": kept}}})["verdict"] == "worth_it"
