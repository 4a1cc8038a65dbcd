"""The report: one HTML file that is complete in itself, for whoever decides about a model.

Each section is a package under `sections`: what it tells, its template, and its words in each
language. The public names are loaded on first use, so that the words alone load no figures.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mno.evaluation.report.document import render_report, write_report
    from mno.evaluation.report.language import LANGUAGES
    from mno.evaluation.report.results import Results

_PUBLIC = {
    "LANGUAGES": "mno.evaluation.report.language",
    "Results": "mno.evaluation.report.results",
    "render_report": "mno.evaluation.report.document",
    "write_report": "mno.evaluation.report.document",
}

__all__ = ["LANGUAGES", "Results", "render_report", "write_report"]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)
