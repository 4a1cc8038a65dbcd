"""Links: the code that ran, by git and by DVC; the parameters, and the packages it ran with.

DVC believes its lock. Here what the lock says of code and parameters is held against the snapshot
at registration, and what it says of data, model and reports against the files themselves.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ruamel.yaml.error import YAMLError

from mno.core.config import PARAMS_FILE, flat
from mno.core.errors import MnoError
from mno.core.files import file_sha256, md5, write_bytes
from mno.core.imports import OURS
from mno.lineage import dvcfiles
from mno.lineage.audit import Evidence, Finding, Link, objects
from mno.lineage.audit.data import ROOT_FILE
from mno.lineage.environment import CONSTRAINTS_FILE, PACKAGES_FILE, environment_digest
from mno.lineage.record import CANDIDATE, Tag, entry, params_sha256
from mno.lineage.seal import leaves
from mno.lineage.snapshot import FETCH, asked, changed_code, git

SNAPSHOT, STAGES = Link("snapshot"), Link("stages")
PARAMETERS, ENVIRONMENT = Link("parameters"), Link("environment")
_FETCH = f"fetch the snapshots: {FETCH}"
_DATASET = "build/dataset"
_EDITED = (
    f"either {dvcfiles.LOCK_FILE} was edited by hand, or the code was changed while the line "
    "ran; make the model again: dvc repro -f, then mno run"
)
_COMMITTED = "committed code"


def check_snapshot(evidence: Evidence) -> Iterator[Finding]:
    """Check that the commits exist, are whole and kept, and that the code was committed."""
    tree, again = evidence.tree, evidence.registered_tree
    yield from _commit(evidence.root, "commit of the training", tree)
    yield SNAPSHOT.equal("tree", evidence.recorded("snapshot", "tree"), tree.tree, _FETCH)
    if again is not None and again.commit != tree.commit:
        yield from _commit(evidence.root, "commit of the registration", again)
    yield from _committed(evidence)


def _commit(root: Path, subject: str, tree: objects.Tree) -> Iterator[Finding]:
    if tree.missing:
        yield SNAPSHOT.missing(f"{subject} {tree.commit or ''}".strip(), tree.missing, _FETCH)
        return
    advice = f"restore it from another clone: git fetch there, after git fsck here; {_FETCH}"
    for damaged in tree.damaged:
        yield SNAPSHOT.changed(f"object of the {subject}", tree.commit, damaged, advice)
    if tree.damaged or tree.tree is None:
        return
    yield SNAPSHOT.verified(f"{subject} {tree.commit}", f"{len(tree.files)} files")
    # Kept by the ref that its content names.
    name, of = f"refs/mno/{tree.tree[:16]}", f"ref of the {subject}"
    restore = f"no ref keeps it, so that git gc removes it: git update-ref {name} {tree.commit}"
    kept = asked(root, "rev-parse", "--verify", "--quiet", name)
    found = name if kept == tree.commit else kept and f"{name} at {kept}"
    yield SNAPSHOT.equal(of, name, found, restore)


def _committed(evidence: Evidence) -> Iterator[Finding]:
    """Check what the record and the version say of code that was in no commit."""
    tree, mark = evidence.tree, evidence.tags.get(Tag.UNCOMMITTED)
    if not tree.whole or tree.commit is None:
        yield SNAPSHOT.unknown(_COMMITTED, "the snapshot is not at hand to compare it")
        return
    uncommitted = evidence.recorded("uncommitted")
    head = entry(evidence.sealed, "snapshot", "head")
    # It may have been committed between training and registration, as register advises.
    if uncommitted and not (mark == "false" and head is not None):
        shown = ", ".join(uncommitted[:5]) + (" and more" if uncommitted[5:] else "")
        advice = f"nobody may have reviewed it; the snapshot has it: git show {tree.commit}"
        yield SNAPSHOT.unknown(_COMMITTED, f"at training time it was in no commit: {shown}", advice)
    else:
        named = head if uncommitted else evidence.recorded("head")
        yield from _equals_commit(evidence.root, tree.commit, named)


def _equals_commit(root: Path, snapshot: str, head: object) -> Iterator[Finding]:
    if not isinstance(head, str) or not objects.is_id(head):
        yield SNAPSHOT.unknown(_COMMITTED, "the record names no commit that was checked out")
        return
    if asked(root, "cat-file", "-e", f"{head}^{{commit}}") is None:
        yield SNAPSHOT.missing(_COMMITTED, f"commit {head}", "fetch the branch that has it")
        return
    kinds = ("refs/heads", "refs/remotes", "refs/tags")
    named = git(root, "for-each-ref", "--count=1", "--contains", head, *kinds)
    if not named and asked(root, "merge-base", "--is-ancestor", head, "HEAD") is None:
        advice = f"no branch or tag has it any more; keep it with: git tag audited {head}"
        yield SNAPSHOT.missing(_COMMITTED, f"a branch or tag with commit {head}", advice)
    if changed := ", ".join(changed_code(root, snapshot, head)):
        advice = f"git diff {head} {snapshot}"
        yield SNAPSHOT.changed(_COMMITTED, head, f"other in {changed}", advice)
    else:
        yield SNAPSHOT.verified(_COMMITTED, f"equal to commit {head}")


def check_parameters(evidence: Evidence) -> Iterator[Finding]:
    """Check the parameters' digest, MLflow's rows, and the key that the training was found by."""
    recorded, named = evidence.recorded("params_sha256"), evidence.tags.get(Tag.PARAMS)
    yield PARAMETERS.equal(f"tag {Tag.PARAMS} of the version", recorded, named)
    if (params := evidence.tree.params) is None:
        why = f"the snapshot has no {PARAMS_FILE} that can be read"
        yield PARAMETERS.unknown("parameters", why)
        return
    yield PARAMETERS.equal(f"{PARAMS_FILE} of the snapshot", recorded, params_sha256(params))
    for key in ("seed", "scenario"):
        yield PARAMETERS.equal(f"{key} of the record", params.get(key), evidence.recorded(key))
    if evidence.facts["run"] is not None:
        yield from _training(evidence, params, evidence.facts["run"])


def _training(
    evidence: Evidence, params: dict[str, Any], run: Mapping[str, Any]
) -> Iterator[Finding]:
    """Check what MLflow's run says of parameters, code and data of the training."""
    try:
        with TemporaryDirectory(prefix="mno-audit-") as folder:
            for name, content in evidence.tree.files.items():
                write_bytes(Path(folder, name), content)
            inputs = dvcfiles.stage_inputs(Path(folder), "train", params)
    except (MnoError, OSError, LookupError, TypeError, YAMLError) as error:
        why = f"the snapshot cannot tell: {error}"
        yield PARAMETERS.unknown("what the training depended on", why)
        return
    if evidence.recorded("restored"):
        why = "it was lost; the run was made afterwards, at registration"
        yield PARAMETERS.unknown("run of the training", why)
        return
    shown = {k: str(v) for k, v in flat(inputs.params).items()}
    subject = "parameter {} of the run"
    good = PARAMETERS.verified("parameters of the run", f"{len(shown)} rows")
    yield from PARAMETERS.all_equal(subject, shown, run["params"], good, lacking="no such row")
    code, _, data = run["tags"].get(Tag.TRAINING_KEY, "").partition("-")
    yield PARAMETERS.equal("code and parameters that the run names", inputs.digest, code or None)
    # The digest of the dataset's root file, in which the data have all their checksums.
    listing = objects.listed_files(evidence.caches, evidence.recorded("data", "md5")) or {}
    if (root := objects.find_object(evidence.caches, listing.get(ROOT_FILE))) is not None:
        yield PARAMETERS.equal("data that the run names", file_sha256(root), data or None)


def check_environment(evidence: Evidence) -> Iterator[Finding]:
    """Check that the run's list of packages is the one that the record has the digest of."""
    recorded, file = evidence.recorded("environment_sha256"), PACKAGES_FILE
    path = evidence.run_file(file)
    if evidence.recorded("restored"):
        why = "the run of the training was lost; the record names those of registration"
        yield ENVIRONMENT.unknown("packages", why)
    elif path is None:
        yield ENVIRONMENT.missing(file, recorded, "restore the files of the run from a backup")
    elif not evidence.tree.whole:
        why = f"the snapshot, which has {CONSTRAINTS_FILE}, is not at hand"
        yield ENVIRONMENT.unknown(file, why)
    else:
        packages = path.read_bytes().removesuffix(b"\n").split(b"\n")
        found = environment_digest(evidence.tree.files.get(CONSTRAINTS_FILE, b""), packages)
        yield ENVIRONMENT.equal(f"{file} and {CONSTRAINTS_FILE}", recorded, found)


def check_stages(evidence: Evidence) -> Iterator[Finding]:
    """Check the sealed lock against snapshot, record and reports, then the present one by it."""
    if evidence.sealed is None:
        yield STAGES.unknown(dvcfiles.LOCK_FILE, "there is no seal that says what it was")
        return
    lock: Mapping[str, Any] = evidence.sealed["lock"]
    for stage in dvcfiles.MAKING:
        if stage not in lock:
            yield STAGES.unknown(stage, f"{dvcfiles.LOCK_FILE} had nothing of it at registration")
    data, model = evidence.recorded("data", "md5"), evidence.recorded("model", "md5")
    for stage, part, path, recorded in (
        ("generate", "outs", _DATASET, evidence.recorded("data", "source_md5")),
        ("train", "deps", "data", data),
        ("train", "outs", CANDIDATE, model),
        ("evaluate", "deps", "data", data),
        ("evaluate", "deps", CANDIDATE, model),
    ):
        if stage in lock and recorded is not None:
            named = entry(lock, stage, part, path)
            yield STAGES.equal(f"{path} of {stage}", recorded, named, _EDITED)
    tree = evidence.registered_tree
    if tree is None or not tree.whole:
        yield STAGES.unknown("code and parameters", "the snapshot of registration is not at hand")
    else:
        for stage, locked in lock.items():
            yield from _against_tree(stage, locked, tree)
    yield from _reports(evidence, lock)
    yield from _present(evidence, lock)


def _against_tree(stage: str, locked: Mapping[str, Any], tree: objects.Tree) -> Iterator[Finding]:
    code = {path: name for path, name in locked["deps"].items() if path.split("/")[0] in OURS}
    good = STAGES.verified(f"code of {stage}", f"{len(code)} files and folders of the snapshot")
    found = {path: _md5(tree, path) for path in code}
    yield from STAGES.all_equal(f"{{}} of {stage}", code, found, good, _EDITED)
    if tree.params is None:
        yield STAGES.unknown(f"parameters of {stage}", "the snapshot has none that can be read")
        return
    values = {key: entry(tree.params, *key.split(".")) for key in locked["params"]}
    good = STAGES.verified(f"parameters of {stage}", ", ".join(values))
    named, found = leaves(locked["params"]), leaves(values)
    yield from STAGES.all_equal(f"parameter {{}} of {stage}", named, found, good, _EDITED)


def _md5(tree: objects.Tree, path: str) -> str | None:
    if path in tree.files:
        return md5(tree.files[path])
    inside = f"{path}/"
    files = {
        name.removeprefix(inside): md5(content)
        for name, content in tree.files.items()
        if name.startswith(inside) and not dvcfiles.IGNORED.search(name)
    }
    return objects.folder_md5(files) if files else None


def _reports(evidence: Evidence, lock: Mapping[str, Any]) -> Iterator[Finding]:
    """Check the reports among the run's files against what the stage evaluate had written."""
    if evidence.run is None:
        return
    checked = 0
    for path, name in (entry(lock, "evaluate", "outs") or {}).items():
        place = evidence.run / "evaluation" / path.removeprefix("reports/")
        if not name or not place.exists():
            continue  # not all of them are kept with the run; a lost one the seal tells of
        found, checked = objects.md5_on_disk(place), checked + 1
        if found != name:
            subject = f"{path} with the run"
            yield STAGES.changed(subject, name, found, "restore the files of the run")
    yield STAGES.verified("reports with the run", f"{checked} compared")


def _present(evidence: Evidence, lock: Mapping[str, Any]) -> Iterator[Finding]:
    """Check the workspace's lock, as far as it is of this model, and its `data.dvc` by that."""
    subject = f"{dvcfiles.LOCK_FILE} of the workspace"
    try:
        present = dvcfiles.locked_stages(evidence.root)
        data = dvcfiles.read_data_version(evidence.root / dvcfiles.DATA_FILE)
    except MnoError as error:
        yield STAGES.changed(subject, "a file of DVC's", str(error))
        return
    advice = (
        "if the line has run since with other code, register again (mno run); otherwise see who "
        f"edited it: git log -p {dvcfiles.LOCK_FILE}"
    )
    # Those stages that were sealed: from the same they were made, or the same they made.
    ours = [
        stage
        for stage, sealed in lock.items()
        if (now := present.get(stage)) is not None
        and (sealed["outs"] == now["outs"] or all(sealed[k] == now[k] for k in ("deps", "params")))
    ]
    if ours:
        good = STAGES.verified(subject, f"as sealed: {', '.join(ours)}")
        sealed, now = (leaves({stage: known[stage] for stage in ours}) for known in (lock, present))
        yield from STAGES.all_equal(f"{subject}: {{}}", sealed, now, good, advice)
    if "generate" in ours:
        released = [present["generate"]["outs"].get(_DATASET)] * 2
        named, subject = [data.source_md5, data.md5], f"{dvcfiles.DATA_FILE} of the workspace"
        yield STAGES.equal(subject, released, named, "mno generate")
