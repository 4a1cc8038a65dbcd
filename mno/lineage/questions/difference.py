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
from mno.lineage.audit.objects import listed_files, whole_object
from mno.lineage.dvcfiles import flat
from mno.lineage.environment import PACKAGES_FILE
from mno.lineage.questions import RegisteredVersion
from mno.lineage.record import Tag, entry
from mno.lineage.snapshot import CODE, git

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
        return self.version.tags.get(Tag.SNAPSHOT)


@dataclass(frozen=True)
class Difference:
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
    changes: Sequence[Difference] = field(default_factory=tuple)
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
            params = flat(YAML(typ="safe").load(text))
        except (MnoError, YAMLError, AttributeError, UnicodeDecodeError):
            return Part("parameters", unknown=_no_snapshot(side))
        given.append({k: v for k, v in params.items() if not k.startswith(_UNTRACKED)})
    return Part("parameters", _changes(*given))


def _data(caches: Iterable[Path], before: Side, after: Side) -> Part:
    sides = (before, after)
    names = [side.version.tags.get(Tag.DATA) for side in sides]
    if names[0] == names[1]:
        return Part("data")
    changes = [Difference("version (DVC's md5)", *names)]
    one, other = (listed_files(caches, name) for name in names)
    if one is not None and other is not None:
        shared = f"{len(set(one.values()) & set(other.values()))} of them in both"
        changes.append(Difference("files", *(f"{len(files)}, {shared}" for files in (one, other))))
    imported = [
        {f"imported file {item['file']}": item["sha256"] for item in files}
        for files in (entry(side.record, "data", "files") or () for side in sides)
    ]
    changes += _changes(*imported)
    statistics = [_statistics(caches, side) for side in sides]
    for side, found in zip(sides, statistics, strict=True):
        if found is None:
            why = f"statistics: {side.version.uri} has no reports/dataset.json in DVC's cache"
            return Part("data", changes, why)
    return Part("data", changes + _changes(*(found or {} for found in statistics)))


def _statistics(caches: Iterable[Path], side: Side) -> dict[str, Any] | None:
    """Return what the stage generate had reported of the data."""
    md5 = entry(side.sealed, "lock", "generate", "outs", "reports/dataset.json")
    content = whole_object(caches, md5)
    if content is None:
        return None
    report = json.loads(content)
    found = {key: report.get(key) for key in ("samples", "shards")}
    found |= flat(report.get("splits") or {}, "samples of ")
    for name, about in (report.get("fields") or {}).items():
        found |= {f"{name} {key}": about.get(key) for key in _STATISTICS}
    return found


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
    return Part("code", [Difference(path, f"-{gone}", f"+{new}") for new, gone, path in lines])


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
        packages = side.read(PACKAGES_FILE)
        if packages is None or side.record is None:
            return Part("environment", unknown=f"{side.version.uri} has no record of it")
        pairs = (line.partition("==") for line in packages.decode(errors="replace").splitlines())
        facts = {f"machine: {key}": entry(side.record, "machine", key) for key in _MACHINE}
        facts |= {key: side.record.get(key) for key in ("threads", "device")}
        found.append(facts | {name: version for name, _, version in pairs})
    return Part("environment", _changes(*found))


def _changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Difference]:
    keys = list(dict.fromkeys([*before, *after]))
    return [
        Difference(key, before.get(key), after.get(key))
        for key in keys
        if before.get(key) != after.get(key)
    ]


def _no_snapshot(side: Side) -> str:
    return (
        f"the snapshot of {side.version.uri} ({(side.snapshot or 'none')[:12]}) is not in this "
        "clone; fetch it: git fetch ORIGIN 'refs/mno/*:refs/mno/*'"
    )
