"""Links: the dataset, file by file, by DVC's hashes and its own; and what it was imported from."""

import json
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from mno.core.config import IMPORTED
from mno.core.errors import MnoError
from mno.core.files import file_sha256, folder_files, md5, metadata_sha256
from mno.data.reading import verify
from mno.lineage.audit import Evidence, Finding, Link, objects
from mno.lineage.dvcfiles import DATA_FILE, parse_data_version, read_data_version
from mno.lineage.record import Tag, entry

DATASET, SOURCES = Link("data"), Link("imported files")
DATA, ROOT_FILE = "data", "zarr.json"
_FETCH = (
    "bring it back from a DVC remote (dvc fetch), name another cache with --cache, or make the "
    "data again from the snapshot"
)


def check_data(evidence: Evidence) -> Iterator[Finding]:
    """Check the files of the dataset that the record names, wherever they are found."""
    if (name := evidence.recorded("data", "md5")) is None:
        yield DATASET.unknown("dataset", "the record names no version of the data")
        return
    yield DATASET.equal("source of the data", name, evidence.recorded("data", "source_md5"))
    yield from _versions(evidence, name)
    subject, path = f"list of files {name}", objects.find_object(evidence.caches, name)
    if path is None:
        yield DATASET.missing(subject, "an object in DVC's cache", _FETCH)
        return
    content = path.read_bytes()
    if md5(content) != name.removesuffix(objects.FOLDER_MARK):
        advice = f"remove {path}, then {_FETCH}"
        yield DATASET.changed(subject, name, f"{md5(content)} in {path}", advice)
        return
    listing = objects.read_listing(content)
    yield DATASET.verified(subject, f"{len(listing)} files")
    paths = {file: objects.find_object(evidence.caches, named) for file, named in listing.items()}
    found = _digests({file: path for file, path in paths.items() if path is not None})
    yield from _compare("in DVC's cache", listing, found, _FETCH)
    here = evidence.root / DATA
    if here.is_dir() and read_data_version(evidence.root / DATA_FILE).md5 == name:
        placed = _digests(folder_files(here))
        yield from _compare("in data/", listing, placed, "mno generate --repair")
        for file in sorted(placed.keys() - listing.keys()):
            yield DATASET.changed(f"{file} in data/", "no such file", "a file", "remove it")
        found = {**placed, **found}
    yield from _checksums(evidence, listing, found)


def _versions(evidence: Evidence, name: str) -> Iterator[Finding]:
    """Check that all who name the data name the same: the version, MLflow's run, the snapshot."""
    yield DATASET.equal(f"tag {Tag.DATA} of the version", name, evidence.tags.get(Tag.DATA))
    if given := entry(evidence.facts, "run", "datasets"):
        yield DATASET.equal("dataset of the run", [name], [digest for _, digest, _ in given])
    text, subject = evidence.tree.files.get(DATA_FILE), f"{DATA_FILE} of the snapshot"
    try:
        if text is not None:
            named = parse_data_version(text.decode(errors="replace"))
            yield DATASET.equal(subject, name, named.md5)
    except MnoError as error:
        yield DATASET.changed(subject, name, str(error))


def _digests(paths: Mapping[str, Path]) -> dict[str, objects.Digests]:
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # hashing leaves Python's lock
        return dict(zip(paths, pool.map(objects.digests, paths.values()), strict=True))


def _compare(
    where: str, listing: Mapping[str, str], found: Mapping[str, objects.Digests], advice: str
) -> Iterator[Finding]:
    good = DATASET.verified(f"files {where}", f"{len(listing)} files, every byte read")
    present = {name: found[name].md5 for name in listing if name in found}
    yield from DATASET.all_equal(f"{{}} {where}", listing, present, good, advice)


def _checksums(
    evidence: Evidence, listing: Mapping[str, str], found: Mapping[str, objects.Digests]
) -> Iterator[Finding]:
    """Check the dataset's own record of its files, and of what it was made from."""
    subject, metadata = "the dataset's own checksums", _root_file(evidence, listing)
    if metadata is None:
        yield DATASET.unknown(subject, f"its {ROOT_FILE} is not at hand")
        return
    attributes = metadata.get("attributes") or {}
    own, made = attributes.get("metadata_sha256"), metadata_sha256(metadata)
    yield DATASET.equal(f"{ROOT_FILE}'s own checksum", own, made)
    recorded = attributes.get("shards") or {}
    names = sorted(listing.keys() - {ROOT_FILE})
    yield DATASET.equal("files that the dataset names", sorted(recorded), names)
    known = {name: digest for name, digest in recorded.items() if name in found}
    present = {name: found[name].sha256 for name in known}
    good = DATASET.verified(subject, f"{len(recorded)} files")
    yield from DATASET.all_equal("{} (sha256)", known, present, good)
    if files := evidence.recorded("data", "files"):
        both = (attributes.get("sources", ()), files)
        ours, theirs = (sorted((item["file"], item["sha256"]) for item in part) for part in both)
        yield DATASET.equal("files that were imported", ours, theirs)
    elif evidence.tree.params is not None:
        settings = evidence.tree.params.get("generate") or {}
        held = {key: attributes.get("generate", {}).get(key) for key in settings}
        yield DATASET.equal("parameters in the dataset", settings, held)


def _root_file(evidence: Evidence, listing: Mapping[str, str]) -> dict[str, Any] | None:
    """Return the dataset's root file if its bytes are those that the listing names."""
    name = listing.get(ROOT_FILE)
    for path in (objects.find_object(evidence.caches, name), evidence.root / DATA / ROOT_FILE):
        if path is not None and path.is_file() and md5(path.read_bytes()) == name:
            return json.loads(path.read_bytes())
    return None


def check_sources(evidence: Evidence) -> Iterator[Finding]:
    """Check imported files where they are at hand, and what they were converted to."""
    params = evidence.tree.params
    given: list[Mapping[str, Any]] = entry(params, "scenarios", IMPORTED, "files") or []
    if entry(params, "scenario") != IMPORTED or not given:
        return
    recorded = {f["file"]: f["sha256"] for f in evidence.recorded("data", "files") or []}
    for file in given:
        name, sha256 = file["file"], file["sha256"]
        if recorded:
            yield SOURCES.equal(f"{name} in the record", sha256, recorded.get(name))
        yield _original(evidence, name, sha256)
        yield _converted(evidence, str(entry(params, "scenarios", IMPORTED, "name")), file)


def _original(evidence: Evidence, name: str, sha256: str) -> Finding:
    inside = [f / name for f in (evidence.root, *evidence.originals) if objects.is_inside(name)]
    path = next((path for path in inside if path.is_file()), None)
    if path is None:
        advice = f"name its folder with --originals, or compare by hand: sha256sum {name}; {sha256}"
        return SOURCES.unknown(name, "the file is not at hand", advice)
    return SOURCES.equal(f"{name} ({path.parent})", sha256, file_sha256(path))


def _converted(evidence: Evidence, dataset: str, file: Mapping[str, Any]) -> Finding:
    """Check the converted file that the stage generate reads."""
    subject, content = f"{file['file']} as converted", str(file.get("content"))
    folder = Path("build/imported") / dataset / "parts" / content[:16]
    path, advice = evidence.root / folder / ROOT_FILE, f"remove {folder} and import the file again"
    if not objects.is_inside(folder.as_posix()) or not path.is_file():
        return SOURCES.unknown(subject, f"{folder} is not there", "mno import it again to compare")
    found = file_sha256(path)
    if found != content:
        return SOURCES.changed(subject, content, found, advice)
    if problems := verify(evidence.root / folder):
        return SOURCES.changed(subject, "as it was converted", "; ".join(problems[:3]), advice)
    return SOURCES.verified(subject, str(folder))
