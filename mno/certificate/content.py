"""What a certificate says: an audit's findings, and what was audited, as plain values."""

import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, distribution
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mno.core.config import flat
from mno.lineage.audit import Evidence, Finding, counts, differs
from mno.lineage.audit.objects import whole_object
from mno.lineage.environment import PACKAGES_FILE
from mno.lineage.record import Tag, entry
from mno.lineage.seal import Seal, seal_path, seal_sha256

if TYPE_CHECKING:
    from mno.lineage.replay_compare import Outcome

SCHEMA = 2
# The files of a certificate's folder.
PAGE, JAPANESE = "certificate.html", "certificate.ja.html"
AUDIT, BILL = "audit.json", "environment.cdx.json"
METADATA, SUMS = "ro-crate-metadata.json", "SHA256SUMS"
SIGNATURE, SIGNER = "model.sig", "signer.pem"
RECORD, SEAL, METRICS = "record.json", "seal.json", "metrics.json"
DATA_FILES, WEIGHTS, PACKAGE = "data.json", "weights.json", "package"
PARAMS, WORKFLOW = "snapshot/params.yaml", "snapshot/dvc.yaml"
DATA_VERSION, CONSTRAINTS = "snapshot/data.dvc", "snapshot/constraints.txt"
DOSSIER, DOSSIER_JAPANESE = "dossier.html", "dossier.ja.html"
EVALUATED = [f"{name}.json" for name in ("metrics", "cost", "decision", "robustness", "trust")]
EVALUATED += ["report.html", "report.ja.html"]
TABLES = tomllib.loads(files("mno.certificate").joinpath("tables.toml").read_text(encoding="utf-8"))
FILES: dict[str, str] = TABLES["files"]  # what each is, for whoever opens the folder
_LONGEST = 60  # a longer licence is the text of one, and no name


class Package(NamedTuple):
    """An installed package, and its licence as its metadata say; empty where it is not known."""

    name: str
    version: str
    licence: str


@dataclass(frozen=True)
class Certificate:
    """What is certified."""

    name: str  # the registered model
    version: int
    made: str  # when the audit was made, ISO 8601 in UTC
    findings: Sequence[Finding]
    record: Mapping[str, Any]  # the lineage record; empty where there is none
    tags: Mapping[str, str]  # the version's
    params: Mapping[str, Any]  # by dotted key; empty where the snapshot lacks them
    decisions: Sequence[dict[str, Any]]  # on all versions of the model, the latest first
    packages: Sequence[Package]
    documents: Mapping[str, bytes] = field(repr=False)  # files beside the certificate's own
    replay: "Outcome | None" = None  # how making the model again compared, if that was done

    @property
    def model(self) -> str:
        """The version, as `models:/NAME/VERSION`."""
        return f"models:/{self.name}/{self.version}"

    @property
    def passed(self) -> bool:
        """Whether nothing was changed, is missing, or was made differently again."""
        return not differs(self.findings) and (self.replay is None or self.replay.reproduced)

    def to_dict(self) -> dict[str, Any]:
        """Return the result of the audit as plain values, as `audit.json` holds them."""
        return {
            "schema": SCHEMA, "model": self.model, "made": self.made, "passed": self.passed,
            "verdicts": counts(self.findings),
            "findings": [asdict(finding) for finding in self.findings],
            "decisions": list(self.decisions),
            "replay": self.replay.to_dict() if self.replay else None,
        }  # fmt: skip


def certificate_of(
    evidence: Evidence, findings: Sequence[Finding], made: str, replay: "Outcome | None" = None
) -> Certificate:
    """Take from the evidence of an audit, made at a time in UTC, what its certificate says."""
    documents = dict(_documents(evidence))
    params = evidence.tree.params or {}
    # Those that a result may depend on, of the active scenario only.
    chosen = {key: value for key, value in params.items() if key not in ("execution", "scenarios")}
    if settings := entry(params, "scenarios", str(params.get("scenario"))):
        chosen["scenarios"] = {params["scenario"]: settings}
    return Certificate(
        name=evidence.name, version=evidence.version, made=made, findings=tuple(findings),
        record=evidence.record or {}, tags=dict(evidence.tags), params=flat(chosen),
        decisions=tuple(_decision(seal) for seal in evidence.chain if not seal.problem),
        packages=tuple(_packages(documents.get(PACKAGES_FILE, b""))), documents=documents,
        replay=replay,
    )  # fmt: skip


def _documents(evidence: Evidence) -> Iterator[tuple[str, bytes]]:
    """Yield the model, and what is small of its chain; what cannot be read is left out."""
    for name, content in ((RECORD, evidence.record), (WEIGHTS, evidence.facts["package"])):
        if content:
            yield name, (json.dumps(content, indent=2, sort_keys=True) + "\n").encode()
    kept = {name: f"evaluation/{name}" for name in EVALUATED} | {PACKAGES_FILE: PACKAGES_FILE}
    if evidence.sealed and evidence.seal:
        kept[SEAL] = seal_path(evidence.seal.pointer)
    for name, source in kept.items():
        if (path := evidence.run_file(source)) is not None:
            content = path.read_bytes()
            if name != SEAL or seal_sha256(content) == path.stem:
                yield name, content
    for name in (PARAMS, WORKFLOW, DATA_VERSION, CONSTRAINTS):
        if (content := evidence.tree.files.get(Path(name).name)) is not None:
            yield name, content
    if (listing := whole_object(evidence.caches, evidence.data_md5)) is not None:
        yield DATA_FILES, listing
    for name in evidence.facts["package"] or () if evidence.package else ():
        yield f"{PACKAGE}/{name}", (evidence.package / name).read_bytes()


def described(name: str) -> str:
    """Return what a file of a certificate is."""
    return FILES[PACKAGE if name.startswith(f"{PACKAGE}/") else name]


def _decision(seal: Seal) -> dict[str, Any]:
    tags: Mapping[str, str] = entry(seal.content, "version", "tags") or {}
    return {
        "version": seal.version,
        "sealed": str(seal.content["sealed"]),  # when, ISO 8601
        "decision": tags.get(Tag.DECISION, "none"),
        "reason": tags.get(Tag.REASON, ""),  # with the figures that were compared
        "relative_l2": tags.get(Tag.RELATIVE_L2, ""),  # the version's test error
        "aliases": dict(entry(seal.content, "aliases") or {}),  # versions that they stood for then
    }


def _packages(listing: bytes) -> Iterator[Package]:
    """Yield the packages of a run's list; a licence is known of what is installed here, too."""
    for line in listing.decode(errors="replace").splitlines():
        name, found, version = (part.strip() for part in line.partition("=="))
        if found:
            yield Package(name, version, _licence(name, version))


def _licence(name: str, version: str) -> str:
    """Return a package's licence: an SPDX expression (PEP 639), or what it calls itself."""
    try:
        installed = distribution(name)
        if installed.version != version:
            return ""
    except (PackageNotFoundError, ValueError, KeyError):
        return ""
    metadata = installed.metadata
    if "License-Expression" in metadata:
        return metadata["License-Expression"].strip()
    stated = [c for c in metadata.get_all("Classifier") or () if c.startswith("License ::")]
    names = [c.rpartition(" :: ")[2] for c in stated if c.count("::") > 1]
    lines = next(iter(metadata.get_all("License") or ()), "").strip().splitlines()
    if names or not lines or len(lines[0]) > _LONGEST:
        return ", ".join(sorted(set(names)))
    return lines[0].strip()
