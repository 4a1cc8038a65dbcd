"""The data that the model was trained and tried on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mno.report.checks import check_figure
from mno.report.facts import check_rows, fact_rows, unit_text
from mno.report.section import Section, render

if TYPE_CHECKING:
    from mno.data.reading import Schema
    from mno.report.language import Words
    from mno.report.results import Known, Results

_SHOWN_ELSEWHERE = {"scenario", "fields", "checks"}


def section(results: Results, words: Words) -> Section:
    """Return the section."""
    dataset, schema = results.dataset, results.schema
    drawn = check_figure(dataset, words)
    others = {k: v for k, v in dataset.items() if k not in _SHOWN_ELSEWHERE}
    body = render(
        "data/section.html.j2",
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
