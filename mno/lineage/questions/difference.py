"""What changed between two versions: parameters, data, code, metrics, environment."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from mno.core.errors import MnoError
from mno.lineage.audit.evidence import entry
from mno.lineage.audit.objects import find_object, md5_of, read_listing
from mno.lineage.git import git
from mno.lineage.questions.version import DATA, SNAPSHOT, RegisteredVersion
from mno.lineage.snapshot import CODE
from mno.lineage.stages import flat

Read = Callable[[str], bytes | None]
_UNTRACKED = "execution."
_STATISTICS = ("min", "max", "mean", "std", "missing")
_MACHINE = ("cpu", "cores", "architecture", "system", "python")


@dataclass(frozen=True)
class Side:
    """One of the two versions, and what is needed of it.

    Attributes:
        version: The version.
        record: Its lineage record; none where there is none that can be relied on.
        sealed: Its seal; none where it has none.
        read: Reads a file of its run.
    """

    version: RegisteredVersion
    record: Mapping[str, Any] | None
    sealed: Mapping[str, Any] | None
    read: Read

    @property
    def snapshot(self) -> str | None:
        """The commit of the code and parameters that trained it."""
        return self.version.tags.get(SNAPSHOT)


@dataclass(frozen=True)
class Change:
    """One thing that differs.

    Attributes:
        subject: What it is.
        before: Its value in the first version; none where there is none.
        after: Its value in the second one; none where there is none.
    """

    subject: str
    before: Any
    after: Any


@dataclass(frozen=True)
class Part:
    """One kind of difference.

    Attributes:
        name: `parameters`, `data`, `code`, `metrics` or `environment`.
        changes: What differs; empty where nothing does.
        unknown: Why it cannot be known; none where it can.
    """

    name: str
    changes: Sequence[Change] = field(default_factory=tuple)
    unknown: str | None = None

    def to_dict(self) -> dict[str, object]:
        """Return what `--json` prints of it."""
        return {
            "changes": [change.__dict__ for change in self.changes],
            "cannot_be_known": self.unknown,
        }


def compare(root: Path, caches: Iterable[Path], before: Side, after: Side) -> list[Part]:
    """Compare two versions.

    Args:
        root: A clone with the snapshots of both.
        caches: DVC caches, in which data statistics are looked up.
        before: The one.
        after: The other.
    """
    return [
        _parameters(root, before, after),
        _data(caches, before, after),
        _code(root, before, after),
        _metrics(before, after),
        _environment(before, after),
    ]


def _parameters(root: Path, before: Side, after: Side) -> Part:
    given = []
    for side in (before, after):
        try:
            text = git(root, "show", f"{side.snapshot}:./params.yaml").decode()
            given.append(flat(YAML(typ="safe").load(text)))
        except (MnoError, YAMLError, AttributeError, UnicodeDecodeError):
            return Part("parameters", unknown=_no_snapshot(side))
    kept = [{k: v for k, v in params.items() if not k.startswith(_UNTRACKED)} for params in given]
    return Part("parameters", _changes(*kept))


def _data(caches: Iterable[Path], before: Side, after: Side) -> Part:
    names = [side.version.tags.get(DATA) for side in (before, after)]
    if names[0] == names[1]:
        return Part("data")
    changes = [Change("version (DVC's md5)", *names)]
    listings = [_object(caches, name) for name in names]
    if all(listing is not None for listing in listings):
        one, other = (read_listing(listing or b"") for listing in listings)
        ours, theirs = set(one.values()), set(other.values())
        shared = f"{len(ours & theirs)} of them in both"
        changes.append(Change("files", f"{len(one)}, {shared}", f"{len(other)}, {shared}"))
    files = [_imported(side) for side in (before, after)]
    changes += _changes(*files)
    statistics = [_statistics(caches, side) for side in (before, after)]
    lacking = [s for s, found in zip((before, after), statistics, strict=True) if found is None]
    if lacking:
        why = f"statistics: {lacking[0].version.uri} has no reports/dataset.json in DVC's cache"
        return Part("data", changes, why)
    return Part("data", changes + _changes(*(found or {} for found in statistics)))


def _imported(side: Side) -> dict[str, Any]:
    given = entry(side.record, "data", "files") or []
    return {f"imported file {item['file']}": item["sha256"] for item in given}


def _statistics(caches: Iterable[Path], side: Side) -> dict[str, Any] | None:
    """Return what the stage generate had reported of the data."""
    md5 = entry(side.sealed, "lock", "generate", "outs", "reports/dataset.json")
    content = _object(caches, md5)
    if content is None:
        return None
    report = json.loads(content)
    found = {key: report.get(key) for key in ("samples", "shards")}
    found |= flat(report.get("splits") or {}, "samples of ")
    for name, about in (report.get("fields") or {}).items():
        found |= {f"{name} {key}": about.get(key) for key in _STATISTICS}
    return found


def _object(caches: Iterable[Path], md5: str | None) -> bytes | None:
    """Return an object of DVC's cache if it holds what its name says."""
    path = find_object(caches, md5)
    content = path.read_bytes() if path else None
    whole = content is not None and md5_of(content) == str(md5).removesuffix(".dir")
    return content if whole else None


def _code(root: Path, before: Side, after: Side) -> Part:
    ours, theirs = before.snapshot, after.snapshot
    if ours == theirs and ours is not None:
        return Part("code")
    for side in (before, after):
        try:
            git(root, "cat-file", "-e", f"{side.snapshot}^{{commit}}")
        except MnoError:
            return Part("code", unknown=_no_snapshot(side))
    listed = git(root, "diff-tree", "-r", "-z", "--numstat", "--no-renames", "--relative",
                 str(ours), str(theirs), "--", *CODE)  # fmt: skip
    lines = [line.split("\t") for line in listed.decode(errors="replace").split("\0") if line]
    return Part("code", [Change(path, f"-{gone}", f"+{new}") for new, gone, path in lines])


def _metrics(before: Side, after: Side) -> Part:
    found = []
    for side in (before, after):
        try:
            content = json.loads(side.read("evaluation/metrics.json") or b"")
        except ValueError:
            return Part("metrics", unknown=f"{side.version.uri} has no metrics.json in its run")
        numbers = {k: v for k, v in content.items() if isinstance(v, int | float)}
        for name, values in (content.get("fields") or {}).items():
            if isinstance(values, Mapping):
                scalars = {k: v for k, v in values.items() if isinstance(v, int | float)}
                numbers |= {f"{name} {key}": value for key, value in scalars.items()}
        found.append(numbers)
    return Part("metrics", _changes(*found))


def _environment(before: Side, after: Side) -> Part:
    found = []
    for side in (before, after):
        packages = side.read("environment.txt")
        if packages is None or side.record is None:
            return Part("environment", unknown=f"{side.version.uri} has no record of it")
        pairs = (line.partition("==") for line in packages.decode(errors="replace").splitlines())
        facts = {f"machine: {key}": entry(side.record, "machine", key) for key in _MACHINE}
        facts |= {key: side.record.get(key) for key in ("threads", "device")}
        found.append(facts | {name: version for name, _, version in pairs})
    return Part("environment", _changes(*found))


def _changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Change]:
    keys = list(dict.fromkeys([*before, *after]))
    return [
        Change(key, before.get(key), after.get(key))
        for key in keys
        if before.get(key) != after.get(key)
    ]


def _no_snapshot(side: Side) -> str:
    return (
        f"the snapshot of {side.version.uri} ({(side.snapshot or 'none')[:12]}) is not in this "
        "clone; fetch it: git fetch ORIGIN 'refs/mno/*:refs/mno/*'"
    )
