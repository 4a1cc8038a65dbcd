"""The verdict on a surrogate, with its reasons: what `reports/decision.json` holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from mno.evaluation.decision.break_even import break_even
from mno.evaluation.decision.kpis import indicators
from mno.evaluation.decision.reasons import (
    Curve,
    about_errors,
    about_kpis,
    about_solver,
    about_trust,
)

if TYPE_CHECKING:
    from mno.evaluation.cost.config import EconomicsConfig
    from mno.evaluation.decision.config import KpiConfig

Known = Mapping[str, Any]
_SIDES = ("against", "condition", "for")


def decide(
    kpi_config: KpiConfig,
    economics: EconomicsConfig,
    *,
    metrics: Known,
    cost: Known,
    samples: Known,
    curve: Curve | str | None = None,
    trust: Known | None = None,
) -> dict[str, Any]:
    """Judge a surrogate by its errors, its cost, its targets and the user's own figures.

    It is not worth it where anything speaks against it, worth it on conditions where there are
    some, and worth it otherwise.

    Args:
        kpi_config: The targets.
        economics: The user's own figures.
        metrics: `reports/metrics.json`.
        cost: `reports/cost.json`.
        samples: Number of `train`ing samples, and of `all`.
        curve: The error as a function of the number of training samples; or why there is none.
        trust: `reports/trust.json`, where there is one.

    Returns:
        `verdict` (`worth_it`, `worth_it_if`, `not_worth_it`), `reasons` (`side`, `code`, `values`,
        see `Reason`; those that decide first), `kpis` (see `Kpi`), `break_even` (see `BreakEven`)
        and `error`, the relative L2 on the test split.
    """
    pays = break_even(cost, samples["all"], economics)
    speedup = (
        str(cost["solver"])
        if pays.solver_seconds is None
        else pays.solver_seconds / pays.surrogate_seconds
    )
    kpis = indicators(kpi_config, metrics, cost, speedup)
    found = [
        *about_errors(metrics),
        *about_kpis(kpis, curve, samples),
        *about_solver(pays, cost, economics),
        *about_trust(trust or {}),
    ]
    reasons = sorted(found, key=lambda reason: _SIDES.index(reason.side))  # stable: by weight
    verdict = {"against": "not_worth_it", "condition": "worth_it_if", "for": "worth_it"}
    return {
        "verdict": verdict[reasons[0].side],
        "reasons": [asdict(reason) for reason in reasons],
        "kpis": [kpi.to_dict() for kpi in kpis],
        "break_even": pays.to_dict(economics),
        "error": metrics["relative_l2"],
    }
