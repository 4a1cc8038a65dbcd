"""Link: the weights, and every other file of the package that is loaded."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from mno.core.errors import MnoError
from mno.lineage.audit.evidence import Evidence, entry
from mno.lineage.audit.finding import Finding, Link
from mno.lineage.audit.objects import digests, find_object, folder_md5, md5_of, read_listing
from mno.lineage.record import candidate_digest

LINK = Link("weights")
CANDIDATE = "artifacts/candidate"
_RESTORE = "restore the files of the version from a backup, or register the model again: mno run"


def check(evidence: Evidence) -> Iterator[Finding]:
    """Check the package file by file, and the weights in it against the record."""
    files = evidence.facts["package"]
    if evidence.package is None or files is None:
        yield LINK.missing("package", evidence.facts["version"]["files"], _RESTORE)
        return
    yield from _files(evidence)
    recorded = entry(evidence.record, "model") or {}
    folder = evidence.package / CANDIDATE
    try:
        found = candidate_digest(folder)
    except MnoError:
        yield LINK.missing(CANDIDATE, recorded.get("sha256"), _RESTORE)
        return
    yield LINK.equal("weights against the record", recorded.get("sha256"), found, _RESTORE)
    tag, run_tag = "mno.candidate", entry(evidence.facts, "run", "tags", "mno.candidate")
    yield LINK.equal(f"tag {tag} of the version", found, evidence.tags.get(tag))
    yield LINK.equal(f"tag {tag} of the run", found, run_tag)
    if recorded.get("md5") is None:
        yield LINK.unknown("weights against DVC", "the record names no hash of DVC's")
        return
    parts = {
        path.relative_to(folder).as_posix(): digests(path).md5
        for path in folder.rglob("*")
        if path.is_file()
    }
    yield LINK.equal("weights against DVC", recorded["md5"], folder_md5(parts), _RESTORE)
    yield from _cached(evidence, recorded["md5"])


def _files(evidence: Evidence) -> Iterator[Finding]:
    files = evidence.facts["package"]
    digest = hashlib.sha256()
    for name, content in files.items():
        digest.update(f"{name}\0{content}\n".encode())
    tag = evidence.tags.get("mno.package_sha256")
    if tag is None:
        yield LINK.unknown("package", "the version names no digest of its files")
    else:
        yield LINK.equal("all files of the package", tag, digest.hexdigest(), _RESTORE)
    if evidence.sealed is None:
        return
    sealed = evidence.sealed["package"]
    for name in sorted(sealed.keys() | files.keys()):
        if name not in sealed:
            yield LINK.changed(name, "no such file", files[name], "remove it")
        elif files.get(name) != sealed[name]:
            yield LINK.equal(name, sealed[name], files.get(name), _RESTORE)


def _cached(evidence: Evidence, md5: str) -> Iterator[Finding]:
    """Check the model's objects in DVC's cache; they may have gone, since the package has them."""
    listing = find_object(evidence.caches, md5)
    if listing is None:
        return
    found = {md5.removesuffix(".dir"): listing}
    try:
        names = read_listing(listing.read_bytes()).values()
    except (ValueError, TypeError, KeyError):
        names = ()
    for name in names:
        path = find_object(evidence.caches, name)
        if path is not None:
            found[name] = path
    for name, path in found.items():
        if md5_of(path.read_bytes()) != name:
            advice = f"remove {path}"
            yield LINK.changed("model in DVC's cache", name, md5_of(path.read_bytes()), advice)
