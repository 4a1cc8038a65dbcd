"""Links: the dataset, file by file, by DVC's hashes and its own; and what it was imported from."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from mno.core.config import IMPORTED
from mno.core.errors import MnoError
from mno.core.files import file_sha256, metadata_sha256
from mno.data.reading import verify
from mno.lineage.audit import Evidence, Finding, Link, entry
from mno.lineage.audit.objects import (
    Digests,
    digests,
    find_object,
    is_inside,
    md5_of,
    read_listing,
)
from mno.lineage.dvcfiles import DATA_FILE, parse_data_version, read_data_version
from mno.lineage.record import Tag

DATASET, SOURCES = Link("data"), Link("imported files")
DATA, ROOT_FILE = "data", "zarr.json"
_FETCH = (
    "bring it back from a DVC remote (dvc fetch), name another cache with --cache or a remote "
    "with --remote, or make the data again from the snapshot"
)


def check_data(evidence: Evidence) -> Iterator[Finding]:
    """Check the files of the dataset that the record names, wherever they are found."""
    md5 = entry(evidence.record, "data", "md5")
    if md5 is None:
        yield DATASET.unknown("dataset", "the record names no version of the data")
        return
    yield DATASET.equal("source of the data", md5, entry(evidence.record, "data", "source_md5"))
    yield from _versions(evidence, md5)
    listing = _listing(evidence, md5)
    if isinstance(listing, Finding):
        yield listing
        return
    yield DATASET.verified(f"list of files {md5}", f"{len(listing)} files")
    objects = {name: find_object(evidence.caches, named) for name, named in listing.items()}
    found = _digests({name: path for name, path in objects.items() if path is not None})
    yield from _compare("in DVC's cache", listing, found, _FETCH)
    here = evidence.root / DATA
    if here.is_dir() and read_data_version(evidence.root / DATA_FILE).md5 == md5:
        paths = [path for path in here.rglob("*") if path.is_file()]
        placed = _digests({path.relative_to(here).as_posix(): path for path in paths})
        yield from _compare("in data/", listing, placed, "mno generate --repair")
        for name in sorted(placed.keys() - listing.keys()):
            yield DATASET.changed(f"{name} in data/", "no such file", "a file", "remove it")
        found = {**placed, **found}
    yield from _checksums(evidence, listing, found)


def _versions(evidence: Evidence, md5: str) -> Iterator[Finding]:
    """Check that all who name the data name the same: the version, MLflow's run, the snapshot."""
    yield DATASET.equal(f"tag {Tag.DATA} of the version", md5, evidence.tags.get(Tag.DATA))
    given = entry(evidence.facts, "run", "datasets") or []
    if given:
        yield DATASET.equal("dataset of the run", [md5], [digest for _, digest, _ in given])
    text = evidence.tree.files.get(DATA_FILE)
    if text is None:
        return
    try:
        named = parse_data_version(text.decode(errors="replace"), DATA_FILE)
    except MnoError as error:
        yield DATASET.changed(f"{DATA_FILE} of the snapshot", md5, str(error))
        return
    yield DATASET.equal(f"{DATA_FILE} of the snapshot", md5, named.md5)


def _listing(evidence: Evidence, md5: str) -> dict[str, str] | Finding:
    """Return the MD5 of each file of the dataset, or why it is not known."""
    subject = f"list of files {md5}"
    path = find_object(evidence.caches, md5)
    if path is None:
        return DATASET.missing(subject, "an object in DVC's cache", _FETCH)
    content = path.read_bytes()
    if md5_of(content) != md5.removesuffix(".dir"):
        advice = f"remove {path}, then {_FETCH}"
        return DATASET.changed(subject, md5, f"{md5_of(content)} in {path}", advice)
    try:
        return read_listing(content)
    except (ValueError, TypeError, KeyError) as error:
        return DATASET.changed(subject, "a list of files", f"{error} in {path}")


def _digests(paths: Mapping[str, Path]) -> dict[str, Digests]:
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # hashing leaves Python's lock
        return dict(zip(paths, pool.map(digests, paths.values()), strict=True))


def _compare(
    where: str, listing: Mapping[str, str], found: Mapping[str, Digests], advice: str
) -> Iterator[Finding]:
    wrong = [name for name in listing if name not in found or found[name].md5 != listing[name]]
    for name in wrong:
        present = found[name].md5 if name in found else None
        yield DATASET.equal(f"{name} {where}", listing[name], present, advice)
    if not wrong:
        yield DATASET.verified(f"files {where}", f"{len(listing)} files, every byte read")


def _checksums(
    evidence: Evidence, listing: Mapping[str, str], found: Mapping[str, Digests]
) -> Iterator[Finding]:
    """Check the dataset's own record of its files, and of what it was made from."""
    metadata = _root_file(evidence, listing)
    if metadata is None:
        why = f"its {ROOT_FILE} is not at hand"
        yield DATASET.unknown("the dataset's own checksums", why)
        return
    attributes = entry(metadata, "attributes") or {}
    recorded = attributes.get("shards") or {}
    own, made = attributes.get("metadata_sha256"), metadata_sha256(metadata)
    yield DATASET.equal(f"{ROOT_FILE}'s own checksum", own, made)
    names = sorted(listing.keys() - {ROOT_FILE})
    yield DATASET.equal("files that the dataset names", sorted(recorded), names)
    wrong = [name for name in recorded if name in found and found[name].sha256 != recorded[name]]
    for name in wrong:
        yield DATASET.changed(f"{name} (sha256)", recorded[name], found[name].sha256)
    if not wrong:
        yield DATASET.verified("the dataset's own checksums", f"{len(recorded)} files")
    files = entry(evidence.record, "data", "files")
    if files:
        ours = sorted(
            (source["file"], source["sha256"]) for source in attributes.get("sources", ())
        )
        theirs = sorted((file["file"], file["sha256"]) for file in files)
        yield DATASET.equal("files that were imported", ours, theirs)
    elif evidence.tree.params is not None:
        settings = evidence.tree.params.get("generate") or {}
        held = {key: attributes.get("generate", {}).get(key) for key in settings}
        yield DATASET.equal("parameters in the dataset", settings, held)


def _root_file(evidence: Evidence, listing: Mapping[str, str]) -> dict[str, Any] | None:
    """Return the dataset's root file if its bytes are those that the listing names."""
    md5 = listing.get(ROOT_FILE)
    for path in (find_object(evidence.caches, md5), evidence.root / DATA / ROOT_FILE):
        if path is not None and path.is_file() and md5_of(path.read_bytes()) == md5:
            try:
                return json.loads(path.read_bytes())
            except ValueError:
                return None
    return None


def check_sources(evidence: Evidence) -> Iterator[Finding]:
    """Check imported files where they are at hand, and what they were converted to."""
    params = evidence.tree.params
    given: list[Mapping[str, Any]] = entry(params, "scenarios", IMPORTED, "files") or []
    if entry(params, "scenario") != IMPORTED or not given:
        return
    recorded = {f["file"]: f["sha256"] for f in entry(evidence.record, "data", "files") or []}
    for file in given:
        name, sha256 = file["file"], file["sha256"]
        if recorded:
            yield SOURCES.equal(f"{name} in the record", sha256, recorded.get(name))
        yield _original(evidence, name, sha256)
        yield _converted(evidence, str(entry(params, "scenarios", IMPORTED, "name")), file)


def _original(evidence: Evidence, name: str, sha256: str) -> Finding:
    folders = [evidence.root, *evidence.originals]
    inside = [folder / name for folder in folders if is_inside(name)]
    path = next((path for path in inside if path.is_file()), None)
    if path is None:
        return SOURCES.unknown(
            name,
            "the file is not at hand",
            f"name its folder with --originals, or compare by hand: sha256sum {name}; {sha256}",
        )
    return SOURCES.equal(f"{name} ({path.parent})", sha256, digests(path).sha256)


def _converted(evidence: Evidence, dataset: str, file: Mapping[str, Any]) -> Finding:
    """Check the converted file that the stage generate reads."""
    subject, content = f"{file['file']} as converted", str(file.get("content"))
    folder = Path("build/imported") / dataset / "parts" / content[:16]
    path, advice = evidence.root / folder / ROOT_FILE, f"remove {folder} and import the file again"
    if not is_inside(folder.as_posix()) or not path.is_file():
        return SOURCES.unknown(subject, f"{folder} is not there", "mno import it again to compare")
    found = file_sha256(path)
    if found != content:
        return SOURCES.changed(subject, content, found, advice)
    try:
        problems = verify(evidence.root / folder)
    except MnoError as error:
        problems = [str(error)]
    if problems:
        return SOURCES.changed(subject, "as it was converted", "; ".join(problems[:3]), advice)
    return SOURCES.verified(subject, str(folder))
