"""The folder of a replay: a repository of its own with just the snapshot's files.

It has its own git, DVC cache and MLflow database, so that nothing of the workspace is written to.
The snapshot's files are written from objects whose hashes were verified, and what a replay takes as
it was recorded is copied there, every byte verified.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from ruamel.yaml import YAML

from mno.core.config import IMPORTED, PARAMS_FILE
from mno.core.errors import MnoError
from mno.lineage.audit import Evidence
from mno.lineage.audit.objects import Tree, digests, find_object, is_inside, md5_of, read_listing
from mno.lineage.dvcfiles import DATA_FILE
from mno.lineage.record import CANDIDATE, PACKAGED, candidate_digest, entry
from mno.lineage.replay import ReplayPlan
from mno.lineage.snapshot import CODE, git

REPLAYS = Path("build/replay")
WARM_START = Path("build/warm_start")
DATA = "data"
IMPORTS = Path("build/imported")
_REPORTS = {  # that `evaluate` reads, and where the run keeps them if it does
    "reports/dataset.json": None,
    "reports/train.json": "training/train.json",
    "reports/learning_curve.json": None,
}
_SHA256 = re.compile(r"[0-9a-f]{64}")
_BLOCK = 1 << 20
Show = Callable[[str, int, int], None]

_MADE = ("__pycache__/", "/build/", "/data/", "/reports/", "/models/", "/mlflow.db*",
         "/mlartifacts/", "/.prefect/")  # fmt: skip
_DVC = """[core]
    analytics = false
    check_update = false
    site_cache_dir = "{folder}/.dvc/site"
[cache]
    dir = cache
    type = "reflink,copy"
"""


def replay_folder(root: Path, model: str, *facts: object) -> Path:
    """Return the folder of a replay: the same for the same model, snapshot and wishes.

    In it `line` is the repository in which the stages run, `environment` the Python environment
    that is built for it, and `finished` is there once it has come to its end.

    Args:
        root: The workspace.
        model: What the folder's name begins with; may hold anything.
        facts: What else tells one replay from another.
    """
    digest = hashlib.sha256("\0".join(map(str, (model, *facts))).encode()).hexdigest()
    readable = re.sub(r"[^A-Za-z0-9]+", "-", model).strip("-")[:60]
    return root.resolve() / REPLAYS / f"{readable}-{digest[:12]}"


def check_out(tree: Tree, line: Path, params: bytes) -> dict[str, bytes]:
    """Write a snapshot's files into a repository of its own; what was made there already stays.

    Args:
        tree: The snapshot, whole.
        line: The repository.
        params: What to write as `params.yaml`.

    Returns:
        The files by their path, as they were written.

    Raises:
        MnoError: A path of the snapshot is not one that snapshots have.
    """
    files = {**tree.files, PARAMS_FILE: params}
    strange = [name for name in files if not _belongs(name)]
    if strange:
        raise MnoError(
            f"the snapshot {tree.commit} has {strange[0]!r}, which no snapshot holds; it was not "
            "written by this project and is not replayed"
        )
    line.mkdir(parents=True, exist_ok=True)
    for name in CODE:  # nothing may lie among the code that is not the snapshot's
        path = line / name
        if path.is_symlink():
            path.unlink()
        elif path.is_dir():
            shutil.rmtree(path)
    for name, content in files.items():
        if name == DATA_FILE and (line / name).exists():
            continue  # the line has gone on: it names the data that were made
        write(line / name, content)
    if not (line / ".git").exists():
        git(line, "init", "-q", "--initial-branch=replay")
    write(line / ".gitignore", ("\n".join(_MADE) + "\n").encode())
    write(line / ".dvc/.gitignore", b"/config.local\n/tmp\n/cache\n/site\n")
    write(line / ".dvc/config", _DVC.format(folder=line).encode())
    return files


def altered(files: Mapping[str, bytes], line: Path) -> list[str]:
    """Return the files that are not what was checked out any more; the stages change none."""
    present = {n: (line / n).read_bytes() if (line / n).is_file() else None for n in files}
    return sorted(n for n in files if n != DATA_FILE and present[n] != files[n])


def replay_params(
    text: bytes, workers: object = None, warm_start: str | None = None
) -> tuple[bytes, list[str]]:
    """Return parameters that can be run here, and what had to be another one than recorded.

    None of it changes a result: scheduler and workers say where it is computed, and the model that
    training starts from is named by its digest, whatever it is called.

    Args:
        text: The snapshot's `params.yaml`.
        workers: Processes that solve, as this workspace has it; as recorded if it has none.
        warm_start: What to write as `train.warm_start`; none where training starts from nothing.
    """
    yaml = YAML()
    params: Any = yaml.load(text.decode())
    changed = []
    execution = params.get("execution") or {}
    if execution.get("scheduler") is not None:
        execution["scheduler"] = None
        changed.append("execution.scheduler: none, to solve on this machine")
    if isinstance(workers, int) and execution.get("workers", workers) != workers:
        execution["workers"] = workers
        changed.append(f"execution.workers: {workers}, as this workspace has it")
    if warm_start is not None:
        params["train"]["warm_start"] = warm_start
        changed.append(f"train.warm_start: a copy of the same model, {warm_start}")
    if not changed:
        return text, []
    written = io.BytesIO()
    yaml.dump(params, written)
    return written.getvalue(), changed


def write(path: Path, content: bytes) -> None:
    """Write a file, beside and then in place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    partial.write_bytes(content)
    os.replace(partial, path)


def _belongs(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return parts[0] in (PARAMS_FILE, DATA_FILE, *CODE) and not {"..", ".git"} & set(parts)


def give(evidence: Evidence, plan: ReplayPlan, line: Path, show: Show) -> list[str]:
    """Copy what a plan does not make again into the repository of a replay.

    Args:
        evidence: The version and where its data may be found. Nothing of it is written to.
        plan: What is to be made and given.
        line: The repository of the replay; what is there already and is whole stays.
        show: Is told what is copied, how many files of it, and of how many.

    Returns:
        What was given, for a person.

    Raises:
        MnoError: Something is missing or is not what was recorded; says what to do.
    """
    given = []
    if plan.data:
        if evidence.data_md5 is None:
            raise MnoError("the record names no version of the data; use --data regenerate")
        count = _place_folder(evidence.caches, evidence.data_md5, line / DATA, show)
        given.append(f"data {evidence.data_md5} ({count} files)")
    reports = ["reports/dataset.json"] if plan.data_report else []
    if plan.model:
        sha256 = entry(evidence.record, "model", "sha256")
        if evidence.package is None or sha256 is None:
            raise MnoError("the version's files cannot be read, or its record names no digest")
        source = evidence.package / PACKAGED
        _copy_model(source, sha256, line / CANDIDATE, "the version's model")
        given.append(f"model {sha256}")
        reports += ["reports/train.json", "reports/learning_curve.json"]
    for name in reports:
        write(line / name, _report(evidence, name))
        given.append(name)
    if "generate" in plan.targets:
        given += _place_imported(evidence, line)
    return given


def started_from(evidence: Evidence) -> str | None:
    """Return the digest of the model that training started from; none for fresh weights.

    A record that was restored from DVC's cache lacks it; then the snapshot's parameters name it.

    Raises:
        MnoError: It is not known which model that was.
    """
    recorded = entry(evidence.record, "warm_start", "sha256")
    named = entry(evidence.tree.params, "train", "warm_start")
    if recorded or not named:
        return recorded
    digest = str(named).partition("#")[2]
    if not _SHA256.fullmatch(digest):
        raise MnoError(
            f"training started from train.warm_start={named}, of which neither the record nor the "
            "parameters name the whole SHA-256, so that it cannot be made again"
        )
    return digest


def give_warm_start(folder: Path, sha256: str, line: Path) -> str:
    """Copy the model that training starts from; return what `train.warm_start` has to be.

    Args:
        folder: Where the model is.
        sha256: Its recorded digest.
        line: The repository of the replay.

    Raises:
        MnoError: The folder holds another model.
    """
    _copy_model(folder, sha256, line / WARM_START, "the model that training started from")
    return f"{WARM_START}#{sha256}"


def recorded_data(evidence: Evidence, folder: Path) -> Path | None:
    """Return a folder with the recorded data, to compare with; none where they are not at hand."""
    if evidence.data_md5 is None:
        return None
    try:
        _place_folder(evidence.caches, evidence.data_md5, folder, lambda *_: None)
    except MnoError:
        return None
    return folder


def _place_folder(caches: Sequence[Path], md5: str, folder: Path, show: Show) -> int:
    """Copy a folder out of DVC's caches; what else lies in it is removed."""
    path = find_object(caches, md5)
    if path is None:
        raise MnoError(_lacking(f"the list of files {md5}"))
    content = path.read_bytes()
    if md5_of(content) != md5.removesuffix(".dir"):
        raise MnoError(_damaged(path))
    try:
        listing = read_listing(content)
    except (ValueError, TypeError, KeyError) as error:
        raise MnoError(f"{path} is no list of files: {error}") from None
    if folder.is_symlink():
        raise MnoError(f"{folder} is a link; remove it and replay again")
    for there in folder.rglob("*") if folder.is_dir() else ():
        if not there.is_dir() and there.relative_to(folder).as_posix() not in listing:
            there.unlink()
    for number, (name, object_md5) in enumerate(listing.items()):
        show("data", number, len(listing))
        _place(caches, object_md5, folder / name)
    return len(listing)


def _place(caches: Sequence[Path], md5: str, target: Path) -> None:
    if target.is_file() and digests(target).md5 == md5:
        return
    path = find_object(caches, md5)
    if path is None:
        raise MnoError(_lacking(md5))
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f"{target.name}.partial")
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as source, partial.open("wb") as copy:
        while block := source.read(_BLOCK):
            digest.update(block)
            copy.write(block)
    if digest.hexdigest() != md5:
        partial.unlink()
        raise MnoError(_damaged(path))
    os.replace(partial, target)


def _copy_model(source: Path, sha256: str, target: Path, what: str) -> None:
    if candidate_digest(source) != sha256:
        raise MnoError(f"{what} ({source}) is not what the record names, {sha256}; see mno audit")
    if target.is_dir() and candidate_digest(target) == sha256:
        return
    shutil.rmtree(target, ignore_errors=True)
    partial = target.with_name(f"{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(source, partial)
    if candidate_digest(partial) != sha256:
        raise MnoError(f"{source} was changed while it was copied; replay again")
    os.replace(partial, target)


def _report(evidence: Evidence, name: str) -> bytes:
    """Return a report that `evaluate` read, by the hash that DVC's lock has of it."""
    md5, kept = entry(evidence.sealed, "lock", "evaluate", "deps", name), _REPORTS[name]
    places = [find_object(evidence.caches, md5)]
    if evidence.run is not None and kept is not None:
        places.append(evidence.run / kept)
    for path in places:
        if path is not None and path.is_file():
            content = path.read_bytes()
            if md5 is None or md5_of(content) == md5:
                return content
    raise MnoError(
        f"{name}, which evaluate reads, is not at hand as it was; name another cache with --cache, "
        "or make it again: leave out --stage, with --data regenerate"
    )


def _place_imported(evidence: Evidence, line: Path) -> list[str]:
    """Copy the converted files of imported data, which the stage `generate` verifies and reads."""
    params, given = evidence.tree.params or {}, []
    own = entry(params, "scenarios", IMPORTED) or {}
    for file in (own.get("files") or ()) if params.get("scenario") == IMPORTED else ():
        part = IMPORTS / str(own.get("name")) / "parts" / str(file["content"])[:16]
        source = evidence.root / part
        if not is_inside(part.as_posix()) or not source.is_dir():
            raise MnoError(
                f"{file['file']} as it was converted ({part}) is not in this workspace; import it "
                "again (mno import), or use --data pull"
            )
        shutil.copytree(source, line / part, dirs_exist_ok=True)
        given.append(f"{file['file']}, as it was imported")
    return given


def _damaged(path: Path) -> str:
    return f"{path} is not what its name promises; remove it, and fetch it: dvc fetch"


def _lacking(what: str) -> str:
    return (
        f"{what} is not in DVC's cache: fetch it (dvc fetch), name a cache with --cache or a "
        "remote with --remote, or make the data again with --data regenerate"
    )
