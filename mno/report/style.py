"""How all figures look: colours, sizes, legends; and how one becomes bytes."""

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from importlib.metadata import distribution
from typing import Any

import matplotlib
import numpy as np
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from PIL import Image

TRUTH_COLOUR = "#0072b2"  # the palette of Okabe and Ito, told apart by all kinds of sight
PREDICTION_COLOUR = "#d55e00"
REFERENCE_COLOUR = "#6b6b6b"
COLOURS = (TRUTH_COLOUR, PREDICTION_COLOUR, "#009e73", "#cc79a7")  # for many of a kind
MANY_COLOURS = (*COLOURS, "#e69f00", "#56b4e9", "#000000")

DPI = 144
_STYLE: dict[Any, Any] = {
    # Both come with packages, so every machine draws the same; the second has what the first lacks.
    "font.family": ["DejaVu Sans", "IPAexGothic"],
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.labelsize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.facecolor": "white",
    "legend.fontsize": 8.5,
    "savefig.dpi": DPI,
}


_SPOKEN: ContextVar[Callable[[str], str]] = ContextVar("spoken", default=str)


@contextmanager
def spoken(say: Callable[[str], str]) -> Iterator[None]:
    """Write figures in another language within: what `say` makes of each of their texts."""
    before = _SPOKEN.set(say)
    try:
        yield
    finally:
        _SPOKEN.reset(before)


@contextmanager
def house_style() -> Iterator[None]:
    """Draw in the house style, whatever the user's own matplotlib settings are."""
    _add_japanese_font()
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        yield


@cache
def _add_japanese_font() -> None:
    # Importing the font's package would change the settings of all figures.
    font = distribution("matplotlib-fontja").locate_file("matplotlib_fontja/fonts/ipaexg.ttf")
    font_manager.fontManager.addfont(str(font))


def new_figure(width: float, height: float, *, arranged: bool = True) -> Figure:
    """Return an empty figure, in inches, that no window system knows of.

    Where it is `arranged`, matplotlib finds places for what is added, which takes most of the time
    of drawing; otherwise whoever adds something says where.
    """
    figure = Figure(figsize=(width, height), layout="compressed" if arranged else None)
    FigureCanvasAgg(figure)
    return figure


def png_bytes(figure: Figure) -> bytes:
    """Return a figure as PNG; the same drawing gives the same bytes, without date or version."""
    _speak(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _speak(figure: Figure) -> None:
    say = _SPOKEN.get()
    for text in figure.findobj(Text):
        text.set_text(said := say(text.get_text()))  # type: ignore[attr-defined]
        # A unit may have dollars; formulas are of ticks alone.
        text.set_parse_math("$" not in said or "mathdefault" in said)  # type: ignore[attr-defined]


def pixels_of(figure: Figure) -> np.ndarray:
    """Return a figure as it is drawn at its own resolution, shape `(height, width, 3)`, uint8."""
    _speak(figure)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def encoded(pixels: np.ndarray) -> bytes:
    """Return pixels as PNG."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


_LARGE_RATIO = 1000.0  # of errors
WIDE, NARROW = 7.2, 4.2  # inches, for a page and for a telephone
HEIGHT = 3.4


def on_page_and_telephone(
    draw: Callable[[Figure], None], height: float | tuple[float, float] = HEIGHT,
    square: bool = False,
) -> tuple[bytes, bytes]:  # fmt: skip
    """Return what is drawn into an empty figure, `square` at most, as PNG of both widths."""
    pictures, heights = [], height if isinstance(height, tuple) else (height, height)
    for width, height in zip((WIDE, NARROW), heights, strict=True):
        with house_style():
            figure = new_figure(width, min(width, height) if square else height)
            draw(figure)
            pictures.append(png_bytes(figure))
    return pictures[0], pictures[1]


def curves(
    draw: Callable[[Axes], None], height: float = HEIGHT, square: bool = False
) -> tuple[bytes, bytes]:
    """Return what is drawn into empty axes, for a page and for the screen of a telephone."""
    return on_page_and_telephone(lambda figure: draw(figure.add_subplot()), height, square)


def grid(ax: Axes, axis: Any = "y", which: Any = "major") -> None:
    """Draw thin lines to read values by."""
    ax.grid(axis=axis, which=which, color=REFERENCE_COLOUR, alpha=0.2, lw=0.5)


def error_scale(ax: Axes, *curves: Any) -> None:
    """Draw errors from 0 on, or by their logarithms where the least could not be seen."""
    values = np.concatenate([np.asarray(curve, dtype=np.float64) for curve in curves])
    known = values[np.isfinite(values) & (values > 0.0)]
    if known.size and known.max() > _LARGE_RATIO * known.min():
        ax.set_yscale("log")
    else:
        ax.set_ylim(bottom=0)


def log_ticks(axis: Any, labels: str | FuncFormatter = "{x:g}") -> None:
    """Number 1, 2 and 5 of each decade of a logarithmic axis."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(labels)
    axis.set_minor_formatter(NullFormatter())


def finish(ax: Axes, x: str, y: str, *, lines: str = "", per_cent: str = "", **legend: int) -> None:
    """Name the axes, draw lines along some, put some in per cent, and explain the curves."""
    ax.set_xlabel(x)
    ax.set_ylabel(y)
    if lines:
        grid(ax, lines)
    for name in per_cent:
        getattr(ax, f"{name}axis").set_major_formatter(PER_CENT)
    if ax.get_legend_handles_labels()[0]:
        draw_legend(ax, **legend)


def draw_legend(ax: Axes, columns: int = 3, narrow: int = 3) -> None:
    """Explain the curves of axes above them, in so many columns on a page and on a telephone."""
    figure = ax.get_figure()
    is_narrow = figure is None or figure.get_figwidth() < WIDE  # type: ignore[union-attr]
    ax.legend(
        loc="lower left", bbox_to_anchor=(0, 1), ncols=narrow if is_narrow else columns,
        frameon=False, borderaxespad=0.2, columnspacing=1.0, handlelength=1.5, handletextpad=0.5,
    )  # fmt: skip


PER_CENT = FuncFormatter(lambda fraction, _: f"{100 * fraction:g}\u202f%")
