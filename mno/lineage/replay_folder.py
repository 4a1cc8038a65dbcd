"""The folder of a replay: a repository of its own with just the snapshot's files.

It has its own git, DVC cache and MLflow database, so that nothing of the workspace is written to.
The snapshot's files are written from objects whose hashes were verified, and what a replay takes as
it was recorded is copied there, every byte verified.
"""

import io
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from ruamel.yaml import YAML

from mno.core.config import IMPORTED, PARAMS_FILE
from mno.core.errors import MnoError
from mno.core.files import file_md5, replacing, replacing_folder, sha256, write_bytes
from mno.lineage.audit import Evidence, objects
from mno.lineage.dvcfiles import DATA_FILE
from mno.lineage.record import CANDIDATE, PACKAGED, candidate_digest, entry
from mno.lineage.snapshot import CODE, git

Show = Callable[[str, int, int], None]  # what is done, how much of it, of how much
REPLAYS = Path("build/replay")
WARM_START = Path("build/warm_start")
_SHA256 = re.compile("[0-9a-f]{64}")
IMPORTS = Path("build/imported")
# Reports of earlier stages that `evaluate` reads; where the run keeps them, if it does.
_DATA_REPORT = "reports/dataset.json"
_TRAINING_REPORTS = ("reports/train.json", "reports/learning_curve.json")
_KEPT = {"reports/train.json": "training/train.json"}
_MADE = (
    b"__pycache__/\n/build/\n/data/\n/reports/\n/models/\n/mlflow.db*\n/mlartifacts/\n/.prefect/\n"
)
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

    In it `line` is the repository in which the stages run, and `finished` is there once it has come
    to its end. The model's name, of which the folder's begins, may hold anything.
    """
    digest = sha256("\0".join(map(str, (model, *facts))))
    readable = re.sub(r"[^A-Za-z0-9]+", "-", model).strip("-")[:60]
    return root.resolve() / REPLAYS / f"{readable}-{digest[:12]}"


def check_out(tree: objects.Tree, line: Path, params: bytes) -> None:
    """Write a whole snapshot, but with these parameters, into a repository of its own.

    What was made there already stays. A path that no snapshot has is an MnoError.
    """
    files = {**tree.files, PARAMS_FILE: params}
    for name in files:
        parts = PurePosixPath(name).parts
        if parts[0] in (PARAMS_FILE, DATA_FILE, *CODE) and not {"..", ".git"} & set(parts):
            continue
        raise MnoError(
            f"the snapshot {tree.commit} has {name!r}, which no snapshot holds; it was not "
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
        # Where the line has gone on, its own `data.dvc` names the data that were made.
        if name != DATA_FILE or not (line / name).exists():
            write_bytes(line / name, content)
    if not (line / ".git").exists():
        git(line, "init", "-q", "--initial-branch=replay")
    write_bytes(line / ".gitignore", _MADE)
    write_bytes(line / ".dvc/.gitignore", b"/config.local\n/tmp\n/cache\n/site\n")
    write_bytes(line / ".dvc/config", _DVC.format(folder=line).encode())


def replay_params(
    text: bytes, workers: object = None, warm_start: str | None = None
) -> tuple[bytes, list[str]]:
    """Return parameters that can be run here, and what had to be another one than recorded.

    None of it changes a result: scheduler and workers say where it is computed, and the model that
    training starts from is named by its digest, whatever it is called. Workers are as this
    workspace has them, or as recorded if it has none.
    """
    yaml, changed = YAML(), []
    params: Any = yaml.load(text.decode())
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
    written = io.BytesIO()
    yaml.dump(params, written)
    return (written.getvalue() if changed else text), changed


def give(evidence: Evidence, targets: Sequence[str], line: Path, show: Show) -> list[str]:
    """Copy what is not made again into the repository of a replay; say what, for a person.

    What is there already and is whole stays. Each file that is copied is shown before. An MnoError
    says what is missing or is not what was recorded, and what to do.
    """
    given, reports = [], list[str]()
    if "generate" in targets:
        given += _place_imported(evidence, line)
    else:
        if evidence.data_md5 is None:
            raise MnoError("the record names no version of the data; leave out --stage and --pull")
        count = _place_folder(evidence.caches, evidence.data_md5, line / "data", show)
        given.append(f"data {evidence.data_md5} ({count} files)")
        reports += [_DATA_REPORT] if "evaluate" in targets else []
    if "evaluate" in targets and "train" not in targets:
        recorded = evidence.recorded("model", "sha256")
        if evidence.package is None or recorded is None:
            raise MnoError("the version's files cannot be read, or its record names no digest")
        _copy_model(evidence.package / PACKAGED, recorded, line / CANDIDATE, "the version's model")
        given.append(f"model {recorded}")
        reports += _TRAINING_REPORTS
    read = entry(evidence.sealed, "lock", "evaluate", "deps")
    reports = [name for name in reports if not read or name in read]  # newer ones read none
    for name in reports:
        write_bytes(line / name, _report(evidence, name))
    return [*given, *reports]


def started_from(evidence: Evidence) -> str | None:
    """Return the digest of the model that training started from; none for fresh weights.

    A record that was restored from DVC's cache lacks it; then the snapshot's parameters name it.
    Where they do not, that is an MnoError.
    """
    recorded = evidence.recorded("warm_start", "sha256")
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


def give_warm_start(folder: Path, digest: str, line: Path) -> str:
    """Copy the model of a digest that training starts from; return what to set as `warm_start`."""
    _copy_model(folder, digest, line / WARM_START, "the model that training started from")
    return f"{WARM_START}#{digest}"


def recorded_data(evidence: Evidence, folder: Path) -> Path | None:
    """Return a folder with the recorded data, to compare with; none where they are not at hand."""
    try:
        _place_folder(evidence.caches, evidence.data_md5, folder, lambda *_: None)
    except MnoError:
        return None
    return folder


def _place_folder(caches: Sequence[Path], name: str | None, folder: Path, show: Show) -> int:
    """Copy a folder out of DVC's caches; what else lies in it is removed."""
    path = _object(caches, name)
    try:
        listing = objects.read_listing(path.read_bytes())
    except objects.UNREADABLE as error:
        raise MnoError(f"{path} is no list of files: {error}") from None
    if folder.is_symlink():
        raise MnoError(f"{folder} is a link; remove it and replay again")
    for there in folder.rglob("*"):
        if not there.is_dir() and there.relative_to(folder).as_posix() not in listing:
            there.unlink()
    for number, (file, object_md5) in enumerate(listing.items()):
        show("data", number, len(listing))
        target = folder / file
        if not target.is_file() or file_md5(target) != object_md5:
            with replacing(target) as partial:
                shutil.copyfile(_object(caches, object_md5), partial)
    return len(listing)


def _object(caches: Sequence[Path], name: str | None) -> Path:
    """Return an object of DVC's caches, after every byte of it was verified."""
    if (path := objects.find_object(caches, name)) is None:
        raise MnoError(
            f"{name} is not in DVC's cache: fetch it (dvc fetch), name a cache with --cache, or "
            "make the data again: leave out --stage and --pull"
        )
    if file_md5(path) != str(name).removesuffix(objects.FOLDER_MARK):
        raise MnoError(f"{path} is not what its name promises; remove it, and fetch it: dvc fetch")
    return path


def _copy_model(source: Path, digest: str, target: Path, what: str) -> None:
    if target.is_dir() and candidate_digest(target) == digest:
        return
    with replacing_folder(target) as partial:
        shutil.copytree(source, partial, dirs_exist_ok=True)
        if candidate_digest(partial) != digest:
            is_not = f"{what} ({source}) is not what the record names"
            raise MnoError(f"{is_not}, {digest}; see mno audit")


def _report(evidence: Evidence, name: str) -> bytes:
    """Return a report that `evaluate` read, by the hash that DVC's lock has of it."""
    hashed = entry(evidence.sealed, "lock", "evaluate", "deps", name)
    kept = evidence.run_file(_KEPT[name]) if name in _KEPT else None
    for path in (objects.find_object(evidence.caches, hashed), kept):
        if path is not None and (hashed is None or file_md5(path) == hashed):
            return path.read_bytes()
    raise MnoError(
        f"{name}, which evaluate reads, is not at hand as it was; name another cache with --cache, "
        "or make it again: leave out --stage and --pull"
    )


def _place_imported(evidence: Evidence, line: Path) -> list[str]:
    """Copy the converted files of imported data, which the stage `generate` verifies and reads."""
    params, given = evidence.tree.params or {}, []
    own = entry(params, "scenarios", IMPORTED) or {}
    for file in (own.get("files") or ()) if params.get("scenario") == IMPORTED else ():
        part = IMPORTS / str(own.get("name")) / "parts" / str(file["content"])[:16]
        source = evidence.root / part
        if not objects.is_inside(part.as_posix()) or not source.is_dir():
            raise MnoError(
                f"{file['file']} as it was converted ({part}) is not in this workspace; import it "
                "again (mno import), or use --pull"
            )
        shutil.copytree(source, line / part, dirs_exist_ok=True)
        given.append(f"{file['file']}, as it was imported")
    return given
