"""`mno gc`: looks at everything a workspace keeps, and removes what nothing needs."""

import json
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated

import psutil
import typer
from rich.filesize import decimal

from flows import workspace
from flows.options import Json, Quiet, answer, console
from flows.schedule import RETRAIN_LOCK, SERVE_LOCK
from mno.core.errors import MnoError
from mno.core.files import LockedError, lock_holder, locked
from mno.lineage import tidying
from mno.lineage.questions import RunFiles
from mno.lineage.record import CANDIDATE, Tag, candidate_digest
from mno.lineage.seal import SEALS
from mno.lineage.snapshot import git
from mno.registry.catalogue import Stored, StoredItem, read_stored, registry_of, remove_stored
from mno.registry.settings import Workspace

_LOCKS = ("build/locks/*", "build/study/*.lock", ".dvc/tmp/exps/*/build/locks/*")
# Who waits for the time to run, or begins a run, which the lock on runs then keeps out.
_HARMLESS = (workspace.RUN_LOCK, SERVE_LOCK, RETRAIN_LOCK)
_PID = re.compile(r'"pid": (\d+)')
_SERVER = (
    "MLflow is a server (MLFLOW_TRACKING_URI), which others may use: its runs and models stay; "
    "tidy there with: mlflow gc"
)
_WORDS = {
    "leftovers": "what killed work has left", "runs": "training runs, with their files",
    "models": "packages that were not registered", "files": "files that MLflow has forgotten",
    "cache": "objects and run entries of DVC's cache",
    "snapshots": "snapshots, whose objects git frees later",
}  # fmt: skip


def gc(
    delete: Annotated[bool, typer.Option(
        "--delete", help="Remove it; without this nothing is written.")] = False,
    retention: Annotated[bool, typer.Option(
        "--retention", help="Spare the latest retention.keep_runs runs.")] = False,
    quiet: Quiet = False, as_json: Json = False,
) -> None:  # fmt: skip
    """Show what no registered version, alias, certificate or present state needs; remove it.

    Objects of DVC's cache, training runs with their files, packages that were never registered,
    snapshots and what killed work has left. What `mno audit` looks at stays, and so does what
    branches, tags and experiments in git name.

    Example: mno gc    then: mno gc --delete
    """
    plan = tidy(delete, retention, quiet or as_json)
    told = {"deleted": delete, **plan.to_dict()}
    answer(told, as_json, quiet, lambda _: _print_plan(plan, delete, retention))


def tidy(delete: bool, retention: bool, quiet: bool) -> tidying.TidyingPlan:
    """Find what nothing needs, and remove it if asked; with retention the latest runs stay."""
    from flows.params import load_params
    from flows.stages import read_stages

    root = workspace.find_workspace()
    workspace.prepare_environment(root)
    with _alone(root), workspace.progress_bar(quiet, "things") as show:
        done = [stage["name"] for stage in read_stages(root) if stage["state"] == "current"]
        spare = load_params(root).retention.keep_runs if retention else 0
        plan = plan_of(root, done, workspace.cache_folder(root), spare)
        if delete:
            _remove(root, plan, show)
    return plan


def plan_of(root: Path, done: Sequence[str], cache: Path, spare: int) -> tidying.TidyingPlan:
    """Return what may go, where stages are `done` and a number of runs, the latest, are spared."""
    mlflow, needed = Workspace(root), tidying.Needed()
    files, stored = registry_of(mlflow), read_stored(mlflow)
    for version in files.versions():
        needed.add_version(version, files)
    needed.add_workspace(root)
    for run in stored.runs:
        if _is_needed(root, run, files, done):
            needed.add_run(run.id, files)
    known = set(needed.runs)
    unneeded = [run for run in stored.runs if run.id not in known]
    for run in unneeded[:spare]:
        needed.add_run(run.id, files)
    items = [*tidying.leftovers(root, done), *_of_mlflow(root, stored, needed, known)]
    kept, cached = [] if mlflow.embedded else [_SERVER], []
    if cache.resolve().is_relative_to(root.resolve()):
        cached = tidying.unneeded_objects(cache, tidying.needed_objects(cache, needed))
    else:
        outside = f"DVC's cache {cache} lies outside of the workspace"
        kept.append(f"{outside}: others may need its objects")
    if needed.doubts:
        kept += [f"DVC's cache and the snapshots are not touched: {d}" for d in needed.doubts]
    else:
        items += [*cached, *tidying.unneeded_snapshots(root, needed)]
    return tidying.TidyingPlan(items, kept, min(spare, len(unneeded)))


def _of_mlflow(
    root: Path, stored: Stored, needed: tidying.Needed, known: set[str]
) -> Iterator[tidying.Unneeded]:
    """Yield what MLflow keeps; models of runs that are spared, not `known` as needed, stay."""
    spared = needed.runs - known
    runs = [run for run in stored.runs if run.id not in needed.runs]
    models = [m for m in stored.models if m.id not in needed.models and m.run_id not in spared]
    kinds: dict[tidying.Kind, list[StoredItem]] = {"runs": runs, "models": models}
    for kind, items in kinds.items():
        for item in items:
            size = tidying.size_of(item.folder) if item.folder else 0
            yield tidying.Unneeded(kind, item.id, size, item.folder)
    for path in stored.forgotten:
        if path.name not in needed.runs | needed.models:
            name = path.relative_to(root).as_posix()
            yield tidying.Unneeded("files", name, tidying.size_of(path), path)


def _is_needed(root: Path, run: StoredItem, files: RunFiles, done: Sequence[str]) -> bool:
    """Whether a run is needed though no registered version is of it."""
    if files.names(run.id, SEALS):
        return True  # a link in the chain of decisions
    experiment = run.tags.get(Tag.EXPERIMENT)
    if experiment and git(root, "for-each-ref", "--count=1", f"refs/exps/**/{experiment}"):
        return True
    if (digest := run.tags.get(Tag.CANDIDATE)) is not None:
        with suppress(MnoError):
            return digest == candidate_digest(root / CANDIDATE)
        return False
    # A training was interrupted that the next run continues, as the same run.
    code, _, data = run.tags.get(Tag.TRAINING_KEY, "").partition("-")
    resumable = root / tidying.RESUMABLE["train"] / f"{code[:24]}-{data[:24]}"
    return "train" not in done and resumable.exists()


def _remove(root: Path, plan: tidying.TidyingPlan, show: Callable[[str, int, int], None]) -> None:
    """Remove what the plan names, in its order; a kill leaves what the next time removes."""
    mlflow = Workspace(root)
    for number, item in enumerate(plan.items):
        show(f"removing {item.kind}", number, len(plan.items))
        if item.kind in ("runs", "models"):
            remove_stored(mlflow, item.kind, item.name, item.path)
        elif item.kind == "snapshots":
            git(root, "update-ref", "-d", item.name)
        elif item.path is not None and item.path.is_dir() and not item.path.is_symlink():
            shutil.rmtree(item.path)
        elif item.path is not None:
            item.path.unlink(missing_ok=True)


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    """Keep runs of the workspace from starting; refuse while anything works in it."""
    with locked(root / workspace.RUN_LOCK, "mno gc"):
        harmless = {root / lock for lock in _HARMLESS}
        locks = [p for pattern in _LOCKS for p in root.glob(pattern) if p not in harmless]
        if (busy := next(filter(None, map(lock_holder, locks)), None)) is not None:
            raise LockedError(
                f"{busy['activity']} is at work in this folder: process {busy['pid']}, since "
                f"{busy['since']}; wait for it, then: mno gc"
            )
        for pid in _PID.findall(json.dumps(workspace.read_json(root / ".dvc/tmp/rwlock"))):
            if psutil.pid_exists(int(pid)):
                raise LockedError(f"DVC is at work here: process {pid}; wait for it, then: mno gc")
        yield


def _print_plan(plan: tidying.TidyingPlan, deleted: bool, retention: bool) -> None:
    out, freed, kinds = console(), decimal(plan.size), plan.by_kind().items()
    rows = [(_WORDS[kind], str(number), decimal(size)) for kind, (number, size) in kinds]
    head = ("Removed" if deleted else "Nothing needs", "Number", "Size")
    out.print(workspace.aligned(head, rows))
    if plan.spared:
        out.print(f"\nSpared: the latest {plan.spared} run(s) that nothing needs (retention)")
    for reason in plan.kept:
        out.print(f"\nnote: {reason}")
    if deleted:
        out.print(f"\n{freed} freed.\nNext: mno status")
    elif plan.items:
        words = "mno gc --retention" if retention else "mno gc"
        out.print(f"\n{freed} may go; nothing was removed.")
        out.print(f"Next: {words} --delete;  one by one: {words} --json")
    else:
        out.print("\nAll of it is needed.")
