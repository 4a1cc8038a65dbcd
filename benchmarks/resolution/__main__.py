"""Make the cells that are missing, then results/resolution.md and docs/resolution.md.

`python -m benchmarks.resolution` takes about half an hour on two cores, and goes on where it was
stopped. Each cell is made on one thread, so that no figure depends on how many there are.
"""

from __future__ import annotations

import sys

from benchmarks.pool import made
from benchmarks.resolution import cells, page


def main() -> None:
    """Make what is missing and write the page."""
    missing = [names for names in cells.names() if cells.read(*names) is None]
    for so_far, (task, name, seed), cell in made(cells.make, missing):
        errors = cell["errors"]["scaled"]["validation"].items()
        print(
            f"{so_far} {task}: {name}, seed {seed}:",
            ", ".join(f"{grid}: {error:.2%}" for grid, error in errors),
            file=sys.stderr,
        )
    page.write([cell for names in cells.names() if (cell := cells.read(*names))])


if __name__ == "__main__":
    main()
