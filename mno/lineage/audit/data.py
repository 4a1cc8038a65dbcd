"""Link: the dataset, file by file, by DVC's hashes and by the checksums in the dataset itself."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from mno.core.errors import MnoError
from mno.core.files import metadata_sha256
from mno.lineage.audit.evidence import Evidence, entry
from mno.lineage.audit.finding import Finding, Link
from mno.lineage.audit.objects import (
    Digests,
    digests,
    find_object,
    md5_of,
    read_listing,
)
from mno.lineage.audit.tree import Tree
from mno.lineage.dvcfiles import DATA_FILE, parse_data_version, read_data_version

LINK = Link("data")
DATA = "data"
ROOT_FILE = "zarr.json"
_FETCH = (
    "bring it back from a DVC remote (dvc fetch), name another cache with --cache or a remote "
    "with --remote, or make the data again from the snapshot"
)


def check(evidence: Evidence) -> Iterator[Finding]:
    """Check the files of the dataset that the record names, wherever they are found."""
    md5 = entry(evidence.record, "data", "md5")
    if md5 is None:
        yield LINK.unknown("dataset", "the record names no version of the data")
        return
    yield LINK.equal("source of the data", md5, entry(evidence.record, "data", "source_md5"))
    yield from _versions(evidence, md5)
    listing = _listing(evidence, md5)
    if isinstance(listing, Finding):
        yield listing
        return
    yield LINK.verified(f"list of files {md5}", f"{len(listing)} files")
    found = _cached(evidence, listing)
    yield from _compare("in DVC's cache", listing, found, _FETCH)
    here = evidence.root / DATA
    if here.is_dir() and read_data_version(evidence.root / DATA_FILE).md5 == md5:
        placed = _placed(here)
        yield from _compare("in data/", listing, placed, "mno generate --repair")
        for name in sorted(placed.keys() - listing.keys()):
            yield LINK.changed(f"{name} in data/", "no such file", "a file", "remove it")
        found = {**placed, **found}
    yield from _checksums(evidence, listing, found)


def _versions(evidence: Evidence, md5: str) -> Iterator[Finding]:
    """Check that all who name the data name the same: the version, MLflow's run, the snapshot."""
    yield LINK.equal("tag mno.data_md5 of the version", md5, evidence.tags.get("mno.data_md5"))
    given = entry(evidence.facts, "run", "datasets") or []
    if given:
        yield LINK.equal("dataset of the run", [md5], [digest for _, digest, _ in given])
    text = evidence.tree.files.get(DATA_FILE)
    if text is None:
        return
    try:
        named = parse_data_version(text.decode(errors="replace"), DATA_FILE)
    except MnoError as error:
        yield LINK.changed(f"{DATA_FILE} of the snapshot", md5, str(error))
        return
    yield LINK.equal(f"{DATA_FILE} of the snapshot", md5, named.md5)


def _listing(evidence: Evidence, md5: str) -> dict[str, str] | Finding:
    """Return the MD5 of each file of the dataset, or why it is not known."""
    subject = f"list of files {md5}"
    path = find_object(evidence.caches, md5)
    if path is None:
        return LINK.missing(subject, "an object in DVC's cache", _FETCH)
    content = path.read_bytes()
    if md5_of(content) != md5.removesuffix(".dir"):
        return LINK.changed(subject, md5, f"{md5_of(content)} in {path}", _remove(path))
    try:
        return read_listing(content)
    except (ValueError, TypeError, KeyError) as error:
        return LINK.changed(subject, "a list of files", f"{error} in {path}")


def _cached(evidence: Evidence, listing: Mapping[str, str]) -> dict[str, Digests]:
    """Return the digests of the objects that are in a cache, by path in the dataset."""
    paths = {name: find_object(evidence.caches, md5) for name, md5 in listing.items()}
    return _digests({name: path for name, path in paths.items() if path is not None})


def _placed(folder: Path) -> dict[str, Digests]:
    paths = (path for path in folder.rglob("*") if path.is_file())
    return _digests({path.relative_to(folder).as_posix(): path for path in paths})


def _digests(paths: Mapping[str, Path]) -> dict[str, Digests]:
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # hashing leaves Python's lock
        return dict(zip(paths, pool.map(digests, paths.values()), strict=True))


def _compare(
    where: str, listing: Mapping[str, str], found: Mapping[str, Digests], advice: str
) -> Iterator[Finding]:
    good = 0
    for name, md5 in listing.items():
        if name not in found:
            yield LINK.missing(f"{name} {where}", md5, advice)
        elif found[name].md5 != md5:
            yield LINK.changed(f"{name} {where}", md5, found[name].md5, advice)
        else:
            good += 1
    if good == len(listing):
        yield LINK.verified(f"files {where}", f"{good} files, every byte read")


def _checksums(
    evidence: Evidence, listing: Mapping[str, str], found: Mapping[str, Digests]
) -> Iterator[Finding]:
    """Check the dataset's own record of its files, and of what it was made from."""
    metadata = _root_file(evidence, listing)
    if metadata is None:
        yield LINK.unknown("the dataset's own checksums", f"its {ROOT_FILE} is not at hand")
        return
    attributes = entry(metadata, "attributes") or {}
    yield LINK.equal(f"{ROOT_FILE}'s own checksum", attributes.get("metadata_sha256"),
                     metadata_sha256(metadata))  # fmt: skip
    recorded = attributes.get("shards") or {}
    yield LINK.equal("files that the dataset names", sorted(recorded),
                     sorted(listing.keys() - {ROOT_FILE}))  # fmt: skip
    wrong = [name for name in recorded if name in found and found[name].sha256 != recorded[name]]
    for name in wrong:
        yield LINK.changed(f"{name} (sha256)", recorded[name], found[name].sha256)
    if not wrong:
        yield LINK.verified("the dataset's own checksums", f"{len(recorded)} files")
    yield from _generator(attributes, evidence.tree, entry(evidence.record, "data", "files"))


def _root_file(evidence: Evidence, listing: Mapping[str, str]) -> dict[str, Any] | None:
    """Return the dataset's root file if its bytes are those that the listing names."""
    md5 = listing.get(ROOT_FILE)
    paths = (find_object(evidence.caches, md5), evidence.root / DATA / ROOT_FILE)
    for path in paths:
        if path is not None and path.is_file() and md5_of(path.read_bytes()) == md5:
            try:
                return json.loads(path.read_bytes())
            except ValueError:
                return None
    return None


def _generator(
    attributes: Mapping[str, Any], tree: Tree, files: list[Mapping[str, Any]] | None
) -> Iterator[Finding]:
    """Check what the dataset says it was made from against the snapshot and the record."""
    if files:
        ours = {(source["file"], source["sha256"]) for source in attributes.get("sources", ())}
        yield LINK.equal("files that were imported", sorted(ours),
                         sorted((file["file"], file["sha256"]) for file in files))  # fmt: skip
        return
    params = tree.params
    if params is None:
        return
    settings = params.get("generate") or {}
    made = {key: attributes.get("generate", {}).get(key) for key in settings}
    yield LINK.equal("parameters in the dataset", settings, made)


def _remove(path: Path) -> str:
    return f"remove {path}, then {_FETCH}"
