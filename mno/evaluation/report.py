"""The report: one HTML file that is complete in itself, for whoever decides about a model."""

from __future__ import annotations

import os
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from mno import __version__
from mno.evaluation.facts import (
    accuracy_tables,
    check_rows,
    cost_rows,
    dataset_rows,
    fact_rows,
    field_rows,
)
from mno.evaluation.figures import Figure
from mno.evaluation.metrics import METRICS
from mno.evaluation.verdict import verdict
from mno.evaluation.words import number, percent

if TYPE_CHECKING:
    from mno.data.reading import Schema

_LIMITS = (
    "How the model does on inputs unlike those it was trained on: the test samples come from the "
    "same sampler, at the same resolution, as the training samples.",
    "How far the truth is from nature: the truth is the solver's numerical solution, with a "
    "discretisation error of its own and without any measurement.",
    "How wrong a single prediction is: all figures are over the test split, and the true solution "
    "of a new input is not known. The worst sample and the maximum error show what can happen.",
    "Whether predictions satisfy the equation: nothing here checks that what should be conserved "
    "is conserved.",
    "How much luck there was: the model was trained once, from one seed.",
)


_KEPT_FRAME = (
    (
        "Keeping the last given frame",
        "The baseline of whoever forecasts: nothing changes from the last frame on. It is hard to "
        "beat in the first frames, where little has changed.",
    ),
)


@dataclass(frozen=True, eq=False)
class ReportInputs:
    """What a report tells.

    Attributes:
        scenario: The family of problems, for example `darcy`.
        schema: The dataset's fields and axes.
        metrics: What `Evaluation.metrics()` returned.
        figures: What `draw_figures` returned.
        cost: What `measure_cost` returned.
        dataset: The dataset's own report, `reports/dataset.json`; may be empty.
        model: Facts of the operator, for example its configuration.
        training: Facts of training, for example configuration, epochs and best epoch.
        lineage: What the model was made from, for example the dataset's hash.
        check_figure: What `check_figure` returned for the dataset's own report.
    """

    scenario: str
    schema: Schema
    metrics: Mapping[str, Any]
    figures: Sequence[Figure]
    cost: Mapping[str, float | int]
    dataset: Mapping[str, Any]
    model: Mapping[str, Any]
    training: Mapping[str, Any]
    lineage: Mapping[str, Any]
    check_figure: Figure | None = None


def write_report(path: Path, inputs: ReportInputs) -> None:
    """Render a report and put it in place in one step."""
    beside = path.with_name(path.name + ".partial")
    beside.write_text(render_report(inputs), encoding="utf-8")
    os.replace(beside, path)


def render_report(inputs: ReportInputs) -> str:
    """Return a report as HTML that loads nothing from anywhere; all given text is escaped."""
    return render_page("evaluation/report.html.j2", **_context(inputs))


def render_page(template: str, **content: Any) -> str:
    """Return a page in the look of the report; all given text is escaped.

    Args:
        template: Path in the package `mno`.
        content: What the template names, besides `css` and `version`.
    """
    loader = PackageLoader("mno", ".")
    environment = Environment(autoescape=True, undefined=StrictUndefined, loader=loader)
    css = files("mno.evaluation").joinpath("report.css").read_text(encoding="utf-8")
    page = environment.get_template(template)
    return page.render(css=Markup(css), version=__version__, **content)


def _context(inputs: ReportInputs) -> dict[str, Any]:
    metrics, schema = inputs.metrics, inputs.schema
    count = metrics["samples"]
    return {
        "title": f"Surrogate report: {inputs.scenario.replace('_', ' ')}",
        "inputs": ", ".join(field.long_name for field in schema.inputs),
        "outputs": ", ".join(field.long_name for field in schema.outputs),
        "samples": f"{number(count)} test sample{'' if count == 1 else 's'}",
        "verdict": verdict(metrics),
        "tiles": _tiles(inputs),
        "accuracy": accuracy_tables(metrics, schema),
        "glossary": [
            *((metric.title, metric.explanation) for metric in METRICS),
            (
                "Predicting the mean field",
                "The baseline: the average of all training solutions, whatever the input. A model "
                "that does not clearly beat it has learned nothing of use.",
            ),
            *_KEPT_FRAME[: "persistence_relative_l2" in metrics],
        ],
        "figures": [embedded(figure) for figure in inputs.figures],
        "cost": cost_rows(inputs.cost),
        "fields": field_rows(schema, inputs.dataset),
        "checks": check_rows(inputs.dataset),
        "check_figure": embedded(inputs.check_figure) if inputs.check_figure else None,
        "dataset": dataset_rows(schema, inputs.dataset),
        "model": fact_rows(inputs.model),
        "training": fact_rows(inputs.training),
        "lineage": fact_rows(inputs.lineage),
        "limits": _LIMITS,
    }


def _tiles(inputs: ReportInputs) -> list[tuple[str, str]]:
    metrics, kept = inputs.metrics, []
    if "persistence_relative_l2" in metrics:
        kept = [("Keeping the last given frame", percent(metrics["persistence_relative_l2"]))]
    return [
        ("Test error (relative L2)", percent(metrics["relative_l2"])),
        ("Predicting the mean field", percent(metrics["baseline_relative_l2"])),
        *kept,
        ("Time per prediction", f"{number(inputs.cost['latency_ms'], 2)} ms"),
        ("Parameters", number(inputs.cost["parameters"])),
    ]


def embedded(figure: Figure) -> dict[str, Any]:
    """Return a figure as a page takes it, the pictures within."""
    return {
        "title": figure.title,
        "caption": figure.caption,
        "alt": figure.alt,
        "full_width": figure.full_width,
        "wide": _data_uri(figure.png),
        "narrow": _data_uri(figure.narrow),
    }


def _data_uri(png: bytes) -> str:
    return "data:image/png;base64," + b64encode(png).decode("ascii")
