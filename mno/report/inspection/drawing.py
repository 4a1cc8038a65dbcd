"""The figures of an inspection: samples, spectra, values, physics checks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import zarr
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from mno.core.numbers import number, percent
from mno.report.checks import check_figure
from mno.report.curves import NARROW, WIDE
from mno.report.examples import placed
from mno.report.figures import Figure
from mno.report.inspection.measure import FieldMeasurement
from mno.report.inspection.presence_drawing import presence_figures
from mno.report.inspection.result import Inspection
from mno.report.inspection.spectrum import CUTOFF, Spectrum
from mno.report.panels import Panel, draw_panel, labelled, plane, scale
from mno.report.style import (
    PREDICTION_COLOUR,
    REFERENCE_COLOUR,
    TRUTH_COLOUR,
    house_style,
    new_figure,
    png_bytes,
)

_COLOURS = (TRUTH_COLOUR, PREDICTION_COLOUR, "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
_DASHES = ("-", "--", ":", "-.")
_PANEL_WIDTH, _PANEL_HEIGHT = 2.9, 2.35


def draw_inspection(inspection: Inspection) -> list[Figure]:
    """Draw what there is to draw; the only samples that are read again are those shown."""
    figures = [*_samples(inspection), *_spectra(inspection), _values(inspection)]
    if inspection.sensors:
        figures += presence_figures(inspection.sensors)
    checks = check_figure({"checks": inspection.checks})
    return [*figures, *([checks] if checks else [])]


def _samples(inspection: Inspection) -> Iterator[Figure]:
    for measured in inspection.fields:
        field, extremes = measured.field, measured.extremes
        if not field.dims or field.role == "coordinate" or not extremes:
            continue
        shown = {rank: _panel(inspection, measured, rank, n) for rank, n in extremes.items()}
        low, high = scale(*(panel.values for panel in shown.values()))
        told = ", ".join(
            f"{rank} {number(float(measured.norms[n]), 3)} (sample {n})"
            for rank, n in extremes.items()
        )
        wide, narrow = (_row(list(shown.values()), (low, high), columns) for columns in (3, 1))
        yield Figure(
            name=f"samples_{field.name}",
            title=f"Samples of {field.long_name}",
            caption="The samples of smallest, median and largest norm (root mean square), on one "
            f"scale: {told}.",
            alt=f"Three samples of {field.long_name} by norm: {told}.",
            png=wide,
            narrow=narrow,
            full_width=True,
        )


def _panel(inspection: Inspection, measured: FieldMeasurement, rank: str, sample: int) -> Panel:
    group: Any = zarr.open_group(inspection.store, mode="r", zarr_format=3)
    field, values = measured.field, np.asarray(group[measured.field.name][sample])
    if field.gaps:
        values = np.ma.masked_where(np.isnan(values), values)
    axes, cut = measured.axes, ""
    if field.dims != ("time",):
        values, axes, cut = plane(values, axes)
    label = labelled(field.long_name, field.units)
    title = f"{rank}, sample {sample}"
    schema = inspection.schema
    on_points = "point" in field.dims and bool(schema.coordinates)
    line = values.ndim == 1 and not (on_points and len(schema.coordinates) > 1)
    colours = TRUTH_COLOUR if line else "cividis" if field.role == "input" else "viridis"
    title += f"\n({cut})" if cut else ""
    panel = Panel(title, label, values, axes, scale(values), colours)
    if not on_points:
        return panel
    names = [coordinate.name for coordinate in schema.coordinates][:2]
    places = np.stack([np.asarray(group[name][sample]) for name in names], axis=-1)
    return placed(panel, schema, places)


def _row(panels: list[Panel], limits: tuple[float, float], columns: int) -> bytes:
    rows = -(-len(panels) // columns)
    with house_style():
        figure = new_figure(max(_PANEL_WIDTH * columns, NARROW), _PANEL_HEIGHT * rows)
        for place, panel in enumerate(panels, start=1):
            draw_panel(figure.add_subplot(rows, columns, place), _with_limits(panel, limits))
        return png_bytes(figure)


def _with_limits(panel: Panel, limits: tuple[float, float]) -> Panel:
    return Panel(
        panel.title, panel.label, panel.values, panel.axes, limits, panel.colours,
        places=panel.places,
    )  # fmt: skip


def _spectra(inspection: Inspection) -> Iterator[Figure]:
    spectra = {m.field.long_name: m.spectrum for m in inspection.fields if m.spectrum is not None}
    spectra = {name: spectrum for name, spectrum in spectra.items() if spectrum.total > 0}
    if not spectra:
        return
    units = inspection.schema.space[0].units
    told = "; ".join(f"{n}: {percent(s.share_at_cutoff)}" for n, s in spectra.items())
    yield Figure(
        name="spectra",
        title="Spectra",
        caption="Power of a mode against its wavenumber, averaged over directions, samples and up "
        "to eight frames of each, largest power one (mean removed, Hann window). A curve that has "
        "not fallen far at the right edge, the highest wavenumber that the grid resolves, shows a "
        "field with jumps or noise, or a resolution too coarse for it. Share of the variance above "
        f"two thirds of that wavenumber (grey): {told}.",
        alt=f"Power spectra of {len(spectra)} fields. Share of the variance at the cut-off: "
        f"{told}.",
        png=_draw_spectra(spectra, units, WIDE),
        narrow=_draw_spectra(spectra, units, NARROW),
    )


def _draw_spectra(spectra: dict[str, Spectrum], units: str, width: float) -> bytes:
    with house_style():
        figure = new_figure(width, 3.6)
        ax = figure.add_subplot()
        for place, (name, spectrum) in enumerate(spectra.items()):
            power = spectrum.power / spectrum.power.max()
            ax.loglog(
                spectrum.wavenumbers, np.where(power > 0, power, np.nan), label=name, lw=1.7,
                color=_COLOURS[place % len(_COLOURS)], ls=_DASHES[place % len(_DASHES)],
            )  # fmt: skip
        last = max(float(spectrum.wavenumbers[-1]) for spectrum in spectra.values())
        ax.axvspan(CUTOFF * last, last, color=REFERENCE_COLOUR, alpha=0.15, lw=0)
        ax.set_xlim(right=last)
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.xaxis.set_major_formatter(FuncFormatter(lambda k, _: f"{k:g}"))
        ax.xaxis.set_minor_formatter(NullFormatter())
        # Below this there is nothing but the rounding of float32.
        ax.set_ylim(bottom=max(ax.get_ylim()[0], 1e-16))
        ax.grid(which="major", color=REFERENCE_COLOUR, alpha=0.2, lw=0.5)
        ax.set_xlabel(labelled("wavenumber, cycles per unit of length", _inverse(units)))
        ax.set_ylabel("power / largest power")
        ax.legend(frameon=False)
        return png_bytes(figure)


def _inverse(units: str) -> str:
    return "1" if units == "1" else f"1/{units}"


def _values(inspection: Inspection) -> Figure:
    names = ", ".join(m.field.long_name for m in inspection.fields)
    columns = min(3, len(inspection.fields))
    return Figure(
        name="values",
        title="Values",
        caption="How the values of each field are spread, all samples and points together; the "
        "line is the mean. The height is the share of values in a bin, on a logarithmic scale, so "
        "that rare extremes are seen.",
        alt=f"Histograms of the values of {names}.",
        png=_draw_values(inspection, columns, 3 * _PANEL_WIDTH if columns == 3 else WIDE),
        narrow=_draw_values(inspection, 1, NARROW),
        full_width=columns == 3,
    )


def _draw_values(inspection: Inspection, columns: int, width: float) -> bytes:
    rows = -(-len(inspection.fields) // columns)
    with house_style():
        figure = new_figure(width, 2.1 * rows)
        for place, measured in enumerate(inspection.fields, start=1):
            _draw_histogram(figure.add_subplot(rows, columns, place), measured)
        return png_bytes(figure)


def _draw_histogram(ax: Axes, measured: FieldMeasurement) -> None:
    histogram, field = measured.histogram, measured.field
    ax.set_title(field.name)
    ax.set_xlabel(labelled(field.long_name, field.units))
    if not histogram.counts.size:
        ax.text(0.5, 0.5, "no finite values", ha="center", transform=ax.transAxes)
        return
    shares = histogram.counts / histogram.counts.sum()
    least = shares[shares > 0].min() / 3
    ax.stairs(shares, histogram.edges, fill=True, color=TRUTH_COLOUR, baseline=least)
    ax.axvline(measured.total.mean, color="black", lw=1.2)
    ax.set_yscale("log")
    ax.yaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_locator(MaxNLocator(4))
