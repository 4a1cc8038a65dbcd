"""What the model was not tried on, and what it does on failure."""

from mno.core.absent import Absent
from mno.report.language import Words
from mno.report.page import Heading, Results, Section, section_of

_FAILURES = ("bad_values", "fields", "resolution", "unlike", "silent")


def section(results: Results, words: Words) -> Section:
    """Return the section; its limits are what nothing in the report says."""
    tried = not all(isinstance(one, Absent) for one in results.robustness.values())
    physics = results.metrics.get("physics")
    measured = {"unlike": tried, "equation": not isinstance(physics, Absent | None)}
    truth = "measured" if results.schema.sources else "nature"
    limits = [*(name for name, found in measured.items() if not found), truth, "luck"]
    return section_of(
        words,
        [words(f"failure.{name}") for name in _FAILURES],
        Heading(words("not_said")),
        [words(f"limit.{name}") for name in limits],
    )
