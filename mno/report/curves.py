"""What figures of curves share: their sizes, their legend, an axis in per cent."""

from __future__ import annotations

from typing import Any

from matplotlib.ticker import FuncFormatter

WIDE, NARROW = 7.2, 4.2  # inches, for a page and for a telephone
HEIGHT = 3.4
LEGEND: dict[str, Any] = {  # above the axes, where it hides nothing
    "loc": "lower left",
    "bbox_to_anchor": (0, 1),
    "ncols": 3,
    "frameon": False,
    "borderaxespad": 0.2,
    "columnspacing": 1.0,
    "handlelength": 1.5,
    "handletextpad": 0.5,
}
PER_CENT = FuncFormatter(lambda fraction, _: f"{100 * fraction:g}\u202f%")
