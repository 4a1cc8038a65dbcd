"""The page of an inspection: one HTML file that is complete in itself, and figures beside it."""

from __future__ import annotations

import math
from pathlib import Path

from mno.core.fields import Axis
from mno.core.files import write_bytes, write_json, write_text
from mno.core.numbers import number, percent, setting
from mno.report.inspected_fields import FieldMeasurement, spacing_of
from mno.report.inspected_sensors import condition
from mno.report.inspection import Inspection
from mno.report.inspection_figures import draw_inspection
from mno.report.language import Rows, check_rows, unit_text
from mno.report.page import embedded, render_page
from mno.report.sufficiency import Judgement

PAGE = "index.html"
_SOMETIMES = ("spectra", "physics_checks")  # drawn of some datasets only
_OF_FIELDS = ("samples", "presence", "places")  # figures of one field each
_MOST_SENSORS = 200

Row = dict[str, str]


def write_inspection(inspection: Inspection, folder: Path) -> Path:
    """Write `index.html`, `inspection.json` and the figures as PNG; return the path of the page.

    Figures of an earlier inspection that this one does not draw are removed. An `OSError` says
    that the folder cannot be written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    figures = draw_inspection(inspection)
    drawn = {folder / f"{figure.name}.png": figure.png for figure in figures}
    earlier = {path for name in _OF_FIELDS for path in folder.glob(f"{name}_*.png")}
    earlier |= {folder / f"{name}.png" for name in _SOMETIMES}
    for path in earlier - set(drawn):
        path.unlink(missing_ok=True)
    for path, png in drawn.items():
        write_bytes(path, png)
    write_json(folder / "inspection.json", inspection.to_dict())
    faults = ("Problems", str(len(inspection.problems)))
    splits = [(f"In {name}", number(count)) for name, count in inspection.split_counts.items()]
    html = render_page(
        "report/inspection.html.j2",
        title=f"Dataset: {inspection.schema.scenario.replace('_', ' ')}",
        store=str(inspection.store),
        problems=inspection.problems,
        remarks=inspection.remarks,
        tiles=[("Samples", number(len(inspection.splits))), *splits, faults],
        fields=[field_row(measured) for measured in inspection.fields],
        fineness=[fineness_row(measured) for measured in inspection.fields],
        axes=[axis_row(axis) for axis in inspection.schema.axes],
        splits=split_rows(inspection),
        gaps=gap_rows(inspection),
        verdict=inspection.verdict,
        suffices=all(judgement.holds for judgement in inspection.judgements),
        judgements=[judgement_row(judgement) for judgement in inspection.judgements],
        sensors=_sensor_rows(inspection),
        checks=check_rows({"checks": inspection.checks}),
        checks_missing=inspection.checks_missing,
        figures=[embedded(figure) for figure in figures],
    )
    write_text(folder / PAGE, html)
    return folder / PAGE


def field_row(measured: FieldMeasurement) -> Row:
    """Return a field's name, role, unit, axes and values, as text."""
    total, field = measured.total, measured.field
    mean = total.mean if total.count else math.nan
    values = {"min": total.min, "max": total.max, "mean": mean, "std": total.std}
    share = total.missing / max(total.missing + total.count, 1)
    return {
        "field": field.name,
        "quantity": field.long_name,
        "role": field.role,
        "unit": unit_text(field.units),
        "axes": " ".join(f"{a.name}={len(a.points)}" for a in measured.axes) or "one per sample",
        **{name: _figure(value) for name, value in values.items()},
        "not finite": percent(share) if total.missing else "0",
    }


def fineness_row(measured: FieldMeasurement) -> Row:
    """Return how much of a field is at the cut-off, and what may be noise in it, as text."""
    spectrum, std = measured.spectrum, measured.total.std

    def relative(noise: float) -> str:
        return percent(noise / std) if std > 0 and noise >= 0 else "–"

    return {
        "field": measured.field.name,
        "at the cut-off": percent(spectrum.share_at_cutoff) if spectrum else "–",
        "noise by differences": relative(measured.noise),
        "noise by spectrum": relative(spectrum.noise if spectrum else math.nan),
    }


def axis_row(axis: Axis) -> Row:
    """Return an axis' points, extent and spacing, as text."""
    low, high, equal = spacing_of(axis)
    ordered = axis.name != "point"
    spacing = f"{_figure(low)}, equal" if equal else f"{_figure(low)} to {_figure(high)}"
    if not math.isfinite(low):
        spacing = "–"
    first, last = (_figure(float(axis.points[k])) if ordered else "–" for k in (0, -1))
    return {
        "axis": axis.name,
        "unit": unit_text(axis.units),
        "points": str(len(axis.points)),
        "extent": f"{setting(axis.extent[0])} to {setting(axis.extent[1])}",
        "first": first,
        "last": last,
        "spacing": spacing if ordered else "unordered",
        "sampling rate": _figure(1 / low) if axis.name == "time" and equal else "–",
    }


def split_rows(inspection: Inspection) -> list[Row]:
    """Return each split's size, and how far its norms are from those of all samples, as text."""
    off = {m.field.name: inspection.imbalance(m) for m in inspection.fields}
    rows = []
    for split, count in inspection.split_counts.items():
        deviations = [(abs(z[split]), name) for name, z in off.items() if split in z]
        largest = max(deviations, key=lambda found: float(f"{found[0]:.1f}"), default=None)
        rows.append(
            {
                "split": split,
                "samples": str(count),
                "share": percent(count / len(inspection.splits)),
                "largest deviation": f"{largest[0]:.1f} ({largest[1]})" if largest else "–",
            }
        )
    return rows


def gap_rows(inspection: Inspection) -> Rows:
    """Return how many duplicates and gaps there are, as text."""
    fields, twice = inspection.fields, inspection.duplicates
    whole = [m for m in fields if not m.field.gaps]
    counts = {
        "Duplicate samples": twice.samples,
        "Inputs in two splits": twice.in_two_splits,
        "Values not finite": sum(m.total.missing for m in whole),
        "Values missing": sum(m.total.missing for m in fields if m.field.gaps),
        "Constant samples": sum(len(m.constant) for m in whole),
        "Repeated frames": sum(m.repeated_frames for m in fields),
    }
    return [(name, str(count)) for name, count in counts.items()]


def judgement_row(judgement: Judgement) -> Row:
    """Return what is judged, what was found, and whether that is enough, as text."""
    return {
        "of": judgement.subject,
        "judged": judgement.what,
        "found": judgement.figure,
        "expected": judgement.limit,
        "enough": "yes" if judgement.holds else "NO",
    }


def _sensor_rows(inspection: Inspection) -> list[Row]:
    """Return how each sensor of each field is, as text; those that work come last, and not all."""
    sensors = inspection.sensors
    if sensors is None:
        return []
    rows = [
        {
            "sensor": sensors.name(presence, number),
            "field": presence.field.name,
            "missing": percent(float(presence.missing[number])),
            "longest gap": _figure(float(presence.gaps[number] * presence.interval)),
            "deviation": _figure(float(presence.deviation[number])),
            "condition": condition(presence, number),
        }
        for presence in sensors.presence
        for number in range(presence.sensors)
    ]
    return sorted(rows, key=lambda row: row["condition"] == "works")[:_MOST_SENSORS]


def _figure(value: float) -> str:
    return f"{value:.3g}" if math.isfinite(value) else "–"
