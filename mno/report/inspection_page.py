"""The page of an inspection: its tables and figures in one HTML file, complete in itself."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from mno.core.fields import PLAIN
from mno.core.files import write_json
from mno.core.numbers import number, percent, setting
from mno.report import style
from mno.report.inspected_fields import CUTOFF
from mno.report.inspected_sensors import Presence, Sensors
from mno.report.inspection import Inspection
from mno.report.language import Words, check_rows, unit_text
from mno.report.page import Figure, embedded, render_page
from mno.report.panels import Panel, labelled, pictures, placed, plane, scale
from mno.report.translated import write_pages

PAGE = "index.html"
_MOST_SENSORS = 200  # in the table
_MOST_NAMES = 24  # along an axis
_COLOURS = style.MANY_COLOURS[:-1]  # without black
_DASHES = ("-", "--", ":", "-.")

Row = dict[str, str]


def write_inspection(inspection: Inspection, folder: Path) -> Path:
    """Write `index.html` and `inspection.json` into a folder; return the path of the page."""
    write_json(folder / "inspection.json", inspection.to_dict())
    faults = ("Problems", str(len(inspection.problems)))
    splits = [(f"In {name}", number(count)) for name, count in inspection.split_counts.items()]
    write_pages(folder / PAGE, lambda words: render_page(
        "report/inspection.html.j2", inspection=inspection, tables=tables(inspection, words),
        title=f"Dataset: {inspection.schema.scenario.replace('_', ' ')}",
        suffices=all(judgement.holds for judgement in inspection.judgements),
        tiles=[("Samples", number(len(inspection.splits))), *splits, faults],
        sensors=[
            {name.replace("_", " "): _text(value) for name, value in row.items()}
            for row in inspection.each_sensor()[:_MOST_SENSORS]
        ],
        figures=[embedded(figure) for figure in draw_inspection(inspection)],
    ))  # fmt: skip
    return folder / PAGE


def tables(inspection: Inspection, words: Words | None = None) -> dict[str, list[Row]]:
    """Return what an inspection found as rows of text, by table; one without rows tells nothing."""
    fields, told = inspection.fields, inspection.to_dict()
    whole = [m for m in fields if not m.field.gaps]
    counts = {
        "duplicate samples": len(inspection.duplicates),
        "inputs in two splits": inspection.leaks,
        "values not finite": sum(m.total.missing for m in whole),
        "values missing": sum(m.total.missing for m in fields if m.field.gaps),
        "constant samples": sum(len(m.constant) for m in whole),
        "repeated frames": sum(m.repeated_frames for m in fields),
    }
    scaled = any(measured.field.scale != PLAIN for measured in fields)
    judged = ("of", "judged", "found", "expected", "enough")
    checked = ("check", "largest value", "tolerance", "result")
    return {
        "fields": [_field_row(n, f, told["samples"], scaled) for n, f in told["fields"].items()],
        "axes": [_axis_row(name, axis) for name, axis in told["axes"].items()],
        "splits": _split_rows(inspection),
        "fineness": [
            {"field": m.field.name, "at the cut-off": percent(m.spectrum.share_at_cutoff),
             "noise": percent(m.noise / (m.total.std or math.nan))}
            for m in fields if m.spectrum
        ],
        "gaps": [{name: str(count) for name, count in counts.items()}],
        "judgements": [
            dict(zip(judged, (*one[:4], "yes" if one.holds else "NO"), strict=True))
            for one in inspection.judgements
        ],
        "checks": [
            dict(zip(checked, row.values(), strict=True))
            for row in check_rows({"checks": inspection.checks}, words)
        ],
    }  # fmt: skip


def _field_row(name: str, field: Mapping[str, Any], samples: int, scaled: bool) -> Row:
    lacking, known = field["not_finite"], field["min"] is not None
    moments = {key: _text(field[key]) if known else "–" for key in ("min", "max", "mean", "std")}
    return {
        "field": name, "quantity": field["long_name"], "role": field["role"],
        "unit": unit_text(field["units"]),
        "axes": " ".join(map("{}={}".format, field["dims"], field["shape"])) or "one per sample",
        **({"scale": field["scale"]} if scaled else {}), **moments,
        "not finite": percent(lacking / samples / math.prod(field["shape"])) if lacking else "0",
    }  # fmt: skip


def _axis_row(name: str, axis: Mapping[str, Any]) -> Row:
    low, high = map(_text, axis["spacing"])
    spacing = f"{low}, equal" if axis["equal"] else f"{low} to {high}"
    return {
        "axis": name, "unit": unit_text(axis["units"]), "points": str(axis["points"]),
        "extent": " to ".join(map(setting, axis["extent"])),
        "spacing": "unordered" if name == "point" else spacing,
    }  # fmt: skip


def _split_rows(inspection: Inspection) -> list[Row]:
    off = {m.field.name: inspection.imbalance(m) for m in inspection.fields}
    rows = []
    for split, count in inspection.split_counts.items():
        deviations = [(round(abs(z[split]), 1), name) for name, z in off.items() if split in z]
        largest, name = max(deviations, key=lambda found: found[0], default=(math.nan, ""))
        rows.append({
            "split": split, "samples": str(count),
            "share": percent(count / len(inspection.splits)),
            "largest deviation": f"{largest:.1f} ({name})" if name else "–",
        })  # fmt: skip
    return rows


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return "–" if value is None or not math.isfinite(value) else number(value, 3)


def draw_inspection(inspection: Inspection) -> list[Figure]:
    """Draw what there is to draw; the only samples that are read again are those shown."""
    figures = [*_samples(inspection), *_spectra(inspection)]
    if inspection.sensors:
        figures += [_presence(inspection.sensors, one) for one in inspection.sensors.presence]
    return figures


def _presence(sensors: Sensors, presence: Presence) -> Figure:
    field, share = presence.field, percent(presence.share_missing)
    picture, count = presence.picture, presence.sensors

    def draw(ax: Axes) -> None:
        image = ax.imshow(
            picture, aspect="auto", cmap="cividis_r", vmin=0, vmax=1, interpolation="nearest",
            extent=(0, len(sensors.starts), count, 0),
        )  # fmt: skip
        ax.set_xlabel("sample")
        ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        ax.set_yticks([])
        ax.set_ylabel(f"{count} sensors" if count > _MOST_NAMES else "")
        if count <= _MOST_NAMES:
            names = [sensors.name(presence, sensor) for sensor in range(count)]
            ax.set_yticks(np.arange(count) + 0.5, names)
        ax.figure.colorbar(image, ax=ax, label="share there", format=style.PER_CENT)

    return Figure(
        f"presence_{field.name}",
        f"What is there of {field.long_name}",
        "Share of values that are there, by sensor and sample in the order of the dataset. A "
        "yellow row is a sensor that fails, a yellow column a time at which all do. "
        f"{share} are missing at the sensors that have any.",
        f"Map of the values of {field.long_name} that are there: {share} are missing.",
        *style.curves(draw, 1.4 + 0.16 * min(count, _MOST_NAMES)),
    )


def _samples(inspection: Inspection) -> Iterator[Figure]:
    group: Any = zarr.open_group(inspection.store, mode="r", zarr_format=3)
    schema = inspection.schema
    for measured in inspection.fields:
        field, extremes = measured.field, measured.extremes
        if not field.dims or field.role == "coordinate" or not extremes:
            continue
        panels, cut = [], ""
        for rank, sample in extremes.items():
            values, axes = np.asarray(group[field.name][sample]), measured.axes
            if field.gaps:
                values = np.ma.masked_where(np.isnan(values), values)
            if field.dims != ("time",):
                values, axes, cut = plane(values, axes)
            places = {c.name: np.asarray(group[c.name][sample]) for c in schema.coordinates}
            on_points = "point" in field.dims and bool(places)
            line = values.ndim == 1 and not (on_points and len(places) > 1)
            colours = "cividis" if field.role == "input" else "viridis"
            label, title = labelled(field.long_name, field.units), f"{rank}, sample {sample}"
            look = style.TRUTH_COLOUR if line else colours
            panel = Panel(title, label, values, axes, scale(values), look)
            panels += placed([panel], schema, places) if on_points else [panel]
        limits = scale(*(panel.values for panel in panels))
        told = ", ".join(
            f"{rank} {number(float(measured.norms[n]), 3)} (sample {n})"
            for rank, n in extremes.items()
        )
        yield Figure(
            f"samples_{field.name}",
            f"Samples of {field.long_name}",
            "The samples of smallest, median and largest norm (root mean square), on one "
            f"scale: {told}." + (f" Shown at {cut}." if cut else ""),
            f"Three samples of {field.long_name} by norm: {told}.",
            *pictures([replace(panel, limits=limits) for panel in panels], (3, 1)),
            full_width=True,
        )


def _spectra(inspection: Inspection) -> Iterator[Figure]:
    found = {m.field.long_name: m.spectrum for m in inspection.fields if m.spectrum}
    curves = {name: spectrum.curve for name, spectrum in found.items()}
    if not any(power.any() for _, power in curves.values()):
        return
    units = inspection.schema.space[0].units
    told = "; ".join(f"{n}: {percent(s.share_at_cutoff)}" for n, s in found.items())
    yield Figure(
        "spectra",
        "Spectra",
        "Power of a mode against its wavenumber, averaged over directions, samples and up to eight "
        "frames of each, largest power one (mean removed, Hann window). A curve that has not "
        "fallen far at the right edge, the highest wavenumber that the grid resolves, shows a "
        "field with jumps or noise, or a resolution too coarse for it. Share of the variance above "
        f"two thirds of that wavenumber (grey): {told}.",
        f"Power spectra of {len(found)} fields. Share of the variance at the cut-off: {told}.",
        *style.curves(partial(_draw_curves, curves=curves, units=units), 3.6),
    )


def _draw_curves(ax: Axes, curves: Mapping[str, tuple[np.ndarray, np.ndarray]], units: str) -> None:
    for place, (name, (k, power)) in enumerate(curves.items()):
        colour, dashes = _COLOURS[place % len(_COLOURS)], _DASHES[place % len(_DASHES)]
        shown = np.where(power > 0, power, np.nan)
        ax.loglog(k, shown, label=name, lw=1.7, color=colour, ls=dashes)
    last = max(float(k[-1]) for k, _ in curves.values())
    ax.axvspan(CUTOFF * last, last, color=style.REFERENCE_COLOUR, alpha=0.15, lw=0)
    ax.set_xlim(right=last)
    style.log_ticks(ax.xaxis)
    # Below this there is nothing but the rounding of float32.
    ax.set_ylim(bottom=max(ax.get_ylim()[0], 1e-16))
    inverse = "1" if units == "1" else f"1/{units}"
    wavenumber = labelled("wavenumber, cycles per unit of length", inverse)
    style.finish(ax, wavenumber, "power / largest power", lines="both")
