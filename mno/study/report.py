"""The report of a study: sections of sentences, tables and figures, as a page and as Markdown."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

from mno import __version__
from mno.core.errors import InputError
from mno.core.files import write_bytes, write_text
from mno.core.numbers import number, percent
from mno.report.page import Figure, render_page
from mno.study.drawing import Curves, Kinds, errors_figure, front_figure, growth_figure
from mno.study.findings import RULE, Row, ScenarioFindings, findings_of, machines_of, usable
from mno.study.results import Found, Study, counts
from mno.study.statistics import LEVEL, MARGIN, samples_of

PAGE, MARKDOWN, NUMBERS = "index.html", "report.md", "report.json"
_TEXT_COLUMNS = (
    "model", "operator", "scenario", "comparison", "remarks", "parameter",
)  # fmt: skip
_NONE = "–"
_EXPONENT = (
    "Subsets of one training split, each within the next; as many steps of the optimiser on each. "
    "The exponent tells by which power of the number of samples the error falls: 0.5 halves it by "
    "four times the samples."
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
    """A part of the report, with a heading."""

    name: str
    title: str
    paragraphs: list[str] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)


def scenario_section(found: ScenarioFindings) -> Section:
    """Return the section of a scenario: verdict, table, comparisons, figures."""
    name = found.scenario
    part = Section(name, name, [f"Verdict: {found.verdict}."])
    part.tables.append(Table(f"{name}: models", _model_rows(found)))
    undertrained = [row.model for row in found.rows if row.undertrained]
    if undertrained:
        part.paragraphs.append(
            f"Under-trained, so that their errors are upper bounds: {', '.join(undertrained)}."
        )
    said = [{"comparison": c.sentence(), "seeds": str(c.seeds)} for c in found.comparisons]
    if said:
        part.tables.append(Table(f"{name}: comparisons, a family of {len(said)}", said))
    figures = [errors_figure(found)]
    figures += [front_figure(found, cost, label) for cost, label in _COSTS.items()]
    part.figures = [figure for figure in figures if figure is not None]
    return part


def scaling_section(found: Sequence[Found]) -> Section | None:
    """Return the section on growth with the grid; none where nothing was measured."""
    records = [item.record for item in found if item.record is not None]
    if not records:
        return None
    several = len({r["cell"]["scenario"] for r in records}) > 1
    by_label = {
        f"{r['cell']['model']} ({r['cell']['scenario']})" if several else r["cell"]["model"]: r
        for r in records
    }
    kinds = {label: (r["cell"]["backbone"], r["cell"]["mixer"]) for label, r in by_label.items()}

    def curves(key: str) -> Curves:
        return {
            label: [(point["points"], point[key]) for point in r["points"] if point[key]]
            for label, r in by_label.items()
        }

    rows = [
        {
            "operator": label,
            "grid": str(p["resolution"]),
            "points": number(p["points"]),
            "prediction, ms": number(p["predict_ms"], 3),
            "training step, ms": number(p["step_ms"], 3),
            "memory of a step, MiB": _or_none(p["step_mib"], 3),
        }
        for label, r in by_label.items()
        for p in r["points"]
    ]
    why = "One sample, one thread, fresh weights. Where two curves cross, the cheaper changes."
    figures = [
        growth_figure(f"scaling_{key}", f"{title} with the grid", curves(key), kinds,
                      "points of the grid", y, why)
        for key, title, y in (
            ("predict_ms", "Time of a prediction", "time, ms"),
            ("step_ms", "Time of a training step", "time, ms"),
            ("step_mib", "Memory of a training step", "memory, MiB"),
        )
    ]  # fmt: skip
    return Section(
        "scaling", "Growth with the grid", [why, *_crossings(curves("predict_ms"), kinds)],
        [Table("Time and memory by grid", rows)], [f for f in figures if f is not None],
    )  # fmt: skip


def samples_section(found: Sequence[Found]) -> Section | None:
    """Return the section on error by number of samples; none where that was not measured."""
    measured = samples_of(found)
    if not measured:
        return None
    kinds = {f.cell.model.name: (f.cell.model.backbone, f.cell.model.mixer) for f in found}
    part = Section("samples", "Error by number of training samples", [_EXPONENT])
    for scenario, of in measured.items():
        rows = [
            {
                "model": curve.model,
                **{
                    number(n): curve.errors[n].text(percent, least=0.0)
                    if n in curve.errors
                    else _NONE
                    for n in of.numbers
                },
                "exponent": curve.exponent.text("{:.2f}".format),
            }
            for curve in of.curves.values()
        ]
        part.tables.append(Table(f"{scenario}: test error by number of training samples", rows))
        said = [
            {"comparison": c.sentence(), "samples": number(n), "seeds": str(c.seeds)}
            for n, cs in of.comparisons.items()
            for c in cs
        ]
        if said:
            caption = f"{scenario}: comparisons, a family of {len(said)}"
            part.tables.append(Table(caption, said))
        curves = {
            model: [(n, mean.value) for n, mean in curve.errors.items()]
            for model, curve in of.curves.items()
        }
        drawn = growth_figure(
            f"samples_{scenario}", f"{scenario}: error by training samples", curves, kinds,
            "training samples", "test error",
            "Mean over seeds. Every training takes as many steps of the optimiser.",
        )  # fmt: skip
        if drawn is not None:
            part.figures.append(drawn)
    return part


def sections_of(
    findings: Mapping[str, ScenarioFindings], found: Sequence[Found], grids: Sequence[Found]
) -> list[Section]:
    """Return the sections of a study's report.

    Args:
        findings: By scenario.
        found: The cells that they are of.
        grids: Measurements of untrained operators on several grids.
    """
    machines = machines_of(found)
    facts = [
        f"Measured on {cpu or 'a processor of unknown make'}, {cores} cores, {workers} "
        f"cell{'s' if workers > 1 else ''} at a time."
        for cpu, cores, workers in machines
    ]
    if len(machines) > 1:
        facts.append("Times of different machines, or numbers of cells at a time, do not compare.")
    extra = (scaling_section(grids), samples_section(found))
    return [
        Section("verdicts", "Verdicts", [f"{n}: {f.verdict}." for n, f in findings.items()]),
        *(scenario_section(part) for part in findings.values()),
        *(section for section in extra if section is not None),
        how_section(facts),
    ]


def write_study_report(
    folder: Path, study: Study, found: Sequence[Found], grids: Sequence[Found]
) -> tuple[Path, dict[str, str]]:
    """Write the report of a study, of stale cells too; return its page, and verdicts by scenario.

    Args:
        folder: Made if missing.
        study: The study.
        found: Its cells.
        grids: Measurements of untrained operators on several grids.

    Raises:
        InputError: No cell was made.
        OSError: The folder cannot be written to.
    """
    findings = findings_of(study.spec, found, stale=True)
    if not findings:
        raise InputError(f"{study.name} has no finished cell yet; run: mno study run {study.name}")
    stale = sum(item.state == "stale" for item in (*found, *grids))
    missing = sum(item.state == "missing" for item in found)
    warnings = [
        f"{item.cell.name} failed: {item.reason}" for item in found if item.state == "failed"
    ]
    if stale:
        warnings.insert(
            0,
            f"{stale} results are STALE: made by other code, data or parameters than those of "
            "now. They are marked, and comparisons that use them may mean nothing.",
        )
    if missing:
        warnings.append(f"{missing} of {len(found)} cells have not been made.")
    numbers = {
        "study": study.name,
        **counts(found),
        "cells": {item.cell.name: item.identity.digest for item in found if item.record},
        "scenarios": {
            name: {
                "verdict": part.verdict,
                "best": part.best.model,
                "not_told_apart": part.not_told_apart,
                "models": [{**asdict(row), "mean": asdict(row.mean)} for row in part.rows],
                "comparisons": [
                    {**asdict(c), "verdict": c.verdict, "sentence": c.sentence()}
                    for c in part.comparisons
                ],
            }
            for name, part in findings.items()
        },
    }
    sections = sections_of(findings, usable(found), usable(grids))
    page = write_report(folder, study.spec.title, study.spec.question, warnings, sections, numbers)
    return page, {name: part.verdict for name, part in findings.items()}


def how_section(facts: Sequence[str]) -> Section:
    """Return the section that says how all was measured and compared."""
    return Section(
        "how", "How it was measured",
        [
            "Errors are relative L2 on the test split, which chose nothing. Intervals hold the "
            f"mean over seeds with a confidence of {LEVEL:.0%} (Student's t); they tell of the "
            "luck of training, not of the choice of test samples.",
            "Models are compared seed by seed by a paired t test on the logarithm of the error, "
            "whose variance is moderated (Smyth 2004): averaged with the one usual among all pairs "
            "of the scenario, and never below the pair's own. The p values of a family of "
            "comparisons are corrected by Holm's method. The verdict of a scenario comes from "
            "all pairs as one family, so that choosing the best after looking is paid for. Few "
            "seeds show large differences only.",
            f"No difference: equal within {MARGIN:.0%} means that the whole interval of the ratio "
            "of errors lies within that; no difference shown means that these seeds do not tell.",
            RULE,
            "A prediction and a solve are timed on one core, one sample at a time; memory is the "
            "peak of a process that does nothing else. Break-even counts the processor time of "
            "data and training against that of solves.",
            *facts,
        ],
    )  # fmt: skip


def _model_rows(found: ScenarioFindings) -> list[dict[str, str]]:
    rows = [_model_row(row) for row in found.rows]
    blank = dict.fromkeys(rows[0], _NONE)
    solver = found.solver_ms
    return [
        *rows,
        {**blank, "model": "the solver", "test error": "reference",
         "prediction, ms": solver if isinstance(solver, str) else number(solver, 3),
         "memory, MiB": _or_none(found.solver_mib, 3)},
        {**blank, "model": "the mean field", "test error": percent(found.baseline)},
    ]  # fmt: skip


def _model_row(row: Row) -> dict[str, str]:
    finer = _NONE if row.finer is None else f"{percent(row.finer)} at {row.finer_ratio:g}×"
    marks = []
    if row.undertrained:
        marks.append(f"under-trained ({len(row.undertrained)} of {len(row.errors)})")
    if row.stale:
        marks.append(f"STALE (seeds {', '.join(map(str, row.stale))})")
    return {
        "model": row.model,
        "parameters": number(row.parameters),
        "test error": row.mean.text(percent, least=0.0),
        "seeds": str(len(row.errors)),
        "on a finer grid": finer,
        "training, cpu s": _or_none(row.train_seconds, 3),
        "prediction, ms": number(row.latency_ms, 3),
        "memory, MiB": _or_none(row.memory_mib, 3),
        "break-even, solves": "never" if row.break_even is None else number(row.break_even),
        "remarks": "; ".join(marks) or _NONE,
    }


def _crossings(curves: Curves, kinds: Kinds) -> list[str]:
    """Say which operator of a backbone overtakes which as grids grow."""
    said = []
    names = [name for name, points in curves.items() if len(points) > 1]
    for a, b in combinations(names, 2):
        if kinds[a][0] != kinds[b][0]:
            continue
        of_a, of_b = dict(curves[a]), dict(curves[b])
        for low, high in pairwise(sorted(set(of_a) & set(of_b))):
            before, after = of_a[low] - of_b[low], of_a[high] - of_b[high]
            if before * after < 0:
                faster, slower = (a, b) if after < 0 else (b, a)
                said.append(
                    f"Between {number(int(low))} and {number(int(high))} points {faster} becomes "
                    f"faster than {slower}."
                )
    return said


def _or_none(value: float | None, digits: int) -> str:
    return _NONE if value is None else number(float(value), digits)


def write_report(
    folder: Path,
    title: str,
    question: str,
    warnings: Sequence[str],
    sections: Sequence[Section],
    numbers: Mapping[str, Any],
    source: str = "cells",
) -> Path:
    """Write a report into a folder, which is made if missing; return the path of its page.

    Figures of an earlier report in the folder are removed.

    Args:
        folder: Where to.
        title: Of the study.
        question: What it is to answer.
        warnings: What a reader must know first: stale, failed or missing cells.
        sections: The report.
        numbers: The same for programs.
        source: What it is written from.

    Raises:
        OSError: The folder cannot be written to.
    """
    figures = {f"{f.name}.png": f.png for section in sections for f in section.figures}
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    for name, png in figures.items():
        write_bytes(folder / "figures" / name, png)
    for old in (folder / "figures").glob("*.png"):
        if old.name not in figures:
            old.unlink()
    write_text(folder / NUMBERS, json.dumps(numbers, indent=1) + "\n")
    about = {"title": title, "question": question, "warnings": warnings, "source": source}
    write_text(folder / MARKDOWN, _markdown(sections, **about))
    write_text(folder / PAGE, render_page("study/study.html.j2", sections=sections, **about))
    return folder / PAGE


def _markdown(
    sections: Sequence[Section], title: str, question: str, warnings: Sequence[str], source: str
) -> str:
    parts = [f"# {title}", question, *(f"**{warning}**" for warning in warnings)]
    for section in sections:
        parts += [f"## {section.title}", *section.paragraphs]
        parts += [
            f"**{table.caption}**\n\n{markdown_table(table)}"
            for table in section.tables
            if table.rows
        ]
        parts += [f"![{f.alt}](figures/{f.name}.png)\n\n{f.caption}" for f in section.figures]
    parts.append(f"Written by MNO {__version__} from the kept {source} alone.")
    return "\n\n".join(part for part in parts if part) + "\n"


def markdown_table(table: Table, heads: Mapping[str, str] | None = None) -> str:
    """Return a table of one row at least in Markdown, with other words for some of its headings."""
    numeric = table.numeric
    said = [(heads or {}).get(head, head) for head in table.rows[0]]
    lines = [
        "| " + " | ".join(said) + " |",
        "| " + " | ".join("---:" if head in numeric else "---" for head in table.rows[0]) + " |",
    ]
    for row in table.rows:
        cells = (text.replace("|", "\\|").replace("\n", " ") for text in row.values())
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)
