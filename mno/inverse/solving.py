"""Runs solved side by side in processes, which import nothing but their solver, and kept."""

import io
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from mno.core.errors import MnoError
from mno.core.files import sha256, write_bytes
from mno.core.workers import LostError, Worker

Arrays = Mapping[str, np.ndarray]

_SOLVERS = sorted((Path(__file__).parents[1] / "scenarios").rglob("*.py"))
_CODE = sha256(b"".join(module.read_bytes() for module in _SOLVERS))


class Solvers(NamedTuple):
    """Where runs are solved: in workers, or if there are none here; and a folder of answers."""

    workers: Sequence[Worker] = ()
    folder: Path | None = None


@contextmanager
def solvers(count: int, folder: Path | None = None) -> Iterator[Solvers]:
    """Have so many workers, none in place of one, and what was solved kept until all is done."""
    workers = [Worker() for _ in range(count)] if count > 1 else []
    try:
        yield Solvers(workers, folder)
    finally:
        for worker in workers:
            worker.end()
    if folder:
        shutil.rmtree(folder, ignore_errors=True)


def solve(solver: Any, run: Arrays, file: Path | None) -> Arrays | None:
    """Solve a run, or read what a file has of it; none where the solver refuses."""
    if file and file.is_file():
        with np.load(file, allow_pickle=False) as kept:
            return dict(kept)
    # One thread, so that the order of summation in BLAS does not depend on how many run at once.
    with threadpool_limits(limits=1):
        try:
            found = solver.solve(solver.completed(run))
        except MnoError:
            return None
    if file:
        content = io.BytesIO()
        np.savez(content, **found)
        write_bytes(file, content.getvalue())
    return found


def solve_all(solver: Any, runs: Sequence[Arrays], by: Solvers) -> list[Arrays | None]:
    """Solve runs, or read what is kept of them.

    Raises:
        MnoError: A worker was lost.
    """
    files = _files(solver, runs, by.folder) if by.folder else [None] * len(runs)
    pairs = [*zip(runs, files, strict=True)]
    if not by.workers:
        return [solve(solver, run, file) for run, file in pairs]
    asked = [
        by.workers[number % len(by.workers)].submit(solve, solver, *pair)
        for number, pair in enumerate(pairs)
    ]
    try:
        return [future.result() for future in asked]
    except LostError:
        raise MnoError(
            "a process that solved was lost, as where memory is short; ask with fewer --workers"
        ) from None


def _files(solver: Any, runs: Sequence[Arrays], folder: Path) -> list[Path]:
    """Return where each run's answer is kept: by all that it depends on, the solvers' code too."""
    told = [solver.name, solver.resolution, solver.parameters.model_dump(), solver.provenance]
    by = json.dumps([*told, _CODE], default=str).encode()
    contents = [b"".join(n.encode() + run[n].tobytes() for n in sorted(run)) for run in runs]
    return [folder / f"{sha256(by + content)}.npz" for content in contents]
