"""Verifying a certificate: every byte of its folder, and the signature over the digests.

One may be kept with a version: as files of its run, and a tag that names the last. A seal covers
neither, so that keeping one changes nothing that an audit looks at; the audit verifies those kept.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from mno.certificate.content import AUDIT, METADATA, PAGE, SIGNATURE, SIGNER, SUMS
from mno.certificate.folder import fingerprint, is_signed, parse_public
from mno.core.errors import InputError
from mno.core.files import file_sha256, sha256
from mno.lineage.audit import Evidence, Finding, Link, differs
from mno.lineage.audit.objects import is_inside
from mno.lineage.questions import RegisteredVersion
from mno.lineage.record import Tag, entry
from mno.lineage.seal import CERTIFICATES as FOLDER
from mno.registry.catalogue import Registry
from mno.registry.evidence import run_folder
from mno.registry.sealing import keep_with_version
from mno.registry.settings import Workspace

FILES, CRATE, SIGNED = Link("files"), Link("crate"), Link("signature")
CERTIFICATES = Link("certificates")
_LINE = re.compile(r"([0-9a-f]{64})  ([^\n]+)\n")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_ANEW = "remove it from the files of the run, and make a new one: mno certify MODEL --log"
_COPY = "take an unchanged copy of the certificate, or audit the model again"


def certificate_folder(path: Path) -> Path:
    """Return the folder of a certificate that a person has named by it or by its page.

    Raises:
        InputError: It is none.
    """
    folder = path.parent if path.name == PAGE and path.is_file() else path
    if not (folder / SUMS).is_file() and not (folder / METADATA).is_file():
        raise InputError(
            f"{path} is no certificate (no {SUMS} in it); give the folder that "
            "mno certify MODEL --folder FOLDER wrote"
        )
    return folder


def verify_certificate(folder: Path, trusted: bytes | None = None) -> list[Finding]:
    """Hold every file of a certificate against its digest, and the digests against the signature.

    Nothing outside the folder is read: links and paths that lead out of it are differences. The
    trusted key, in PEM, is the one that it must be signed with; without one the key counts that
    lies beside the signature, of which nobody says whose it is.
    """
    present, findings = _present(folder)
    sums = (folder / SUMS).read_bytes() if SUMS in present else None
    expected = _expected(sums)
    if isinstance(expected, Finding):
        findings, expected = [*findings, expected], {}
    findings += _digests(folder, present, expected)
    findings += _crate(folder, present, expected)
    findings += _signature(folder, present, sums, trusted)
    return findings


def summary(folder: Path) -> tuple[str, bool | None]:
    """Return which model a certificate is of, and whether its audit passed; none if not known."""
    content = _read_json(folder / AUDIT)
    passed = entry(content, "passed")
    return str(entry(content, "model")), passed if isinstance(passed, bool) else None


def _present(folder: Path) -> tuple[set[str], list[Finding]]:
    """Return the plain files in a folder, and what else is there."""
    files: set[str] = set()
    findings = []
    for place, folders, names in os.walk(folder):
        for name in (*folders, *names):
            path = Path(place, name)
            relative = path.relative_to(folder).as_posix()
            if path.is_symlink() or not (path.is_file() or path.is_dir()):
                link = path.is_symlink()
                what = f"a link to {os.readlink(path)}" if link else "something else"
                findings.append(FILES.changed(relative, "a file", what, "remove it"))
            elif path.is_file():
                files.add(relative)
    return files, findings


def _expected(sums: bytes | None) -> dict[str, str] | Finding:
    """Return the digests in `SHA256SUMS`, which may be written in one way only, or what differs."""
    if sums is None:
        return FILES.missing(SUMS, "the digests of all files", _COPY)
    pairs = []
    for line in sums.decode(errors="replace").splitlines(keepends=True):
        match = _LINE.fullmatch(line)
        if match is None:
            return FILES.changed(SUMS, "lines of digest and file", line.strip()[:80], _COPY)
        pairs.append((match[2], match[1]))
    names = [name for name, _ in pairs]
    outside = [name for name in names if not is_inside(name)]
    if outside:
        return FILES.changed(SUMS, "files in the folder", f"{outside[0]}, outside", _COPY)
    if names != sorted(set(names)) or not names:
        return FILES.changed(SUMS, "each file once, in order", "another order", _COPY)
    return dict(pairs)


def _digests(folder: Path, present: set[str], expected: Mapping[str, str]) -> Iterator[Finding]:
    for name, digest in expected.items():
        found = file_sha256(folder / name) if name in present else None
        yield FILES.equal(name, digest, found, _COPY)
    for name in sorted(present - expected.keys() - {SUMS, SIGNATURE}):
        yield FILES.changed(name, "no such file", "a file", "remove it")
    for name in (PAGE, METADATA):
        if expected and name not in expected:
            yield FILES.changed(SUMS, f"a digest of {name}", "none", _COPY)


def _crate(folder: Path, present: set[str], expected: Mapping[str, str]) -> Iterator[Finding]:
    """Hold what the crate says of its files against the digests."""
    if METADATA not in present:
        return
    graph = entry(_read_json(folder / METADATA), "@graph")
    if not isinstance(graph, list):
        yield CRATE.changed(METADATA, "an RO-Crate", "no graph in JSON", _COPY)
        return
    good = 0
    for entity in graph:
        kinds, name = entry(entity, "@type"), entry(entity, "@id")
        if "File" not in (kinds if isinstance(kinds, list) else [kinds]):
            continue
        if not isinstance(name, str) or not is_inside(name) or ":" in name:
            yield CRATE.changed(f"{name!r} in {METADATA}", "a file in the folder", "outside", _COPY)
        elif name not in present:
            yield CRATE.missing(name, f"a file, as {METADATA} says", _COPY)
        elif "sha256" in entity and entity["sha256"] != expected.get(name):
            subject, digest = f"digest of {name} in {METADATA}", entity["sha256"]
            yield CRATE.changed(subject, expected.get(name), digest, _COPY)
        else:
            good += 1
    yield CRATE.verified(f"files in {METADATA}", f"{good} files")


def _signature(
    folder: Path, present: set[str], sums: bytes | None, trusted: bytes | None
) -> Iterator[Finding]:
    names = {SIGNATURE, SIGNER}
    if not names & present:
        if trusted is not None:
            advice = (
                "ask for a signed certificate: mno certify MODEL --sign KEY.pem --folder FOLDER"
            )
            yield SIGNED.missing(SIGNATURE, f"a signature of {fingerprint(trusted)}", advice)
        else:
            why = "it is not signed: who can change all of it, can do so without trace"
            yield SIGNED.unknown("signer", why)
        return
    for name in sorted(names - present):
        yield SIGNED.missing(name, "beside the other", _COPY)
    pem = (folder / SIGNER).read_bytes() if SIGNER in present else trusted
    if sums is None or pem is None or SIGNATURE not in present:
        return
    key, shown, subject = parse_public(pem), fingerprint(pem), f"{SIGNATURE} over {SUMS}"
    if key is None:
        yield SIGNED.changed(SIGNER, "a public Ed25519 key", "something else", _COPY)
        return
    if not is_signed(sums, (folder / SIGNATURE).read_bytes(), key):
        yield SIGNED.changed(subject, f"a signature of {shown}", "none of it", _COPY)
        return
    yield SIGNED.verified(subject, shown)
    if trusted is None:
        why = f"give the public key that you trust with --key, or compare {shown}"
        yield SIGNED.unknown("signer", why)
    else:
        advice = "it was signed by somebody else"
        yield SIGNED.equal("signer", fingerprint(trusted), shown, advice)


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None


def check_kept(evidence: Evidence) -> Iterator[Finding]:
    """Verify every certificate among the files of the run; there may be none."""
    named = evidence.versions.get(evidence.version, {}).get(Tag.CERTIFICATE)
    folder = evidence.run / FOLDER if evidence.run else None
    kept = sorted(folder.iterdir()) if folder is not None and folder.is_dir() else []
    for path in kept:
        yield from _kept(path)
    if named is not None and named not in {path.name for path in kept}:
        subject = f"certificate that the tag {Tag.CERTIFICATE} names"
        yield CERTIFICATES.missing(subject, named, _ANEW)
    elif named is None and kept:
        why = "certificates are kept, and none is named"
        yield CERTIFICATES.unknown(f"tag {Tag.CERTIFICATE} of the version", why)


def _kept(path: Path) -> Iterator[Finding]:
    subject = f"certificate {path.name[:12]}"
    if path.is_symlink() or not path.is_dir() or not _SHA256.fullmatch(path.name):
        yield CERTIFICATES.changed(path.name, "the folder of a certificate", "not that", _ANEW)
        return
    found = file_sha256(path / SUMS) if (path / SUMS).is_file() else None
    findings = [CERTIFICATES.equal(SUMS, path.name, found, _ANEW), *verify_certificate(path)]
    if not differs(findings):
        yield CERTIFICATES.verified(subject, path.name)
    for finding in findings:
        if finding.verdict.is_difference:
            of = f"{subject}: {finding.subject}"
            yield replace(finding, link=CERTIFICATES.name, subject=of)


def log_certificate(workspace: Workspace, uri: str, files: Mapping[str, bytes]) -> str:
    """Keep a certificate's files among those of a version's run, and name it in the version's tag.

    Returns:
        Where it is, as `runs:/ID/PATH`.

    Raises:
        MnoError: The version, `models:/NAME/VERSION`, has no run, or MLflow cannot write.
    """
    digest = sha256(files[SUMS])
    path = f"{FOLDER}/{digest}"
    return keep_with_version(workspace, uri, path, files, Tag.CERTIFICATE, digest)


def logged_certificate(
    registry: Registry, version: RegisteredVersion, scratch: Path
) -> tuple[Path, list[Finding]]:
    """Return the folder of the certificate that was last kept with a version.

    Args:
        registry: The registry that is asked.
        version: The version.
        scratch: Where files of a distant store are copied to.

    Returns:
        The folder, and whether its digests are those that the version names.

    Raises:
        InputError: None was kept, or its files are gone.
    """
    uri, digest = version.uri, version.tags.get(Tag.CERTIFICATE, "")
    if not _SHA256.fullmatch(digest):
        raise InputError(f"{uri} has no certificate; make one with: mno certify {uri} --log")
    run = run_folder(registry, version.run_id, scratch)
    folder = run / FOLDER / digest if run else None
    if folder is None or not (folder / SUMS).is_file():
        raise InputError(
            f"the files of the certificate of {uri} are gone ({FOLDER}/{digest[:12]}… of its "
            f"run); make a new one with: mno certify {uri} --log"
        )
    subject, found = f"{SUMS}, by the version's tag {Tag.CERTIFICATE}", file_sha256(folder / SUMS)
    return folder, [Link("registry").equal(subject, digest, found)]
