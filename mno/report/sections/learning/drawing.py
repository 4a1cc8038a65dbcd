"""Figure of the learning curve: measured errors, the fit, and how far it can be carried."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from mno.evaluation.learning import FURTHEST, LearningCurve
from mno.report.curves import HEIGHT, LEGEND, NARROW, PER_CENT, WIDE
from mno.report.figures import Figure
from mno.report.style import (
    PREDICTION_COLOUR,
    REFERENCE_COLOUR,
    TRUTH_COLOUR,
    house_style,
    new_figure,
    png_bytes,
)

if TYPE_CHECKING:
    from mno.report.language import Words

_DRAWN = 40  # places at which the band is drawn


def curve_figure(
    measured: Mapping[str, Any], curve: LearningCurve, target: float | None, words: Words
) -> Figure:
    """Return the figure of what `reports/learning_curve.json` holds.

    Args:
        measured: That.
        curve: The fit through it.
        target: Error to reach; none where none is set.
        words: Those of the section.
    """
    points = [p for p in measured["points"] if p["validation"]["relative_l2"] is not None]
    first, last = points[0], points[-1]
    return Figure(
        name="learning_curve",
        title=words("curve.title"),
        caption=words("curve.caption"),
        alt=words(
            "curve.alt",
            first=words.percent(first["validation"]["relative_l2"]),
            few=words.number(first["samples"]),
            last=words.percent(last["validation"]["relative_l2"]),
            many=words.number(last["samples"]),
            times=words.number(FURTHEST),
        ),
        png=_draw(points, curve, target, words, WIDE),
        narrow=_draw(points, curve, target, words, NARROW),
    )


def _draw(
    points: list[Mapping[str, Any]],
    curve: LearningCurve,
    target: float | None,
    words: Words,
    width: float,
) -> bytes:
    with house_style():
        figure = new_figure(width, HEIGHT)
        ax = figure.add_subplot()
        _draw_fit(ax, points[0]["samples"], curve, words("curve.fit"))
        _draw_points(ax, points, "test", words("curve.test"), TRUTH_COLOUR, "s")
        _draw_points(ax, points, "validation", words("curve.validation"), PREDICTION_COLOUR, "o")
        if target is not None:
            label = words("curve.target", target=words.percent(target))
            ax.axhline(target, color="black", ls="--", lw=1, label=label)
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.yaxis.set_major_formatter(PER_CENT)
        for axis in (ax.xaxis, ax.yaxis):
            axis.set_minor_formatter(NullFormatter())
        ax.grid(axis="y", color=REFERENCE_COLOUR, alpha=0.2, lw=0.5)
        ax.set_xlabel(words("curve.samples"))
        ax.set_ylabel(words("curve.error"))
        ax.legend(**LEGEND)
        return png_bytes(figure)


def _draw_fit(ax: Axes, fewest: int, curve: LearningCurve, label: str) -> None:
    samples = np.geomspace(fewest, FURTHEST * curve.largest, _DRAWN)
    errors = [curve.error(min(n, FURTHEST * curve.largest)) for n in samples]
    low, middle, high = ([getattr(e, k) for e in errors] for k in ("low", "middle", "high"))
    ax.fill_between(samples, low, high, color=PREDICTION_COLOUR, alpha=0.15, lw=0)
    ax.plot(samples, middle, color=PREDICTION_COLOUR, lw=1.2, label=label)


def _draw_points(
    ax: Axes,
    points: list[Mapping[str, Any]],
    split: str,
    label: str,
    colour: str,
    marker: str,
) -> None:
    known = [(p["samples"], p[split]) for p in points if p[split]["relative_l2"] is not None]
    samples = [n for n, _ in known]
    errors = [found["relative_l2"] for _, found in known]
    # Not below a tenth of the error, which a logarithmic axis would not show.
    bars = [2 * (found["standard_error"] or 0.0) for _, found in known]
    below = [min(bar, 0.9 * error) for bar, error in zip(bars, errors, strict=True)]
    ax.errorbar(
        samples, errors, yerr=(below, bars), fmt=marker, ms=4, color=colour, lw=1, label=label
    )
