"""The model card: what the model is for, what it was not tried on, and what it does on failure."""

from __future__ import annotations

from mno.report.language import Rows, Words
from mno.report.page import Results, Section, section_of

_FAILURES = ("bad_values", "fields", "resolution", "unlike", "silent")


def section(results: Results, words: Words) -> Section:
    """Return the section; its limits are what nothing in the report says."""
    measured = {
        "unlike": results.robustness,
        "single": results.trust,
        "equation": results.metrics.get("physics"),
    }
    truth = "measured" if results.schema.sources else "nature"
    limits = [*(name for name, found in measured.items() if not found), truth, "luck"]
    return section_of(
        words,
        use=_intended_use(results, words),
        failures=[words(f"failure.{name}") for name in _FAILURES],
        limits=[words(f"limit.{name}") for name in limits],
    )


def _intended_use(results: Results, words: Words) -> Rows:
    schema, known = results.schema, results.dataset.get("fields", {})
    task = words(
        "use.task",
        inputs=words.list(field.long_name for field in schema.inputs),
        outputs=words.list(field.long_name for field in schema.outputs),
    )
    rows = [(words("use.purpose"), task)]
    for field in schema.inputs:
        if field.name in known:
            unit = "" if field.units == "1" else f" {field.units}"
            low, high = (words.number(known[field.name][end], 3) for end in ("min", "max"))
            tried = words("use.range", low=low, high=high, unit=unit)
            rows.append((words("use.within", field=field.long_name), tried))
    points = words.list(f"{axis.name} {len(axis.points)}" for axis in schema.axes)
    owner = (words("use.owner"), words("use.registry"))
    return [*rows, (words("use.trained_at"), points), owner]
