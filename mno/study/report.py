"""The report of a study: sections of sentences, tables and figures."""

import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from mno.core.files import write_json
from mno.core.numbers import number, percent, setting
from mno.report import style
from mno.report.page import Figure, render_page
from mno.report.style import MANY_COLOURS, PER_CENT, curves
from mno.report.translated import write_pages
from mno.study.findings import RULE, Row, ScenarioFindings, front, machines_of
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
# Each mixer has one of MANY_COLOURS, and each backbone a marker.
_MARKERS = "osD^vP*X"
_HEIGHT = style.HEIGHT + 0.6
_PLAIN = FuncFormatter(lambda value, _: setting(float(f"{value:.3g}")))

Curves = Mapping[str, Sequence[tuple[float, float]]]  # by model points (x, y)
Kinds = Mapping[str, tuple[str, str]]  # by model its backbone and its mixer


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
    if not (measured := samples_of(found)):
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
        growth = {m: [(n, e.value) for n, e in c.errors.items()] for m, c in of.curves.items()}
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
    return [
        Section("verdicts", "Verdicts", [f"{n}: {f.verdict}." for n, f in findings.items()]),
        *map(scenario_section, findings.values()),
        *([peers_section(peers)] if peers else []),
        *([scaling_section(grids)] if grids else []),
        *filter(None, [samples_section(found)]),
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
    solver = found.solver_ms
    rows = [_model_row(row, solver) for row in found.rows]
    blank = dict.fromkeys(rows[0], _NONE)
    return [
        *rows,
        {**blank, "model": "the solver", "test error": "reference",
         "prediction, ms": solver if isinstance(solver, str) else number(solver, 3),
         "memory, MiB": _or_none(found.solver_mib)},
        {**blank, "model": "the mean field", "test error": percent(found.baseline)},
    ]  # fmt: skip


def _model_row(row: Row, solver: float | str) -> dict[str, str]:
    never = not isinstance(solver, str) and solver <= row.latency_ms
    pays = _NONE if row.break_even is None else number(row.break_even)
    finer = _NONE if row.finer is None else f"{percent(row.finer)} at {row.finer_ratio:g}×"
    undertrained = f"under-trained ({len(row.undertrained)} of {len(row.errors)})"
    return {
        "model": row.model, "parameters": number(row.parameters),
        "test error": row.mean.text(percent, least=0.0), "seeds": str(len(row.errors)),
        "on a finer grid": finer,
        "training, cpu s": _or_none(row.train_seconds),
        "prediction, ms": number(row.latency_ms, 3),
        "memory, MiB": _or_none(row.memory_mib),
        "break-even, solves": "never" if never else pays,
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
    page = folder / PAGE
    write_json(folder / NUMBERS, numbers)
    about = {"title": title, "question": question, "warnings": warnings, "source": source}
    write_pages(page, lambda _: render_page("study/study.html.j2", sections=sections(), **about))
    return page


def errors_figure(found: ScenarioFindings) -> Figure:
    """Draw the error of every model of a scenario: each seed, mean and interval."""
    styles, height = _styles(_kinds(found)), 1.0 + 0.3 * len(found.rows)
    return Figure(
        f"errors_{found.scenario}",
        f"{found.scenario}: test error",
        "Relative L2 on the test split: each seed a dot, the mean a line with its 95 % interval. "
        "Where intervals overlap, the comparisons below say whether the models are told apart.",
        f"Test errors of {len(found.rows)} models on {found.scenario}; {found.verdict}.",
        *curves(lambda ax: _errors(ax, found.rows, styles), height),
    )


def front_figure(found: ScenarioFindings, cost: str, label: str) -> Figure | None:
    """Draw errors against a cost of `Row`; none where fewer than two models have it."""
    points = [(r.model, getattr(r, cost), r.mean.value) for r in found.rows if getattr(r, cost)]
    if len(points) < 2:
        return None
    best, styles = front(points), _styles(_kinds(found))
    line = np.array([place for one in best for name, *place in points if name == one])

    def draw(ax: Axes) -> None:
        ax.step(line[:, 0], line[:, 1], where="post", color=style.REFERENCE_COLOUR, lw=1)
        for name, cost, error in points:
            ax.plot(cost, error, label=name, ls="", ms=6, **styles[name])
        _make_logarithmic(ax, label, "relative L2 error")

    return Figure(
        f"front_{cost}_{found.scenario}",
        f"{found.scenario}: error against {label}",
        f"Mean test error against {label}; lower left is better. The line joins the models that "
        f"no other beats in both: {', '.join(best)}.",
        f"Error against {label} of {len(points)} models; on the front: {', '.join(best)}.",
        *curves(draw, _HEIGHT),
    )


def growth_figure(
    name: str, title: str, growth: Curves, kinds: Kinds, x: str, y: str, why: str
) -> Figure | None:
    """Draw a quantity that grows, both axes logarithmic; none without curves of two points."""
    if not (long := {model: points for model, points in growth.items() if len(points) > 1}):
        return None
    styles = _styles(kinds)

    def draw(ax: Axes) -> None:
        for model, points in long.items():
            ax.plot(*np.array(points, float).T, label=model, ms=4, lw=1.4, **styles[model])
        _make_logarithmic(ax, x, y)

    return Figure(name, title, why, f"{title}, of {', '.join(long)}.", *curves(draw, _HEIGHT))


def _kinds(found: ScenarioFindings) -> Kinds:
    return {row.model: (row.backbone, row.mixer) for row in found.rows}


def _styles(kinds: Kinds) -> dict[str, dict[str, Any]]:
    backbones = list(dict.fromkeys(backbone for backbone, _ in kinds.values()))
    mixers = list(dict.fromkeys(mixer for _, mixer in kinds.values()))
    many = len(mixers) > len(MANY_COLOURS)  # then markers tell apart what has the same colour
    styles = {}
    for model, (backbone, mixer) in kinds.items():
        turn, colour = divmod(mixers.index(mixer), len(MANY_COLOURS))
        marker = turn if many else backbones.index(backbone)
        styles[model] = {"color": MANY_COLOURS[colour], "marker": _MARKERS[marker % len(_MARKERS)]}
    return styles


def _errors(ax: Axes, rows: Sequence[Row], styles: Mapping[str, dict[str, Any]]) -> None:
    for place, row in enumerate(rows):
        mean, look = row.mean, styles[row.model]
        colour = look["color"]
        ax.plot(list(row.errors.values()), [place] * len(row.errors), ls="", ms=4, **look)
        if mean.low is not None and mean.high is not None:
            ax.plot([max(mean.low, 0), mean.high], [place, place], lw=1.5, color=colour)
        ax.plot([mean.value], [place], "|", ms=14, color=colour)
    ax.set_yticks(range(len(rows)), [row.model for row in rows])
    ax.invert_yaxis()
    ax.set_xlim(left=0)
    ax.xaxis.set_major_formatter(PER_CENT)
    ax.set_xlabel("relative L2 error")


def _make_logarithmic(ax: Axes, x: str, y: str) -> None:
    """Give axes that have been drawn into two scales with numbers as people write them."""
    ax.set_xscale("log")
    ax.set_yscale("log")
    for axis, text in ((ax.xaxis, _PLAIN), (ax.yaxis, PER_CENT if y.endswith("error") else _PLAIN)):
        style.log_ticks(axis, text)
        low, high = sorted(axis.get_view_interval())
        if high < 10 * low:
            axis.set_major_locator(MaxNLocator(5))
    ax.set_xlabel(x)
    ax.set_ylabel(y)
    style.draw_legend(ax, columns=3, narrow=2)
