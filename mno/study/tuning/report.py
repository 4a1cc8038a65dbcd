"""The page of a search: the winner, how it compares, what mattered, and every trial."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mno.core.numbers import number, percent
from mno.study.document import Section, Table
from mno.study.page import write_report
from mno.study.statistics import LEVEL, Mean
from mno.study.tuning.drawing import figures_of
from mno.study.tuning.findings import DEFAULT, WINNER, Confirmation, TrialRecord
from mno.study.tuning.spec import TuneSpec

FOLDER = Path("reports/tune")
_NONE = "–"
_LISTED = 50
HOW = (
    "Errors are relative L2 on the validation split, of each training's best epoch. The test split "
    "was not opened: it judges the winner once it is trained by the line. The lowest of many "
    "validation errors is too low a guess of the winner's own, so it is compared with the default "
    "by trainings with seeds that chose nothing."
)


def write_search_report(
    root: Path,
    name: str,
    spec: TuneSpec,
    records: Sequence[TrialRecord],
    shares: Mapping[str, float],
    confirmation: Confirmation,
    numbers: Mapping[str, Any],
) -> Path:
    """Write the page of a search, self-contained, with Markdown and JSON beside it.

    Args:
        root: The workspace.
        name: Of the search.
        spec: The search.
        records: Its trials that have ended; one of them is done.
        shares: What mattered.
        confirmation: Winner against default.
        numbers: The same for programs.

    Returns:
        The path of the page.

    Raises:
        OSError: The folder cannot be written to.
    """
    done = sorted((r for r in records if r.state == "done"), key=lambda r: r.error or 0.0)
    sections = [
        _winner_section(done[0], confirmation),
        Section(
            "trials", "The search", [_counted(records)], [], figures_of(records, spec.space, shares)
        ),
        Section("all", "Trials", [], [_trials_table(done, records)]),
        Section("how", "How it was measured", [HOW, _rules(spec)]),
    ]
    if shares:
        rows = [{"parameter": k, "share": percent(v)} for k, v in shares.items()]
        sections[1].tables.append(Table("What mattered", rows))
    question = "Which parameters have the lowest validation error?"
    folder = root / FOLDER / name
    return write_report(folder, spec.title, question, [], sections, numbers, "trials")


def _winner_section(winner: TrialRecord, confirmation: Confirmation) -> Section:
    if winner.is_default:
        said = "No trial has a lower validation error than the default: it is the winner."
    else:
        said = confirmation.sentence()
    rows = [{"parameter": key, "value": _value(value)} for key, value in winner.point.items()]
    tables = [Table(f"The winner, trial {winner.number}", rows)]
    if confirmation.winner:
        tables.append(Table("With seeds that chose nothing", _confirmed(confirmation)))
    return Section(
        "winner",
        "The winner",
        [said, f"Its trial has a validation error of {_percent(winner.error)}."],
        tables,
    )


def _confirmed(confirmation: Confirmation) -> list[dict[str, str]]:
    pairs = ((WINNER, confirmation.winner), (DEFAULT, confirmation.default))
    return [
        {
            "model": name,
            "validation error": _mean(confirmation.mean(errors)),
            "seeds": ", ".join(f"{seed}: {_percent(error)}" for seed, error in errors.items()),
        }
        for name, errors in pairs
        if errors
    ]


def _mean(mean: Mean | None) -> str:
    if mean is None:
        return _NONE
    if mean.low is None or mean.high is None:
        return _percent(mean.value)
    span = f"{_percent(max(mean.low, 0.0))} to {_percent(mean.high)}"
    return f"{_percent(mean.value)} ({LEVEL:.0%} interval {span})"


def _counted(records: Sequence[TrialRecord]) -> str:
    states = ("done", "pruned", "refused", "failed", "broken")
    counts = {state: sum(r.state == state for r in records) for state in states}
    return "Trials: " + ", ".join(f"{n} {state}" for state, n in counts.items() if n) + "."


def _trials_table(done: Sequence[TrialRecord], records: Sequence[TrialRecord]) -> Table:
    others = [r for r in records if r.state != "done"]
    rows = [_row(record) for record in [*done, *others][:_LISTED]]
    more = len(records) - len(rows)
    left_out = f"; {more} more are in report.json" if more > 0 else ""
    return Table(f"The best first{left_out}", rows)


def _row(record: TrialRecord) -> dict[str, str]:
    parameters = record.figures.get("parameters")
    return {
        "trial": str(record.number) + (" (default)" if record.is_default else ""),
        "validation error": _percent(record.error),
        **{key.split(".")[-1]: _value(value) for key, value in record.point.items()},
        "epochs": str(len(record.epochs)),
        "parameters": _NONE if parameters is None else number(int(parameters)),
        "remarks": record.reason or (_NONE if record.state == "done" else record.state),
    }


def _rules(spec: TuneSpec) -> str:
    limits = [
        f"{key.replace('_', ' ')} at most {value:g}"
        for key, value in spec.limits.model_dump().items()
        if value is not None
    ]
    bounds = f" Limits: {', '.join(limits)}." if limits else ""
    return (
        f"Sampler {spec.sampler}, pruner {spec.pruner}, seed {spec.seed}; every training has the "
        f"seed of the line.{bounds}"
    )


def _percent(error: float | None) -> str:
    return _NONE if error is None else f"{100 * error:.3g} %"


def _value(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
