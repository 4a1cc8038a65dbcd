"""Link: the certificates of earlier audits that are kept with the version."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from mno.certificate.names import SUMS
from mno.certificate.verify import verify_certificate
from mno.lineage.audit.evidence import Evidence
from mno.lineage.audit.finding import Finding, Link, differs

LINK = Link("certificates")
FOLDER = "certificates"
_TAG = "mno.certificate"
_NAME = re.compile(r"[0-9a-f]{64}")
_ANEW = "remove it from the files of the run, and make a new one: mno audit MODEL --log"


def check(evidence: Evidence) -> Iterator[Finding]:
    """Verify every certificate among the files of the run; there may be none."""
    named = evidence.versions.get(evidence.version, {}).get(_TAG)
    folder = evidence.run / FOLDER if evidence.run else None
    kept = sorted(folder.iterdir()) if folder is not None and folder.is_dir() else []
    for path in kept:
        yield from _certificate(path)
    names = {path.name for path in kept}
    if named is not None and named not in names:
        yield LINK.missing(f"certificate that the tag {_TAG} names", named, _ANEW)
    elif named is None and kept:
        yield LINK.unknown(f"tag {_TAG} of the version", "certificates are kept, and none is named")


def _certificate(path: Path) -> Iterator[Finding]:
    subject = f"certificate {path.name[:12]}"
    if path.is_symlink() or not path.is_dir() or not _NAME.fullmatch(path.name):
        yield LINK.changed(path.name, "the folder of a certificate", "something else", _ANEW)
        return
    sums = path / SUMS
    found = hashlib.sha256(sums.read_bytes()).hexdigest() if sums.is_file() else None
    findings = [
        LINK.equal(SUMS, path.name, found, _ANEW),
        *(finding for finding in verify_certificate(path) if finding.verdict.is_difference),
    ]
    if not differs(findings):
        yield LINK.verified(subject, path.name)
        return
    for finding in findings:
        if finding.verdict.is_difference:
            yield replace(finding, link=LINK.name, subject=f"{subject}: {finding.subject}")
