"""Indicators: met, missed, undecided, unknown."""

from __future__ import annotations

import math
from typing import Any

import pytest

from mno.core.absent import Absent
from mno.core.errors import InputError
from mno.evaluation.config import KpiConfig
from mno.evaluation.decision import Kpi, check_kpis, indicators

NONE = Absent("solver.not_recorded")
METRICS: dict[str, Any] = {
    "relative_l2": 0.02,
    "fields": {"pressure": {"unit": "Pa", "rmse": 3.0, "max_error": 9.0}},
    "intervals": {
        "relative_l2": [0.018, 0.024],
        "fields": {"pressure": {"rmse": [2.0, 4.0], "max_error": Absent("interval.largest")}},
    },
}
COST = {
    "latency_ms": 5.0, "latency_p95_ms": 8.0, "throughput_per_s": 400.0, "peak_memory_mib": 500.0,
}  # fmt: skip


def statuses(config: KpiConfig, speedup: float | Absent = 4.0, **metrics: Any) -> list[str]:
    return [kpi.status for kpi in indicators(config, METRICS | metrics, COST, speedup)]


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
    rmse, largest = indicators(config, METRICS, COST, 1.0)
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
    (kpi,) = indicators(KpiConfig(speedup=2.0), METRICS, COST, NONE)
    assert (kpi.status, kpi.value) == ("unknown", NONE)
    (kpi,) = indicators(KpiConfig(rmse={"depth": 2.0}), METRICS, COST, 1.0)
    assert (kpi.status, kpi.value) == ("unknown", Absent("kpi.not_predicted", {"field": "depth"}))


def test_an_indicator_of_a_field_that_is_not_predicted_is_refused() -> None:
    check_kpis(KpiConfig(rmse={"pressure": 1.0}), ["pressure"])
    with pytest.raises(InputError, match=r"max_error\.depth: depth is not predicted here"):
        check_kpis(KpiConfig(max_error={"depth": 1.0}), ["pressure"])
