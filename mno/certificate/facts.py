"""What the record says of each link of the lineage, as names and values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from mno.certificate.content import Certificate
from mno.lineage.audit.evidence import entry
from mno.lineage.replay.outcome import Change, Outcome

# Title on the page, and what its checks compare; in the order in which one asks.
LINKS = {
    "decision": ("Decision", "Why the version was let go on, and all decisions on the model."),
    "registry": (
        "Version in the registry",
        "Every row of the registry and every file of the run, against the seal that was made when "
        "the version was registered.",
    ),
    "record": ("Training run", "The lineage record, its digest computed again, and its copies."),
    "weights": ("Weights", "Each file of the package, against the seal and the record."),
    "data": ("Data", "Each file of the dataset, every byte of it read."),
    "imported files": ("Imported files", "The files that the data were imported from."),
    "stages": (
        "Stages",
        "What each stage depended on and made, by the lock at registration, against the snapshot.",
    ),
    "parameters": ("Parameters", "Those of the snapshot, against the record and the run."),
    "snapshot": ("Code", "Commit, trees and files of the code that ran, hashed again."),
    "environment": ("Environment", "Installed packages, and the machine that was trained on."),
    "certificates": ("Earlier certificates", "Those that were kept with the version before."),
}

_RECORD: dict[str, tuple[tuple[str, tuple[str, ...]], ...]] = {
    "registry": (
        ("MLflow run", ("ids", "mlflow_run")),
        ("MLflow model", ("ids", "mlflow_model")),
        ("Registered", ("times", "registered")),
    ),
    "record": (
        ("Scenario", ("scenario",)),
        ("MLflow run", ("ids", "mlflow_run")),
        ("Prefect flow run", ("ids", "prefect_flow_run")),
        ("Started", ("times", "started")),
        ("Seed", ("seed",)),
        ("Threads", ("threads",)),
        ("Device", ("device",)),
        ("Lineage SHA-256", ("lineage_sha256",)),
        ("Began from the weights (SHA-256)", ("warm_start", "sha256")),
    ),
    "weights": (
        ("SHA-256 over the model's files", ("model", "sha256")),
        ("MD5 by DVC", ("model", "md5")),
    ),
    "data": (
        ("Version (MD5 by DVC)", ("data", "md5")),
        ("Released from (MD5 by DVC)", ("data", "source_md5")),
    ),
    "parameters": (("SHA-256", ("params_sha256",)),),
    "snapshot": (
        ("Snapshot commit", ("snapshot", "commit")),
        ("Its tree", ("snapshot", "tree")),
        ("Commit that was checked out", ("head",)),
    ),
    "environment": (
        ("SHA-256 of packages and constraints", ("environment_sha256",)),
        ("Processor", ("machine", "cpu")),
        ("Cores", ("machine", "cores")),
        ("Architecture", ("machine", "architecture")),
        ("System", ("machine", "system")),
        ("Python", ("machine", "python")),
    ),
}
_TAGS = {
    "decision": (
        ("Decision", "mno.decision"),
        ("Because", "mno.decision_reason"),
        ("Test error (relative L2)", "mno.relative_l2"),
        ("Compared with version", "mno.compared_with"),
        ("Its test error", "mno.champion_relative_l2"),
    ),
    "weights": (("SHA-256 over the package", "mno.package_sha256"),),
}


def link_facts(certificate: Certificate, link: str) -> list[tuple[str, str]]:
    """Return what is recorded of a link; what is not is left out."""
    return list(_facts(certificate, link))


def _facts(certificate: Certificate, link: str) -> Iterator[tuple[str, str]]:
    record, tags = certificate.record, certificate.tags
    if link == "registry":
        yield "Name and version", certificate.model
    for title, keys in _RECORD.get(link, ()):
        value: Any = entry(record, *keys)
        if value is not None:
            yield title, str(value)
    for title, tag in _TAGS.get(link, ()):
        if tags.get(tag):
            yield title, tags[tag]
    if link == "snapshot":
        uncommitted = record.get("uncommitted") or ()
        yield "Files in no commit", ", ".join(uncommitted) if uncommitted else "none"
    if link == "imported files":
        for file in entry(record, "data", "files") or ():
            yield str(file["file"]), str(file["sha256"])


def replay_facts(outcome: Outcome) -> Iterator[tuple[str, str]]:
    """Yield how a model was made again, as name and text."""
    yield "Stages that were run again", ", ".join(outcome.stages)
    if outcome.given:
        yield "Taken as recorded", ", ".join(outcome.given)
    yield "Tolerance", outcome.tolerance
    yield "Packages that differ", _changes(outcome.packages)
    yield "Machine, what differs", _changes(outcome.machine)


def _changes(changes: Sequence[Change] | None) -> str:
    return "not known" if changes is None else "; ".join(map(str, changes)) or "none"
