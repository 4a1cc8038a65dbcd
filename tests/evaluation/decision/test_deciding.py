"""The verdict: what speaks against a surrogate, on which conditions it is worth it, and why."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

import pytest

from mno.evaluation.cost.config import EconomicsConfig
from mno.evaluation.decision.config import KpiConfig
from mno.evaluation.decision.deciding import decide

METRICS = {"relative_l2": 0.02, "baseline_relative_l2": 0.5, "fields": {}}
COST: dict[str, Any] = {
    "latency_ms": 10.0,
    "latency_p95_ms": 12.0,
    "throughput_per_s": 200.0,
    "peak_memory_mib": 400.0,
    "solver": {"ms": 1010.0, "p95_ms": 1100.0, "problems": 9, "speedup": 101.0},
    "equal_error": {
        "model": {"error": 0.02, "ms": 10.0},
        "solver": {"ms": 300.0, "how": "interpolated", "speedup": 30.0},
    },
    "spent": {stage: {"cpu_seconds": 1000.0} for stage in ("generate", "train", "evaluate")},
}
SAMPLES = {"train": 800, "all": 1000}
ASKED = KpiConfig(relative_l2=0.03)
USED = EconomicsConfig(queries_per_day=3000.0)


def decided(
    kpis: KpiConfig = ASKED, economics: EconomicsConfig = USED, curve: Any = None, **changed: Any
) -> tuple[str, list[str]]:
    metrics, cost = ({k: changed.get(k, v) for k, v in d.items()} for d in (METRICS, COST))
    metrics |= {k: v for k, v in changed.items() if k == "persistence_relative_l2"}
    found = decide(kpis, economics, metrics=metrics, cost=cost, samples=SAMPLES, curve=curve)
    json.dumps(found)
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


@dataclass
class Needs:
    middle: float | None
    low: float | None = None
    high: float | None = None


@dataclass
class Line:
    """A learning curve that says one thing."""

    needs: Needs
    largest: int = 800

    def samples_for(self, error: float) -> Needs:
        assert error == 0.01
        return self.needs


def test_a_missed_target_that_more_data_meet_is_a_condition() -> None:
    asked = KpiConfig(relative_l2=0.01)
    verdict, codes = decided(asked, curve=Line(Needs(1600.0, 1200.0, None)))
    assert (verdict, codes[0]) == ("worth_it_if", "kpi_missed_needs_data")
    assert decided(asked, curve=Line(Needs(None)))[0] == "not_worth_it"
    assert decided(asked, curve="two points")[0] == "not_worth_it"
    found = decide(
        asked, USED, metrics=METRICS, cost=COST, samples=SAMPLES, curve=Line(Needs(1600.0))
    )
    values = found["reasons"][0]["values"]
    assert (values["samples"], values["more_solves"]) == (1600, 1000)


@pytest.mark.parametrize(
    ("kpis", "economics", "changed", "code"),
    [
        (KpiConfig(), USED, {}, "no_accuracy_kpi"),
        (KpiConfig(latency_ms=50.0), USED, {}, "no_accuracy_kpi"),
        (ASKED, EconomicsConfig(), {}, "volume_unknown"),
        (ASKED, EconomicsConfig(queries_per_day=1.0), {}, "pays_late"),
        (ASKED, USED, {"solver": "no solver for imported data"}, "solver_unknown"),
        (ASKED, USED, {"spent": COST["spent"] | {"train": "restored"}}, "spent_unknown"),
        (KpiConfig(relative_l2=0.03, memory_mib=999.0), USED, {"peak_memory_mib": "?"},
         "kpi_unknown"),
    ],
)  # fmt: skip
def test_what_is_open_is_a_condition(
    kpis: KpiConfig, economics: EconomicsConfig, changed: dict[str, Any], code: str
) -> None:
    verdict, codes = decided(kpis, economics, **changed)
    assert (verdict, codes[0]) == ("worth_it_if", code)
