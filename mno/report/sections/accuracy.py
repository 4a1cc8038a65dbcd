"""How large the errors are, how sure that is, and in waves of which length they lie."""

import math
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from mno.core.absent import Absent
from mno.core.fields import Field
from mno.evaluation.metrics import METRICS, spectra_of
from mno.evaluation.statistics import BANDS, Statistics
from mno.report import style
from mno.report.language import Known, Words, unit_text
from mno.report.page import Figure, Results, Section, figure_of, section_of

_MOST_TABLES = 3  # beyond which they are folded away behind one for all outputs
_GUESSES = {"baseline_relative_l2": "mean_field", "persistence_relative_l2": "kept_frame"}


def section(results: Results, words: Words) -> Section:
    """Return the section."""
    metrics, outputs = results.metrics, results.schema.outputs
    kept = "persistence_relative_l2" in metrics
    absent = {field.name: _absent(metrics["fields"][field.name], words) for field in outputs}
    alike = all(said == absent[outputs[0].name] for said in absent.values())
    known = [
        metric.name
        for metric in METRICS
        if not all(isinstance(metrics["fields"][f.name][metric.name], Absent) for f in outputs)
    ]
    rises = any("relative_rise" in values for values in metrics["fields"].values())
    names = [*known, *(["relative_rise"] if rises else [])]
    terms = [*names, "mean_field", *(["kept_frame"] if kept else [])]
    return section_of(
        words,
        [_spectrum(field, results.evaluation.model[field.name], words) for field in outputs],
        summary=_summary(metrics, words),
        persists=kept,
        kinds=METRICS,
        metrics=metrics,
        outputs=outputs,
        overview=_overview(results, words) if len(outputs) > _MOST_TABLES else [],
        absent=absent,
        alike=alike,
        may_miss=not results.schema.readings,  # of which a place has none of most kinds
        glossary=[(words(f"term.{name}"), words(f"meaning.{name}")) for name in terms],
    )


def _overview(results: Results, words: Words) -> list[dict[str, str]]:
    """Return what counts most of each output, by the heads of its columns."""
    metrics, tools = results.metrics, results.cost.get("tools", ())
    others = {}
    for tool in (tool for tool in tools if "rmse" in tool):
        count = tool.get("samples", 0)
        others[words(f"rmse_of.{tool['name']}", samples=count)] = tool["rmse"]
        if count:  # on some runs alone, so that the model's stands beside
            others[words("rmse_of.model")] = tool["model"]
    ways = {"baseline_": "mean_field", "persistence_": "kept_frame"}
    rows = []
    for field in results.schema.outputs:
        values, ends = metrics["fields"][field.name], metrics["intervals"]["fields"][field.name]
        between, unit = ends.get("relative_l2"), "" if field.units == "1" else f" {field.units}"
        said = words.percent(values["relative_l2"])
        if _known(between):
            low, high = map(words.percent, between)
            said += f" ({words('between', low=low, high=high)})"
        rise = values.get("relative_rise")
        rows.append(
            {words("predicted"): field.long_name, words("term.relative_l2"): said}
            | {words("term.relative_rise"): "–" if rise is None else words.percent(rise)}
            | {words("term.rmse"): words.number(values["rmse"]) + unit}
            | {tool: words.number(rmse[field.name]) + unit for tool, rmse in others.items()}
            | {words("term.max_error"): words.number(values["max_error"]) + unit}
            | {
                words(f"term.{guess}"): words.percent(values[f"{way}relative_l2"])
                for way, guess in ways.items()
                if f"{way}relative_l2" in values
            }
        )
    return rows


def _absent(values: Known, words: Words) -> list[str]:
    """Return which metrics of a field were not measured, a sentence for each reason."""
    found: dict[Absent, list[str]] = {}
    for metric in METRICS:
        if isinstance(values[metric.name], Absent):
            found.setdefault(values[metric.name], []).append(words(f"term.{metric.name}"))
    return [
        words("absent", names=words.list(names), reason=words.why(reason))
        for reason, names in found.items()
    ]


def _spectrum(field: Field, statistics: Statistics, words: Words) -> Figure | None:
    """Return the figure of a field; none where it has no spectra, or not two waves to draw."""
    spectra = spectra_of(statistics)
    if isinstance(spectra, Absent) or len(spectra["wavenumber"]) < 3:
        return None
    powers = zip(*(spectra[name] for name in ("wavenumber", "truth", "error")), strict=True)
    drowned = next((k for k, truth, error in powers if k > 0 and error >= truth), None)
    found = words("spectrum.resolved")
    if not np.isfinite(spectra["error"]).all():
        found = words("spectrum.not_a_number")
    elif drowned is not None:
        found = words("spectrum.drowned", wavenumber=words.number(drowned))
    drawn = style.curves(lambda ax: _draw_spectrum(ax, spectra, field.units, words))
    name = f"spectrum_{field.name}"
    return figure_of(name, words, "spectrum", drawn, field=field.long_name, found=found)


def _draw_spectrum(ax: Axes, spectra: Known, units: str, words: Words) -> None:
    k = np.array(spectra["wavenumber"][1:])  # the mean, k = 0, has no place on this axis
    for name, colour, dashes in (
        ("truth", style.TRUTH_COLOUR, "-"),
        ("prediction", style.PREDICTION_COLOUR, "--"),
        ("error", "black", ":"),
    ):
        power = np.array(spectra[name][1:])
        shown = np.where(np.isfinite(power) & (power > 0), power, np.nan)
        ax.plot(k, shown, color=colour, ls=dashes, lw=1.7, label=words(f"spectrum.{name}"))
    for first, _ in BANDS.values():
        if k[0] < first <= k[-1]:
            ax.axvline(first, color=style.REFERENCE_COLOUR, lw=0.8, alpha=0.6)
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.xaxis.set_major_formatter("{x:g}")
    squared = "" if units == "1" else f" ({unit_text(units)})²"
    style.finish(ax, words("spectrum.wavenumber"), words("spectrum.power") + squared)


def _summary(metrics: Known, words: Words) -> list[str]:
    """Return one sentence on the error, and one on each guess that needs no model."""
    intervals = metrics["intervals"]
    error, ends = words.percent(metrics["relative_l2"]), intervals["relative_l2"]
    if not _known(ends):
        return [words("summary.unsure", error=error)]
    low, high, level = map(words.percent, (*ends, intervals["level"]))
    samples = words.number(metrics["samples"])
    said = [words("summary.error", error=error, low=low, high=high, level=level, samples=samples)]
    for name, guess in _GUESSES.items():  # on the same samples
        ends = intervals.get(f"relative_l2_minus_{name}")
        if _known(ends):
            key = "better" if ends[1] < 0 else "worse" if ends[0] > 0 else "alike"
            low, high = (words.number(100 * end, 3) for end in sorted(map(abs, ends)))
            guess = words(f"term.{guess}")
            said.append(words(f"summary.{key}", guess=guess, low=low, high=high))
    return said


def _known(ends: Any) -> bool:
    return isinstance(ends, list) and all(math.isfinite(end) for end in ends)
