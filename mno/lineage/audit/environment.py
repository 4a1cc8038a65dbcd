"""Link: the packages that were installed, and the constraints they were installed by."""

from __future__ import annotations

from collections.abc import Iterator

from mno.lineage.audit.evidence import Evidence, entry
from mno.lineage.audit.finding import Finding, Link
from mno.lineage.environment import CONSTRAINTS_FILE, environment_digest

LINK = Link("environment")
FILE = "environment.txt"


def check(evidence: Evidence) -> Iterator[Finding]:
    """Check that the run's list of packages is the one that the record has the digest of."""
    recorded = entry(evidence.record, "environment_sha256")
    if entry(evidence.record, "restored"):
        yield LINK.unknown(
            "packages", "the run of the training was lost; the record names those of registration"
        )
        return
    path = evidence.run / FILE if evidence.run else None
    if path is None or not path.is_file():
        yield LINK.missing(FILE, recorded, "restore the files of the run from a backup")
        return
    if not evidence.tree.whole:
        yield LINK.unknown(FILE, f"the snapshot, which has {CONSTRAINTS_FILE}, is not at hand")
        return
    packages = path.read_bytes().removesuffix(b"\n").split(b"\n")
    constraints = evidence.tree.files.get(CONSTRAINTS_FILE, b"")
    yield LINK.equal(
        f"{FILE} and {CONSTRAINTS_FILE}",
        recorded,
        environment_digest(constraints, packages),
    )
