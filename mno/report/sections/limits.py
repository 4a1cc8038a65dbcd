"""The model card: what the model is for, what it was not tried on, and what it does on failure."""

from mno.report.language import Words
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
        schema=results.schema,
        known=results.dataset.get("fields", {}),
        failures=[words(f"failure.{name}") for name in _FAILURES],
        limits=[words(f"limit.{name}") for name in limits],
    )
