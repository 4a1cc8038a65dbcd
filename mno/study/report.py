"""The report of a study: sections of sentences, tables and figures."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mno.core.files import write_json, write_text
from mno.core.numbers import number, percent
from mno.report.page import Figure, render_page
from mno.study.drawing import errors_figure, front_figure, growth_figure
from mno.study.findings import RULE, Row, ScenarioFindings, machines_of
from mno.study.results import Found, Study, counts
from mno.study.statistics import LEVEL, MARGIN, samples_of

PAGE, NUMBERS = "index.html", "report.json"
_TEXT_COLUMNS = ("model", "operator", "scenario", "comparison", "remarks", "parameter")
_NONE = "–"
_EXPONENT = (
    "Subsets of one training split, each within the next; as many steps of the optimiser on each. "
    "The exponent tells by which power of the number of samples the error falls: 0.5 halves it by "
    "four times the samples."
)
_HOW = (
    "Errors are relative L2 on the test split, which chose nothing. Intervals hold the mean over "
    f"seeds with a confidence of {LEVEL:.0%} (Student's t); they tell of the luck of training, not "
    "of the choice of test samples.",
    "Models are compared seed by seed by a paired t test on the logarithm of the error, whose "
    "variance is moderated (Smyth 2004): averaged with the one usual among all pairs of the "
    "scenario, and never below the pair's own. The p values and 95 % intervals of a family of "
    "comparisons are corrected by Holm's method, so that p is below 5 % where the interval does "
    "not hold 1. The verdict of a scenario comes from all pairs as one family, so "
    "that choosing the best after looking is paid for. Few seeds show large differences only.",
    f"No difference: equal within {MARGIN:.0%} means that the whole interval of the ratio of "
    "errors lies within that; no difference shown means that these seeds do not tell.",
    RULE,
    "A prediction and a solve are timed on one core, one sample at a time; memory is the peak of a "
    "process that does nothing else. Break-even counts the processor time of data and training "
    "against that of solves.",
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
    why = "One sample, one thread, fresh weights. Where two curves cross, the cheaper changes."

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
    why = (
        "What there is without training a network: regressions of principal components on each "
        "other, with hyperparameters that the validation split chose. Seconds are those of a "
        "processor, for fitting and choosing."
    )
    rows = [
        {"scenario": item.cell.scenario, "model": peer["name"],
         "test error": percent(peer["test"]), "validation error": percent(peer["validation"]),
         "seconds": number(peer["seconds"])}
        for item in found
        for peer in item.record["peers"]
    ]  # fmt: skip
    return Section("peers", "Simple peers", [why], [Table("Errors of simple peers", rows)])


def samples_section(found: Sequence[Found]) -> Section | None:
    """Return the section on error by number of samples; none where that was not measured."""
    measured = samples_of(found)
    if not measured:
        return None
    kinds = {f.cell.model.name: (f.cell.model.backbone, f.cell.model.mixer) for f in found}
    part = Section("samples", "Error by number of training samples", [_EXPONENT])
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
            "training samples", "test error",
            "Mean over seeds. Every training takes as many steps of the optimiser.",
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
    extra = (
        peers_section(peers) if peers else None,
        scaling_section(grids) if grids else None,
        samples_section(found),
    )
    return [
        Section("verdicts", "Verdicts", [f"{n}: {f.verdict}." for n, f in findings.items()]),
        *map(scenario_section, findings.values()),
        *filter(None, extra),
        Section("how", "How it was measured", [*_HOW, *facts]),
    ]


def write_study_report(
    folder: Path, study: Study, found: Sequence[Found], findings: Mapping[str, ScenarioFindings],
    sections: Sequence[Section],
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
    folder: Path, title: str, question: str, warnings: Sequence[str], sections: Sequence[Section],
    numbers: Mapping[str, Any], source: str = "cells",
) -> Path:  # fmt: skip
    """Write a report, and `numbers` for programs, into a folder; return the path of its page.

    `source` is what it is written from. A folder that cannot be written to is an OSError.
    """
    write_json(folder / NUMBERS, numbers)
    about = {"title": title, "question": question, "warnings": warnings, "source": source}
    write_text(folder / PAGE, render_page("study/study.html.j2", sections=sections, **about))
    return folder / PAGE
