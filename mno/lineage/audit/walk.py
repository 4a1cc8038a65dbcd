"""The audit: every link of the chain from the weights back to where they came from.

Its first links are here: the registry's rows and the run's files, the lineage record, the weights.
"""

import json
from collections.abc import Callable, Iterator

from ruamel.yaml.error import YAMLError

from mno.core.errors import MnoError
from mno.core.files import file_md5, names_sha256
from mno.lineage import record as records
from mno.lineage.audit import Evidence, Finding, Link, code, data, decision
from mno.lineage.audit.objects import FOLDER_MARK, find_object, listed_files, md5_on_disk
from mno.lineage.record import PACKAGED, RECORD_FILE, REGISTERED, Tag, entry
from mno.lineage.seal import Seal, leaves

REGISTRY, RECORD, WEIGHTS = Link("registry"), Link("record"), Link("weights")
_RESTORE = "restore the files of the version from a backup, or register the model again: mno run"
_RESTORE_RUN = "restore the files of the run from a backup"
_IN_MLFLOW = "changed in MLflow since the registration; restore it, or register again: mno run"
_CONTINUED = "changed in MLflow, or the run was continued by a later training: mno run"


def _check_registry(evidence: Evidence) -> Iterator[Finding]:
    """Check the seal itself, then all that it holds of the registry."""
    past = (
        f"version {evidence.version} was registered past the pipeline, or its tags were removed; "
        "register with: mno run"
    )
    if evidence.seal is None:
        yield REGISTRY.missing("seal", "the seal of its registration", past)
    else:
        yield from _seal(evidence, evidence.seal)
    if evidence.facts["run"] is None:
        run = evidence.facts["version"]["run"]
        yield REGISTRY.missing("run", run or "a run that trained it", past)
    if evidence.sealed is None:
        return
    for part in ("version", "logged_model", "run"):
        shown, advice = part.replace("_", " "), _CONTINUED if part == "run" else _IN_MLFLOW
        sealed, found = leaves(evidence.sealed[part]), leaves(evidence.facts[part])
        good = REGISTRY.verified(f"all rows of the {shown}")
        yield from REGISTRY.all_equal(f"{shown}: {{}}", sealed, found, good, advice)


def _seal(evidence: Evidence, seal: Seal) -> Iterator[Finding]:
    pointer = str(seal.pointer)
    if seal.problem == "missing":
        yield REGISTRY.missing("seal", pointer, _RESTORE_RUN)
    elif seal.problem:
        yield REGISTRY.changed("seal", pointer, seal.problem, _RESTORE_RUN)
    yield REGISTRY.equal("seal that the version names", pointer, evidence.sealed_tag)
    if seal.problem:
        return
    ours = (seal.content["model"], seal.content["number"])
    yield REGISTRY.equal("version that the seal is of", (evidence.name, evidence.version), ours)
    if evidence.version not in [found.version for found in evidence.whole_chain]:
        advice = "see who has changed the tag mno.seal of the model"
        yield REGISTRY.missing("seal in the chain of the model's seals", pointer, advice)


def _check_record(evidence: Evidence) -> Iterator[Finding]:
    """Check the record's digest, recomputed from its content, against all who name it."""
    record, tags = evidence.run_record, evidence.tags
    if record is None:
        past = "it was registered past the pipeline; register with: mno run"
        advice = _RESTORE_RUN if tags.get(Tag.LINEAGE) else past
        yield RECORD.missing(RECORD_FILE, "a lineage record with the run", advice)
        if evidence.record is None:
            return
    else:
        yield RECORD.equal("schema", records.SCHEMA, record.get("schema"))
        digest = records.lineage_sha256(record)
        yield RECORD.equal(f"digest in {RECORD_FILE}", digest, record.get("lineage_sha256"))
        yield RECORD.equal(f"tag {Tag.LINEAGE} of the version", digest, tags.get(Tag.LINEAGE))
        run = evidence.facts["version"]["run"]
        of_this = {"mlflow_run": run, "model": evidence.name, "version": evidence.version}
        for key, value in of_this.items():  # and not of another's
            yield RECORD.equal(f"{key} in {RECORD_FILE}", value, entry(record, "ids", key))
    sha256 = records.lineage_sha256(evidence.record or {})
    logged = entry(evidence.facts, "logged_model", "tags", Tag.LINEAGE)
    yield RECORD.equal("tag of the logged model", sha256, logged)
    if evidence.sealed and record is not None:
        good = RECORD.verified(f"{RECORD_FILE} against the seal")
        sealed = leaves(evidence.sealed["record"])
        yield from RECORD.all_equal(f"{{}} in {RECORD_FILE}", sealed, leaves(record), good)
    commit = evidence.recorded("snapshot", "commit")
    yield RECORD.equal(f"tag {Tag.SNAPSHOT} of the version", commit, tags.get(Tag.SNAPSHOT))
    yield from _registered(evidence, sha256)


def _registered(evidence: Evidence, sha256: str) -> Iterator[Finding]:
    """Check the workspace's own note of its last registration, if it is of this version."""
    try:
        content = json.loads((evidence.root / REGISTERED).read_bytes())
    except (OSError, ValueError):
        return
    ours = [evidence.facts["version"]["run"], evidence.name, evidence.version]
    if [entry(content, key) for key in ("run_id", "name", "version")] == ours:
        made = records.lineage_sha256(entry(content, "record") or {})
        yield RECORD.equal(REGISTERED, sha256, made)
        yield RECORD.equal(f"digest in {REGISTERED}", sha256, entry(content, "lineage_sha256"))


def _check_weights(evidence: Evidence) -> Iterator[Finding]:
    """Check every file of the package; then the model in it against record, run, tags and DVC."""
    files = evidence.facts["package"]
    if evidence.package is None or files is None:
        yield WEIGHTS.missing("package", evidence.facts["version"]["files"], _RESTORE)
        return
    yield from _package(evidence, files)
    folder, sha256 = evidence.package / PACKAGED, evidence.recorded("model", "sha256")
    try:
        found = records.candidate_digest(folder)
    except MnoError:
        yield WEIGHTS.missing(PACKAGED, sha256, _RESTORE)
        return
    yield WEIGHTS.equal("weights against the record", sha256, found, _RESTORE)
    run_tag = entry(evidence.facts, "run", "tags", Tag.CANDIDATE)
    named, tag = f"tag {Tag.CANDIDATE} of the", evidence.tags.get(Tag.CANDIDATE)
    yield WEIGHTS.equal(f"{named} version", found, tag)
    yield WEIGHTS.equal(f"{named} run", found, run_tag)
    if (md5 := evidence.recorded("model", "md5")) is None:
        yield WEIGHTS.unknown("weights against DVC", "the record names no hash of DVC's")
        return
    yield WEIGHTS.equal("weights against DVC", md5, md5_on_disk(folder), _RESTORE)
    yield from _cached(evidence, md5)


def _package(evidence: Evidence, files: dict[str, str]) -> Iterator[Finding]:
    if (tag := evidence.tags.get(Tag.PACKAGE)) is None:
        yield WEIGHTS.unknown("package", "the version names no digest of its files")
    else:
        yield WEIGHTS.equal("all files of the package", tag, names_sha256(files), _RESTORE)
    sealed = evidence.sealed["package"] if evidence.sealed else files
    for name in sorted(sealed.keys() | files.keys()):
        if name not in sealed:
            yield WEIGHTS.changed(name, "no such file", files[name], "remove it")
        elif files.get(name) != sealed[name]:
            yield WEIGHTS.equal(name, sealed[name], files.get(name), _RESTORE)


def _cached(evidence: Evidence, md5: str) -> Iterator[Finding]:
    """Check the model's objects in DVC's cache; they may have gone, since the package has them."""
    if (listing := find_object(evidence.caches, md5)) is None:
        return
    names = (listed_files(evidence.caches, md5) or {}).values()
    paths = {name: find_object(evidence.caches, name) for name in names}
    for name, path in {md5.removesuffix(FOLDER_MARK): listing, **paths}.items():
        if path is not None and (found := file_md5(path)) != name:
            yield WEIGHTS.changed("model in DVC's cache", name, found, f"remove {path}")


# In the order in which one asks: is this the model, where is it from, who let it go on?
_CHECKS = (
    (REGISTRY, _check_registry), (RECORD, _check_record), (WEIGHTS, _check_weights),
    (data.DATASET, data.check_data), (data.SOURCES, data.check_sources),
    (code.STAGES, code.check_stages), (code.PARAMETERS, code.check_parameters),
    (code.SNAPSHOT, code.check_snapshot), (code.ENVIRONMENT, code.check_environment),
    (decision.DECISION, decision.check_decision),
)  # fmt: skip
LINKS = tuple(link.name for link, _ in _CHECKS)
# A record or a row may hold anything: what no check foresaw is a difference, and no crash.
_UNFORESEEN = (MnoError, OSError, LookupError, TypeError, ValueError, AttributeError, YAMLError)


def audit(
    evidence: Evidence, progress: Callable[[str, int, int], None] = lambda *_: None
) -> list[Finding]:
    """Check every link of a version's lineage; nothing of the evidence is written to.

    Without a record only the first two are checked. Progress is told the link that is being looked
    at, its number, and of how many.
    """
    links = _CHECKS[:2] if evidence.record is None else _CHECKS
    findings: list[Finding] = []
    for number, (link, check) in enumerate(links):
        progress(link.name, number, len(links))
        try:
            findings.extend(check(evidence))
        except _UNFORESEEN as error:
            advice = "restore the files of the run from a backup, or report it as a bug"
            found = f"{type(error).__name__}: {error}"
            findings.append(link.changed("what was recorded", "readable", found, advice))
    return findings
