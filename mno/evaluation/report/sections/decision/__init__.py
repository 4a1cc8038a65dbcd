"""What it comes to: the verdict, and the numbers that matter most."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mno.evaluation.report.section import Section, render
from mno.evaluation.verdict import verdict

if TYPE_CHECKING:
    from mno.evaluation.report.language import Words
    from mno.evaluation.report.results import Known, Results


def section(results: Results, words: Words) -> Section:
    """Return the section."""
    body = render(
        "decision/section.html.j2",
        words,
        verdict=verdict(results.metrics),
        tiles=_tiles(results, words),
    )
    return Section("decision", words("title"), body)


def _tiles(results: Results, words: Words) -> list[tuple[str, str]]:
    metrics, kept = results.metrics, []
    if "persistence_relative_l2" in metrics:
        kept = [(words("guess.kept_frame"), words.percent(metrics["persistence_relative_l2"]))]
    return [
        (words("error"), words.percent(metrics["relative_l2"])),
        (words("guess.mean_field"), words.percent(metrics["baseline_relative_l2"])),
        *kept,
        *_costs(results.cost, words),
    ]


def _costs(cost: Known, words: Words) -> list[tuple[str, str]]:
    if not cost:
        return []
    return [
        (words("latency"), f"{words.number(cost['latency_ms'], 2)} ms"),
        (words("parameters"), words.number(cost["parameters"])),
    ]
