"""The figures of a study: errors, accuracy against cost, growth with the grid and with samples."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from mno.core.numbers import setting
from mno.report import style
from mno.report.page import Figure
from mno.report.style import MANY_COLOURS, PER_CENT, curves
from mno.study.findings import Row, ScenarioFindings, front

# Each mixer has one of MANY_COLOURS, and each backbone a marker.
_MARKERS = "osD^vP*X"
_HEIGHT = style.HEIGHT + 0.6
_PLAIN = FuncFormatter(lambda value, _: setting(float(f"{value:.3g}")))

Curves = Mapping[str, Sequence[tuple[float, float]]]  # by model points (x, y)
Kinds = Mapping[str, tuple[str, str]]  # by model its backbone and its mixer


def errors_figure(found: ScenarioFindings) -> Figure:
    """Draw the error of every model of a scenario: each seed, mean and interval."""
    styles, height = _styles(_kinds(found)), 1.0 + 0.3 * len(found.rows)
    return Figure(
        f"errors_{found.scenario}",
        f"{found.scenario}: test error",
        "Relative L2 on the test split: each seed a dot, the mean a line with its 95 % interval. "
        "Where intervals overlap, the comparisons below say whether the models are told apart.",
        f"Test errors of {len(found.rows)} models on {found.scenario}; {found.verdict}.",
        *curves(lambda ax: _errors(ax, found.rows, styles), height),
    )


def front_figure(found: ScenarioFindings, cost: str, label: str) -> Figure | None:
    """Draw errors against a cost of `Row`; none where fewer than two models have it."""
    points = [(r.model, getattr(r, cost), r.mean.value) for r in found.rows if getattr(r, cost)]
    if len(points) < 2:
        return None
    best, styles = front(points), _styles(_kinds(found))
    by_name = {name: place for name, *place in points}
    line = np.array([by_name[name] for name in best])

    def draw(ax: Axes) -> None:
        ax.step(line[:, 0], line[:, 1], where="post", color=style.REFERENCE_COLOUR, lw=1)
        for name, cost, error in points:
            ax.plot(cost, error, label=name, ls="", ms=6, **styles[name])
        _make_logarithmic(ax, label, "relative L2 error")

    return Figure(
        f"front_{cost}_{found.scenario}",
        f"{found.scenario}: error against {label}",
        f"Mean test error against {label}; lower left is better. The line joins the models that "
        f"no other beats in both: {', '.join(best)}.",
        f"Error against {label} of {len(points)} models; on the front: {', '.join(best)}.",
        *curves(draw, _HEIGHT),
    )


def growth_figure(
    name: str, title: str, growth: Curves, kinds: Kinds, x: str, y: str, why: str
) -> Figure | None:
    """Draw a quantity that grows, both axes logarithmic; none without curves of two points."""
    long = {model: points for model, points in growth.items() if len(points) > 1}
    if not long:
        return None
    styles = _styles(kinds)

    def draw(ax: Axes) -> None:
        for model, points in long.items():
            ax.plot(*np.array(points, float).T, label=model, ms=4, lw=1.4, **styles[model])
        _make_logarithmic(ax, x, y)

    return Figure(name, title, why, f"{title}, of {', '.join(long)}.", *curves(draw, _HEIGHT))


def _kinds(found: ScenarioFindings) -> Kinds:
    return {row.model: (row.backbone, row.mixer) for row in found.rows}


def _styles(kinds: Kinds) -> dict[str, dict[str, Any]]:
    backbones = list(dict.fromkeys(backbone for backbone, _ in kinds.values()))
    mixers = list(dict.fromkeys(mixer for _, mixer in kinds.values()))
    many = len(mixers) > len(MANY_COLOURS)  # then markers tell apart what has the same colour
    styles = {}
    for model, (backbone, mixer) in kinds.items():
        turn, colour = divmod(mixers.index(mixer), len(MANY_COLOURS))
        marker = turn if many else backbones.index(backbone)
        styles[model] = {"color": MANY_COLOURS[colour], "marker": _MARKERS[marker % len(_MARKERS)]}
    return styles


def _errors(ax: Axes, rows: Sequence[Row], styles: Mapping[str, dict[str, Any]]) -> None:
    for place, row in enumerate(rows):
        mean, look = row.mean, styles[row.model]
        colour = look["color"]
        ax.plot(list(row.errors.values()), [place] * len(row.errors), ls="", ms=4, **look)
        if mean.low is not None and mean.high is not None:
            ax.plot([max(mean.low, 0), mean.high], [place, place], lw=1.5, color=colour)
        ax.plot([mean.value], [place], "|", ms=14, color=colour)
    ax.set_yticks(range(len(rows)), [row.model for row in rows])
    ax.invert_yaxis()
    ax.set_xlim(left=0)
    ax.xaxis.set_major_formatter(PER_CENT)
    ax.set_xlabel("relative L2 error")


def _make_logarithmic(ax: Axes, x: str, y: str) -> None:
    """Give axes that have been drawn into two scales with numbers as people write them."""
    ax.set_xscale("log")
    ax.set_yscale("log")
    for axis, text in ((ax.xaxis, _PLAIN), (ax.yaxis, PER_CENT if y.endswith("error") else _PLAIN)):
        style.log_ticks(axis, text)
        low, high = sorted(axis.get_view_interval())
        if high < 10 * low:
            axis.set_major_locator(MaxNLocator(5))
    ax.set_xlabel(x)
    ax.set_ylabel(y)
    style.draw_legend(ax, columns=3, narrow=2)
