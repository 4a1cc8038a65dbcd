"""Make the cells that are missing, then the tables of docs/accuracy.md and results/accuracy.md.

`python -m benchmarks.accuracy FOLDER` goes on where it was stopped; each cell is made on one
thread, as many at a time as there are cores. FOLDER holds the public data: `darcy_train_16.pt` and
`darcy_test_16.pt` of the package neuraloperator's small Darcy flow (Zenodo record 12784353; its
wheel of version 0.3.0, `pip download --no-deps neuraloperator==0.3.0`, holds them in
`neuralop/datasets/data`), or the same as `darcy16_train.npz` and `darcy16_test.npz`.
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

from benchmarks.accuracy import page, study
from benchmarks.accuracy.cells import read


def main() -> None:
    """Make what is missing and write the page."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.accuracy",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path, help="where the public data is")
    parser.add_argument("--part", choices=study.PARTS, help="make the cells of this part alone")
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count(), help="cells made at a time (default: cores)"
    )
    chosen = parser.parse_args()
    missing = [
        (cell, recipe)
        for cell, recipe in study.cells()
        if read(cell, recipe) is None and chosen.part in (None, cell.part)
    ]
    start = time.monotonic()
    workers = ProcessPoolExecutor(
        chosen.workers, multiprocessing.get_context("spawn"), torch.set_num_threads, (1,)
    )
    with workers:
        running = {
            workers.submit(study.make, cell, recipe, chosen.folder): cell
            for cell, recipe in missing
        }
        for i, future in enumerate(as_completed(running), start=1):
            cell, kept = running[future], future.result()
            left = (time.monotonic() - start) / 60 * (len(missing) / i - 1)
            print(
                f"[{i}/{len(missing)}, {left:.0f} min left] {cell.path.stem}: validation error "
                f"{kept['validation_error']:.4f} after {kept['training_seconds'] / 60:.1f} min",
                file=sys.stderr,
            )
    kept = [read(cell, recipe) for cell, recipe in study.cells()]
    page.write([cell for cell in kept if cell is not None], len(study.SEEDS))


if __name__ == "__main__":
    main()
