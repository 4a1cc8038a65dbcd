"""Gates: what a version must achieve to become champion, whatever the champion achieves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from mno.registry.config import BesideConfig, PromotionConfig


def gates(
    config: PromotionConfig, kpis: Sequence[Mapping[str, Any]], physics: Mapping[str, Any] | str
) -> dict[str, str]:
    """Return whether each indicator that is asked for is met.

    Args:
        config: Which are.
        kpis: `kpis` of `reports/decision.json`.
        physics: `physics` of `reports/metrics.json`; or why nothing was checked.

    Returns:
        By name `met`, `missed`, `undecided` (the interval has the target inside) or `unknown`.
    """
    found = {_name(kpi): str(kpi["status"]) for kpi in kpis} if config.kpis else {}
    checks = physics.get("checks", {}) if isinstance(physics, Mapping) else {}
    for name, limit in config.physics.items():
        value = _p95(checks.get(name))
        status = "unknown" if value is None else "met" if value <= limit else "missed"
        found[f"physics.{name}"] = status
    return found


def beside_gates(config: BesideConfig, figures: Mapping[str, Any] | str) -> dict[str, str]:
    """Return whether each limit beside the champion is met.

    Args:
        config: The limits.
        figures: What `mno.evaluation.beside` measured; or why it did not.

    Returns:
        By name `met`, `missed` or `unknown`; nothing of what has no limit.
    """
    found = {}
    limits = {"latency_ms": config.latency, "peak_memory_mib": config.memory}
    for name in figures if isinstance(figures, Mapping) else ():
        limits.setdefault(name, config.physics)  # all else is physical consistency
    if not any(name.startswith("physics") for name in limits):
        limits["physics"] = config.physics
    for name, limit in limits.items():
        if limit is not None:
            sides = figures.get(name) if isinstance(figures, Mapping) else None
            found[f"beside.{name}"] = _within(sides, limit)
    return found


def _within(sides: Any, ratio: float) -> str:
    if not isinstance(sides, Mapping):
        return "unknown"
    return "met" if sides["own"] <= ratio * sides["champion"] else "missed"


def _name(kpi: Mapping[str, Any]) -> str:
    return f"{kpi['name']}.{kpi['field']}" if kpi.get("field") else str(kpi["name"])


def _p95(check: Any) -> float | None:
    """Return the 95th percentile of a check over the predictions; none where there is none."""
    prediction = check.get("prediction") if isinstance(check, Mapping) else None
    value = prediction.get("p95") if isinstance(prediction, Mapping) else None
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
