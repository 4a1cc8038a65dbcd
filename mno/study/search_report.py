"""The page of a search: the winner, how it compares, and every trial."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mno.core.numbers import number
from mno.study.report import SAID, Section, Table, write_report
from mno.study.trials import STATES, TrialRecord, Trials

FOLDER = Path("reports/tune")
_NONE = "–"


def write_search_report(root: Path, name: str, trials: Trials, numbers: Mapping[str, Any]) -> Path:
    """Write the page of a search of which a trial is done, and its numbers; return its path."""
    records, done, spec = trials.records, trials.done, trials.spec
    most = spec.limits.parameters
    bound = "" if most is None else f" Models have at most {number(most)} parameters."
    rules = f"Sampler tpe, pruner median, seed {spec.seed}; trainings have the line's seed.{bound}"
    others = [record for record in records if record.outcome.state != "done"]
    states = ", ".join(f"{n} {state}" for state, n in counted(records).items() if n)
    rows = [_row(record) for record in [*done, *others]]
    winner = done[0]
    point = [{"parameter": key, "value": plain(value)} for key, value in winner.point.items()]
    table = Table(f"The winner, trial {winner.number}", point)
    lowest = f"Its trial has a validation error of {_percent(winner.outcome.error)}."
    sections = [
        Section("winner", "The winner", [numbers["said"], lowest], [table]),
        Section("all", "Trials", [f"{states}."], [Table("The best first", rows)]),
        Section("how", "How it was measured", [SAID["search"], rules]),
    ]
    question = "Which parameters have the lowest validation error?"
    folder = root / FOLDER / name
    return write_report(folder, spec.title, question, [], lambda: sections, numbers, "trials")


def counted(records: Sequence[TrialRecord]) -> dict[str, int]:
    """Return how many trials there are of each state."""
    counts = Counter(record.outcome.state for record in records)
    return {state: counts[state] for state in STATES}


def _row(record: TrialRecord) -> dict[str, str]:
    made = record.outcome
    return {
        "trial": str(record.number) + (" (default)" if record.is_default else ""),
        "validation error": _percent(made.error),
        **{key.split(".")[-1]: plain(value) for key, value in record.point.items()},
        "epochs": str(len(made.epochs)),
        "parameters": _NONE if made.parameters is None else number(made.parameters),
        "remarks": made.reason or (_NONE if made.state == "done" else made.state),
    }


def _percent(error: float | None) -> str:
    return _NONE if error is None else f"{100 * error:.3g} %"


def plain(value: Any, digits: int = 4) -> str:
    """Return a parameter for a person."""
    return f"{value:.{digits}g}" if isinstance(value, float) else str(value)
