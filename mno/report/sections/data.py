"""The data that the model was trained and tried on, and how its physics checks came out."""

import numpy as np

from mno.core.fields import Field
from mno.data.reading import Schema
from mno.report.language import Known, Rows, Words, check_rows, fact_rows, unit_text
from mno.report.page import Facts, Results, Section, Table, section_of
from mno.report.panels import in_hours

_SHOWN_ELSEWHERE = {"scenario", "fields", "checks"}


def section(results: Results, words: Words) -> Section:
    """Return the section."""
    dataset, schema = results.dataset, results.schema
    others = {k: v for k, v in dataset.items() if k not in _SHOWN_ELSEWHERE}
    rows = [_field_row(field, dataset.get("fields", {}), words) for field in schema.fields]
    numbers = [words(f"column.{key}") for key in ("range", "mean", "std", "largest", "tolerance")]
    heads = [words(f"column.{key}") for key in ("check", "largest", "tolerance", "result")]
    checks = [dict(zip(heads, check.values(), strict=True)) for check in check_rows(dataset, words)]
    return section_of(
        words,
        Table(words("fields"), rows, numbers),
        words("outside"),
        Table(words("checks_of"), checks, numbers),
        Facts(words("dataset"), [*fact_rows(others, words), *_axis_rows(schema, words)]),
    )


def _field_row(field: Field, known: Known, words: Words) -> dict[str, str]:
    said, values = ["–", "–", "–"], known.get(field.name)
    if values:
        low, high, *rest = (words.number(values[n], 3) for n in ("min", "max", "mean", "std"))
        range_ = words("range", low=low, high=high)
        if values.get("missing"):
            range_ += words("missing", count=words.number(values["missing"]))
        said = [range_, *rest]
    told = [field.name, field.long_name, words(f"role.{field.role}"), unit_text(field.units),
            words.list(field.dims) or "–", *said]  # fmt: skip
    heads = ("name", "quantity", "role", "unit", "axes", "range", "mean", "std")
    return {words(f"column.{head}"): text for head, text in zip(heads, told, strict=True)}


def _axis_rows(schema: Schema, words: Words) -> Rows:
    rows = []
    for axis in schema.axes:
        ends, units = in_hours(np.array(axis.extent), axis.units)
        first, last = (words.setting(float(end)) for end in ends)
        unit = "" if units == "1" else f" {units}"
        points = words("points", count=len(axis.points), first=first, last=last, unit=unit)
        rows.append((words("axis", name=axis.name), points))
    return rows
