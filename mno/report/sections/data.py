"""The data that the model was trained and tried on, and how its physics checks came out."""

import textwrap

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from mno.data.reading import Schema
from mno.report.language import Known, Rows, Words, check_rows, fact_rows
from mno.report.page import Figure, Results, Section, figure_of, section_of
from mno.report.style import PREDICTION_COLOUR, TRUTH_COLOUR, on_page_and_telephone

_SHOWN_ELSEWHERE = {"scenario", "fields", "checks"}
_HEIGHT = 1.15  # inches per check


def section(results: Results, words: Words) -> Section:
    """Return the section."""
    dataset, schema = results.dataset, results.schema
    others = {k: v for k, v in dataset.items() if k not in _SHOWN_ELSEWHERE}
    return section_of(
        words,
        [check_figure(dataset, words)],
        schema=schema,
        known=dataset.get("fields", {}),
        checks=check_rows(dataset, words),
        rows=[*fact_rows(others, words), *_axis_rows(schema, words)],
    )


def check_figure(dataset: Known, words: Words | None = None) -> Figure | None:
    """Return the figure of the checks in `reports/dataset.json`; none without histograms."""
    words = words or Words.of("en", "data")
    checks = []
    for name, check in dataset.get("checks", {}).items():
        if "margins" in check:
            value, tolerance = words.number(check["max"], 2), words.setting(check["tolerance"])
            largest = words("margins.largest", value=value, tolerance=tolerance)
            checks.append((words.check(name, check["description"]), largest, check["margins"]))
    if not checks:
        return None

    def draw(figure: Drawing) -> None:
        rows = figure.subplots(len(checks), 1, sharex=True, squeeze=False)[:, 0]
        letters = int(13 * figure.get_figwidth())
        for ax, (description, largest, margins) in zip(rows, checks, strict=True):
            _draw_check(ax, margins, words)
            title = textwrap.shorten(str(description), letters, placeholder=" …")
            ax.set_title(f"{title}\n{largest}", loc="left", fontsize=8.5)
        rows[-1].set_xlabel(words("margins.axis"))

    told = "; ".join(f"{description}: {largest}" for description, largest, _ in checks)
    drawn = on_page_and_telephone(draw, 0.6 + _HEIGHT * len(checks))
    return figure_of("physics_checks", words, "margins", drawn, count=len(checks), told=told)


def _draw_check(ax: Axes, margins: Known, words: Words) -> None:
    counts, step = np.asarray(margins["counts"]), 1 / margins["per_decade"]
    lowest = np.log10(margins["lowest"])
    # In decades: the bin that is open to the left is drawn one decade wide, apart from the others.
    edges = lowest + step * np.arange(len(counts) - 1)
    below, above = lowest - 1.0, edges[-1] + 4 * step
    shares = counts / max(counts.sum(), 1)

    def tick(decade: float, _: object) -> str:
        if decade < lowest:
            return words("margins.less")
        return "1" if decade == 0 else f"$10^{{{decade:.0f}}}$"

    ax.bar(below - step, shares[0], 1.0, align="edge", color=TRUTH_COLOUR, alpha=0.55)
    ax.bar(edges[:-1], shares[1:-1], step, align="edge", color=TRUTH_COLOUR, edgecolor="white")
    ax.bar(edges[-1], shares[-1], step, align="edge", color=PREDICTION_COLOUR)
    ax.axvline(0.0, color=PREDICTION_COLOUR, ls="--", lw=1.5)
    ax.axvspan(0.0, above, color=PREDICTION_COLOUR, alpha=0.08, lw=0)
    ax.set_xlim(below - 2 * step, above)
    ax.set_ylim(0, 1.12 * max(shares.max(), 1e-9))
    decades = np.arange(np.ceil(lowest) + 2, 1, 2)
    ax.xaxis.set_major_locator(FixedLocator([below - step + 0.5, *decades]))
    ax.xaxis.set_major_formatter(FuncFormatter(tick))
    ax.yaxis.set_major_locator(NullLocator())
    ax.spines["left"].set_visible(False)


def _axis_rows(schema: Schema, words: Words) -> Rows:
    rows = []
    for axis in schema.axes:
        first, last = (words.setting(float(end)) for end in axis.extent)
        unit = "" if axis.units == "1" else f" {axis.units}"
        points = words("points", count=len(axis.points), first=first, last=last, unit=unit)
        rows.append((words("axis", name=axis.name), points))
    return rows
