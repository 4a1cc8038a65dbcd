"""Makes one cell of a study: the line in a copy of the workspace, kept in three places."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil

from flows.pipeline import environment
from flows.stages import StageFailedError, run_target, stop_group
from flows.study import Study
from flows.studying.copies import FOLDER, Copy
from mno.core.errors import MnoError
from mno.lineage.dvcfiles import DATA_FILE, read_data_version
from mno.registry.tracking import NestedRuns, log_cell
from mno.study.design import Cell
from mno.study.results import Found, done_record, failed_record

TARGET = "register"  # in an experiment it only logs


class DataDifferError(MnoError):
    """The same parameters and code make other data here than where earlier cells were made."""


@dataclass
class CellMaker:
    """Makes cells, in several threads at a time.

    Attributes:
        study: The study.
        parent: The study's run in MLflow.
        workers: Cells that are made at a time, at most.
        new_data: Whether data that differ from those of finished cells are accepted.
        say: Is handed lines for the person who watches.
        stopping: Set when all is to end: what fails from then on is no failure of a cell.
    """

    study: Study
    parent: NestedRuns
    workers: int
    new_data: bool
    say: Callable[[str], None]
    stopping: threading.Event = field(default_factory=threading.Event)
    _made: dict[str, str] = field(default_factory=dict)
    _locks: defaultdict[str, threading.Lock] = field(
        default_factory=lambda: defaultdict(threading.Lock)
    )
    _handing_over: threading.Lock = field(default_factory=threading.Lock)

    def make(self, item: Found, copy: Copy) -> bool:
        """Make a cell and keep it; return whether it was made. A failed one is kept with why.

        Raises:
            DataDifferError: See `make_dataset`.
            MnoError: The study is ending.
        """
        cell = item.cell
        try:
            record = self._record_of(item, copy)
        except DataDifferError:
            raise
        except MnoError as error:
            interrupted = isinstance(error, StageFailedError) and error.exit_code == 130
            if self.stopping.is_set() or interrupted:
                raise
            failed = failed_record(cell, item.identity, str(error), self.workers)
            self.study.results.write(cell.name, failed)
            self.say(f"{cell.name}: failed: {error}")
            return False
        self.study.results.write(cell.name, record)  # last: what is kept there is kept everywhere
        error, seconds = record["metrics"]["relative_l2"], record["seconds"]["all"]
        self.say(f"{cell.name}: test error {error:.2%} ({seconds:.0f} s)")
        return True

    def _record_of(self, item: Found, copy: Copy) -> dict[str, Any]:
        """Make a cell, keep it as an experiment and in MLflow, and return its record."""
        start, cell = time.monotonic(), item.cell
        identity = replace(item.identity, data=self.make_dataset(item, copy))
        told = self._environment(cell)
        _run(copy, TARGET, told)
        record = done_record(cell, identity, copy.root, self.workers)
        registered = (copy.root / "reports/registered.json").read_text(encoding="utf-8")
        record["training_run"] = json.loads(registered)["run_id"]
        with self._handing_over:
            commit = copy.save_experiment(cell.experiment, told)
        record["experiment"] = {"name": cell.experiment, "commit": commit, "base": copy.baseline}
        record["seconds"]["all"] = round(time.monotonic() - start, 1)
        log_cell(self.parent, self.study.name, cell.name, record)
        return record

    def make_dataset(self, item: Found, copy: Copy) -> str:
        """Make the data of a cell in a copy, once for all cells that share them; return their md5.

        Raises:
            DataDifferError: They are not those of finished cells.
            StageFailedError: They cannot be made.
        """
        copy.set_params(item.cell.params)
        digest = item.identity.dataset
        with self._locks[digest]:
            if digest in self._made:
                return self._made[digest]
            self.say(f"data of {item.cell.scenario}")
            _run(copy, DATA_FILE, self._environment(item.cell))
            md5 = read_data_version(copy.root / DATA_FILE).md5
            if md5 is None:
                raise MnoError(f"{DATA_FILE} names no version after the data were made")
            known = self.study.results.datasets().get(digest)
            if known not in (None, md5) and not self.new_data:
                raise DataDifferError(
                    f"the data of {item.cell.scenario} are another version here ({md5[:12]}) than "
                    f"that of finished cells ({(known or '')[:12]}), though made by the same code: "
                    "bring its DVC cache along from where they were made, or give --new-data, "
                    "and those cells are made again"
                )
            self.study.results.keep_dataset(item.cell, digest, md5)
            self._made[digest] = md5
            return md5

    def stop(self) -> None:
        """End what is running; call it from the thread that was interrupted."""
        self.stopping.set()
        inside = self.study.root / FOLDER
        for child in psutil.Process().children():
            with contextlib.suppress(psutil.Error, OSError):
                if inside in (folder := Path(child.cwd())).parents or folder == inside:
                    stop_group(child.pid)

    def _environment(self, cell: Cell) -> dict[str, str]:
        root = self.study.root
        told = environment(root, quiet=True)
        return {**told, "DVC_ROOT": str(root), "DVC_EXP_NAME": cell.experiment}


def _run(copy: Copy, target: str, told: Mapping[str, str]) -> None:
    """Bring a target of a copy up to date; what was printed is told only where it fails."""
    lines: list[str] = []
    try:
        run_target(copy.root, target, told, lines.append)
    except StageFailedError as error:
        if not str(error).endswith("dvc repro failed"):  # the stage has said why in one line
            raise
        said = [line for line in lines if line.strip()][-1:]
        raise StageFailedError(f"{error} ({' '.join(said)[:500]})", error.exit_code) from None
