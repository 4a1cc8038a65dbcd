"""Link: the stages that made data, model and figures, by what `dvc.lock` says of them.

DVC believes its lock. Here what the lock says of code and parameters is held against the snapshot
at registration, and what it says of data, model and reports against the files themselves.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mno.core.errors import MnoError
from mno.lineage.audit.evidence import Evidence, entry
from mno.lineage.audit.finding import Finding, Link
from mno.lineage.audit.objects import digests, folder_md5, md5_of
from mno.lineage.audit.registry import BEFORE_SEALS
from mno.lineage.audit.tree import Tree
from mno.lineage.dvcfiles import DATA_FILE, LOCK_FILE, MAKING, locked_stages, read_data_version
from mno.lineage.record import CANDIDATE
from mno.lineage.seal import differences
from mno.lineage.stages import CODE_FOLDERS, IGNORED, lookup

LINK = Link("stages")
_DATASET = "build/dataset"
_REPORTS = "reports/"
_LOGGED = "evaluation"
_EDITED = (
    f"either {LOCK_FILE} was edited by hand, or the code was changed while the line ran; "
    "make the model again: dvc repro -f, then mno run"
)


def check(evidence: Evidence) -> Iterator[Finding]:
    """Check the sealed lock against snapshot, record and reports, then the present one by it."""
    if evidence.sealed is None:
        yield LINK.unknown(LOCK_FILE, BEFORE_SEALS)
        return
    lock: Mapping[str, Any] = evidence.sealed["lock"]
    for stage in MAKING:
        if stage not in lock:
            yield LINK.unknown(stage, f"{LOCK_FILE} had nothing of it at registration")
    yield from _against_record(evidence, lock)
    tree = evidence.registered_tree
    if tree is None or not tree.whole:
        yield LINK.unknown("code and parameters", "the snapshot of registration is not at hand")
    else:
        for stage, locked in lock.items():
            yield from _against_snapshot(stage, locked, tree)
    yield from _reports(evidence, lock)
    yield from _present(evidence, lock)


def _against_record(evidence: Evidence, lock: Mapping[str, Any]) -> Iterator[Finding]:
    record = evidence.record
    known = (
        ("generate", "outs", _DATASET, entry(record, "data", "source_md5")),
        ("train", "deps", "data", entry(record, "data", "md5")),
        ("train", "outs", CANDIDATE, entry(record, "model", "md5")),
        ("evaluate", "deps", "data", entry(record, "data", "md5")),
        ("evaluate", "deps", CANDIDATE, entry(record, "model", "md5")),
    )
    for stage, part, path, recorded in known:
        if stage in lock and recorded is not None:
            named = entry(lock, stage, part, path)
            yield LINK.equal(f"{path} of {stage}", recorded, named, _EDITED)


def _against_snapshot(stage: str, locked: Mapping[str, Any], tree: Tree) -> Iterator[Finding]:
    code = {p: md5 for p, md5 in locked["deps"].items() if p.split("/")[0] in CODE_FOLDERS}
    wrong = {path: found for path in code if (found := _md5(tree, path)) != code[path]}
    for path, found in wrong.items():
        yield LINK.equal(f"{path} of {stage}", code[path], found, _EDITED)
    if not wrong:
        yield LINK.verified(f"code of {stage}", f"{len(code)} files and folders of the snapshot")
    params = tree.params
    if params is None:
        yield LINK.unknown(f"parameters of {stage}", "the snapshot has none that can be read")
        return
    apart = differences(locked["params"], {k: _value(params, k) for k in locked["params"]})
    for key, named, found in apart:
        yield LINK.equal(f"parameter {key} of {stage}", named, found, _EDITED)
    if not apart:
        yield LINK.verified(f"parameters of {stage}", ", ".join(locked["params"]))


def _md5(tree: Tree, path: str) -> str | None:
    """Return DVC's hash of a file or folder of the snapshot."""
    if path in tree.files:
        return md5_of(tree.files[path])
    inside = f"{path}/"
    files = {
        name.removeprefix(inside): md5_of(content)
        for name, content in tree.files.items()
        if name.startswith(inside) and not name.endswith(tuple(IGNORED))
    }
    return folder_md5(files) if files else None


def _value(params: Mapping[str, Any], key: str) -> Any:
    try:
        return lookup(params, key)
    except MnoError:
        return None


def _reports(evidence: Evidence, lock: Mapping[str, Any]) -> Iterator[Finding]:
    """Check the reports among the run's files against what the stage evaluate had written."""
    if evidence.run is None:
        return
    outs = {p: md5 for p, md5 in (entry(lock, "evaluate", "outs") or {}).items() if md5}
    checked = 0
    for path, md5 in outs.items():
        place = evidence.run / _LOGGED / path.removeprefix(_REPORTS)
        if place.is_dir():
            inside = (file for file in place.rglob("*") if file.is_file())
            names = {f.relative_to(place).as_posix(): digests(f).md5 for f in inside}
            found = folder_md5(names)
        elif place.is_file():
            found = digests(place).md5
        else:
            continue  # not all of them are kept with the run; a lost one the seal tells of
        checked += 1
        if found != md5:
            yield LINK.changed(f"{path} with the run", md5, found, "restore the files of the run")
    yield LINK.verified("reports with the run", f"{checked} compared")


def _present(evidence: Evidence, lock: Mapping[str, Any]) -> Iterator[Finding]:
    """Check the workspace's lock, as far as it is of this model, and its `data.dvc` by that."""
    try:
        present = locked_stages(evidence.root)
        data = read_data_version(evidence.root / DATA_FILE)
    except MnoError as error:
        yield LINK.changed(f"{LOCK_FILE} of the workspace", "a file of DVC's", str(error))
        return
    advice = (
        "if the line has run since with other code, register again (mno run); otherwise see who "
        f"edited it: git log -p {LOCK_FILE}"
    )
    ours = [stage for stage in lock if _is_same(lock[stage], present.get(stage))]
    apart = differences({s: lock[s] for s in ours}, {s: present[s] for s in ours})
    for path, sealed, found in apart:
        yield LINK.equal(f"{LOCK_FILE} of the workspace: {path}", sealed, found, advice)
    if ours and not apart:
        yield LINK.verified(f"{LOCK_FILE} of the workspace", f"as sealed: {', '.join(ours)}")
    if "generate" in ours:
        released = present["generate"]["outs"].get(_DATASET)
        named = [data.source_md5, data.md5]
        yield LINK.equal(f"{DATA_FILE} of the workspace", [released] * 2, named, "mno generate")


def _is_same(sealed: Mapping[str, Any], present: Mapping[str, Any] | None) -> bool:
    """Whether a stage is that which was sealed: from the same it was made, or the same it made."""
    inputs = ("deps", "params")
    return present is not None and (
        sealed["outs"] == present["outs"] or all(sealed[key] == present[key] for key in inputs)
    )
