"""The data that the model was trained and tried on, and how its physics checks came out."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from mno.report.language import Words, check_rows, fact_rows, unit_text
from mno.report.page import Figure, Section, render
from mno.report.style import (
    NARROW,
    PREDICTION_COLOUR,
    TRUTH_COLOUR,
    WIDE,
    house_style,
    new_figure,
    png_bytes,
)

if TYPE_CHECKING:
    from mno.data.reading import Schema
    from mno.report.language import Words
    from mno.report.page import Known, Results


_HEIGHT = 1.15  # inches per check


def check_figure(dataset: Mapping[str, Any], words: Words | None = None) -> Figure | None:
    """Return the figure of a dataset's physics checks; none where its report has no histograms.

    Args:
        dataset: The dataset's own report, `reports/dataset.json`; may be empty.
        words: Those of the report's section on data; in English if not given.
    """
    words = words or Words.of("en", "data")
    checks: list[Mapping[str, Any]] = [
        {**check, "description": words.check(name, check["description"])}
        for name, check in dataset.get("checks", {}).items()
        if "margins" in check
    ]
    if not checks:
        return None
    told = "; ".join(f"{check['description']}: {_largest(check, words)}" for check in checks)
    return Figure(
        name="physics_checks",
        title=words("margins.title"),
        caption=words("margins.caption"),
        alt=words("margins.alt", count=len(checks), told=told),
        png=_draw(checks, words, WIDE),
        narrow=_draw(checks, words, NARROW),
    )


def _largest(check: Mapping[str, Any], words: Words) -> str:
    return words(
        "margins.largest",
        value=words.number(check["max"], 2),
        tolerance=words.setting(check["tolerance"]),
    )


def _draw(checks: list[Mapping[str, Any]], words: Words, width: float) -> bytes:
    with house_style():
        figure = new_figure(width, 0.6 + _HEIGHT * len(checks))
        rows = figure.subplots(len(checks), 1, sharex=True, squeeze=False)[:, 0]
        for ax, check in zip(rows, checks, strict=True):
            _draw_check(ax, check, words, letters=int(13 * width))
        rows[-1].set_xlabel(words("margins.axis"))
        return png_bytes(figure)


def _draw_check(ax: Axes, check: Mapping[str, Any], words: Words, letters: int) -> None:
    margins = check["margins"]
    counts, step = np.asarray(margins["counts"]), 1 / margins["per_decade"]
    lowest = np.log10(margins["lowest"])
    # In decades: the bin that is open to the left is drawn one decade wide, apart from the others.
    edges = lowest + step * np.arange(len(counts) - 1)
    below, above = lowest - 1.0, edges[-1] + 4 * step
    shares = counts / max(counts.sum(), 1)
    ax.bar(below - step, shares[0], 1.0, align="edge", color=TRUTH_COLOUR, alpha=0.55)
    ax.bar(edges[:-1], shares[1:-1], step, align="edge", color=TRUTH_COLOUR, edgecolor="white")
    ax.bar(edges[-1], shares[-1], step, align="edge", color=PREDICTION_COLOUR)
    ax.axvline(0.0, color=PREDICTION_COLOUR, ls="--", lw=1.5)
    ax.axvspan(0.0, above, color=PREDICTION_COLOUR, alpha=0.08, lw=0)
    ax.set_xlim(below - 2 * step, above)
    ax.set_ylim(0, 1.12 * max(shares.max(), 1e-9))
    decades = np.arange(np.ceil(lowest) + 2, 1, 2)
    ax.xaxis.set_major_locator(FixedLocator([below - step + 0.5, *decades]))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: _tick(x, lowest, words)))
    ax.yaxis.set_major_locator(NullLocator())
    ax.spines["left"].set_visible(False)
    title = textwrap.shorten(str(check["description"]), letters, placeholder=" …")
    ax.set_title(f"{title}\n{_largest(check, words)}", loc="left", fontsize=8.5)


def _tick(decade: float, lowest: float, words: Words) -> str:
    if decade < lowest:
        return words("margins.less")
    return "1" if decade == 0 else f"$10^{{{decade:.0f}}}$"


_SHOWN_ELSEWHERE = {"scenario", "fields", "checks"}


def section(results: Results, words: Words) -> Section:
    """Return the section."""
    dataset, schema = results.dataset, results.schema
    drawn = check_figure(dataset, words)
    others = {k: v for k, v in dataset.items() if k not in _SHOWN_ELSEWHERE}
    body = render(
        "data",
        words,
        fields=_field_rows(schema, dataset, words),
        checks=check_rows(dataset, words),
        figure=drawn,
        rows=[*fact_rows(others, words), *_axis_rows(schema, words)],
    )
    return Section("data", words("title"), body, (drawn,) if drawn else ())


def _field_rows(schema: Schema, dataset: Known, words: Words) -> list[dict[str, str]]:
    """Return the fields of a dataset, with their values where its report has them."""
    return [
        {
            "name": field.name,
            "long_name": field.long_name,
            "role": words(f"role.{field.role}"),
            "unit": unit_text(field.units),
            "axes": ", ".join(field.dims),
            **_values(dataset.get("fields", {}).get(field.name), words),
        }
        for field in schema.fields
    ]


def _values(known: Known | None, words: Words) -> dict[str, str]:
    if known is None:
        return dict.fromkeys(("range", "mean", "std"), "–")
    low, high, mean, std = (words.number(known[key], 3) for key in ("min", "max", "mean", "std"))
    values = words("range", low=low, high=high)
    if known.get("missing"):
        values += words("missing", count=words.number(known["missing"]))
    return {"range": values, "mean": mean, "std": std}


def _axis_rows(schema: Schema, words: Words) -> list[tuple[str, str]]:
    return [
        (
            words("axis", name=axis.name),
            words(
                "points",
                count=len(axis.points),
                first=words.setting(float(axis.extent[0])),
                last=words.setting(float(axis.extent[1])),
                unit="" if axis.units == "1" else f" {axis.units}",
            ),
        )
        for axis in schema.axes
    ]
