"""What changed between two versions: parameters, data, code, metrics, environment."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from mno.core.config import flat
from mno.core.errors import MnoError
from mno.lineage.audit.objects import listed_files
from mno.lineage.environment import PACKAGES_FILE
from mno.lineage.questions import RegisteredVersion
from mno.lineage.record import UNTRACKED_PARAMS, Tag, entry
from mno.lineage.snapshot import CODE, FETCH, asked, git


@dataclass(frozen=True)
class Side:
    """One of the two versions, and what is needed of it."""

    version: RegisteredVersion
    record: Mapping[str, Any] | None  # none where there is none that can be relied on
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
    unknown: str | None = None  # why it cannot be known


class _UnknownError(Exception):
    """What one of the sides is compared by is not at hand."""


def compare(root: Path, caches: Iterable[Path], *sides: Side) -> list[Part]:
    """Compare two versions in a clone that has the snapshots, by DVC caches with their data."""
    parts = []
    for name, changes in {
        "parameters": lambda: _changes(*(_parameters(root, side) for side in sides)),
        "data": lambda: _data(caches, *sides),
        "code": lambda: _code(root, *sides),
        "metrics": lambda: _changes(*(_metrics(side) for side in sides)),
        "environment": lambda: _changes(*(_environment(side) for side in sides)),
    }.items():
        try:
            parts.append(Part(name, changes()))
        except _UnknownError as error:
            parts.append(Part(name, unknown=str(error)))
    return parts


def _changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Difference]:
    triples = (Difference(k, before.get(k), after.get(k)) for k in dict.fromkeys([*before, *after]))
    return [change for change in triples if change.before != change.after]


def _parameters(root: Path, side: Side) -> dict[str, Any]:
    try:
        text = git(root, "show", f"{side.snapshot}:./params.yaml").decode()
        params = flat(YAML(typ="safe").load(text))
    except (MnoError, YAMLError, AttributeError, UnicodeDecodeError):
        raise _no_snapshot(side) from None
    return {k: value for k, value in params.items() if k.split(".")[0] not in UNTRACKED_PARAMS}


def _data(caches: Iterable[Path], *sides: Side) -> list[Difference]:
    names = [side.version.tags.get(Tag.DATA) for side in sides]
    if names[0] == names[1]:
        return []
    changes = [Difference("version (DVC's md5)", *names)]
    one, other = (listed_files(caches, name) for name in names)
    if one is not None and other is not None:
        shared = f"{len(set(one.values()) & set(other.values()))} of them in both"
        changes.append(Difference("files", *(f"{len(files)}, {shared}" for files in (one, other))))
    imported = [entry(side.record, "data", "files") or () for side in sides]
    return changes + _changes(
        *({f"imported file {f['file']}": f["sha256"] for f in files} for files in imported)
    )


def _code(root: Path, *sides: Side) -> list[Difference]:
    ours, theirs = (side.snapshot for side in sides)
    if ours == theirs and ours is not None:
        return []
    for side in sides:
        if asked(root, "cat-file", "-e", f"{side.snapshot}^{{commit}}") is None:
            raise _no_snapshot(side)
    how = ("-r", "-z", "--numstat", "--no-renames", "--relative")
    listed = git(root, "diff-tree", *how, str(ours), str(theirs), "--", *CODE)
    lines = [line.split("\t") for line in listed.decode(errors="replace").split("\0") if line]
    return [Difference(path, f"-{gone}", f"+{new}") for new, gone, path in lines]


def _metrics(side: Side) -> dict[str, Any]:
    try:
        content = json.loads(side.read("evaluation/metrics.json") or b"")
    except ValueError:
        raise _UnknownError(f"{side.version.uri} has no metrics.json in its run") from None
    return {
        f"{name} {key}".strip(): value
        for name, values in {"": content, **(content.get("fields") or {})}.items()
        if isinstance(values, Mapping)
        for key, value in values.items()
        if isinstance(value, int | float)
    }


def _environment(side: Side) -> dict[str, Any]:
    packages = side.read(PACKAGES_FILE)
    if packages is None or side.record is None:
        raise _UnknownError(f"{side.version.uri} has no record of it")
    pairs = (line.partition("==") for line in packages.decode(errors="replace").splitlines())
    machine = entry(side.record, "machine") or {}
    facts = {f"machine: {key}": value for key, value in machine.items()}
    facts |= {key: side.record.get(key) for key in ("threads", "device")}
    return facts | {name: version for name, _, version in pairs}


def _no_snapshot(side: Side) -> _UnknownError:
    which = f"{side.version.uri} ({(side.snapshot or 'none')[:12]})"
    return _UnknownError(f"the snapshot of {which} is not in this clone; fetch it: {FETCH}")
