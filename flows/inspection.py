"""`mno inspect`: what is in a dataset, in one screen of text and a page with figures."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from flows.progress import progress_bar
from flows.workspace import find_workspace
from mno.core.errors import InputError
from mno.report.inspection.page import (
    axis_row,
    field_row,
    fineness_row,
    gap_rows,
    judgement_row,
    split_rows,
    write_inspection,
)  # fmt: skip
from mno.report.inspection.result import Inspection
from mno.report.inspection.survey import inspect_store

DATA = Path("data")
OUTPUT = Path("reports/inspection")
REPORT = Path("reports/dataset.json")
_TO_THE_RIGHT = {
    "points", "samples", "share", "min", "max", "mean", "std", "not finite", "at the cut-off",
    "noise by differences", "noise by spectrum", "largest value", "tolerance",
}  # fmt: skip


def inspect_data(data: Path | None, output: Path | None, quiet: bool) -> tuple[Inspection, Path]:
    """Inspect a dataset and write the page.

    Args:
        data: The dataset; `data/` of the workspace if none is given.
        output: Folder to write into; `reports/inspection/` of the workspace, or of the current
            folder outside one, if none is given.
        quiet: Draw no progress.

    Returns:
        What was found, and the path of the page.

    Raises:
        InputError: There is no dataset, it cannot be read, or the folder cannot be written to.
    """
    root = _workspace() if data is not None else find_workspace()
    store = data or (root or Path()) / DATA
    folder = output or (root or Path()) / OUTPUT
    with progress_bar(quiet) as show:
        report = _own_report(store, root)
        inspection = inspect_store(store, report, lambda done, n: show("inspecting", done, n))
    try:
        return inspection, write_inspection(inspection, folder)
    except OSError as error:
        raise InputError(
            f"cannot write to {folder}: {error.strerror or error}; name another with --output"
        ) from None


def print_inspection(inspection: Inspection, page: Path, console: Console) -> None:
    """Draw it as tables, and say what to do next."""
    scenario, samples = inspection.schema.scenario, len(inspection.splits)
    console.print(f"{_from_here(inspection.store)}  {scenario}, {samples} samples")
    tables = [
        [_without("quantity", field_row(measured)) for measured in inspection.fields],
        [axis_row(axis) for axis in inspection.schema.axes],
        split_rows(inspection),
        [fineness_row(measured) for measured in inspection.fields if measured.spectrum],
        _check_rows(inspection),
        [dict(gap_rows(inspection))],
        [judgement_row(judgement) for judgement in inspection.judgements],
    ]
    for rows in tables:
        if rows:
            console.print()
            console.print(_table(rows))
    if inspection.checks_missing:
        console.print(f"\nPhysics checks  {inspection.checks_missing}")
    if inspection.problems or inspection.remarks:
        console.print()
    for problem in inspection.problems:
        console.print(f"problem  {problem}")
    for remark in inspection.remarks:
        console.print(f"remark   {remark}")
    if inspection.verdict:
        console.print(f"\nVerdict  {inspection.verdict}")
    console.print(f"\nNext: open {_from_here(page)}; then {_next_step(inspection)}")


def _from_here(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _next_step(inspection: Inspection) -> str:
    if inspection.problems:
        return "make the dataset without its problems: mno generate --help"
    if not all(judgement.holds for judgement in inspection.judgements):
        return "add what is missing and import again: mno import --help"
    return "mno train"


def _without(name: str, row: dict[str, str]) -> dict[str, str]:
    return {key: value for key, value in row.items() if key != name}


def _table(rows: list[dict[str, str]]) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in rows[0]:
        justify = "right" if name in _TO_THE_RIGHT else "left"
        heading = name[:1].upper() + name[1:]
        whole = justify == "right" or name == "field"
        table.add_column(heading, justify=justify, no_wrap=whole, overflow="fold")
    for row in rows:
        table.add_row(*row.values())
    return table


def _check_rows(inspection: Inspection) -> list[dict[str, str]]:
    return [
        {
            "check": name,
            "largest value": f"{check['max']:.2g}",
            "tolerance": f"{check['tolerance']:.2g}",
            "result": "within" if check["max"] <= check["tolerance"] else "EXCEEDED",
        }
        for name, check in inspection.checks.items()
    ]


def _workspace() -> Path | None:
    try:
        return find_workspace()
    except InputError:
        return None


def _own_report(store: Path, root: Path | None) -> Mapping[str, Any] | None:
    """Return the dataset's own report: beside it, or of the workspace; none where there is none."""
    for folder in (store.resolve().parent, root):
        try:
            content = json.loads(((folder or Path()) / REPORT).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(content, dict):
            return content
    return None
