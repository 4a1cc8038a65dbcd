"""`mno study report`: from kept cells to a page, without making anything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from flows.study import Study, counts, load_study
from mno.core.errors import InputError
from mno.study.answers import Answers, Reported
from mno.study.findings import ScenarioFindings, findings_of
from mno.study.report import (
    MARKDOWN,
    Section,
    how_section,
    samples_section,
    scaling_section,
    scenario_section,
    write_report,
)
from mno.study.results import Found

FOLDER = Path("reports/studies")
_NAMED = 5  # stale cells that the refusal names


def report_study(given: str, output: Path | None, *, allow_stale: bool) -> dict[str, Any]:
    """Write the report of a study.

    Args:
        given: Its file, or its name.
        output: The folder; `reports/studies/<name>/` of the workspace if not given.
        allow_stale: Whether stale cells are used, and marked.

    Returns:
        `page`, `markdown`, `verdicts` by scenario, and the numbers of cells by state.

    Raises:
        InputError: No cell is there, or some are stale and that was not allowed.
    """
    study = load_study(given)
    found, scaling = study.found(), study.scaling()
    stale = [item for item in (*found, *scaling) if item.state == "stale"]
    if stale and not allow_stale:
        raise InputError(_refusal(study, given, stale))
    findings = findings_of(study.spec, found, stale=allow_stale)
    if not findings:
        raise InputError(f"{study.name} has no finished cell yet; run: mno study run {given}")
    used, grids = _usable(found), _usable(scaling)
    sections = sections_of(Answers(study.spec, used, findings, grids))
    folder = output or study.root / FOLDER / study.name
    try:
        page = write_report(
            folder, study.spec.title, study.spec.question, _warnings(found, stale), sections,
            _numbers(study, found, findings),
        )  # fmt: skip
    except OSError as error:
        raise InputError(f"{folder} cannot be written to: {error.strerror}") from None
    return {
        "page": str(page),
        "markdown": str(page.with_name(MARKDOWN)),
        "verdicts": {name: part.verdict for name, part in findings.items()},
        **counts(found),
    }


def reported(study: Study) -> Reported:
    """Return what a page asks a study for.

    A page tells what was measured with the code of its day, so that code that has changed since
    takes nothing away; but all cells of a scenario must come of the same code and data.

    Raises:
        InputError: There is no cell, or they do not go together.
    """
    used = _of_one_code(study.found())
    if not used:
        raise InputError(f"{study.name} has no finished cell yet; run: mno study run {study.name}")
    findings = findings_of(study.spec, used, stale=False)
    answers = Answers(study.spec, used, findings, _of_one_code(study.scaling()))
    return Reported(answers, sections_of(answers))


def _of_one_code(found: Sequence[Found]) -> list[Found]:
    used, made_by = [], {}
    for item in _usable(found):
        assert item.record is not None  # noqa: S101  (usable ones have one)
        identity = item.record["identity"]
        if identity["params"] != item.identity.params:
            raise InputError(f"{item.cell.name} is of another study file; run the study again")
        made = (identity["code"], identity["data"])
        if made_by.setdefault(item.cell.scenario, made) != made:
            raise InputError(
                f"cells of {item.cell.scenario} come of different code or data ({item.cell.name}); "
                f"run: mno study run {item.cell.study}"
            )
        used.append(replace(item, state="fresh", reason=""))
    return used


def _usable(found: Sequence[Found]) -> list[Found]:
    return [item for item in found if item.state in ("fresh", "stale")]


def sections_of(answers: Answers) -> list[Section]:
    """Return the sections of a study's report."""
    findings = answers.findings
    extra = (scaling_section(answers.grids), samples_section(answers.found))
    return [
        Section("verdicts", "Verdicts", [f"{n}: {f.verdict}." for n, f in findings.items()]),
        *(scenario_section(part) for part in findings.values()),
        *(section for section in extra if section is not None),
        how_section(_facts(answers)),
    ]


def _refusal(study: Study, given: str, stale: Sequence[Found]) -> str:
    named = "; ".join(f"{item.cell.name}: {item.reason}" for item in stale[:_NAMED])
    more = f"; and {len(stale) - _NAMED} more" if len(stale) > _NAMED else ""
    return (
        f"{len(stale)} results of {study.name} are stale and are not mixed with others ({named}"
        f"{more}); run mno study run {given}, or give --allow-stale to see them marked"
    )


def _warnings(found: Sequence[Found], stale: Sequence[Found]) -> list[str]:
    said = []
    if stale:
        said.append(
            f"{len(stale)} results are STALE: made by other code, data or parameters than those of "
            "now. They are marked, and comparisons that use them may mean nothing."
        )
    failed = [item for item in found if item.state == "failed"]
    said += [f"{item.cell.name} failed: {item.reason}" for item in failed]
    missing = sum(item.state == "missing" for item in found)
    if missing:
        said.append(f"{missing} of {len(found)} cells have not been made.")
    return said


def _facts(answers: Answers) -> list[str]:
    machines = answers.machines
    said = [
        f"Measured on {cpu or 'a processor of unknown make'}, {cores} cores, {workers} "
        f"cell{'s' if workers > 1 else ''} at a time."
        for cpu, cores, workers in machines
    ]
    if len(machines) > 1:
        said.append("Times of different machines, or numbers of cells at a time, do not compare.")
    return said


def _numbers(
    study: Study, found: Sequence[Found], findings: dict[str, ScenarioFindings]
) -> dict[str, Any]:
    return {
        "study": study.name,
        **counts(list(found)),
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
