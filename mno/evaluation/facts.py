"""Turning numbers and settings into the rows of a report's tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mno.evaluation.metrics import METRICS
from mno.evaluation.words import number, percent, setting

if TYPE_CHECKING:
    from mno.data.reading import Schema

Rows = list[tuple[str, str]]


def accuracy_tables(metrics: Mapping[str, Any], schema: Schema) -> list[dict[str, Any]]:
    """Return one table per output field: each metric of the model beside those of baselines."""
    return [
        {
            "field": field.long_name,
            "rows": [
                _metric_row(metric.title, metric.name, metric.physical, metrics["fields"], field)
                for metric in METRICS
                if not isinstance(metrics["fields"][field.name][metric.name], str)
            ]
            + ([_counted_row(metrics["fields"][field.name])] if field.gaps else []),
        }
        for field in schema.outputs
    ]


def cost_rows(cost: Mapping[str, float | int]) -> Rows:
    """Return measured costs with their units."""
    rows = [
        ("Trained parameters", number(cost["parameters"])),
        ("Time for one prediction (median)", f"{number(cost['latency_ms'], 3)} ms"),
        (
            f"Predictions per second, {cost['batch_size']} at a time",
            number(cost["throughput_per_s"], 3),
        ),
        ("Peak memory of the evaluating process", f"{number(cost['peak_memory_mib'], 3)} MiB"),
        ("Processor threads used", number(cost["threads"])),
    ]
    if "solver_ms" in cost:
        speedup = cost["speedup"]
        faster, factor = ("faster", speedup) if speedup >= 1 else ("slower", 1 / speedup)
        rows += [
            ("Time of the solver for one solution", f"{number(cost['solver_ms'], 3)} ms"),
            (f"A prediction is {faster} than the solver by a factor of", number(factor, 2)),
        ]
    return rows


def field_rows(schema: Schema, dataset: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return the fields of a dataset, with their values where its report has them."""
    return [
        {
            "name": field.name,
            "long_name": field.long_name,
            "role": field.role,
            "unit": unit_text(field.units),
            "axes": ", ".join(field.dims),
            **_field_values(dataset.get("fields", {}).get(field.name)),
        }
        for field in schema.fields
    ]


def check_rows(dataset: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return the physics checks of a dataset's report, none where it has none."""
    return [
        {
            "what": check["description"],
            "value": number(check["max"], 2),
            "tolerance": setting(check["tolerance"]),
            "result": "within" if check["max"] <= check["tolerance"] else "EXCEEDED",
        }
        for check in dataset.get("checks", {}).values()
    ]


def dataset_rows(schema: Schema, dataset: Mapping[str, Any]) -> Rows:
    """Return the other facts of a dataset: its grid, and what its report says besides."""
    grid = [
        (
            f"Axis {axis.name}",
            f"{len(axis.points)} points from {setting(float(axis.extent[0]))} to "
            f"{setting(float(axis.extent[1]))}{'' if axis.units == '1' else f' {axis.units}'}",
        )
        for axis in schema.axes
    ]
    shown_elsewhere = {"scenario", "fields", "checks"}
    return [*fact_rows({k: v for k, v in dataset.items() if k not in shown_elsewhere}), *grid]


def fact_rows(facts: Mapping[str, Any]) -> Rows:
    """Return settings as rows, nested ones with their path, for example `Splits: train`."""
    rows: Rows = []
    for key, value in facts.items():
        name = str(key).replace("_", " ")
        name = name[:1].upper() + name[1:]
        if isinstance(value, Mapping):
            rows += [(f"{name}: {inner.lower()}", text) for inner, text in fact_rows(value)]
        else:
            rows.append((name, _text(value)))
    return rows


def unit_text(units: str) -> str:
    """Return a unit for a table, `–` where there is none."""
    return "–" if units == "1" else units


def _field_values(known: Mapping[str, float] | None) -> dict[str, str]:
    if known is None:
        return {"range": "–", "mean": "–", "std": "–"}
    low, high, mean, std = (number(known[key], 3) for key in ("min", "max", "mean", "std"))
    missing = f"; {number(known['missing'])} missing" if known.get("missing") else ""
    return {"range": f"{low} to {high}{missing}", "mean": mean, "std": std}


def _metric_row(
    title: str, name: str, physical: bool, fields: Mapping[str, Any], field: Any
) -> dict[str, str]:
    values = fields[field.name]
    show = number if physical else percent
    row = {
        "title": title,
        "value": show(values[name]),
        "baseline": show(values[f"baseline_{name}"]),
        "unit": unit_text(field.units) if physical else "–",
    }
    if f"persistence_{name}" in values:
        row["persistence"] = show(values[f"persistence_{name}"])
    return row


def _counted_row(values: Mapping[str, Any]) -> dict[str, str]:
    """Return how many values of a field with gaps were compared, of the model and of baselines."""
    compared = number(values["values"])
    text = f"{compared} of {number(values['values'] + values['missing'])}"
    row = {"title": "Values compared", "value": text, "baseline": compared, "unit": "–"}
    return row | ({"persistence": compared} if "persistence_rmse" in values else {})


def _text(value: Any) -> str:
    match value:
        case None:
            return "–"
        case bool():
            return "yes" if value else "no"
        case int() | float():
            return setting(value)
        case list() | tuple():
            return ", ".join(_text(item) for item in value) or "–"
        case _:
            return str(value)
