"""The model card: what the model is for, what it was not tried on, and what it does on failure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mno.report.page import Section, render

if TYPE_CHECKING:
    from mno.report.language import Words
    from mno.report.page import Results

_FAILURES = ("bad_values", "fields", "resolution", "unlike", "silent")


def section(results: Results, words: Words) -> Section:
    """Return the section."""
    body = render(
        "limits",
        words,
        use=_intended_use(results, words),
        failures=[words(f"failure.{name}") for name in _FAILURES],
        limits=[words(f"limit.{name}") for name in _limits(results)],
    )
    return Section("limits", words("title"), body)


def _limits(results: Results) -> list[str]:
    """Return what nothing in the report says; some of it may have been measured."""
    measured = {
        "unlike": results.robustness,
        "single": results.trust,
        "equation": results.metrics.get("physics"),
    }
    unknown = [name for name, found in measured.items() if not found]
    truth = "measured" if results.schema.sources else "nature"
    return [*unknown, truth, "luck"]


def _intended_use(results: Results, words: Words) -> list[tuple[str, str]]:
    schema, fields = results.schema, results.dataset.get("fields", {})
    task = words(
        "use.task",
        inputs=words.list(field.long_name for field in schema.inputs),
        outputs=words.list(field.long_name for field in schema.outputs),
    )
    rows = [(words("use.purpose"), task)]
    for field in schema.inputs:
        if field.name in fields:
            known = fields[field.name]
            unit = "" if field.units == "1" else f" {field.units}"
            low, high = (words.number(known[end], 3) for end in ("min", "max"))
            tried = words("use.range", low=low, high=high, unit=unit)
            rows.append((words("use.within", field=field.long_name), tried))
    points = words.list(f"{axis.name} {len(axis.points)}" for axis in schema.axes)
    owner = (words("use.owner"), words("use.registry"))
    return [*rows, (words("use.trained_at"), points), owner]
