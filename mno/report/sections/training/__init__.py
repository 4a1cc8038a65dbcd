"""What the model is, and how it was trained."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mno.report.facts import fact_rows
from mno.report.section import Section, render
from mno.report.sections.training.losses import losses

if TYPE_CHECKING:
    from mno.report.language import Words
    from mno.report.results import Results


def section(results: Results, words: Words) -> Section:
    """Return the section."""
    history = results.training
    figures = (losses(history, words),) if history else ()
    known = {}
    if history:
        known = {"epochs": len(history["epochs"]), "best_epoch": history["best_epoch"]}
    body = render(
        "training/section.html.j2",
        words,
        figures=figures,
        model=fact_rows(results.model, words),
        training=fact_rows({**known, "settings": results.settings}, words),
    )
    return Section("training", words("title"), body, figures)
