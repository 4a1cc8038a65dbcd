"""Link: the lineage record, in all the places that have it."""

from __future__ import annotations

import json
from collections.abc import Iterator

from mno.lineage.audit.evidence import RECORD_FILE, Evidence, entry
from mno.lineage.audit.finding import Finding, Link
from mno.lineage.record import SCHEMA, lineage_sha256
from mno.lineage.seal import differences

LINK = Link("record")
REGISTERED = "reports/registered.json"
_TAG = "mno.lineage_sha256"


def check(evidence: Evidence) -> Iterator[Finding]:
    """Check the record's digest, recomputed from its content, against all who name it."""
    record = evidence.run_record
    if record is None:
        advice = "restore the files of the run from a backup"
        if not evidence.tags.get(_TAG):
            advice = "it was registered past the pipeline; register with: mno run"
        yield LINK.missing(RECORD_FILE, "a lineage record with the run", advice)
        if evidence.record is None:
            return
    else:
        yield LINK.equal("schema", SCHEMA, record.get("schema"))
        digest = lineage_sha256(record)
        yield LINK.equal(f"digest in {RECORD_FILE}", digest, record.get("lineage_sha256"))
        yield LINK.equal(f"tag {_TAG} of the version", digest, evidence.tags.get(_TAG))
        yield from _ids(evidence)
    logged = entry(evidence.facts, "logged_model", "tags", _TAG)
    yield LINK.equal("tag of the logged model", lineage_sha256(evidence.record or {}), logged)
    if evidence.sealed is not None and record is not None:
        yield from _copies(evidence)
    snapshot = entry(evidence.record, "snapshot", "commit")
    yield LINK.equal("tag mno.snapshot of the version", snapshot, evidence.tags.get("mno.snapshot"))
    yield from _registered(evidence)


def _ids(evidence: Evidence) -> Iterator[Finding]:
    """Check that the record is of this run and version, and not another's."""
    ids = entry(evidence.run_record, "ids") or {}
    expected = {
        "mlflow_run": evidence.facts["version"]["run"],
        "model": evidence.name,
        "version": evidence.version,
    }
    for key, value in expected.items():
        yield LINK.equal(f"{key} in {RECORD_FILE}", value, ids.get(key))


def _copies(evidence: Evidence) -> Iterator[Finding]:
    apart = differences(evidence.sealed["record"] if evidence.sealed else {}, evidence.run_record)
    for path, sealed, found in apart:
        yield LINK.equal(f"{path} in {RECORD_FILE}", sealed, found)
    if not apart:
        yield LINK.verified(f"{RECORD_FILE} against the seal")


def _registered(evidence: Evidence) -> Iterator[Finding]:
    """Check the workspace's own note of its last registration, if it is of this version."""
    try:
        content = json.loads((evidence.root / REGISTERED).read_bytes())
    except (OSError, ValueError):
        return
    if entry(content, "run_id") != evidence.facts["version"]["run"]:
        return
    if (entry(content, "name"), entry(content, "version")) != (evidence.name, evidence.version):
        return
    expected = lineage_sha256(evidence.record or {})
    yield LINK.equal(REGISTERED, expected, lineage_sha256(entry(content, "record") or {}))
    yield LINK.equal(f"digest in {REGISTERED}", expected, entry(content, "lineage_sha256"))
