"""Link: the registry's rows and the run's files, against the seal of the version."""

from __future__ import annotations

from collections.abc import Iterator

from mno.lineage.audit.evidence import Evidence
from mno.lineage.audit.finding import Finding, Link
from mno.lineage.seal import differences

LINK = Link("registry")
PARTS = ("version", "logged_model", "run")
BEFORE_SEALS = "the version was registered before seals were made"


def check(evidence: Evidence) -> Iterator[Finding]:
    """Check the seal itself, then all that it holds of the registry."""
    yield from _seal(evidence)
    if evidence.facts["run"] is None:
        run = evidence.facts["version"]["run"]
        yield LINK.missing("run", run or "a run that trained it", _past_the_pipeline(evidence))
    if evidence.sealed is None:
        return
    for part in PARTS:
        apart = differences(evidence.sealed[part], evidence.facts[part])
        for path, sealed, found in apart:
            yield LINK.equal(f"{part.replace('_', ' ')}: {path}", sealed, found, _advice(part))
        if not apart:
            yield LINK.verified(f"all rows of the {part.replace('_', ' ')}")


def _seal(evidence: Evidence) -> Iterator[Finding]:
    seal, tag = evidence.seal, evidence.sealed_tag
    chained = [found.version for found in evidence.chain if not found.problem]
    if seal is None:
        if chained and evidence.version > min(chained):
            yield LINK.missing(
                "seal", f"one, as version {min(chained)} has", _past_the_pipeline(evidence)
            )
        else:
            yield LINK.unknown("seal", BEFORE_SEALS, "the next registration of it makes one")
        return
    if seal.problem == "missing":
        yield LINK.missing("seal", str(seal.pointer), "restore the files of the run")
    elif seal.problem:
        yield LINK.changed("seal", str(seal.pointer), seal.problem, "restore the files of the run")
    yield LINK.equal("seal that the version names", str(seal.pointer), tag)
    if evidence.sealed is None:
        return
    ours = (evidence.sealed["model"], evidence.sealed["number"])
    yield LINK.equal("version that the seal is of", (evidence.name, evidence.version), ours)
    if evidence.version not in chained:
        yield LINK.missing("seal in the chain of the model's seals", str(seal.pointer),
                           "see who has changed the tag mno.seal of the model")  # fmt: skip


def _past_the_pipeline(evidence: Evidence) -> str:
    return (
        f"version {evidence.version} was registered past the pipeline, or its tags were removed; "
        "register with: mno run"
    )


def _advice(part: str) -> str:
    if part == "run":
        return "changed in MLflow, or the run was continued by a later training: mno run"
    return "changed in MLflow since the registration; restore it, or register again: mno run"
