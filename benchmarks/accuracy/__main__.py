"""Make the cells that are missing, then the tables of docs/accuracy.md and results/accuracy.md.

`python -m benchmarks.accuracy FOLDER` goes on where it was stopped; each cell is made on one
thread, as many at a time as there are cores. FOLDER holds the public data: `darcy_train_16.pt` and
`darcy_test_16.pt` of the package neuraloperator's small Darcy flow (Zenodo record 12784353; its
wheel of version 0.3.0, `pip download --no-deps neuraloperator==0.3.0`, holds them in
`neuralop/datasets/data`), or the same as `darcy16_train.npz` and `darcy16_test.npz`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.accuracy import page, study
from benchmarks.accuracy.cells import read
from benchmarks.pool import made


def main() -> None:
    """Make what is missing and write the page."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.accuracy",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "folder", type=Path, nargs="?", help="where the public data is; part published needs none"
    )
    parser.add_argument("--part", choices=study.PARTS, help="make the cells of this part alone")
    parser.add_argument(
        "--workers", type=int, help="cells made at a time (default: as many as there are cores)"
    )
    chosen = parser.parse_args()
    if chosen.folder is None and chosen.part != "published":
        parser.error("name the folder of the public data, or choose --part published")
    missing = [
        (cell, recipe)
        for cell, recipe in study.cells()
        if read(cell, recipe) is None and chosen.part in (None, cell.part)
    ]
    jobs = [(cell, recipe, chosen.folder) for cell, recipe in missing]
    for so_far, (cell, *_), kept in made(study.make, jobs, chosen.workers):
        print(
            f"{so_far} {cell.path.stem}: validation error {kept['validation_error']:.4f} after "
            f"{kept['training_seconds'] / 60:.1f} min",
            file=sys.stderr,
        )
    page.write(study.kept(), len(study.SEEDS))


if __name__ == "__main__":
    main()
