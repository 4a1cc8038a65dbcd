"""`mno study run`, at work: a Prefect flow with a task for each cell, the most informative first.

Cells are made in copies of the workspace in `build/study/`, one for each worker. A copy is a git
clone that shares objects with the workspace's repository and DVC's cache with the workspace. So a
cell touches neither parameters nor data of the line; a dataset, and a training that was ever made,
is taken from the cache; and what a cell was is handed over as a DVC experiment. `dvc exp run
--temp` makes such a copy for each experiment, with its kernels compiled anew, and stashes the
workspace's own changes for a moment; these are kept, and touch nothing.

The words of the command are in `flows.study`.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import psutil
from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.task_runners import ThreadPoolTaskRunner
from rich.console import Console
from ruamel.yaml import YAML

from flows.pipeline import environment, start_temporary_server
from flows.stages import StageFailedError, run_target, stop_group
from flows.study import load_study
from flows.workspace import end_leftovers, find_workspace, marks, program
from mno.core.config import PARAMS_FILE
from mno.core.errors import InputError, MnoError, first_line
from mno.core.files import LockedError, locked, replacing
from mno.core.workers import keep_busy
from mno.lineage.dvcfiles import DATA_FILE, read_data_version
from mno.lineage.snapshot import git, take_snapshot, toplevel
from mno.registry.tracking import NestedRuns, log_cell, study_log
from mno.study.design import Cell
from mno.study.operators import count, measure_scaling, signature_of
from mno.study.planning import expected_seconds, make_plan
from mno.study.results import (
    Code,
    Found,
    Study,
    counts,
    done_record,
    failed_record,
    scaling_name,
    scaling_record,
)

FOLDER = Path("build/study")
TARGET = "register"  # in an experiment it only logs
_MOST_COPIES = 64

Say = Callable[[str], None]


def run_study(
    given: str, *, budget: float | None = None, workers: int = 1, new_data: bool = False,
    quiet: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """Make what is missing, stale or failed of a study, as far as the budget goes.

    `flows.workspace.prepare_environment` must have been called before this module is imported.

    Args:
        given: Its file, or its name.
        budget: Seconds after which no cell is begun that would end later; none makes all.
        workers: Cells that are made at a time.
        new_data: Whether data that differ from those of finished cells are accepted.
        quiet: Print failures only.

    Returns:
        The numbers of cells by state; `made` and `not_made` in this run, `left`, and
        `expected_seconds` of what is left (none where not known).

    Raises:
        InputError: The study cannot be used; nothing has been made.
        MnoError: The study is being run already, or the workspace cannot be used.
    """
    root = find_workspace()
    study = load_study(given, root)
    _refuse_uncommitted(root)
    console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)

    def say(line: str) -> None:
        if not quiet or ": failed: " in line:
            console.print(line)

    with locked(root / FOLDER / f"{study.name}.lock", f"the study {study.name}"):
        end_leftovers(root)
        os.environ.update(marks(root))
        try:
            start_temporary_server()
            runner: Any = ThreadPoolTaskRunner(max_workers=workers)
            parent = study_log(root, study.name, study.spec.title)
            try:
                with held_copies(root, workers) as copies:
                    maker = CellMaker(study, parent, workers, new_data, say)

                    @flow(
                        name="study", flow_run_name=study.name, validate_parameters=False,
                        task_runner=runner, persist_result=False,
                    )  # fmt: skip
                    def make_all() -> dict[str, int]:
                        return _make_all(study, budget, maker, copies)

                    made = make_all()
            finally:
                found = study.found()
                parent.close(whole=all(item.state == "fresh" for item in found))
        except httpx.TransportError as error:
            raise MnoError(
                f"Prefect's server does not answer any more ({first_line(error)}); run again: "
                "what is finished is kept"
            ) from None
    plan = make_plan(found)
    return {
        "study": study.name, **counts(found), **made, "left": len(plan.order),
        "expected_seconds": plan.expected(workers),
    }  # fmt: skip


def _refuse_uncommitted(root: Path) -> None:
    """Refuse to make cells with code that no commit holds: nobody could make them again."""
    snapshot = take_snapshot(root)
    if snapshot.head is None:
        raise InputError("nothing is committed yet, but a cell names a commit; git commit first")
    if snapshot.changed:
        shown = ", ".join(snapshot.changed[:3]) + (" and more" if len(snapshot.changed) > 3 else "")
        raise InputError(
            f"the code is not committed ({shown}), but every cell names the commit that makes it "
            "again; commit, and run again (params.yaml may differ: no cell depends on it)"
        )


def _make_all(
    study: Study, budget: float | None, maker: CellMaker, copies: list[Copy]
) -> dict[str, int]:
    end = None if budget is None else time.monotonic() + budget
    try:
        code = Code(copies[0].root)  # what makes the cells, whatever is edited meanwhile
        # The version of each dataset has to be known to tell what is stale.
        kept = [i for i in study.found(code) if i.identity.data is None and i.record]
        for item in {i.identity.dataset: i for i in reversed(kept)}.values():
            maker.make_dataset(item, copies[0])
        plan, say = make_plan(study.found(code)), maker.say
        expected = plan.expected(maker.workers)
        about = "" if expected is None else f", about {said_time(expected)}"
        say(f"{study.name}: {len(study.cells) - len(plan.order)} of {len(study.cells)} cells are "
            f"there; {len(plan.order)} to make{about}")  # fmt: skip
        if budget is not None and plan.order:
            say(f"within the budget: {plan.within(budget, maker.workers)} of them, "
                "as far as can be told")  # fmt: skip
        made = _make_cells(study, code, maker, copies, end)
        _measure_scaling(study, code, end, say)
        return made
    except BaseException:
        maker.stop()
        raise


def _make_cells(
    study: Study, code: Code, maker: CellMaker, copies: Sequence[Copy], end: float | None
) -> dict[str, int]:
    """Make cells in all copies at a time; return how many were `made`, and how many `not_made`."""
    free, begun = list(copies), set[str]()
    made = {"made": 0, "not_made": 0}

    def begin() -> tuple[tuple[Any, Copy], Future[Any]] | None:
        item = _next(study.found(code), begun, end)
        if item is None:
            return None
        name, copy = item.cell.name, free.pop()
        begun.add(name)

        @task(name="cell", task_run_name=name, cache_policy=NO_CACHE, persist_result=False)
        def cell() -> bool:
            return maker.make(item, copy)

        making: Any = cell.submit()
        return (making, copy), making.wrapped_future

    def ended(item: tuple[Any, Copy], _: Future[Any]) -> None:
        making, copy = item
        free.append(copy)
        made["made" if making.result() else "not_made"] += 1

    keep_busy(begin, ended, len(copies))
    return made


def _next(found: list[Found], begun: set[str], end: float | None) -> Found | None:
    """Return the most informative cell that has not been tried and ends before the time is up."""
    for item in make_plan(found).order:
        if item.cell.name in begun:
            continue
        if end is not None:
            left = end - time.monotonic()
            if left <= 0 or (expected_seconds(item, found) or 0.0) > left:
                return None
        return item
    return None


def _measure_scaling(study: Study, code: Code, end: float | None, say: Say) -> None:
    scaling = study.spec.scaling
    if scaling is None:
        return
    for item in study.scaling(code):
        if item.state == "fresh":
            continue
        if end is not None and time.monotonic() > end:
            return
        cell, name = item.cell, scaling_name(item.cell)
        say(f"{name}: time and memory at {', '.join(map(str, scaling.resolutions))}")
        try:
            points = measure_scaling(cell.params, scaling.resolutions, scaling.seconds, study.root)
        except MnoError as error:
            say(f"{name}: failed: {error}")
            continue
        parameters = count(cell.params["model"], signature_of(cell.params, study.root))
        study.results.write(name, scaling_record(cell, item.identity, parameters, points))


def said_time(seconds: float) -> str:
    """Return a time in words, for example `2 h 05 min`."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


class DataDifferError(MnoError):
    """The same parameters and code make other data here than where earlier cells were made."""


@dataclass
class CellMaker:
    """Makes cells, in several threads at a time."""

    study: Study
    parent: NestedRuns  # the study's run in MLflow
    workers: int  # cells that are made at a time, at most
    new_data: bool  # whether data that differ from those of finished cells are accepted
    say: Say  # is handed lines for the person who watches
    stopping: threading.Event = field(default_factory=threading.Event)
    """Set when all is to end: what fails from then on is no failure of a cell."""
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
        variables = self._environment(cell)
        _repro(copy, TARGET, variables)
        record = done_record(cell, identity, copy.root, self.workers)
        registered = (copy.root / "reports/registered.json").read_text(encoding="utf-8")
        record["training_run"] = json.loads(registered)["run_id"]
        with self._handing_over:
            commit = copy.save_experiment(cell.experiment, variables)
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
            _repro(copy, DATA_FILE, self._environment(item.cell))
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
            with suppress(psutil.Error, OSError):
                if inside in (folder := Path(child.cwd())).parents or folder == inside:
                    stop_group(child.pid)

    def _environment(self, cell: Cell) -> dict[str, str]:
        root = self.study.root
        inherited = environment(root, quiet=True)
        return {**inherited, "DVC_ROOT": str(root), "DVC_EXP_NAME": cell.experiment}


def _repro(copy: Copy, target: str, variables: Mapping[str, str]) -> None:
    """Bring a target of a copy up to date; what was printed is said only where it fails."""
    lines: list[str] = []
    try:
        run_target(copy.root, target, variables, lines.append)
    except StageFailedError as error:
        if not str(error).endswith("dvc repro failed"):  # the stage has said why in one line
            raise
        said = [line for line in lines if line.strip()][-1:]
        raise StageFailedError(f"{error} ({' '.join(said)[:500]})", error.exit_code) from None


@dataclass
class Copy:
    """A copy of the workspace, held by this process."""

    workspace: Path  # that it is of
    clone: Path  # the root of its repository
    root: Path  # the folder in it that corresponds to the workspace
    baseline: str  # the commit that is checked out

    def set_params(self, params: Mapping[str, Any]) -> None:
        """Replace `params.yaml` of the copy."""
        with replacing(self.root / PARAMS_FILE) as partial:
            YAML(typ="safe").dump(json.loads(json.dumps(params)), partial)

    def save_experiment(self, name: str, environment: Mapping[str, str]) -> str:
        """Keep the state of the copy as a DVC experiment of the workspace; return its commit.

        Raises:
            MnoError: DVC or git failed.
        """
        command = [program("dvc"), "exp", "save", "--force", "--name", name]
        _output(command, self.root, environment)
        reference = f"refs/exps/{self.baseline[:2]}/{self.baseline[2:]}/{name}"
        specs = [f"+{reference}:{reference}", "+refs/mno/*:refs/mno/*"]
        fetch = ("fetch", "-q", "--no-write-fetch-head", "--no-tags")
        git(self.workspace, *fetch, str(self.clone), *specs)
        return git(self.workspace, "rev-parse", "--verify", reference).decode().strip()


@contextmanager
def held_copies(workspace: Path, number: int) -> Iterator[list[Copy]]:
    """Take copies that nobody holds, made or brought up to date.

    Afterwards they are left, compiled kernels and all, to the next study.
    """
    copies: list[Copy] = []
    with ExitStack() as held:
        for place in range(_MOST_COPIES):
            path = workspace / FOLDER / f"copy-{place}"
            with suppress(LockedError):
                held.enter_context(locked(path.with_suffix(".lock"), "a study", patience=0.0))
                copies.append(_prepared(workspace, path))
            if len(copies) == number:
                break
        else:
            raise MnoError(
                f"{_MOST_COPIES} copies of the workspace are in use by studies; wait for one to end"
            )
        yield copies


def _prepared(workspace: Path, clone: Path) -> Copy:
    top = toplevel(workspace)
    baseline = git(workspace, "rev-parse", "HEAD").decode().strip()
    inside = workspace.resolve().relative_to(top.resolve())
    if not (clone / ".git" / "mno-complete").exists():
        shutil.rmtree(clone, ignore_errors=True)
        clone.parent.mkdir(parents=True, exist_ok=True)
        options = ("--quiet", "--shared", "--no-checkout", "--no-tags")
        git(workspace, "clone", *options, str(top), str(clone))
        for key, value in (("user.name", "mno"), ("user.email", "mno@localhost")):
            git(clone, "config", key, value)
    git(clone, "fetch", "-q", "--no-tags", str(top), baseline)
    git(clone, "checkout", "-q", "--force", "--detach", baseline)
    root = clone / inside
    own = workspace / ".dvc/config.local"  # the settings of the workspace's DVC, and its cache
    if own.exists():
        shutil.copy(own, root / ".dvc/config.local")
    cache = _output([program("dvc"), "cache", "dir"], workspace, {}).strip()
    _output([program("dvc"), "config", "--local", "cache.dir", cache], root, {})
    (clone / ".git" / "mno-complete").touch()
    return Copy(workspace, clone, root, baseline)


def _output(command: list[str], folder: Path, environment: Mapping[str, str]) -> str:
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, **environment}, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, errors="replace", check=False, start_new_session=True,
    )  # fmt: skip
    if done.returncode:
        said = " ".join((done.stderr.strip() or done.stdout.strip()).splitlines()[-1:])
        raise MnoError(f"{' '.join(command[:3]).replace(command[0], 'dvc')} failed: {said}")
    return done.stdout
