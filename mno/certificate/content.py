"""What a certificate says: an audit's findings, and what was audited, as plain values."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mno.certificate.packages import Package, recorded_packages
from mno.lineage.audit.environment import FILE as ENVIRONMENT_FILE
from mno.lineage.audit.evidence import Evidence, entry
from mno.lineage.audit.finding import Finding, Verdict, differs
from mno.lineage.audit.objects import find_object, md5_of
from mno.lineage.replay.outcome import Outcome
from mno.lineage.seal import Seal, seal_sha256
from mno.lineage.stages import flat

SCHEMA = 2
RECORD, SEAL, METRICS = "record.json", "seal.json", "metrics.json"
DATA_FILES, WEIGHTS = "data.json", "weights.json"
PARAMS, WORKFLOW = "snapshot/params.yaml", "snapshot/dvc.yaml"
DATA_VERSION, CONSTRAINTS = "snapshot/data.dvc", "snapshot/constraints.txt"
# What each document is, for whoever opens the folder.
DOCUMENTS = {
    RECORD: "Lineage record: digests of data, code, parameters, environment and weights",
    SEAL: "Seal: what all record-keepers said when the version was registered; its SHA-256 is the "
    "name that the registry has",
    WEIGHTS: "SHA-256 of each file of the registered package, weights included",
    METRICS: "Metrics of the model on the test data",
    DATA_FILES: "MD5 of each file of the dataset, as DVC lists them; the MD5 of the list is the "
    "dataset's version",
    ENVIRONMENT_FILE: "Installed packages with their versions",
    PARAMS: "Parameters in the snapshot of the training",
    WORKFLOW: "Stages in the snapshot of the training",
    DATA_VERSION: "Version of the dataset in the snapshot of the training",
    CONSTRAINTS: "Versions that packages were installed by",
}
_OF_THE_RUN = {ENVIRONMENT_FILE: ENVIRONMENT_FILE, "evaluation/metrics.json": METRICS}
_OF_THE_SNAPSHOT = (PARAMS, WORKFLOW, DATA_VERSION, CONSTRAINTS)


@dataclass(frozen=True)
class Decision:
    """A decision on a version of the model, as it was sealed.

    Attributes:
        version: The version that was decided on.
        sealed: When, ISO 8601.
        decision: For example `champion`.
        reason: Why, with the figures that were compared.
        relative_l2: The version's test error.
        aliases: The version that each alias stood for afterwards.
    """

    version: int
    sealed: str
    decision: str
    reason: str
    relative_l2: str
    aliases: Mapping[str, int]


@dataclass(frozen=True)
class Certificate:
    """What is certified.

    Attributes:
        name: The registered model.
        version: The version's number.
        made: When the audit was made, ISO 8601 in UTC.
        findings: What the audit has found.
        record: The lineage record; empty where there is none.
        tags: The version's tags.
        params: The parameters that it depends on, by dotted key; empty where the snapshot lacks
            them.
        decisions: On all versions of the model, the latest first.
        packages: What was installed, with licences.
        documents: Files that the certificate holds beside its own, by path.
        replay: How making the model again compared; none where that was not done.
    """

    name: str
    version: int
    made: str
    findings: Sequence[Finding]
    record: Mapping[str, Any]
    tags: Mapping[str, str]
    params: Mapping[str, Any]
    decisions: Sequence[Decision]
    packages: Sequence[Package]
    documents: Mapping[str, bytes] = field(repr=False)
    replay: Outcome | None = None

    @property
    def model(self) -> str:
        """The version, as `models:/NAME/VERSION`."""
        return f"models:/{self.name}/{self.version}"

    @property
    def passed(self) -> bool:
        """Whether nothing was changed, is missing, or was made differently again."""
        return not differs(self.findings) and (self.replay is None or self.replay.reproduced)

    def count(self, verdict: Verdict) -> int:
        """Return how many findings have a verdict."""
        return sum(finding.verdict is verdict for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """Return the result of the audit as plain values, as `audit.json` holds them."""
        return {
            "schema": SCHEMA,
            "model": self.model,
            "made": self.made,
            "passed": self.passed,
            "verdicts": {str(verdict): self.count(verdict) for verdict in Verdict},
            "findings": [finding.to_dict() for finding in self.findings],
            "decisions": [asdict(decision) for decision in self.decisions],
            "replay": self.replay.to_dict() if self.replay else None,
        }


def certificate_of(
    evidence: Evidence, findings: Sequence[Finding], made: str, replay: Outcome | None = None
) -> Certificate:
    """Take from the evidence of an audit what its certificate says.

    Args:
        evidence: What was audited.
        findings: What the audit of it has found.
        made: When, ISO 8601 in UTC.
        replay: How making the model again compared.
    """
    record, documents = evidence.record or {}, dict(_documents(evidence))
    return Certificate(
        name=evidence.name,
        version=evidence.version,
        made=made,
        findings=tuple(findings),
        record=record,
        tags=dict(evidence.tags),
        params=_params(evidence.tree.params or {}),
        decisions=tuple(_decision(seal) for seal in evidence.chain if not seal.problem),
        packages=recorded_packages(documents.get(ENVIRONMENT_FILE, b"")),
        documents=documents,
        replay=replay,
    )


def _documents(evidence: Evidence) -> Iterator[tuple[str, bytes]]:
    """Yield what the chain consists of and is small; what cannot be read is left out."""
    if evidence.record:
        yield RECORD, _json(evidence.record)
    if evidence.facts["package"]:
        yield WEIGHTS, _json(evidence.facts["package"])
    if evidence.run is not None:
        for source, name in _OF_THE_RUN.items():
            yield from _file(evidence.run / source, name)
    if evidence.seal is not None and evidence.run is not None and not evidence.seal.problem:
        sha256 = evidence.seal.pointer.sha256
        for name, content in _file(evidence.run / "seals" / f"{sha256}.json", SEAL):
            if seal_sha256(content) == sha256:
                yield name, content
    for name in _OF_THE_SNAPSHOT:
        content = evidence.tree.files.get(name.partition("/")[2])
        if content is not None:
            yield name, content
    listing = find_object(evidence.caches, evidence.data_md5)
    if listing is not None and evidence.data_md5:
        content = listing.read_bytes()
        if md5_of(content) == evidence.data_md5.removesuffix(".dir"):
            yield DATA_FILES, content


def _file(path: Path, name: str) -> Iterator[tuple[str, bytes]]:
    if path.is_file():
        yield name, path.read_bytes()


def _params(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters that a result may depend on, of the active scenario only."""
    scenario = str(params.get("scenario"))
    own = {key: value for key, value in params.items() if key not in ("execution", "scenarios")}
    settings = entry(params, "scenarios", scenario)
    return flat({**own, "scenarios": {scenario: settings}} if settings else own)


def _decision(seal: Seal) -> Decision:
    tags: Mapping[str, str] = entry(seal.content, "version", "tags") or {}
    return Decision(
        version=seal.version,
        sealed=str(seal.content["sealed"]),
        decision=tags.get("mno.decision", "none"),
        reason=tags.get("mno.decision_reason", ""),
        relative_l2=tags.get("mno.relative_l2", ""),
        aliases=dict(entry(seal.content, "aliases") or {}),
    )


def _json(content: Any) -> bytes:
    return (json.dumps(content, indent=2, sort_keys=True) + "\n").encode()
