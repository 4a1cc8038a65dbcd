"""The page of a search: the winner, how it compares, what mattered, and every trial."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, NullFormatter

from mno.core.numbers import number, percent
from mno.report.page import Figure
from mno.report.style import (
    HEIGHT,
    NARROW,
    PER_CENT,
    PREDICTION_COLOUR,
    REFERENCE_COLOUR,
    TRUTH_COLOUR,
    new_figure,
    png_bytes,
)
from mno.study.drawing import drawn
from mno.study.report import Section, Table, write_report
from mno.study.search_space import Axis, ChoiceAxis, IntAxis, SearchSpec
from mno.study.statistics import LEVEL, mean_with_interval
from mno.study.trials import DEFAULT, WINNER, Confirmation, TrialRecord, best_so_far

_COLUMNS = 3
_DRAWN = 200
"""Trials in parallel coordinates at most: the best ones."""


def figures_of(
    records: Sequence[TrialRecord], space: Mapping[str, Axis], shares: Mapping[str, float]
) -> list[Figure]:
    """Return all figures that the trials are enough for."""
    done = [r for r in records if r.state == "done"]
    if len(done) < 2:
        return []
    winner = min(done, key=lambda r: r.error or 0.0)
    found = [
        drawn(
            "best_so_far", "The best so far",
            "Validation error of every finished trial, and the lowest until then.",
            f"Validation errors of {len(done)} trials; the lowest is {winner.error:.2%}.",
            lambda width: _progress(done, width),
        ),
        drawn(
            "slices", "Error along each parameter",
            "Finished trials as dots, the winner in the other colour. All other parameters "
            "differ from dot to dot, so read trends, not differences.",
            f"Validation error against each of {', '.join(space)}.",
            lambda width: _slices(done, winner, space, width),
        ),
        drawn(
            "parallel", "Trials in parallel coordinates",
            "A line is a trial; the darker, the lower its error. The winner is in the other "
            "colour.",
            f"Up to {_DRAWN} trials as lines across {', '.join(space)} and the error.",
            lambda width: _parallel(done, winner, space, width),
        ),
    ]  # fmt: skip
    if shares:
        mattered = drawn(
            "importances", "What mattered",
            "Each parameter's share in how far the best trials gather, by PED-ANOVA; of few "
            "trials it is a hint.",
            "; ".join(f"{name} {share:.0%}" for name, share in shares.items()),
            lambda width: _importances(shares, width),
        )  # fmt: skip
        found.insert(1, mattered)
    return found


def _progress(done: Sequence[TrialRecord], width: float) -> bytes:
    figure = new_figure(width, HEIGHT)
    ax = figure.add_subplot()
    errors = np.array([r.error for r in done], float)
    ax.plot([r.number for r in done], errors, "o", ms=4, color=REFERENCE_COLOUR)
    curve = np.array(best_so_far(done))
    ax.step(curve[:, 0], curve[:, 1], where="post", color=TRUTH_COLOUR, lw=1.6)
    _error_axis(ax)
    ax.set_xlabel("trial")
    return png_bytes(figure)


def _importances(shares: Mapping[str, float], width: float) -> bytes:
    figure = new_figure(width, 0.8 + 0.3 * len(shares))
    ax = figure.add_subplot()
    ax.barh(range(len(shares)), list(shares.values()), color=TRUTH_COLOUR, height=0.6)
    ax.set_yticks(range(len(shares)), list(shares))
    ax.invert_yaxis()
    ax.set_xlim(left=0)
    ax.xaxis.set_major_formatter(PER_CENT)
    ax.set_xlabel("share of the importance")
    return png_bytes(figure)


def _slices(
    done: Sequence[TrialRecord], winner: TrialRecord, space: Mapping[str, Axis], width: float
) -> bytes:
    columns = min(len(space), _COLUMNS if width > NARROW else 2)
    rows = -(-len(space) // columns)
    figure = new_figure(width, 0.3 + 1.9 * rows)
    axes: Any = figure.subplots(rows, columns, squeeze=False, sharey=True)
    for ax, (key, axis) in zip(axes.flat, space.items(), strict=False):
        places = [_place(axis, r.point[key]) for r in done]
        ax.plot(places, [r.error for r in done], "o", ms=3.5, color=TRUTH_COLOUR, alpha=0.6)
        ax.plot(_place(axis, winner.point[key]), winner.error, "D", ms=6, color=PREDICTION_COLOUR)
        _error_axis(ax, label=ax in axes[:, 0])
        ax.set_xlabel(key)
        if isinstance(axis, ChoiceAxis):
            ax.set_xticks(range(len(axis.values)), [str(value) for value in axis.values])
        elif isinstance(axis, IntAxis):
            ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        elif axis.type == "log":
            ax.set_xscale("log")
            ax.set_xlim(axis.low / 1.3, axis.high * 1.3)
            ax.xaxis.set_minor_formatter(NullFormatter())
    for ax in axes.flat[len(space) :]:
        ax.set_visible(False)
    return png_bytes(figure)


def _parallel(
    done: Sequence[TrialRecord], winner: TrialRecord, space: Mapping[str, Axis], width: float
) -> bytes:
    figure = new_figure(width, HEIGHT + 0.8)
    ax = figure.add_subplot()
    errors = np.array([r.error for r in done], float)
    order = np.argsort(errors)[:_DRAWN][::-1]  # the best ones on top
    logs = np.log(np.maximum(errors, 1e-300))
    span = float(np.ptp(logs)) or 1.0
    heights = (logs - logs.min()) / span
    for row in order:
        record = done[row]
        line = [_share(axis, record.point[key]) for key, axis in space.items()]
        is_winner = record.number == winner.number
        ax.plot(
            range(len(line) + 1), [*line, heights[row]], lw=2.2 if is_winner else 1,
            color=PREDICTION_COLOUR if is_winner else TRUTH_COLOUR,
            alpha=1.0 if is_winner else float(0.75 - 0.6 * heights[row]),
        )  # fmt: skip
    names = [*space, "error"]
    ax.set_xticks(range(len(names)), [name.split(".")[-1] for name in names], rotation=25)
    for place, axis in enumerate([*space.values(), None]):
        low, high = _ends(axis) if axis else (f"{errors.min():.2%}", f"{errors.max():.2%}")
        ax.axvline(place, color=REFERENCE_COLOUR, lw=0.6)
        ax.text(place, -0.03, low, ha="center", va="top", fontsize=7)
        ax.text(place, 1.03, high, ha="center", va="bottom", fontsize=7)
    ax.set_ylim(-0.12, 1.12)
    ax.set_yticks([])
    ax.spines["left"].set_visible(False)
    return png_bytes(figure)


def _error_axis(ax: Axes, label: bool = True) -> None:
    ax.set_yscale("log")
    ax.yaxis.set_major_formatter(PER_CENT)
    ax.yaxis.set_minor_formatter(PER_CENT)
    ax.tick_params(axis="y", which="minor", labelsize=7)
    if label:
        ax.set_ylabel("validation error")


def _place(axis: Axis, value: Any) -> float:
    if isinstance(axis, ChoiceAxis):
        return float([repr(own) for own in axis.values].index(repr(value)))
    return float(value)


def _share(axis: Axis, value: Any) -> float:
    """Return where a value lies on its axis, from 0 to 1."""
    place = _place(axis, value)
    if isinstance(axis, ChoiceAxis):
        return place / (len(axis.values) - 1)
    low, high = float(axis.low), float(axis.high)
    if axis.type == "log":
        place, low, high = np.log(place), np.log(low), np.log(high)
    return float((place - low) / (high - low))


def _ends(axis: Axis) -> tuple[str, str]:
    if isinstance(axis, ChoiceAxis):
        return str(axis.values[0]), str(axis.values[-1])
    return f"{axis.low:g}", f"{axis.high:g}"


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
    spec: SearchSpec,
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
    states = ", ".join(f"{n} {state}" for state, n in counted(records).items() if n)
    figures = figures_of(records, spec.space, shares)
    sections = [
        _winner_section(done[0], confirmation),
        Section("trials", "The search", [f"Trials: {states}."], [], figures),
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
            "validation error": mean_with_interval(list(errors.values())).text(
                _percent, least=0.0, label=f"{LEVEL:.0%} interval "
            ),
            "seeds": ", ".join(f"{seed}: {_percent(error)}" for seed, error in errors.items()),
        }
        for name, errors in pairs
        if errors
    ]


def counted(records: Sequence[TrialRecord]) -> dict[str, int]:
    """Return how many trials there are of each state."""
    states = ("done", "pruned", "refused", "failed", "broken")
    return {state: sum(r.state == state for r in records) for state in states}


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


def _rules(spec: SearchSpec) -> str:
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
