"""`mno gc`: looks at everything a workspace keeps, and removes what nothing needs."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Annotated

import psutil
import typer
from rich.console import Console
from rich.filesize import decimal

from flows.options import Json, Quiet, print_json
from flows.schedule import RETRAIN_LOCK, SERVE_LOCK
from flows.workspace import (
    RUN_LOCK,
    aligned,
    cache_folder,
    find_workspace,
    prepare_environment,
    progress_bar,
)
from mno.core.errors import MnoError
from mno.core.files import LockedError, lock_holder, locked
from mno.lineage.questions import RunFiles
from mno.lineage.record import CANDIDATE, Tag, candidate_digest
from mno.lineage.seal import CERTIFICATES, SEALS
from mno.lineage.snapshot import git
from mno.lineage.tidying import (
    RESUMABLE,
    Kind,
    Needed,
    TidyingPlan,
    Unneeded,
    fit,
    leftovers,
    needed_objects,
    remove_snapshot,
    size_of,
    unneeded_objects,
    unneeded_snapshots,
)
from mno.registry.catalogue import (
    StoredItem,
    read_catalogue,
    read_stored,
    remove_stored,
)
from mno.registry.settings import Workspace

_KEPT_ON_DISK = ("mlartifacts", "mlflow.db", "build", "data", "models", "reports")
_LOCKS = ("build/locks/*", "build/study/*.lock", ".dvc/tmp/exps/*/build/locks/*")
# Who waits for the time to run, or begins a run, which the lock on runs then keeps out.
_HARMLESS = (RUN_LOCK, SERVE_LOCK, RETRAIN_LOCK)
_PID = re.compile(r'"pid": (\d+)')
_SERVER = (
    "MLflow is a server (MLFLOW_TRACKING_URI), which others may use: its runs and models stay; "
    "tidy there with: mlflow gc"
)
_WORDS = {
    "leftovers": "what killed work has left",
    "runs": "training runs, with their files",
    "models": "packages that were not registered",
    "files": "files that MLflow has forgotten",
    "cache": "objects and run entries of DVC's cache",
    "snapshots": "snapshots, whose objects git frees later",
}


def gc(
    delete: Annotated[
        bool, typer.Option("--delete", help="Remove it; without this nothing is written.")
    ] = False,
    retention: Annotated[
        bool,
        typer.Option(
            "--retention",
            help="Spare the latest runs, within the room on disk: retention in params.yaml.",
        ),
    ] = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Show what no registered version, alias, certificate or present state needs; remove it.

    Objects of DVC's cache, training runs with their files, packages that were never registered,
    snapshots and what killed work has left. What `mno audit` looks at stays, and so does what
    branches, tags and experiments in git name.

    Example: mno gc    then: mno gc --delete
    """
    plan = tidy(delete, retention, quiet or as_json)
    if as_json:
        print_json({"deleted": delete, **plan.to_dict()})
    elif not quiet:
        print_plan(plan, delete, retention, Console(highlight=False, markup=False, soft_wrap=True))


def tidy(delete: bool, retention: bool, quiet: bool) -> TidyingPlan:
    """Find what nothing needs, and remove it if that is asked.

    Args:
        delete: Remove it; otherwise nothing is written.
        retention: Spare the latest runs, within the room on disk, as `params.yaml` says.
        quiet: Draw no progress.

    Raises:
        InputError: There is no workspace here, or its parameters cannot be used.
        MnoError: A run is active, or MLflow, DVC or git cannot be used; nothing was removed.
    """
    root = find_workspace()
    prepare_environment(root)
    with _alone(root), progress_bar(quiet, "things") as show:
        plan = make_plan(root, retention)
        if delete:
            _remove(root, plan, show)
    return plan


def make_plan(root: Path, retention: bool) -> TidyingPlan:
    """Return what may go, without removing anything; no run may be active.

    Args:
        root: The workspace.
        retention: As for `tidy`.
    """
    from flows.params import load_params
    from flows.stages import read_stages

    states = {stage["name"]: stage["state"] for stage in read_stages(root)}
    done = [name for name, state in states.items() if state == "current"]
    look = Look(root, done, cache_folder(root))
    if not retention:
        return look.plan(0)
    settings = load_params(root).retention
    return fit(look.plan, settings.keep_runs, settings.max_gib)


class Look:
    """One look at a workspace, from which plans that spare more or less are made.

    Args:
        root: The workspace.
        done: The stages that are up to date.
        cache: The folder of DVC's cache.

    Raises:
        MnoError: MLflow cannot be used.
    """

    def __init__(self, root: Path, done: Sequence[str], cache: Path) -> None:
        self._root, workspace = root, Workspace(root)
        self._embedded = workspace.embedded
        catalogue = read_catalogue(root)
        self._files = catalogue.files
        self._stored = read_stored(workspace)
        self._done = done
        self._needed = Needed()
        for version in catalogue.versions:
            self._needed.add_version(version, self._files)
        self._needed.add_workspace(root)
        for run in self._stored.runs:
            if _is_needed(root, run, self._files, self._done):
                self._needed.add_run(run.id, self._files)
        self._cache = cache if cache.resolve().is_relative_to(root.resolve()) else None
        self._outside = [] if self._cache else [
            f"DVC's cache {cache} lies outside of the workspace: others may need its objects"
        ]  # fmt: skip
        seen: set[tuple[int, int]] = set()
        places = [*(root / name for name in _KEPT_ON_DISK), *filter(None, [self._cache])]
        self._total = sum(size_of(place, seen) for place in places)

    def plan(self, spare: int) -> TidyingPlan:
        """Return the plan that spares a number of runs, the latest."""
        needed = deepcopy(self._needed)
        unneeded = [run for run in self._stored.runs if run.id not in needed.runs]
        for run in unneeded[:spare]:
            needed.add_run(run.id, self._files)
        items = [*leftovers(self._root, self._done), *self._of_mlflow(needed)]
        kept = list(self._outside) if self._embedded else [_SERVER, *self._outside]
        cached: list[Unneeded] = []
        if self._cache is not None:
            cached = unneeded_objects(self._cache, needed_objects(self._cache, needed))
        if needed.doubts:
            kept += [f"DVC's cache and the snapshots are not touched: {d}" for d in needed.doubts]
        else:
            items += [*cached, *unneeded_snapshots(self._root, needed)]
        return TidyingPlan(items, kept, min(spare, len(unneeded)), self._total)

    def _of_mlflow(self, needed: Needed) -> Iterator[Unneeded]:
        for run in self._stored.runs:
            if run.id not in needed.runs:
                yield _folder_item("runs", run.id, run.folder)
        for model in self._stored.models:
            if model.id not in needed.models and model.run_id not in self._spared(needed):
                yield _folder_item("models", model.id, model.folder)
        for path in self._stored.forgotten:
            if path.name not in needed.runs | needed.models:
                yield Unneeded(
                    "files", path.relative_to(self._root).as_posix(), size_of(path), path
                )

    def _spared(self, needed: Needed) -> set[str]:
        return needed.runs - self._needed.runs


def _folder_item(kind: Kind, name: str, folder: Path | None) -> Unneeded:
    return Unneeded(kind, name, size_of(folder) if folder else 0, folder)


def _is_needed(root: Path, run: StoredItem, files: RunFiles, done: Sequence[str]) -> bool:
    """Whether a run is needed though no registered version is of it."""
    if files.names(run.id, SEALS) or files.names(run.id, CERTIFICATES):
        return True  # a link in the chain of decisions; or somebody was given a certificate
    experiment = run.tags.get(Tag.EXPERIMENT)
    if experiment and git(root, "for-each-ref", "--count=1", f"refs/exps/**/{experiment}"):
        return True
    digest = run.tags.get(Tag.CANDIDATE)
    if digest is not None:
        return digest == _present_candidate(root)
    return "train" not in done and _is_resumable(root, run.tags.get(Tag.TRAINING_KEY, ""))


def _present_candidate(root: Path) -> str | None:
    try:
        return candidate_digest(root / CANDIDATE)
    except MnoError:
        return None


def _is_resumable(root: Path, key: str) -> bool:
    """Whether a training was interrupted that the next run continues, as the same run."""
    code, _, data = key.partition("-")
    return any(path.name == f"{code[:24]}-{data[:24]}" for path in (
        root / RESUMABLE["train"]).glob("*"))  # fmt: skip


def _remove(root: Path, plan: TidyingPlan, show: Callable[[str, int, int], None]) -> None:
    """Remove what the plan names, in its order; a kill leaves what the next time removes."""
    workspace = Workspace(root)
    for number, item in enumerate(plan.items):
        show(f"removing {item.kind}", number, len(plan.items))
        if item.kind in ("runs", "models"):
            remove_stored(workspace, item.kind, item.name, item.path)
        elif item.kind == "snapshots":
            remove_snapshot(root, item.name)
        elif item.path is not None and item.path.is_dir() and not item.path.is_symlink():
            shutil.rmtree(item.path)
        elif item.path is not None:
            item.path.unlink(missing_ok=True)


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    """Keep runs of the workspace from starting; refuse while anything works in it.

    Raises:
        LockedError: Something does.
    """
    with locked(root / RUN_LOCK, "mno gc"):
        harmless = {root / lock for lock in _HARMLESS}
        locks = [p for pattern in _LOCKS for p in root.glob(pattern) if p not in harmless]
        busy = next(filter(None, map(lock_holder, locks)), None)
        if busy is not None:
            raise LockedError(
                f"{busy['activity']} is at work in this folder: process {busy['pid']}, since "
                f"{busy['since']}; wait for it, then: mno gc"
            )
        for pid in _dvc_at_work(root):
            raise LockedError(f"DVC is at work here: process {pid}; wait for it, then: mno gc")
        yield


def _dvc_at_work(root: Path) -> Iterator[int]:
    try:
        text = json.dumps(json.loads((root / ".dvc/tmp/rwlock").read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return
    yield from (int(pid) for pid in _PID.findall(text) if psutil.pid_exists(int(pid)))


def print_plan(plan: TidyingPlan, deleted: bool, retention: bool, console: Console) -> None:
    """Say how much of each kind goes, what is not touched and why, and what to do next."""
    rows = [
        (_WORDS[kind], str(number), decimal(size))
        for kind, (number, size) in plan.by_kind().items()
    ]
    console.print(aligned(("Removed" if deleted else "Nothing needs", "Number", "Size"), rows))
    if plan.spared:
        console.print(f"\nSpared: the latest {plan.spared} run(s) that nothing needs (retention)")
    for reason in plan.kept:
        console.print(f"\nnote: {reason}")
    left = decimal(plan.total - plan.size)
    if deleted:
        console.print(f"\n{decimal(plan.size)} freed; {left} are in use.\nNext: mno status")
    elif plan.items:
        words = "mno gc --retention --delete" if retention else "mno gc --delete"
        console.print(
            f"\n{decimal(plan.size)} of {decimal(plan.total)} may go; nothing was removed."
        )
        console.print(f"Next: {words};  one by one: {words.removesuffix(' --delete')} --json")
    else:
        console.print(f"\nAll of {left} is needed.")
