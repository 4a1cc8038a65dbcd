"""Make the cells that are missing, then results/resolution.md and docs/resolution.md.

`python -m benchmarks.resolution` takes about half an hour on two cores, and goes on where it was
stopped. Each cell is made on one thread, so that no figure depends on how many there are.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed

import torch

from benchmarks.resolution import cells, page


def main() -> None:
    """Make what is missing and write the page."""
    missing = [names for names in cells.names() if cells.read(*names) is None]
    start = time.monotonic()
    workers = ProcessPoolExecutor(
        os.cpu_count(), multiprocessing.get_context("spawn"), torch.set_num_threads, (1,)
    )
    with workers:
        running = {workers.submit(cells.make, *names): names for names in missing}
        for i, future in enumerate(as_completed(running), start=1):
            task, name, seed = running[future]
            errors = future.result()["errors"]["scaled"]["validation"].items()
            left = (time.monotonic() - start) / 60 * (len(missing) / i - 1)
            print(
                f"[{i}/{len(missing)}, {left:.0f} min left] {task}: {name}, seed {seed}:",
                ", ".join(f"{grid}: {error:.2%}" for grid, error in errors),
                file=sys.stderr,
            )
    page.write([cell for names in cells.names() if (cell := cells.read(*names))])


if __name__ == "__main__":
    main()
