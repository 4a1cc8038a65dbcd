"""The rule of promotion: surely better on the same samples, and no indicator missed."""

from __future__ import annotations

import numpy as np
import pytest

from mno.evaluation.config import IntervalConfig
from mno.lineage import decision as rule
from mno.lineage.audit import decision as audited
from mno.lineage.audit import differs
from mno.registry.config import BesideConfig, PromotionConfig
from mno.registry.decision import Case, against, beside_gates, gates, pooled

SAMPLES = 40
RNG = np.random.default_rng(1)
HARDNESS = RNG.uniform(0.05, 0.15, SAMPLES)  # what is hard for both
NOISE = RNG.normal(0, 0.02, SAMPLES)
KPIS = [
    {"name": "relative_l2", "field": None, "status": "met"},
    {"name": "latency_ms", "field": None, "status": "missed"},
    {"name": "rmse", "field": "pressure", "status": "undecided"},
    {"name": "speedup", "field": None, "status": "unknown"},
]
PHYSICS = {"checks": {"residual": {"prediction": {"median": 0.01, "p95": 0.05}}}}


def decision(ours: np.ndarray, theirs: np.ndarray, asked: dict[str, str] | None = None, **rules):
    errors = tuple(map(float, ours))
    case = Case(
        pooled(errors).value(), errors, "md5", "sha", asked or {}, PromotionConfig(**rules),
        IntervalConfig(), lambda model: pooled(errors),
    )  # fmt: skip
    judged = {
        "how": rule.BY_RULE, "by": "the rule", "gates": dict(case.gates), "champion": 1,
        "relative_l2": case.relative_l2,
        **case.config.model_dump(include={"rule", "margin", "approval"}),
    }  # fmt: skip
    return against(judged, pooled(tuple(map(float, theirs))), case)


def test_a_small_gain_on_every_sample_is_certain_although_samples_differ_much() -> None:
    found = decision(HARDNESS * 0.97, HARDNESS)
    assert found.verdict == "champion"
    low, high = found.judged["interval"]
    assert low < found.judged["difference"] < high < 0
    assert found.judged["difference"] == pytest.approx(-0.03 * HARDNESS.mean())
    assert "certainly lower" in found.reason
    assert "not certainly" not in found.reason


def test_a_gain_that_other_samples_might_not_show_is_not_enough_unless_likely_is() -> None:
    theirs = HARDNESS + NOISE - NOISE.mean() + 0.0005
    sure, likely = (decision(HARDNESS, theirs, rule=name) for name in ("certain", "likely"))
    assert sure.judged["difference"] == pytest.approx(-0.0005)
    assert sure.judged["interval"][1] > 0
    assert (sure.verdict, likely.verdict) == ("challenger", "champion")
    assert "not certainly lower" in sure.reason


@pytest.mark.parametrize("name", ["certain", "likely"])
def test_a_worse_or_equal_model_never_takes_over(name: str) -> None:
    assert decision(HARDNESS * 1.001, HARDNESS, rule=name).verdict == "challenger"
    assert decision(HARDNESS, HARDNESS, rule=name).verdict == "challenger"
    # A margin asks for more.
    assert decision(HARDNESS * 0.97, HARDNESS, margin=0.02).verdict == "champion"
    assert decision(HARDNESS * 0.97, HARDNESS, margin=0.05).verdict == "challenger"


def test_samples_without_a_known_truth_do_not_count() -> None:
    ours, theirs = HARDNESS * 0.9, HARDNESS.copy()
    ours[::2] = theirs[::2] = np.nan
    found = decision(ours, theirs)
    assert found.judged["champion_relative_l2"] == pytest.approx(HARDNESS[1::2].mean())
    assert found.verdict == "champion"


def test_one_sample_is_never_certain() -> None:
    found = decision(np.array([0.1]), np.array([0.5]))
    assert found.verdict == "challenger"
    assert "one sample" in found.reason
    assert decision(np.array([0.1]), np.array([0.5]), rule="likely").verdict == "champion"


def test_a_missed_or_unknown_indicator_bars_a_better_model_an_undecided_one_does_not() -> None:
    asked = gates(PromotionConfig(), KPIS, {})
    assert asked == {
        "relative_l2": "met", "latency_ms": "missed", "rmse.pressure": "undecided",
        "speedup": "unknown",
    }  # fmt: skip
    found = decision(HARDNESS * 0.5, HARDNESS, asked)
    assert found.verdict == "challenger"
    assert found.reason.endswith("does not meet latency_ms, speedup")
    assert gates(PromotionConfig(kpis=False), KPIS, {}) == {}
    met = {name: status for name, status in asked.items() if status in ("met", "undecided")}
    assert decision(HARDNESS * 0.5, HARDNESS, met).verdict == "champion"


@pytest.mark.parametrize(
    ("limit", "physics", "status"),
    [
        (0.05, PHYSICS, "met"),
        (0.04, PHYSICS, "missed"),
        (0.05, {"checks": {}}, "unknown"),
        (0.05, "imported data have no equation", "unknown"),
        (0.05, {"checks": {"residual": {"prediction": {"p95": float("nan")}}}}, "unknown"),
    ],
)
def test_physical_consistency_is_an_indicator(limit: float, physics, status: str) -> None:
    config = PromotionConfig(physics={"residual": limit})
    assert gates(config, [], physics) == {"physics.residual": status}


BESIDE = {
    "latency_ms": {"own": 3.0, "champion": 2.0},
    "peak_memory_mib": "champion: not known: the process failed",
    "physics.residual": {"own": 0.0, "champion": 0.0},
}


@pytest.mark.parametrize(
    ("limits", "figures", "statuses"),
    [
        ({}, BESIDE, {}),
        ({"latency": 1.5}, BESIDE, {"beside.latency_ms": "met"}),
        ({"latency": 1.4}, BESIDE, {"beside.latency_ms": "missed"}),
        ({"memory": 9.0}, BESIDE, {"beside.peak_memory_mib": "unknown"}),
        ({"physics": 1.0}, BESIDE, {"beside.physics.residual": "met"}),
        ({"physics": 1.0}, {"physics": "no solver"}, {"beside.physics": "unknown"}),
        ({"latency": 1.5}, "not measured", {"beside.latency_ms": "unknown"}),
    ],
)
def test_what_a_version_takes_beside_the_champion_is_an_indicator(
    limits: dict[str, float], figures, statuses: dict[str, str]
) -> None:
    assert beside_gates(BesideConfig(**limits), figures) == statuses


def test_with_human_approval_the_better_one_waits_and_the_worse_one_does_not() -> None:
    better = decision(HARDNESS * 0.5, HARDNESS, approval="human")
    assert (better.verdict, better.alias) == ("waiting", "challenger")
    assert better.reason.endswith("waits for a person's approval")
    assert decision(HARDNESS * 2, HARDNESS, approval="human").verdict == "challenger"


def test_an_audit_applies_the_rule_again() -> None:
    found = decision(HARDNESS * 0.5, HARDNESS)
    assert not differs(audited.check_noted(found.judged, "champion", found.reason))
    for changes in (
        {"interval": [-0.1, 0.1]},
        {"difference": 0.1},
        {"champion_relative_l2": 0.2},
        {"gates": {"latency_ms": "missed"}},
        {"approval": "human"},
        {"standing": "unreachable"},
        {"how": "refusal"},
        {"how": "magic"},
        {"by": ""},
    ):
        altered = {**found.judged, **changes}
        assert differs(audited.check_noted(altered, "champion", found.reason)), changes
    for key in ("how", "interval", "gates", "standing"):
        without = {k: v for k, v in found.judged.items() if k != key}
        assert differs(audited.check_noted(without, "champion", found.reason)), key
    assert differs(audited.check_noted(found.judged, "challenger", found.reason))
    assert audited.judged_of({"mno.promotion": "{"}) == {}
    assert audited.judged_of({}) == {}
