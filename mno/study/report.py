"""The report of a study: sections of sentences, tables and figures."""

import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

from mno.core.files import write_json
from mno.core.numbers import number, percent
from mno.report.page import Figure, render_page
from mno.report.translated import write_pages
from mno.study.drawing import errors_figure, front_figure, growth_figure
from mno.study.findings import RULE, Row, ScenarioFindings, machines_of
from mno.study.results import Found, Study, counts
from mno.study.statistics import LEVEL, MARGIN, samples_of

PAGE, NUMBERS = "index.html", "report.json"
_TEXT_COLUMNS = ("model", "operator", "scenario", "comparison", "remarks", "parameter")
_NONE = "–"
SAID: dict[str, str] = tomllib.loads(
    files("mno.study").joinpath("texts.toml").read_text(encoding="utf-8")
)
_COSTS = {
    "latency_ms": "time of a prediction, ms",
    "train_seconds": "processor time of a training, s",
    "parameters": "parameters",
}


@dataclass(frozen=True)
class Table:
    """Rows with the same keys; the first key is the heading of a row."""

    caption: str
    rows: list[dict[str, str]]

    @property
    def numeric(self) -> list[str]:
        """Headings of the columns that hold numbers."""
        return [head for head in self.rows[0] if head not in _TEXT_COLUMNS]


@dataclass
class Section:
    """A part of the report, with a heading; tables without rows are not shown."""

    name: str
    title: str
    paragraphs: list[str] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)


def scenario_section(found: ScenarioFindings) -> Section:
    """Return the section of a scenario: verdict, table, comparisons, figures."""
    name, said = found.scenario, [f"Verdict: {found.verdict}."]
    if undertrained := ", ".join(row.model for row in found.rows if row.undertrained):
        said.append(f"Under-trained, so that their errors are upper bounds: {undertrained}.")
    pairs = [{"comparison": c.sentence(), "seeds": str(c.seeds)} for c in found.comparisons]
    compared = Table(f"{name}: comparisons, a family of {len(pairs)}", pairs)
    tables = [Table(f"{name}: models", _model_rows(found)), compared]
    fronts = [front_figure(found, cost, label) for cost, label in _COSTS.items()]
    return Section(name, name, said, tables, [errors_figure(found), *filter(None, fronts)])


def scaling_section(found: Sequence[Found]) -> Section:
    """Return the section on growth with the grid, of operators that were measured."""
    records = {item.cell.model.name: item.record for item in found}
    kinds = {name: (r["cell"]["backbone"], r["cell"]["mixer"]) for name, r in records.items()}
    why = SAID["growth"]

    def figure(key: str, title: str, y: str) -> Figure | None:
        growth = {
            name: [(point["points"], point[key]) for point in r["points"] if point[key]]
            for name, r in records.items()
        }
        title = f"{title} with the grid"
        return growth_figure(f"scaling_{key}", title, growth, kinds, "points of the grid", y, why)

    rows = [
        {"operator": name, "grid": str(p["resolution"]), "points": number(p["points"]),
         "prediction, ms": number(p["predict_ms"], 3),
         "training step, ms": number(p["step_ms"], 3),
         "memory of a step, MiB": _or_none(p["step_mib"])}
        for name, r in records.items()
        for p in r["points"]
    ]  # fmt: skip
    figures = (
        figure("predict_ms", "Time of a prediction", "time, ms"),
        figure("step_ms", "Time of a training step", "time, ms"),
        figure("step_mib", "Memory of a training step", "memory, MiB"),
    )
    tables = [Table("Time and memory by grid", rows)]
    return Section("scaling", "Growth with the grid", [why], tables, [*filter(None, figures)])


def peers_section(found: Sequence[Found]) -> Section:
    """Return the section on simple peers, of scenarios that they were fitted to."""
    rows = [
        {"scenario": item.cell.scenario, "model": peer["name"],
         "test error": percent(peer["test"]), "validation error": percent(peer["validation"]),
         "seconds": number(peer["seconds"])}
        for item in found
        for peer in item.record["peers"]
    ]  # fmt: skip
    table = Table("Errors of simple peers", rows)
    return Section("peers", "Simple peers", [SAID["peers"]], [table])


def samples_section(found: Sequence[Found]) -> Section | None:
    """Return the section on error by number of samples; none where that was not measured."""
    measured = samples_of(found)
    if not measured:
        return None
    kinds = {f.cell.model.name: (f.cell.model.backbone, f.cell.model.mixer) for f in found}
    part = Section("samples", "Error by number of training samples", [SAID["exponent"]])
    for scenario, of in measured.items():
        rows = []
        for model, curve in of.curves.items():
            texts = {n: mean.text(percent, least=0.0) for n, mean in curve.errors.items()}
            rows.append({
                "model": model,
                **{number(n): texts.get(n, _NONE) for n in of.numbers},
                "exponent": curve.exponent.text("{:.2f}".format),
            })  # fmt: skip
        pairs = [
            {"comparison": c.sentence(), "samples": number(n), "seeds": str(c.seeds)}
            for n, comparisons in of.comparisons.items()
            for c in comparisons
        ]
        compared = Table(f"{scenario}: comparisons, a family of {len(pairs)}", pairs)
        title = f"{scenario}: test error by number of training samples"
        part.tables += [Table(title, rows), compared]
        growth = {
            model: [(n, mean.value) for n, mean in curve.errors.items()]
            for model, curve in of.curves.items()
        }
        drawn = growth_figure(
            f"samples_{scenario}", f"{scenario}: error by training samples", growth, kinds,
            "training samples", "test error", SAID["samples"],
        )  # fmt: skip
        part.figures += filter(None, [drawn])
    return part


def sections_of(
    findings: Mapping[str, ScenarioFindings], found: Sequence[Found], grids: Sequence[Found],
    peers: Sequence[Found] = (),
) -> list[Section]:  # fmt: skip
    """Return a study's report: findings by scenario, their cells, what scaling measured, peers."""
    machines = machines_of(found)
    facts = [
        f"Measured on {cpu or 'a processor of unknown make'}, {cores} cores, {workers} "
        f"cell{'s' if workers > 1 else ''} at a time."
        for cpu, cores, workers in machines
    ]
    if len(machines) > 1:
        facts.append("Times of different machines, or numbers of cells at a time, do not compare.")
    how = SAID["how"].format(level=f"{LEVEL:.0%}", margin=f"{MARGIN:.0%}", rule=RULE).splitlines()
    extra = (
        peers_section(peers) if peers else None,
        scaling_section(grids) if grids else None,
        samples_section(found),
    )
    return [
        Section("verdicts", "Verdicts", [f"{n}: {f.verdict}." for n, f in findings.items()]),
        *map(scenario_section, findings.values()),
        *filter(None, extra),
        Section("how", "How it was measured", [*how, *facts]),
    ]


def write_study_report(
    folder: Path, study: Study, found: Sequence[Found], findings: Mapping[str, ScenarioFindings],
    sections: Callable[[], Sequence[Section]],
) -> Path:  # fmt: skip
    """Write the report of a study, of all its cells; return the path of its page."""
    states = counts(found)
    warnings = [f"{i.cell.name} failed: {i.reason}" for i in found if i.state == "failed"]
    if states["stale"]:
        old = f"{states['stale']} cells were made by other code or data than those of now."
        warnings.insert(0, old)
    if states["missing"]:
        warnings.append(f"{states['missing']} of {len(found)} cells have not been made.")
    numbers = {
        "study": study.name, **states,
        "cells": {item.cell.name: item.identity.digest for item in found if item.record},
        "scenarios": {
            name: {
                "verdict": part.verdict, "best": part.best.model,
                "not_told_apart": part.not_told_apart,
                "models": [{**asdict(row), "mean": asdict(row.mean)} for row in part.rows],
                "comparisons": [
                    {**asdict(c), "verdict": c.verdict, "sentence": c.sentence()}
                    for c in part.comparisons
                ],
            }
            for name, part in findings.items()
        },
    }  # fmt: skip
    spec = study.spec
    return write_report(folder, spec.title, spec.question, warnings, sections, numbers)


def _model_rows(found: ScenarioFindings) -> list[dict[str, str]]:
    rows = [_model_row(row) for row in found.rows]
    blank = dict.fromkeys(rows[0], _NONE)
    solver = found.solver_ms
    return [
        *rows,
        {**blank, "model": "the solver", "test error": "reference",
         "prediction, ms": solver if isinstance(solver, str) else number(solver, 3),
         "memory, MiB": _or_none(found.solver_mib)},
        {**blank, "model": "the mean field", "test error": percent(found.baseline)},
    ]  # fmt: skip


def _model_row(row: Row) -> dict[str, str]:
    finer = _NONE if row.finer is None else f"{percent(row.finer)} at {row.finer_ratio:g}×"
    undertrained = f"under-trained ({len(row.undertrained)} of {len(row.errors)})"
    return {
        "model": row.model, "parameters": number(row.parameters),
        "test error": row.mean.text(percent, least=0.0), "seeds": str(len(row.errors)),
        "on a finer grid": finer,
        "training, cpu s": _or_none(row.train_seconds),
        "prediction, ms": number(row.latency_ms, 3),
        "memory, MiB": _or_none(row.memory_mib),
        "break-even, solves": "never" if row.break_even is None else number(row.break_even),
        "remarks": undertrained if row.undertrained else _NONE,
    }  # fmt: skip


def _or_none(value: float | None) -> str:
    return _NONE if value is None else number(float(value), 3)


def write_report(
    folder: Path, title: str, question: str, warnings: Sequence[str],
    sections: Callable[[], Sequence[Section]], numbers: Mapping[str, Any], source: str = "cells",
) -> Path:  # fmt: skip
    """Write a report, and `numbers` for programs, into a folder; return the path of its page.

    Its sections are drawn for each language; `source` is what it is written from. A folder that
    cannot be written to is an OSError.
    """
    write_json(folder / NUMBERS, numbers)
    about = {"title": title, "question": question, "warnings": warnings, "source": source}
    write_pages(
        folder / PAGE, lambda _: render_page("study/study.html.j2", sections=sections(), **about)
    )
    return folder / PAGE
