"""What it costs to use the model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mno.evaluation.report.section import Section, render

if TYPE_CHECKING:
    from mno.evaluation.report.language import Words
    from mno.evaluation.report.results import Known, Results


def section(results: Results, words: Words) -> Section | None:
    """Return the section; none where no cost was measured."""
    if not results.cost:
        return None
    body = render("cost/section.html.j2", words, rows=_rows(results.cost, words))
    return Section("cost", words("title"), body)


def _rows(cost: Known, words: Words) -> list[tuple[str, str]]:
    return [
        (words("parameters"), words.number(cost["parameters"])),
        (words("latency"), f"{words.number(cost['latency_ms'], 3)} ms"),
        (
            words("throughput", batch=words.number(cost["batch_size"])),
            words.number(cost["throughput_per_s"], 3),
        ),
        (words("memory"), f"{words.number(cost['peak_memory_mib'], 3)} MiB"),
        (words("threads"), words.number(cost["threads"])),
    ]
