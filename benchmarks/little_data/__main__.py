"""Make the cells that are missing, then the tables of docs/little-data.md.

`python -m benchmarks.little_data` goes on where it was stopped; each cell is made on one thread, as
many at a time as there are cores. What is solved is kept in `build/little_data`.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import torch

from benchmarks.little_data import page
from benchmarks.little_data.questions import QUESTIONS, make

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
        "--workers", type=int, default=os.cpu_count(), help="cells made at a time (default: cores)"
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
    start = time.monotonic()
    workers = ProcessPoolExecutor(
        chosen.workers, multiprocessing.get_context("spawn"), torch.set_num_threads, (1,)
    )
    with workers:
        running = {workers.submit(make, cell, WORK.resolve()): cell for cell in missing}
        for i, future in enumerate(as_completed(running), start=1):
            cell, errors = running[future], future.result()["errors"]
            left = (time.monotonic() - start) / 60 * (len(missing) / i - 1)
            print(
                f"[{i}/{len(missing)}, {left:.0f} min left] {cell.path.stem}: "
                f"{sum(errors) / len(errors):.4f}",
                file=sys.stderr,
            )
    page.write({
        name: [kept for cell in module.cells() if (kept := cell.read(module.made_with(cell)))]
        for name, module in QUESTIONS.items()
    })  # fmt: skip


if __name__ == "__main__":
    main()
