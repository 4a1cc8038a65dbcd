"""Questions people ask of all registered versions at once: from what, what changed, since when.

Here is what they are asked of: rows and tags of versions, their records, and an index that keeps
what was read of many files. Only questions use the index, never an audit, which reads every byte.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from mno.core.errors import InputError
from mno.core.files import sha256, write_text
from mno.lineage.record import RECORD_FILE, Tag, lineage_sha256

INDEX_FOLDER = Path("build/lineage")
_SCHEMA = 1
_PREFIX = re.compile(r"[0-9a-f]{6,64}")
_ASKED = ("scenario", "head", "warm_start", "data")


@dataclass(frozen=True)
class RegisteredVersion:
    """One version of a registered model."""

    name: str
    number: int
    created: int  # milliseconds since 1970
    run_id: str | None  # the MLflow run that trained it; none where it was registered by hand
    source: str | None  # where its files are, as MLflow says, for example `models:/m-…`
    tags: Mapping[str, str]
    aliases: tuple[str, ...] = ()  # what it is called now, in alphabetical order

    @property
    def uri(self) -> str:
        """Its address, `models:/NAME/VERSION`."""
        return f"models:/{self.name}/{self.number}"

    @property
    def registered(self) -> str:
        """When it was registered, in UTC, ISO 8601."""
        return datetime.fromtimestamp(self.created / 1000, UTC).isoformat(timespec="seconds")

    @property
    def relative_l2(self) -> float | None:
        """Its recorded test error; none where none is recorded."""
        try:
            return float(self.tags[Tag.RELATIVE_L2])
        except (KeyError, ValueError):
            return None

    def to_dict(self) -> dict[str, object]:
        """Return what `--json` prints of it."""
        return {
            "model": self.name,
            "version": self.number,
            "aliases": list(self.aliases),
            "registered": self.registered,
            "relative_l2": self.relative_l2,
            "data_md5": self.tags.get(Tag.DATA),
            "snapshot": self.tags.get(Tag.SNAPSHOT),
        }


class RunFiles(Protocol):
    """Files of runs, by the run's id and a path in its folder."""

    def read(self, run_id: str, path: str) -> bytes | None:
        """Return the content of a file; none where it cannot be read."""
        ...

    def signature(self, run_id: str, path: str) -> str | None:
        """Return what tells whether a file was changed; none where that cannot be told."""
        ...

    def names(self, run_id: str, folder: str) -> list[str]:
        """Return the paths of what is in a folder of a run; nothing where there is none."""
        ...


class Index:
    """Short answers by what was read; its file, written at the end, may be removed at any time.

    An entry counts as long as its file is what it was by size, times and place on the disk. The
    time of the last change of its status is among them, which cannot be set: a file is read again
    even where size and time of its content were restored. An index that is damaged, or of another
    schema, is empty.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._changed = path, False
        self._entries: dict[str, list[Any]] = {}
        with contextlib.suppress(OSError, ValueError):
            mark, _, text = path.read_text(encoding="utf-8").partition("\n")
            self._entries = json.loads(text) if mark == _mark(text) else {}

    def kept(self, key: str, signature: str | None, make: Callable[[], Any]) -> Any:
        """Return what is kept of a file, or make it, which reads the file.

        Args:
            key: Names what is kept.
            signature: What the file is now; none where that cannot be told, and nothing is kept.
            make: Returns plain values.
        """
        if signature is None:
            return make()
        kept = self._entries.get(key)
        if kept is None or kept[0] != signature:
            kept = self._entries[key] = [signature, make()]
            self._changed = True
        return kept[1]

    def __enter__(self) -> Index:
        return self

    def __exit__(self, error: object, *_: object) -> None:
        """Write what is new; where that cannot be, nothing is kept."""
        if self._changed and error is None:
            text = json.dumps(self._entries, separators=(",", ":"))
            with contextlib.suppress(OSError):
                write_text(self._path, f"{_mark(text)}\n{text}")


def _mark(text: str) -> str:
    return f"{_SCHEMA} {sha256(text)}"


class Records:
    """The records of versions as far as questions ask for them; an index keeps what was read."""

    def __init__(self, files: RunFiles, index: Index) -> None:
        self._files, self._index = files, index
        self._known: dict[str, Mapping[str, Any] | None] = {}

    def __call__(self, version: RegisteredVersion) -> Mapping[str, Any] | None:
        """Return scenario, commit, beginning and data of a version's record.

        None where there is no record that can be relied on.
        """
        run, digest = version.run_id, version.tags.get(Tag.LINEAGE)
        if run is None or digest is None:
            return None
        if version.uri not in self._known:
            signature = self._files.signature(run, RECORD_FILE)
            found = self._index.kept(f"{run} {digest}", signature, lambda: self._read(version))
            self._known[version.uri] = found
        return self._known[version.uri]

    def _read(self, version: RegisteredVersion) -> dict[str, Any] | None:
        record = whole_record(version, self._files)
        return None if record is None else {key: record.get(key) for key in _ASKED}


def whole_record(version: RegisteredVersion, files: RunFiles) -> dict[str, Any] | None:
    """Return a version's record if its digest is that of the version's tag."""
    content = files.read(version.run_id, RECORD_FILE) if version.run_id else None
    try:
        record = json.loads(content or b"")
    except ValueError:
        return None
    whole = isinstance(record, dict) and lineage_sha256(record) == version.tags.get(Tag.LINEAGE)
    return record if whole else None


def digest_prefix(text: str, what: str) -> str:
    """Return the beginning of a digest as it is compared: lower case, without DVC's `.dir`.

    Raises:
        InputError: It is no hexadecimal number of at least six digits, and no digest of `what`.
    """
    prefix = text.strip().lower().removesuffix(".dir")
    if not _PREFIX.fullmatch(prefix):
        raise InputError(
            f"{text!r} is no digest of {what}; expected 6 to 64 hexadecimal digits, as "
            "`mno audit` and the tags of a version show them"
        )
    return prefix
