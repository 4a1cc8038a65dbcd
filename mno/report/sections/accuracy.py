"""How large the errors are, how sure that is, and in waves of which length they lie."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from mno.core.absent import Absent
from mno.evaluation.metrics import METRICS, Metric, spectra_of
from mno.evaluation.statistics import BANDS
from mno.report.language import unit_text
from mno.report.page import Figure, Section, curve_figure, render
from mno.report.style import PREDICTION_COLOUR, REFERENCE_COLOUR, TRUTH_COLOUR, draw_legend

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matplotlib.axes import Axes

    from mno.core.fields import Field
    from mno.evaluation.statistics import Statistics
    from mno.report.language import Words
    from mno.report.page import Known, Results


def spectrum(field: Field, statistics: Statistics, words: Words) -> Figure | None:
    """Return the figure of a field; none where it has no spectra, or not two waves to draw.

    Args:
        field: The field.
        statistics: Of the surrogate's predictions of it.
        words: Those of the section.
    """
    spectra = spectra_of(statistics)
    if isinstance(spectra, Absent) or len(spectra["wavenumber"]) < 3:
        return None
    drowned = _drowned(spectra)
    found = words("spectrum.resolved")
    if not np.isfinite(spectra["error"]).all():
        found = words("spectrum.not_a_number")
    elif drowned is not None:
        found = words("spectrum.drowned", wavenumber=words.number(drowned))
    said = {"field": field.long_name, "found": found}
    return curve_figure(
        f"spectrum_{field.name}",
        *(words(f"spectrum.{part}", **said) for part in ("title", "caption", "alt")),
        draw=lambda ax: _draw(ax, spectra, field.units, words),
    )


def _drowned(spectra: Mapping[str, list[float]]) -> float | None:
    """Return the first wavenumber, above 0, at which the error has as much power as the truth."""
    for k, truth, error in zip(
        *(spectra[n] for n in ("wavenumber", "truth", "error")), strict=True
    ):
        if k > 0 and error >= truth:
            return k
    return None


def _draw(ax: Axes, spectra: Mapping[str, list[float]], units: str, words: Words) -> None:
    curves = (("truth", TRUTH_COLOUR, "-"), ("prediction", PREDICTION_COLOUR, "--"),
              ("error", "black", ":"))  # fmt: skip
    k = np.array(spectra["wavenumber"][1:])  # the mean, k = 0, has no place on this axis
    for name, colour, dashes in curves:
        power = np.array(spectra[name][1:])
        shown = np.where(np.isfinite(power) & (power > 0), power, np.nan)
        ax.plot(k, shown, color=colour, ls=dashes, lw=1.7, label=words(f"spectrum.{name}"))
    for first, _ in BANDS.values():
        if k[0] < first <= k[-1]:
            ax.axvline(first, color=REFERENCE_COLOUR, lw=0.8, alpha=0.6)
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.xaxis.set_major_formatter("{x:g}")
    ax.set_xlabel(words("spectrum.wavenumber"))
    squared = "" if units == "1" else f" ({unit_text(units)})²"
    ax.set_ylabel(words("spectrum.power") + squared)
    draw_legend(ax)


_GUESSES = {"baseline_relative_l2": "mean_field", "persistence_relative_l2": "kept_frame"}


def summary(metrics: Known, words: Words) -> list[str]:
    """Return one sentence on the error, and one on each guess that needs no model.

    Args:
        metrics: `reports/metrics.json`.
        words: Those of the section.
    """
    intervals = metrics["intervals"]
    error = words.percent(metrics["relative_l2"])
    ends = intervals["relative_l2"]
    if not _known(ends):
        return [words("summary.unsure", error=error)]
    said = {
        "error": error,
        "low": words.percent(ends[0]),
        "high": words.percent(ends[1]),
        "level": words.percent(intervals["level"]),
        "samples": words.number(metrics["samples"]),
    }
    return [words("summary.error", **said)] + [
        _against(guess, intervals[f"relative_l2_minus_{name}"], words)
        for name, guess in _GUESSES.items()
        if _known(intervals.get(f"relative_l2_minus_{name}"))
    ]


def _against(guess: str, ends: list[float], words: Words) -> str:
    """Say by how much the model is better or worse than a guess, on the same samples."""
    low, high = sorted(abs(end) for end in ends)
    key = "better" if ends[1] < 0 else "worse" if ends[0] > 0 else "alike"
    return words(
        f"summary.{key}",
        guess=words(f"term.{guess}"),
        low=words.number(100 * low, 3),
        high=words.number(100 * high, 3),
    )


def _known(ends: list[float] | str | None) -> bool:
    return isinstance(ends, list) and all(math.isfinite(end) for end in ends)


_WAYS = ("", "baseline_", "persistence_")


def section(results: Results, words: Words) -> Section:
    """Return the section."""
    metrics = results.metrics
    kept = "persistence_relative_l2" in metrics
    terms = [*(metric.name for metric in METRICS), "mean_field", *(["kept_frame"] if kept else [])]
    drawn = [
        spectrum(field, results.evaluation.model[field.name], words)
        for field in results.schema.outputs
    ]
    figures = tuple(figure for figure in drawn if figure)
    body = render(
        "accuracy",
        words,
        summary=summary(metrics, words),
        tables=[_table(field, metrics, words) for field in results.schema.outputs],
        figures=figures,
        glossary=[(words(f"term.{name}"), words(f"meaning.{name}")) for name in terms],
    )
    return Section("accuracy", words("title"), body, figures)


def _table(field: Field, metrics: Known, words: Words) -> dict[str, Any]:
    """Return the metrics of a field, of the model and of baselines, and what is not measured."""
    values, intervals = metrics["fields"][field.name], metrics["intervals"]["fields"][field.name]
    measured = [metric for metric in METRICS if not isinstance(values[metric.name], Absent)]
    rows = [_row(metric, field, values, intervals, words) for metric in measured]
    absent: dict[Absent, list[str]] = {}
    for metric in METRICS:
        if metric not in measured:
            absent.setdefault(values[metric.name], []).append(words(f"term.{metric.name}"))
    return {
        "field": field.long_name,
        "rows": [*rows, _counted(values, words)] if field.gaps else rows,
        "absent": [
            words("absent", names=words.list(names), reason=words.why(reason))
            for reason, names in absent.items()
        ],
    }


def _row(
    metric: Metric, field: Field, values: Known, intervals: Known, words: Words
) -> dict[str, Any]:
    """Return a metric of the model and of the baselines, each with its interval if it has one."""
    show = words.number if metric.physical else words.percent
    cells = []
    for way in _WAYS:
        name = f"{way}{metric.name}"
        if name in values:
            interval = intervals.get(name)
            ends = None if isinstance(interval, Absent) or interval is None else interval
            cells.append((show(values[name]), _between(ends, show, words)))
    return {
        "title": words(f"term.{metric.name}"),
        "cells": cells,
        "unit": field.units if metric.physical and field.units != "1" else "",
    }


def _between(ends: list[float] | None, show: Any, words: Words) -> str:
    return words("between", low=show(ends[0]), high=show(ends[1])) if ends else ""


def _counted(values: Known, words: Words) -> dict[str, Any]:
    """Return how many values of a field with gaps were compared, of the model and of baselines."""
    compared, of = (
        words.number(n) for n in (values["values"], values["values"] + values["missing"])
    )
    own = words("compared_of", compared=compared, of=of)
    others = [(compared, "") for way in _WAYS[1:] if f"{way}rmse" in values]
    return {"title": words("compared"), "cells": [(own, ""), *others], "unit": ""}
