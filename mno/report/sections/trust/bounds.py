"""Figure of errors against the bounds that were stated on them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from mno.report.curves import HEIGHT, LEGEND, NARROW, PER_CENT, WIDE
from mno.report.figures import Figure
from mno.report.style import REFERENCE_COLOUR, house_style, new_figure, png_bytes
from mno.surrogate.trust.trust import Pairs

if TYPE_CHECKING:
    from mno.report.language import Words

_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")  # Okabe and Ito's

Points = Mapping[str, tuple[np.ndarray, np.ndarray]]
"""Bounds and errors of the samples that have both, by what the field is called."""


def bounds_figure(
    pairs: Mapping[str, Pairs], names: Mapping[str, str], words: Words
) -> Figure | None:
    """Return the figure; none where no sample has both a bound and an error.

    Args:
        pairs: Errors and bounds of test samples, by field.
        names: What fields are called.
        words: Those of the section.
    """
    points = {names[name]: _points(found) for name, found in pairs.items()}
    points = {name: both for name, both in points.items() if len(both[0])}
    if not points:
        return None
    samples = sum(len(bounds) for bounds, _ in points.values())
    held = sum(int((errors <= bounds).sum()) for bounds, errors in points.values())
    covered = words("figure.covered", held=held, samples=samples)
    return Figure(
        name="error_bounds",
        title=words("figure.title"),
        caption=words("figure.caption", covered=covered),
        alt=words("figure.alt", samples=samples, covered=covered),
        png=draw_bounds(points, words),
        narrow=draw_bounds(points, words, NARROW),
    )


def draw_bounds(points: Points, words: Words, width: float = WIDE) -> bytes:
    """Draw each sample's error above its bound, with the diagonal below which the bound held.

    Args:
        points: By field.
        words: Those of the section.
        width: Width of the figure in inches.
    """
    with house_style():
        figure = new_figure(width, HEIGHT)
        ax = figure.add_subplot()
        for index, (name, (bounds, errors)) in enumerate(points.items()):
            colour = _COLOURS[index % len(_COLOURS)]
            ax.plot(bounds, errors, ".", ms=4, alpha=0.6, color=colour, label=name)
        ends = np.concatenate([values for both in points.values() for values in both])
        most = 1.05 * float(ends.max()) or 1.0
        label = words("figure.diagonal")
        ax.plot([0.0, most], [0.0, most], color=REFERENCE_COLOUR, lw=1.2, label=label)
        ax.set_xlim(0.0, most)
        ax.set_ylim(0.0, most)
        ax.xaxis.set_major_formatter(PER_CENT)
        ax.yaxis.set_major_formatter(PER_CENT)
        ax.set_xlabel(words("figure.bound"))
        ax.set_ylabel(words("figure.error"))
        ax.legend(**LEGEND)
        return png_bytes(figure)


def _points(found: Pairs) -> tuple[np.ndarray, np.ndarray]:
    both = [
        (bound, error)
        for bound, error in zip(found.bound, found.error, strict=True)
        if bound is not None and error is not None
    ]
    bounds, errors = np.array(both, dtype=np.float64).reshape(-1, 2).T
    return bounds, errors
