"""What a replay takes as it was recorded: copied into its folder, every byte verified."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from mno.core.config import IMPORTED
from mno.core.errors import MnoError
from mno.lineage.audit.evidence import Evidence, entry
from mno.lineage.audit.objects import digests, find_object, md5_of, read_listing
from mno.lineage.audit.tree import is_inside
from mno.lineage.record import CANDIDATE, candidate_digest
from mno.lineage.replay.folder import WARM_START, write
from mno.lineage.replay.plan import Plan

DATA = "data"
IMPORTS = Path("build/imported")
PACKAGED = "artifacts/candidate"
_REPORTS = {
    "reports/dataset.json": None,
    "reports/train.json": "training/train.json",
    "reports/learning_curve.json": None,
}
"""Reports that `evaluate` reads, and where the run keeps them if it does."""
_BLOCK = 1 << 20
_SHA256 = re.compile(r"[0-9a-f]{64}")

Show = Callable[[str, int, int], None]


def give(evidence: Evidence, plan: Plan, line: Path, show: Show) -> list[str]:
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
        md5 = evidence.data_md5
        if md5 is None:
            raise MnoError("the record names no version of the data; use --data regenerate")
        count = _place_folder(evidence.caches, md5, line / DATA, show)
        given.append(f"data {md5} ({count} files)")
    reports = ["reports/dataset.json"] if plan.data_report else []
    if plan.model:
        given.append(_place_model(evidence, line / CANDIDATE))
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
        raise MnoError(f"{path} is not what its name promises; remove it, and fetch it: dvc fetch")
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
        raise MnoError(f"{path} is not what its name promises; remove it, and fetch it: dvc fetch")
    os.replace(partial, target)


def _place_model(evidence: Evidence, target: Path) -> str:
    sha256 = entry(evidence.record, "model", "sha256")
    if evidence.package is None or sha256 is None:
        raise MnoError("the files of the version cannot be read, or its record names no digest")
    _copy_model(evidence.package / PACKAGED, sha256, target, "the version's model")
    return f"model {sha256}"


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
    md5 = entry(evidence.sealed, "lock", "evaluate", "deps", name)
    kept = _REPORTS[name]
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
    params = evidence.tree.params or {}
    own: Mapping[str, object] = entry(params, "scenarios", IMPORTED) or {}
    if params.get("scenario") != IMPORTED:
        return []
    given = []
    for file in entry(own, "files") or ():
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


def _lacking(what: str) -> str:
    return (
        f"{what} is not in DVC's cache: fetch it (dvc fetch), name a cache with --cache or a "
        "remote with --remote, or make the data again with --data regenerate"
    )
