"""What questions ask of the lineage records of many versions, kept in an index."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from mno.lineage.questions.index import Index
from mno.lineage.questions.version import LINEAGE, RegisteredVersion, RunFiles
from mno.lineage.record import lineage_sha256

RECORD_FILE = "record.json"
_ASKED = ("scenario", "head", "warm_start", "data")


class Records:
    """The records of versions, as far as questions ask for them.

    Args:
        files: The files of the runs.
        index: Keeps what was read.
    """

    def __init__(self, files: RunFiles, index: Index) -> None:
        self._files, self._index = files, index
        self._known: dict[str, Mapping[str, Any] | None] = {}

    def __call__(self, version: RegisteredVersion) -> Mapping[str, Any] | None:
        """Return scenario, commit, beginning and data of a version's record.

        None where there is no record that can be relied on.
        """
        if version.uri not in self._known:
            self._known[version.uri] = self._looked_up(version)
        return self._known[version.uri]

    def _looked_up(self, version: RegisteredVersion) -> Mapping[str, Any] | None:
        run, digest = version.run_id, version.tags.get(LINEAGE)
        if run is None or digest is None:
            return None

        def made() -> dict[str, Any] | None:
            record = whole_record(version, self._files)
            return None if record is None else {key: record.get(key) for key in _ASKED}

        return self._index.kept(f"{run} {digest}", self._files.signature(run, RECORD_FILE), made)


def whole_record(version: RegisteredVersion, files: RunFiles) -> dict[str, Any] | None:
    """Return a version's record if its digest is that of the version's tag."""
    content = files.read(version.run_id, RECORD_FILE) if version.run_id else None
    try:
        record = json.loads(content or b"")
    except ValueError:
        return None
    if not isinstance(record, dict) or lineage_sha256(record) != version.tags.get(LINEAGE):
        return None
    return record
