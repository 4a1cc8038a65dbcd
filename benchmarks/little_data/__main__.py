"""Make the cells that are missing, then the tables of docs/little-data.md.

`python -m benchmarks.little_data` goes on where it was stopped; each cell is made on one thread, as
many at a time as there are cores. What is solved is kept in `build/little_data`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from statistics import mean

from benchmarks.little_data import page
from benchmarks.little_data.questions import QUESTIONS, make
from benchmarks.pool import made

WORK = Path("build/little_data")


def main() -> None:
    """Make what is missing and write the page."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.little_data",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--question", choices=QUESTIONS, help="make the cells of this one alone")
    parser.add_argument(
        "--workers", type=int, help="cells made at a time (default: as many as there are cores)"
    )
    chosen = parser.parse_args()
    missing = [
        cell
        for name, module in QUESTIONS.items()
        for cell in module.cells()
        if chosen.question in (None, name) and cell.read(module.made_with(cell)) is None
    ]
    if missing:
        make(missing.pop(0), WORK.resolve())  # what all others share is solved once
    jobs = [(cell, WORK.resolve()) for cell in missing]
    for so_far, (cell, _), kept in made(make, jobs, chosen.workers):
        print(f"{so_far} {cell.path.stem}: {mean(kept['errors']):.4f}", file=sys.stderr)
    page.write({
        name: [kept for cell in module.cells() if (kept := cell.read(module.made_with(cell)))]
        for name, module in QUESTIONS.items()
    })  # fmt: skip


if __name__ == "__main__":
    main()
