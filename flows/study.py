"""`mno study`: what a study file asks for, checked, and held against what has been made of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows.params import check_params
from flows.workspace import find_workspace
from mno.core.errors import InputError, MnoError
from mno.lineage.snapshot import take_snapshot
from mno.study.design import (
    Cell,
    StudySpec,
    cells_of,
    models_of,
    read_study,
    study_file,
    study_names,
)
from mno.study.matching import matched
from mno.study.planning import make_plan
from mno.study.results import Code, Found, Results


@dataclass(frozen=True)
class Study:
    """A study of a workspace, every cell of which can be made.

    Attributes:
        root: The workspace.
        name: Its name, that of its file.
        file: Its file.
        spec: What the file says.
        cells: All cells, widths matched.
        results: Where they are kept.
    """

    root: Path
    name: str
    file: Path
    spec: StudySpec
    cells: list[Cell]
    results: Results

    def found(self, code: Code | None = None) -> list[Found]:
        """Hold what is kept of each cell against what it would be now, or by the code given."""
        return self.results.find(self.cells, code or Code(self.root))

    def scaling(self, code: Code | None = None) -> list[Found]:
        """Do the same with the measurements on several grids; none where none are asked for."""
        if self.spec.scaling is None:
            return []
        return self.results.find_scaling(self.cells, code or Code(self.root), self.spec.scaling)


def load_study(given: str, root: Path | None = None) -> Study:
    """Read a study and check that each of its cells can be made.

    Args:
        given: Its file, or its name in `studies/`.
        root: The workspace; the one around the working folder if not given.

    Raises:
        InputError: One line that names what cannot be used.
    """
    root = root or find_workspace()
    file = study_file(root, given)
    spec = read_study(file)
    try:
        cells = matched(cells_of(file.stem, spec), spec.parameters, root)
        checked: set[tuple[str, str]] = set()
        for cell in cells:
            if (cell.scenario, cell.model.name) not in checked:
                _check(cell, root)
                checked.add((cell.scenario, cell.model.name))
    except InputError as error:
        raise InputError(f"{file.name}: {str(error).replace('params.yaml: ', '')}") from None
    return Study(root, file.stem, file, spec, cells, Results(root, file.stem))


def refuse_uncommitted(root: Path) -> None:
    """Refuse to make cells with code that no commit holds: nobody could make them again.

    Raises:
        InputError: There are changes; the message names some.
    """
    snapshot = take_snapshot(root)
    if snapshot.head is None:
        raise InputError("nothing is committed yet, but a cell names a commit; git commit first")
    if snapshot.changed:
        shown = ", ".join(snapshot.changed[:3]) + (" and more" if len(snapshot.changed) > 3 else "")
        raise InputError(
            f"the code is not committed ({shown}), but every cell names the commit that makes it "
            "again; commit, and run again (params.yaml may differ: no cell depends on it)"
        )


def overview(root: Path) -> list[dict[str, Any]]:
    """Return a line for each study of a workspace, its cells counted by state."""
    lines = []
    for name in study_names(root):
        try:
            study = load_study(name, root)
            lines.append({"name": name, "title": study.spec.title, **counts(study.found())})
        except MnoError as error:
            lines.append({"name": name, "error": str(error)})
    return lines


def counts(found: list[Found]) -> dict[str, int]:
    """Return how many cells there are, and of each state."""
    states = ("fresh", "stale", "failed", "missing")
    return {"cells": len(found), **{s: sum(f.state == s for f in found) for s in states}}


def details(study: Study) -> dict[str, Any]:
    """Return all that is known of a study and its cells."""
    found = study.found()
    plan = make_plan(found)
    place = {item.cell.name: number for number, item in enumerate(plan.order, 1)}
    return {
        "name": study.name,
        "title": study.spec.title,
        "question": study.spec.question,
        "file": str(study.file),
        **counts(found),
        "expected_seconds": plan.expected(),
        "models": [model.name for model in models_of(study.spec)],
        "states": [
            {
                "cell": item.cell.name,
                "state": item.state,
                "reason": item.reason,
                "width": item.cell.params["model"]["width"],
                "next": place.get(item.cell.name),
                "relative_l2": _error(item),
            }
            for item in found
        ],
        "strays": study.results.strays(study.cells),
    }


def _error(item: Found) -> float | None:
    if item.record is None or item.record["state"] != "done":
        return None
    return item.record["metrics"]["relative_l2"]


def _check(cell: Cell, root: Path) -> None:
    try:
        check_params(cell.params, root)
    except InputError as error:
        raise InputError(f"{cell.scenario}, {cell.model.name}: {error}") from None
