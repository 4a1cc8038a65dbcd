"""The figures of a search: the best so far, what mattered, slices, and parallel coordinates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, NullFormatter

from mno.report.curves import HEIGHT, NARROW, PER_CENT, WIDE
from mno.report.figures import Figure
from mno.report.style import (
    PREDICTION_COLOUR,
    REFERENCE_COLOUR,
    TRUTH_COLOUR,
    house_style,
    new_figure,
    png_bytes,
)
from mno.study.tuning.findings import TrialRecord, best_so_far
from mno.study.tuning.spec import Axis, ChoiceAxis, IntAxis

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
    with house_style():
        found = [
            _both(
                "best_so_far", "The best so far",
                "Validation error of every finished trial, and the lowest until then.",
                f"Validation errors of {len(done)} trials; the lowest is {winner.error:.2%}.",
                lambda width: _progress(done, width),
            ),
            _both(
                "slices", "Error along each parameter",
                "Finished trials as dots, the winner in the other colour. All other parameters "
                "differ from dot to dot, so read trends, not differences.",
                f"Validation error against each of {', '.join(space)}.",
                lambda width: _slices(done, winner, space, width),
            ),
            _both(
                "parallel", "Trials in parallel coordinates",
                "A line is a trial; the darker, the lower its error. The winner is in the other "
                "colour.",
                f"Up to {_DRAWN} trials as lines across {', '.join(space)} and the error.",
                lambda width: _parallel(done, winner, space, width),
            ),
        ]  # fmt: skip
        if shares:
            found.insert(
                1,
                _both(
                    "importances", "What mattered",
                    "Each parameter's share in how far the best trials gather, by PED-ANOVA; of "
                    "few trials it is a hint.",
                    "; ".join(f"{name} {share:.0%}" for name, share in shares.items()),
                    lambda width: _importances(shares, width),
                ),
            )  # fmt: skip
    return found


def _both(name: str, title: str, caption: str, alt: str, draw: Any) -> Figure:
    return Figure(name, title, caption, alt, draw(WIDE), draw(NARROW))


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
