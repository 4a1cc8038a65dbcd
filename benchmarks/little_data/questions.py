"""The questions, each a module with its cells, and a cell made, as worker processes import it."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

from benchmarks.little_data import another_plant, another_problem, derivatives, fidelities
from benchmarks.little_data.cells import Cell, Kept

QUESTIONS: dict[str, ModuleType] = {
    module.QUESTION: module for module in (another_plant, another_problem, derivatives, fidelities)
}


def make(cell: Cell, work: Path) -> Kept:
    """Train, measure and keep a cell."""
    return QUESTIONS[cell.question].make(cell, work)
