"""Evaluation: additive statistics, metrics, measured cost, figures and the report.

The public names are loaded on first use, so that one part does not load the others.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mno.evaluation.baselines import mean_fields
    from mno.evaluation.checks import check_figure
    from mno.evaluation.config import EvaluateConfig
    from mno.evaluation.cost.measuring import measure_cost
    from mno.evaluation.evaluator import evaluate
    from mno.evaluation.report import Results, render_report, write_report
    from mno.evaluation.result import Evaluation

_PUBLIC = {
    "EvaluateConfig": "mno.evaluation.config",
    "Evaluation": "mno.evaluation.result",
    "Results": "mno.evaluation.report",
    "check_figure": "mno.evaluation.checks",
    "evaluate": "mno.evaluation.evaluator",
    "mean_fields": "mno.evaluation.baselines",
    "measure_cost": "mno.evaluation.cost.measuring",
    "render_report": "mno.evaluation.report",
    "write_report": "mno.evaluation.report",
}

__all__ = [
    "EvaluateConfig",
    "Evaluation",
    "Results",
    "check_figure",
    "evaluate",
    "mean_fields",
    "measure_cost",
    "render_report",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)
