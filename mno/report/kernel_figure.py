"""Figure of a kernel: which inputs the output at a point listened to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from mno.core.fields import Axis, Field
from mno.report.panels import Panel, draw_panel, labelled, scale
from mno.report.style import PREDICTION_COLOUR, TRUTH_COLOUR, house_style, new_figure, png_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from mno.nn.kernel_view import EffectiveKernel

_PANEL_WIDTH, _PANEL_HEIGHT = 2.9, 2.35
_DECADES = 4
_LABEL = "log10 of mean |kernel|"


def draw_kernel(
    kernel: EffectiveKernel,
    axes: Sequence[Axis],
    *,
    sample: int = 0,
    target: int = 0,
    directions: Sequence[str] = (),
    shown: tuple[Field, np.ndarray] | None = None,
    columns: int = 3,
) -> bytes:
    """Draw the size of a kernel over the domain, summed and for each direction, the target marked.

    The size is the mean over channels of the kernel's absolute value, on a logarithmic scale that
    all panels share; inputs of no effect, and those below the scale, are left blank.

    Args:
        kernel: What `mno.nn.effective_kernel` returned for points of a grid.
        axes: The grid's axes, one or two.
        sample: Which sample of the batch.
        target: Which of the kernel's targets.
        directions: What to call the directions; they are numbered if not given.
        shown: A field of the same sample, drawn first.
        columns: Panels in a row.

    Returns:
        The figure as PNG.

    Raises:
        ValueError: There are neither one nor two axes, or their points are not those of the kernel.
    """
    shape = tuple(len(axis.points) for axis in axes)
    points = kernel.directions.shape[3]
    if len(shape) not in (1, 2) or int(np.prod(shape)) != points:
        raise ValueError(
            f"axes of {shape} points for a kernel on {points} points; expected one or two axes "
            "with as many points in all; cut a kernel in more dimensions to a plane first"
        )
    each = kernel.directions[sample, :, target]
    sizes = [x.abs().mean(-1).reshape(shape).numpy(force=True) for x in (each.sum(0), *each)]
    names = directions or [f"Direction {k + 1}" for k in range(len(each))]
    place = np.unravel_index(int(kernel.targets[target]), shape)
    at = [float(axis.points[i]) for axis, i in zip(axes, place, strict=True)]

    panels = [] if shown is None else [_field(*shown, axes)]
    panels += _sizes(["All directions", *names], sizes, axes)
    columns = min(columns, len(panels))
    rows = -(-len(panels) // columns)
    with house_style():
        figure = new_figure(_PANEL_WIDTH * columns, _PANEL_HEIGHT * rows)
        for position, panel in enumerate(panels, start=1):
            ax = figure.add_subplot(rows, columns, position)
            draw_panel(ax, panel)
            _mark(ax, at)
        return png_bytes(figure)


def _field(field: Field, values: np.ndarray, axes: Sequence[Axis]) -> Panel:
    colours = TRUTH_COLOUR if values.ndim == 1 else "cividis"
    label = labelled(field.long_name, field.units)
    return Panel("Input and target", label, values, tuple(axes), scale(values), colours)


def _sizes(names: Sequence[str], sizes: list[np.ndarray], axes: Sequence[Axis]) -> list[Panel]:
    highest = max(float(size.max()) for size in sizes)
    top = np.log10(highest) if highest > 0 else 0.0
    limits = (float(top) - _DECADES, float(top))
    panels = []
    for name, size in zip(names, sizes, strict=True):
        with np.errstate(divide="ignore"):
            logarithm = np.log10(size)
        blank = np.ma.masked_less(logarithm, limits[0])
        colours = TRUTH_COLOUR if size.ndim == 1 else "viridis"
        panels.append(Panel(name, _LABEL, blank, tuple(axes), limits, colours))
    return panels


def _mark(ax: Axes, at: Sequence[float]) -> None:
    if len(at) == 1:
        ax.axvline(at[0], color=PREDICTION_COLOUR, lw=1)
    else:
        ax.plot(*at, "o", mfc="none", mec=PREDICTION_COLOUR, ms=9, mew=1.5)
