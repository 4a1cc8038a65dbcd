"""The page of an inspection: one HTML file that is complete in itself, and figures beside it."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

from mno.core.fields import Axis
from mno.core.numbers import number, percent, setting
from mno.report.inspected_fields import FieldMeasurement, spacing_of
from mno.report.inspected_sensors import condition
from mno.report.inspection import Inspection
from mno.report.inspection_figures import draw_inspection
from mno.report.language import check_rows, unit_text
from mno.report.page import embedded, render_page
from mno.report.sufficiency import Judgement

PAGE = "index.html"
_SOMETIMES = ("spectra", "physics_checks")  # drawn of some datasets only
_MOST_SENSORS = 200
_OF_FIELDS = ("samples", "presence", "places")  # figures of one field each


def write_inspection(inspection: Inspection, folder: Path) -> Path:
    """Write `index.html`, `inspection.json` and the figures as PNG; return the path of the page.

    Figures of an earlier inspection that this one does not draw are removed.

    Raises:
        OSError: The folder cannot be written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    figures = draw_inspection(inspection)
    drawn = {folder / f"{figure.name}.png": figure.png for figure in figures}
    earlier = {path for name in _OF_FIELDS for path in folder.glob(f"{name}_*.png")}
    earlier |= {folder / f"{name}.png" for name in _SOMETIMES}
    for path in earlier - set(drawn):
        path.unlink(missing_ok=True)
    for path, png in drawn.items():
        _replace(path, png)
    _replace(
        folder / "inspection.json", json.dumps(inspection.to_dict(), indent=2).encode() + b"\n"
    )
    html = render_page(
        "report/inspection.html.j2",
        title=f"Dataset: {inspection.schema.scenario.replace('_', ' ')}",
        store=str(inspection.store),
        problems=inspection.problems,
        remarks=inspection.remarks,
        tiles=_tiles(inspection),
        fields=[field_row(measured) for measured in inspection.fields],
        fineness=[fineness_row(measured) for measured in inspection.fields],
        axes=[axis_row(axis) for axis in inspection.schema.axes],
        splits=split_rows(inspection),
        gaps=gap_rows(inspection),
        verdict=inspection.verdict,
        suffices=all(judgement.holds for judgement in inspection.judgements),
        judgements=[judgement_row(judgement) for judgement in inspection.judgements],
        sensors=sensor_rows(inspection),
        checks=check_rows({"checks": inspection.checks}),
        checks_missing=inspection.checks_missing,
        figures=[embedded(figure) for figure in figures],
    )
    _replace(folder / PAGE, html.encode())
    return folder / PAGE


def field_row(measured: FieldMeasurement) -> dict[str, str]:
    """Return a field's name, role, unit, axes and values, as text."""
    total, field = measured.total, measured.field
    share = total.missing / max(total.missing + total.count, 1)
    return {
        "field": field.name,
        "quantity": field.long_name,
        "role": field.role,
        "unit": unit_text(field.units),
        "axes": " ".join(f"{a.name}={len(a.points)}" for a in measured.axes) or "one per sample",
        "min": _figure(total.min),
        "max": _figure(total.max),
        "mean": _figure(total.mean if total.count else math.nan),
        "std": _figure(total.std),
        "not finite": percent(share) if total.missing else "0",
    }


def fineness_row(measured: FieldMeasurement) -> dict[str, str]:
    """Return how much of a field is at the cut-off, and what may be noise in it, as text."""
    spectrum, std = measured.spectrum, measured.total.std
    relative = [measured.noise, spectrum.noise if spectrum else math.nan]
    differences, power = (percent(n / std) if std > 0 and n >= 0 else "–" for n in relative)
    return {
        "field": measured.field.name,
        "at the cut-off": percent(spectrum.share_at_cutoff) if spectrum else "–",
        "noise by differences": differences,
        "noise by spectrum": power,
    }


def axis_row(axis: Axis) -> dict[str, str]:
    """Return an axis' points, extent and spacing, as text."""
    low, high, equal = spacing_of(axis)
    if axis.name == "point":
        spacing = "unordered"
    elif not math.isfinite(low):
        spacing = "–"
    else:
        spacing = f"{_figure(low)}, equal" if equal else f"{_figure(low)} to {_figure(high)}"
    rate = _figure(1 / low) if axis.name == "time" and equal else "–"
    return {
        "axis": axis.name,
        "unit": unit_text(axis.units),
        "points": str(len(axis.points)),
        "extent": f"{setting(axis.extent[0])} to {setting(axis.extent[1])}",
        "first": "–" if axis.name == "point" else _figure(float(axis.points[0])),
        "last": "–" if axis.name == "point" else _figure(float(axis.points[-1])),
        "spacing": spacing,
        "sampling rate": rate,
    }


def split_rows(inspection: Inspection) -> list[dict[str, str]]:
    """Return each split's size, and how far its norms are from those of all samples, as text."""
    off = {m.field.name: inspection.imbalance(m) for m in inspection.fields}
    samples = len(inspection.splits)
    return [
        {
            "split": split,
            "samples": str(count),
            "share": percent(count / samples),
            "largest deviation": max(
                (f"{abs(z[split]):.1f} ({name})" for name, z in off.items() if split in z),
                key=lambda text: float(text.split()[0]),
                default="–",
            ),
        }
        for split, count in inspection.split_counts.items()
    ]


def gap_rows(inspection: Inspection) -> list[tuple[str, str]]:
    """Return how many duplicates and gaps there are, as text."""
    fields, twice = inspection.fields, inspection.duplicates
    return [
        ("Duplicate samples", str(twice.samples)),
        ("Inputs in two splits", str(twice.in_two_splits)),
        ("Values not finite", str(sum(m.total.missing for m in fields if not m.field.gaps))),
        ("Values missing", str(sum(m.total.missing for m in fields if m.field.gaps))),
        ("Constant samples", str(sum(len(m.constant) for m in fields if not m.field.gaps))),
        ("Repeated frames", str(sum(m.repeated_frames for m in fields))),
    ]


def judgement_row(judgement: Judgement) -> dict[str, str]:
    """Return what is judged, what was found, and whether that is enough, as text."""
    return {
        "of": judgement.subject,
        "judged": judgement.what,
        "found": judgement.figure,
        "expected": judgement.limit,
        "enough": "yes" if judgement.holds else "NO",
    }


def sensor_rows(inspection: Inspection) -> list[dict[str, str]]:
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


def _tiles(inspection: Inspection) -> list[tuple[str, str]]:
    faults = [("Problems", str(len(inspection.problems)))]
    splits = [(f"In {n}", number(c)) for n, c in inspection.split_counts.items()]
    return [("Samples", number(len(inspection.splits))), *splits, *faults]


def _figure(value: float) -> str:
    return f"{value:.3g}" if math.isfinite(value) else "–"


def _replace(path: Path, content: bytes) -> None:
    beside: Any = path.with_name(path.name + ".partial")
    beside.write_bytes(content)
    os.replace(beside, path)
