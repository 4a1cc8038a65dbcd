"""What changed between two versions: parameters, data, code, metrics, environment."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from mno.core.errors import MnoError
from mno.lineage.audit.objects import listed_files, whole_object
from mno.lineage.dvcfiles import flat
from mno.lineage.environment import PACKAGES_FILE
from mno.lineage.questions import RegisteredVersion
from mno.lineage.record import Tag, entry
from mno.lineage.snapshot import CODE, FETCH, asked, git

_UNTRACKED = "execution."
_STATISTICS = ("min", "max", "mean", "std", "missing")
_MACHINE = ("cpu", "cores", "architecture", "system", "python")


@dataclass(frozen=True)
class Side:
    """One of the two versions, and what is needed of it."""

    version: RegisteredVersion
    record: Mapping[str, Any] | None  # none where there is none that can be relied on
    sealed: Mapping[str, Any] | None  # its seal
    read: Callable[[str], bytes | None]  # a file of its run

    @property
    def snapshot(self) -> str | None:
        """The commit of the code and parameters that trained it."""
        return self.version.tags.get(Tag.SNAPSHOT)


class Difference(NamedTuple):
    """One thing that differs, and its values; none where there is none."""

    subject: str
    before: Any
    after: Any


class Part(NamedTuple):
    """One kind of difference: `parameters`, `data`, `code`, `metrics` or `environment`."""

    name: str
    changes: Sequence[Difference] = ()
    unknown: str | None = None  # why it cannot be known, or not all of it


class _UnknownError(Exception):
    """What one of the sides is compared by is not at hand."""


def compare(root: Path, caches: Iterable[Path], before: Side, after: Side) -> list[Part]:
    """Compare two versions in a clone that has the snapshots, by DVC caches with their reports."""

    def values(name: str, read: Callable[[Side], Mapping[str, Any]]) -> Part:
        try:
            return Part(name, _changes(read(before), read(after)))
        except _UnknownError as error:
            return Part(name, unknown=str(error))

    return [
        values("parameters", lambda side: _parameters(root, side)),
        _data(caches, before, after),
        _code(root, before, after),
        values("metrics", _metrics),
        values("environment", _environment),
    ]


def _changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Difference]:
    triples = (Difference(k, before.get(k), after.get(k)) for k in dict.fromkeys([*before, *after]))
    return [change for change in triples if change.before != change.after]


def _parameters(root: Path, side: Side) -> dict[str, Any]:
    try:
        text = git(root, "show", f"{side.snapshot}:./params.yaml").decode()
        params = flat(YAML(typ="safe").load(text))
    except (MnoError, YAMLError, AttributeError, UnicodeDecodeError):
        raise _UnknownError(_no_snapshot(side)) from None
    return {key: value for key, value in params.items() if not key.startswith(_UNTRACKED)}


def _data(caches: Iterable[Path], *sides: Side) -> Part:
    names = [side.version.tags.get(Tag.DATA) for side in sides]
    if names[0] == names[1]:
        return Part("data")
    changes = [Difference("version (DVC's md5)", *names)]
    one, other = (listed_files(caches, name) for name in names)
    if one is not None and other is not None:
        shared = f"{len(set(one.values()) & set(other.values()))} of them in both"
        changes.append(Difference("files", *(f"{len(files)}, {shared}" for files in (one, other))))
    imported = [entry(side.record, "data", "files") or () for side in sides]
    changes += _changes(*({f"imported file {f['file']}": f["sha256"] for f in i} for i in imported))
    try:
        return Part("data", changes + _changes(*(_statistics(caches, side) for side in sides)))
    except _UnknownError as error:
        return Part("data", changes, str(error))


def _statistics(caches: Iterable[Path], side: Side) -> dict[str, Any]:
    """Return what the stage generate had reported of the data."""
    md5 = entry(side.sealed, "lock", "generate", "outs", "reports/dataset.json")
    content = whole_object(caches, md5)
    if content is None:
        why = f"statistics: {side.version.uri} has no reports/dataset.json in DVC's cache"
        raise _UnknownError(why)
    report = json.loads(content)
    found = {key: report.get(key) for key in ("samples", "shards")}
    found |= flat(report.get("splits") or {}, "samples of ")
    for name, about in (report.get("fields") or {}).items():
        found |= {f"{name} {key}": about.get(key) for key in _STATISTICS}
    return found


def _code(root: Path, *sides: Side) -> Part:
    ours, theirs = (side.snapshot for side in sides)
    if ours == theirs and ours is not None:
        return Part("code")
    for side in sides:
        if asked(root, "cat-file", "-e", f"{side.snapshot}^{{commit}}") is None:
            return Part("code", unknown=_no_snapshot(side))
    how = ("-r", "-z", "--numstat", "--no-renames", "--relative")
    listed = git(root, "diff-tree", *how, str(ours), str(theirs), "--", *CODE)
    lines = [line.split("\t") for line in listed.decode(errors="replace").split("\0") if line]
    return Part("code", [Difference(path, f"-{gone}", f"+{new}") for new, gone, path in lines])


def _metrics(side: Side) -> dict[str, Any]:
    try:
        content = json.loads(side.read("evaluation/metrics.json") or b"")
    except ValueError:
        raise _UnknownError(f"{side.version.uri} has no metrics.json in its run") from None
    groups = {"": content, **(content.get("fields") or {})}
    return {
        f"{name} {key}".strip(): value
        for name, values in groups.items()
        if isinstance(values, Mapping)
        for key, value in values.items()
        if isinstance(value, int | float)
    }


def _environment(side: Side) -> dict[str, Any]:
    packages = side.read(PACKAGES_FILE)
    if packages is None or side.record is None:
        raise _UnknownError(f"{side.version.uri} has no record of it")
    pairs = (line.partition("==") for line in packages.decode(errors="replace").splitlines())
    facts = {f"machine: {key}": entry(side.record, "machine", key) for key in _MACHINE}
    facts |= {key: side.record.get(key) for key in ("threads", "device")}
    return facts | {name: version for name, _, version in pairs}


def _no_snapshot(side: Side) -> str:
    which = f"{side.version.uri} ({(side.snapshot or 'none')[:12]})"
    return f"the snapshot of {which} is not in this clone; fetch it: {FETCH}"
