"""`mno study run`, at work: a Prefect flow with a task for each cell, the most informative first.

Cells are made in copies of the workspace in `build/study/`, one for each worker: git clones that
share objects with its repository, and DVC's cache. So a cell touches neither parameters nor data of
the line; a dataset, and a training that was ever made, is taken from the cache; and what a cell was
is handed over as a DVC experiment. `dvc exp run --temp` would make a copy for each experiment, with
its kernels compiled anew.
"""

import json
import math
import os
import shutil
import subprocess
import threading
import time
from collections import defaultdict
from collections.abc import Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import psutil
from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.task_runners import ThreadPoolTaskRunner
from ruamel.yaml import YAML

from flows.options import Say, teller
from flows.pipeline import environment, start_temporary_server
from flows.stages import StageFailedError, run_target, stop_group
from flows.study import load_study
from flows.workspace import end_leftovers, find_workspace, marks, program, read_json, server_is_gone
from mno.core.config import PARAMS_FILE
from mno.core.errors import InputError, MnoError
from mno.core.files import locked, replacing
from mno.core.workers import keep_busy
from mno.lineage.dvcfiles import DATA_FILE, read_data_version
from mno.lineage.snapshot import git, take_snapshot, toplevel
from mno.study import results
from mno.study.design import Cell, TuningConfig, kind_of
from mno.study.operators import count, measure_scaling, model_of, signature_of, times_in_turn
from mno.study.peers import fit_peers
from mno.study.results import Code, Found, Study

FOLDER = Path("build/study")
TARGETS = ("register", "report")  # in an experiment the first only logs


def run_study(
    given: str, *, budget: float | None = None, workers: int = 1, quiet: bool = False
) -> dict[str, Any]:
    """Make what is missing, stale or failed of a study, as far as the budget goes.

    `flows.workspace.prepare_environment` must have been called before this module is imported. The
    study is given by its file or its name, the budget in seconds.

    Returns the numbers of cells by state; `made` and `not_made` in this run, `left`, and
    `expected_seconds` of what is left (none where not known).
    """
    end = None if budget is None else time.monotonic() + budget
    root = find_workspace()
    study = load_study(given, root, to_make=True)
    _refuse_uncommitted(root)
    with locked(root / FOLDER / f"{study.name}.lock", f"the study {study.name}"):
        end_leftovers(root)
        os.environ.update(marks(root))
        try:
            start_temporary_server()
            copies = [prepared_copy(root, study.name, place) for place in range(workers)]
            made = _flow(StudyRun(study, copies, end, teller(quiet)))
            found = study.found()
        except httpx.TransportError as error:
            raise MnoError(server_is_gone(error)) from None
    left = results.to_make(found)
    seconds = results.expected_seconds(left, found)
    return {
        "study": study.name, **results.counts(found), **made, "left": len(left),
        "expected_seconds": None if seconds is None else seconds / workers,
    }  # fmt: skip


def _refuse_uncommitted(root: Path) -> None:
    """Refuse to make cells with code that no commit holds: nobody could make them again."""
    snapshot = take_snapshot(root)
    if snapshot.head is None:
        raise InputError("nothing is committed yet, but a cell names a commit; git commit first")
    if snapshot.changed:
        raise InputError(
            f"the code is not committed ({', '.join(snapshot.changed[:3])}), but every cell names "
            "the commit that makes it again; commit, and run again (params.yaml may differ)"
        )


@dataclass
class Copy:
    """A copy of the workspace, held by this process."""

    workspace: Path  # that it is of
    clone: Path  # the root of its repository
    root: Path  # the folder in it that corresponds to the workspace
    baseline: str  # the commit that is checked out

    def set_params(self, params: Mapping[str, Any]) -> None:
        """Replace `params.yaml` of the copy; data are made on all cores."""
        execution = {**params["execution"], "workers": os.cpu_count() or 1}
        with replacing(self.root / PARAMS_FILE) as partial:
            content = json.loads(json.dumps({**params, "execution": execution}))
            YAML(typ="safe").dump(content, partial)

    def save_experiment(self, name: str, environment: Mapping[str, str]) -> str:
        """Keep the state of the copy as a DVC experiment of the workspace; return its commit."""
        command = [program("dvc"), "exp", "save", "--force", "--name", name]
        _output(command, self.root, environment)
        reference = f"refs/exps/{self.baseline[:2]}/{self.baseline[2:]}/{name}"
        specs = [f"+{reference}:{reference}", "+refs/mno/*:refs/mno/*"]
        fetch = ("fetch", "-q", "--no-write-fetch-head", "--no-tags")
        git(self.workspace, *fetch, str(self.clone), *specs)
        return git(self.workspace, "rev-parse", "--verify", reference).decode().strip()


class DataDifferError(MnoError):
    """The same parameters and code make other data here than where earlier cells were made."""


@dataclass
class StudyRun:
    """Makes cells of a study, in several threads at a time, one for each copy."""

    study: Study
    copies: list[Copy]
    end: float | None  # when the time is up, on the monotonic clock; none for never
    say: Say  # is handed lines for the person who watches
    _stopping: threading.Event = field(default_factory=threading.Event)
    """Set when all is to end: what fails from then on is no failure of a cell."""
    _data: dict[str, str] = field(default_factory=dict)  # md5 of what has been made, by digest
    _locks: defaultdict[str, threading.Lock] = field(
        default_factory=lambda: defaultdict(threading.Lock)
    )
    _handing_over: threading.Lock = field(default_factory=threading.Lock)

    def make_all(self) -> dict[str, int]:
        """Make what is missing; return how many cells were `made`, and how many `not_made`."""
        code = Code(self.copies[0].root)  # whatever is edited meanwhile
        try:
            # The version of each dataset has to be known to tell what is stale.
            kept = [i for i in self.study.found(code) if i.identity.data is None and i.record]
            for item in {i.identity.dataset: i for i in reversed(kept)}.values():
                self.make_dataset(item, self.copies[0])
            cells, left = len(self.study.cells), len(results.to_make(self.study.found(code)))
            self.say(
                f"{self.study.name}: {cells - left} of {cells} cells are there; {left} to make"
            )
            self._time_steps()
            self._time_predictions(code)
            made = self._make_cells(code)
            self._measure_scaling(code)
            self._fit_peers(code)
            return made
        except BaseException:
            self._stop()
            raise

    def _make_cells(self, code: Code) -> dict[str, int]:
        free, begun = list(self.copies), set[str]()
        made = {"made": 0, "not_made": 0}

        def begin() -> tuple[tuple[Any, Copy], Future[Any]] | None:
            found = self.study.found(code)
            item = next((i for i in results.to_make(found) if i.cell.name not in begun), None)
            if item is None or self._is_over(self._expected(item, found)):
                return None
            name, copy = item.cell.name, free.pop()
            begun.add(name)

            @task(name="cell", task_run_name=name, cache_policy=NO_CACHE, persist_result=False)
            def cell() -> bool | None:
                return self.make(item, copy, code)

            making: Any = cell.submit()
            return (making, copy), making.wrapped_future

        def ended(item: tuple[Any, Copy], _: Future[Any]) -> None:
            making, copy = item
            free.append(copy)
            if (result := making.result()) is not None:
                made["made" if result else "not_made"] += 1

        keep_busy(begin, ended, len(free))
        return made

    def _expected(self, item: Found, found: list[Found]) -> float:
        tuning, seconds = self.study.spec.tuning, results.expected_seconds([item], found) or 0.0
        if tuning is not None and self.study.results.plan(item.cell, tuning) is None:
            return (tuning.seconds or seconds) * (1 + tuning.share * len(tuning.trials))
        return seconds

    def _time_steps(self) -> None:
        """Time the steps of models that have no plan; what is known is kept at once."""
        study, tuning = self.study, self.study.spec.tuning
        if tuning is None or tuning.seconds is None:
            return
        for scenario in study.spec.scenarios:
            of_scenario = {c.model.name: c for c in study.cells if c.scenario == scenario}
            cells = list(of_scenario.values())
            if self._is_over() or all(study.results.known_of_plan(c, tuning) for c in cells):
                continue
            self.say(f"{scenario}: times of training steps")
            timed = [(cell, kind) for cell in cells for kind in tuning.kinds]
            times = iter(times_in_turn([cell.trained(kind) for cell, kind in timed], study.root))
            for cell in cells:
                found = [{"kind": kind, "step_seconds": next(times)} for kind in tuning.kinds]
                study.results.keep_plan(cell, tuning, {"times": found})

    def _time_predictions(self, code: Code) -> None:
        """Time predictions of a scenario's models in turn, while no cell is made beside them."""
        study, latencies = self.study, self.study.latencies(code)
        for scenario in study.spec.scenarios:
            of = [item for item in latencies if item.cell.scenario == scenario]
            if self._is_over() or all(item.state == "fresh" for item in of):
                continue
            self.say(f"{scenario}: times of predictions")
            try:
                times = times_in_turn([item.cell for item in of], study.root, predict=True)
            except MnoError as error:
                self.say(f"{scenario}: times of predictions failed: {error}")
                continue
            for item, seconds in zip(of, times, strict=True):
                record = results.record_of(item.cell, item.identity, latency_ms=1e3 * seconds)
                study.results.write(f"latency/{item.cell.kind}", record)

    def _planned(self, item: Found, copy: Copy, code: Code) -> Found:
        """Return a cell as it is trained by the best of its model's trials, made if none were.

        The trials have a seed that no cell has. One in which training fails is not taken.
        """
        study, tuning, cell = self.study, self.study.spec.tuning, item.cell
        if tuning is None:
            return item
        with self._locks[cell.kind]:
            if study.results.plan(cell, tuning) is None:
                self.make_dataset(item, copy)
                trials = list(study.results.known_of_plan(cell, tuning).get("trials", []))
                for trial in tuning.trials[len(trials) :]:
                    trials.append(self._tried(cell, trial, tuning, copy))
                    study.results.keep_plan(cell, tuning, {"trials": trials})
                best = min(trials, key=lambda t: math.inf if t["error"] is None else t["error"])
                if best["error"] is None:
                    raise MnoError(f"no trial of {cell.kind} could be trained; remove its plan")
                study.results.keep_plan(cell, tuning, {"train": best["train"]})
        with self._handing_over:
            cells = study.results.planned(study.cells, tuning)
            self.study = replace(self.study, cells=cells)
        cell = next(c for c in cells if c.name == cell.name)
        return study.results.find([cell], code)[0]

    def _tried(
        self, cell: Cell, trial: Mapping[str, Any], tuning: TuningConfig, copy: Copy
    ) -> dict[str, Any]:
        """Return how a training would be, and the error of a shorter one; none where it fails."""
        epochs, step = cell.params["train"]["epochs"], None
        if tuning.seconds is not None:
            times = self.study.results.known_of_plan(cell, tuning)["times"]
            step = next(t["step_seconds"] for t in times if t["kind"] == kind_of(trial))
            steps = results.steps_of_epoch(cell.trained(trial))
            epochs = max(1, int(tuning.seconds / (step * steps)))
        tried = max(1, round(tuning.share * epochs))
        shorter = cell.trained({**trial, "epochs": tried})
        copy.set_params({**shorter.params, "seed": max(self.study.spec.seeds) + 1})
        try:
            run_target(copy.root, "train", self._environment(cell))
            records = read_json(copy.root / "reports/train.json")["epochs"]
            error = min(record["validation_relative_l2"] for record in records)
        except StageFailedError as failed:
            if self._stopping.is_set() or failed.exit_code == 130:
                raise
            error = None
        said = ", ".join(f"{key} {value}" for key, value in trial.items())
        came = "failed" if error is None else f"{error:.2%}"
        self.say(f"{cell.scenario}, {cell.model.name}, {said}: {came}")
        train = {**trial, "epochs": epochs}
        return {"train": train, "step_seconds": step, "trial_epochs": tried, "error": error}

    def _is_over(self, seconds: float = 0.0) -> bool:
        return self.end is not None and time.monotonic() + seconds >= self.end

    def _measure_scaling(self, code: Code) -> None:
        scaling, root = self.study.spec.scaling, self.study.root
        for item in self.study.scaling(code):
            if scaling is None or item.state == "fresh" or self._is_over():
                continue
            params, name = item.cell.params, f"scaling/{item.cell.kind}"
            self.say(f"{name}: time and memory at {', '.join(map(str, scaling.resolutions))}")
            try:
                points = measure_scaling(params, scaling.resolutions, scaling.seconds, root)
            except MnoError as error:
                self.say(f"{name}: failed: {error}")
                continue
            parameters = count(model_of(params, root), signature_of(params, root))
            figures = {"parameters": parameters, "points": points}
            self.study.results.write(name, results.record_of(item.cell, item.identity, **figures))

    def _fit_peers(self, code: Code) -> None:
        for item in self.study.peers(code):
            if item.state == "fresh" or self._is_over():
                continue
            copy, study, cell = self.copies[0], self.study, item.cell
            identity = replace(item.identity, data=self.make_dataset(item, copy))
            run_target(copy.root, DATA_FILE, self._environment(cell))
            self.say(f"{cell.scenario}: simple peers ({', '.join(study.spec.peers)})")
            peers = fit_peers(cell, copy.root / "data", study.spec.peers, study.root)
            record = results.record_of(cell, identity, peers=peers)
            study.results.write(f"peers/{cell.scenario}", record)

    def make(self, item: Found, copy: Copy, code: Code) -> bool | None:
        """Make a cell, keep it or why it failed; return which. One that is there is left: none."""
        cell = item.cell
        try:
            item = self._planned(item, copy, code)
            cell = item.cell
            if item.state == "fresh":  # of more trials than there were the same is best
                return None
            record = self._record_of(item, copy)
        except MnoError as error:
            interrupted = isinstance(error, StageFailedError) and error.exit_code == 130
            if self._stopping.is_set() or interrupted or isinstance(error, DataDifferError):
                raise
            workers, reason = len(self.copies), str(error)
            failed = results.record_of(cell, item.identity, "failed", workers, reason=reason)
            self.study.results.write(cell.name, failed)
            self.say(f"{cell.name}: failed: {error}")
            return False
        self.study.results.write(cell.name, record)  # last: what is kept there is kept everywhere
        error, seconds = record["metrics"]["relative_l2"], record["seconds"]["all"]
        self.say(f"{cell.name}: test error {error:.2%} ({seconds:.0f} s)")
        return True

    def _record_of(self, item: Found, copy: Copy) -> dict[str, Any]:
        start, cell = time.monotonic(), item.cell
        identity = replace(item.identity, data=self.make_dataset(item, copy))
        variables = self._environment(cell)
        for target in TARGETS:
            run_target(copy.root, target, variables)
        record = results.done_record(cell, identity, copy.root, len(self.copies))
        record["training_run"] = read_json(copy.root / "reports/registered.json")["run_id"]
        with self._handing_over:
            commit = copy.save_experiment(cell.experiment, variables)
        record["experiment"] = {"name": cell.experiment, "commit": commit, "base": copy.baseline}
        record["seconds"]["all"] = round(time.monotonic() - start, 1)
        return record

    def make_dataset(self, item: Found, copy: Copy) -> str:
        """Make the data of a cell, once for all cells that share them; return their md5."""
        copy.set_params(item.cell.params)
        digest, kept = item.identity.dataset, self.study.results
        with self._locks[digest]:
            if digest in self._data:
                return self._data[digest]
            self.say(f"data of {item.cell.scenario}")
            run_target(copy.root, DATA_FILE, self._environment(item.cell))
            if (md5 := read_data_version(copy.root / DATA_FILE).md5) is None:
                raise MnoError(f"{DATA_FILE} names no version after the data were made")
            known = kept.datasets().get(digest, md5)
            if known != md5:
                raise DataDifferError(
                    f"the data of {item.cell.scenario} are another version here ({md5[:12]}) than "
                    f"that of finished cells ({known[:12]}), though made by the same code: bring "
                    "its DVC cache along from where they were made, or remove "
                    f"{kept.folder}/datasets/{item.cell.scenario}-*, and those cells are made "
                    "again"
                )
            kept.keep_dataset(item.cell, digest, md5)
            self._data[digest] = md5
            return md5

    def _stop(self) -> None:
        """End what is running; it is called in the thread that was interrupted."""
        self._stopping.set()
        inside = self.study.root / FOLDER
        for child in psutil.Process().children():
            with suppress(psutil.Error, OSError):
                if inside in Path(child.cwd()).parents:
                    stop_group(child.pid)

    def _environment(self, cell: Cell) -> dict[str, str]:
        root = self.study.root
        inherited = environment(root, quiet=True)
        return {**inherited, "DVC_ROOT": str(root), "DVC_EXP_NAME": cell.experiment}


def _flow(run: StudyRun) -> dict[str, int]:
    runner: Any = ThreadPoolTaskRunner(max_workers=len(run.copies))

    @flow(
        name="study", flow_run_name=run.study.name, validate_parameters=False,
        task_runner=runner, persist_result=False,
    )  # fmt: skip
    def make_all() -> dict[str, int]:
        return run.make_all()

    return make_all()


def prepared_copy(workspace: Path, study: str, place: int) -> Copy:
    """Return a copy for a study, made, or brought up to date with its kernels still compiled."""
    clone, top = workspace / FOLDER / study / f"copy-{place}", toplevel(workspace)
    baseline = git(workspace, "rev-parse", "HEAD").decode().strip()
    if not (clone / ".git" / "mno-complete").exists():
        shutil.rmtree(clone, ignore_errors=True)
        clone.parent.mkdir(parents=True, exist_ok=True)
        options = ("--quiet", "--shared", "--no-checkout", "--no-tags")
        git(workspace, "clone", *options, str(top), str(clone))
        for key, value in (("user.name", "mno"), ("user.email", "mno@localhost")):
            git(clone, "config", key, value)
    git(clone, "fetch", "-q", "--no-tags", str(top), baseline)
    git(clone, "checkout", "-q", "--force", "--detach", baseline)
    root = clone / workspace.resolve().relative_to(top.resolve())
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
