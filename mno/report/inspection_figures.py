"""The figures of an inspection: samples, spectra, values, physics checks, what is missing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import zarr
from matplotlib.axes import Axes
from matplotlib.ticker import (
    FuncFormatter,
    LogLocator,
    MaxNLocator,
    NullFormatter,
    NullLocator,
    PercentFormatter,
)

from mno.core.numbers import number, percent
from mno.report import style
from mno.report.inspected_fields import CUTOFF, FieldMeasurement, Spectrum
from mno.report.inspected_sensors import Presence, Sensors
from mno.report.inspection import Inspection
from mno.report.page import Figure
from mno.report.panels import PANEL_WIDTH, Panel, draw_panel, labelled, placed, plane, scale
from mno.report.sections.data import check_figure

_MOST_NAMES = 24
_COLOURS = "cividis"
_CURVE_COLOURS = (
    style.TRUTH_COLOUR,
    style.PREDICTION_COLOUR,
    "#009e73",
    "#cc79a7",
    "#e69f00",
    "#56b4e9",
)
_DASHES = ("-", "--", ":", "-.")
_PANEL_HEIGHT = 2.35


def draw_inspection(inspection: Inspection) -> list[Figure]:
    """Draw what there is to draw; the only samples that are read again are those shown."""
    figures = [*_samples(inspection), *_spectra(inspection), _values(inspection)]
    if inspection.sensors:
        figures += presence_figures(inspection.sensors)
    checks = check_figure({"checks": inspection.checks})
    return [*figures, *([checks] if checks else [])]


def presence_figures(sensors: Sensors) -> Iterator[Figure]:
    """Draw, for each field, which values are there, and where what share is missing."""
    for presence in sensors.presence:
        field, share = presence.field, percent(presence.share_missing)
        height = 1.4 + 0.16 * min(len(presence.picture), _MOST_NAMES)
        yield Figure(
            f"presence_{field.name}",
            f"What is there of {field.long_name}",
            "Share of values that are there, by sensor and sample in the order of the "
            "dataset. A yellow row is a sensor that fails, a yellow column a time at which all do. "
            f"{share} are missing at the sensors that have any.",
            f"Map of the values of {field.long_name} that are there: {share} are missing.",
            *style.curves(partial(_draw_presence, sensors=sensors, presence=presence), height),
        )
        if sensors.places is None or "point" not in field.dims or presence.same:
            continue
        worst = int(np.argmax(presence.missing))
        most = f"{percent(float(presence.missing[worst]))} at {sensors.name(presence, worst)}"
        draw = partial(
            _draw_places, sensors=sensors, places=sensors.places, missing=presence.missing
        )
        yield Figure(
            f"places_{field.name}",
            f"Where {field.long_name} is missing",
            "Share of missing values at each sensor, where it is; all of it where the "
            f"field is not measured. The largest: {most}.",
            f"Map of sensors by the share of {field.long_name} that is missing, most {most}.",
            *style.curves(draw, 2.4 if len(sensors.axes) == 1 else 4.0),
        )


def _draw_presence(ax: Axes, sensors: Sensors, presence: Presence) -> None:
    picture, count = presence.picture, presence.sensors
    image = ax.imshow(
        picture, aspect="auto", cmap=f"{_COLOURS}_r", vmin=0, vmax=1, interpolation="nearest",
        extent=(0, len(sensors.starts), len(picture), 0),
    )  # fmt: skip
    ax.set_xlabel("sample")
    ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    if len(picture) == count <= _MOST_NAMES:
        names = [sensors.name(presence, sensor) for sensor in range(count)]
        ax.set_yticks(np.arange(count) + 0.5, names)
    else:
        ax.set_ylabel(f"{count} sensors")
        ax.set_yticks([])
    _draw_scale(ax, image, "share there")


def _draw_places(ax: Axes, sensors: Sensors, places: np.ndarray, missing: np.ndarray) -> None:
    labels = [labelled(axis, sensors.units) for axis in sensors.axes]
    ax.set_xlabel(labels[0])
    if len(labels) == 1:
        ax.vlines(places[:, 0], 0, missing, color=style.TRUTH_COLOUR, lw=1.2)
        ax.plot(places[:, 0], missing, "o", color=style.TRUTH_COLOUR, ms=5)
        ax.set_ylim(-0.03, 1.03)
        ax.yaxis.set_major_formatter(PercentFormatter(1.0))
        ax.set_ylabel("share missing")
    else:
        image = ax.scatter(
            places[:, 0], places[:, 1], c=missing, cmap=_COLOURS, vmin=0, vmax=1,
            s=36, edgecolors="black", linewidths=0.5,
        )  # fmt: skip
        ax.set_ylabel(labels[1])
        ax.set_aspect("equal", adjustable="datalim")
        _draw_scale(ax, image, "share missing")


def _draw_scale(ax: Axes, image: object, label: str) -> None:
    bar = ax.figure.colorbar(image, ax=ax, label=label, fraction=0.046, pad=0.03)  # type: ignore[arg-type]
    bar.ax.yaxis.set_major_formatter(PercentFormatter(1.0))


def _samples(inspection: Inspection) -> Iterator[Figure]:
    for measured in inspection.fields:
        field, extremes = measured.field, measured.extremes
        if not field.dims or field.role == "coordinate" or not extremes:
            continue
        panels = [_panel(inspection, measured, rank, n) for rank, n in extremes.items()]
        limits = scale(*(panel.values for panel in panels))
        draw = [partial(draw_panel, panel=replace(panel, limits=limits)) for panel in panels]
        told = ", ".join(
            f"{rank} {number(float(measured.norms[n]), 3)} (sample {n})"
            for rank, n in extremes.items()
        )
        yield Figure(
            f"samples_{field.name}",
            f"Samples of {field.long_name}",
            "The samples of smallest, median and largest norm (root mean square), on one "
            f"scale: {told}.",
            f"Three samples of {field.long_name} by norm: {told}.",
            style.in_rows(draw, 3, 3 * PANEL_WIDTH, _PANEL_HEIGHT),
            style.in_rows(draw, 1, style.NARROW, _PANEL_HEIGHT),
            full_width=True,
        )


def _panel(inspection: Inspection, measured: FieldMeasurement, rank: str, sample: int) -> Panel:
    group: Any = zarr.open_group(inspection.store, mode="r", zarr_format=3)
    field, axes, cut, schema = measured.field, measured.axes, "", inspection.schema
    values = np.asarray(group[field.name][sample])
    if field.gaps:
        values = np.ma.masked_where(np.isnan(values), values)
    if field.dims != ("time",):
        values, axes, cut = plane(values, axes)
    places = {c.name: np.asarray(group[c.name][sample]) for c in schema.coordinates}
    on_points = "point" in field.dims and bool(places)
    line = values.ndim == 1 and not (on_points and len(places) > 1)
    colours = style.TRUTH_COLOUR if line else "cividis" if field.role == "input" else "viridis"
    title = f"{rank}, sample {sample}" + (f"\n({cut})" if cut else "")
    label = labelled(field.long_name, field.units)
    panel = Panel(title, label, values, axes, scale(values), colours)
    return placed([panel], schema, places)[0] if on_points else panel


def _spectra(inspection: Inspection) -> Iterator[Figure]:
    found = {m.field.long_name: m.spectrum for m in inspection.fields}
    spectra = {name: s for name, s in found.items() if s is not None and s.total > 0}
    if not spectra:
        return
    units = inspection.schema.space[0].units
    told = "; ".join(f"{n}: {percent(s.share_at_cutoff)}" for n, s in spectra.items())
    yield Figure(
        "spectra",
        "Spectra",
        "Power of a mode against its wavenumber, averaged over directions, samples and up "
        "to eight frames of each, largest power one (mean removed, Hann window). A curve that has "
        "not fallen far at the right edge, the highest wavenumber that the grid resolves, shows a "
        "field with jumps or noise, or a resolution too coarse for it. Share of the variance above "
        f"two thirds of that wavenumber (grey): {told}.",
        f"Power spectra of {len(spectra)} fields. Share of the variance at the cut-off: {told}.",
        *style.curves(partial(_draw_spectra, spectra=spectra, units=units), 3.6),
    )


def _draw_spectra(ax: Axes, spectra: dict[str, Spectrum], units: str) -> None:
    for place, (name, spectrum) in enumerate(spectra.items()):
        power = spectrum.power / spectrum.power.max()
        ax.loglog(
            spectrum.wavenumbers, np.where(power > 0, power, np.nan), label=name, lw=1.7,
            color=_CURVE_COLOURS[place % len(_CURVE_COLOURS)], ls=_DASHES[place % len(_DASHES)],
        )  # fmt: skip
    last = max(float(spectrum.wavenumbers[-1]) for spectrum in spectra.values())
    ax.axvspan(CUTOFF * last, last, color=style.REFERENCE_COLOUR, alpha=0.15, lw=0)
    ax.set_xlim(right=last)
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda k, _: f"{k:g}"))
    ax.xaxis.set_minor_formatter(NullFormatter())
    # Below this there is nothing but the rounding of float32.
    ax.set_ylim(bottom=max(ax.get_ylim()[0], 1e-16))
    ax.grid(which="major", color=style.REFERENCE_COLOUR, alpha=0.2, lw=0.5)
    inverse = "1" if units == "1" else f"1/{units}"
    ax.set_xlabel(labelled("wavenumber, cycles per unit of length", inverse))
    ax.set_ylabel("power / largest power")
    ax.legend(frameon=False)


def _values(inspection: Inspection) -> Figure:
    names = ", ".join(m.field.long_name for m in inspection.fields)
    columns = min(3, len(inspection.fields))
    draw = [partial(_draw_histogram, measured=measured) for measured in inspection.fields]
    return Figure(
        "values",
        "Values",
        "How the values of each field are spread, all samples and points together; the "
        "line is the mean. The height is the share of values in a bin, on a logarithmic scale, so "
        "that rare extremes are seen.",
        f"Histograms of the values of {names}.",
        style.in_rows(draw, columns, 3 * PANEL_WIDTH if columns == 3 else style.WIDE, 2.1),
        style.in_rows(draw, 1, style.NARROW, 2.1),
        full_width=columns == 3,
    )


def _draw_histogram(ax: Axes, measured: FieldMeasurement) -> None:
    histogram, field = measured.histogram, measured.field
    ax.set_title(field.name)
    ax.set_xlabel(labelled(field.long_name, field.units))
    if not histogram.counts.size:
        ax.text(0.5, 0.5, "no finite values", ha="center", transform=ax.transAxes)
        return
    shares = histogram.counts / histogram.counts.sum()
    least = shares[shares > 0].min() / 3
    ax.stairs(shares, histogram.edges, fill=True, color=style.TRUTH_COLOUR, baseline=least)
    ax.axvline(measured.total.mean, color="black", lw=1.2)
    ax.set_yscale("log")
    ax.yaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_locator(MaxNLocator(4))
