"""Questions people ask of all registered versions at once: from what, and what changed.

Here is what they are asked of: rows and tags of versions, and their records.
"""

import json
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from mno.core.errors import InputError
from mno.lineage.record import RECORD_FILE, Tag, lineage_sha256

_PREFIX = re.compile(r"[0-9a-f]{6,64}")


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
            "model": self.name, "version": self.number, "aliases": list(self.aliases),
            "registered": self.registered, "relative_l2": self.relative_l2,
            "data_md5": self.tags.get(Tag.DATA), "snapshot": self.tags.get(Tag.SNAPSHOT),
        }  # fmt: skip


class RunFiles(Protocol):
    """Files of runs, by the run's id and a path in its folder."""

    def read(self, run_id: str, path: str) -> bytes | None:
        """Return the content of a file; none where it cannot be read."""
        ...

    def names(self, run_id: str, folder: str) -> list[str]:
        """Return the paths of what is in a folder of a run; nothing where there is none."""
        ...


def records_of(files: RunFiles) -> Callable[[RegisteredVersion], dict[str, Any] | None]:
    """Return what reads a version's record if its digest is that of the tag, and each only once."""
    known: dict[str, dict[str, Any] | None] = {}

    def record(version: RegisteredVersion) -> dict[str, Any] | None:
        if version.uri not in known:
            content = files.read(version.run_id, RECORD_FILE) if version.run_id else None
            known[version.uri] = None
            with suppress(ValueError):
                found, digest = json.loads(content or b""), version.tags.get(Tag.LINEAGE)
                if isinstance(found, dict) and lineage_sha256(found) == digest:
                    known[version.uri] = found
        return known[version.uri]

    return record


def digest_prefix(text: str, what: str) -> str:
    """Return the beginning of a digest as it is compared: lower case, without DVC's `.dir`.

    Refused is what is no hexadecimal number of at least six digits, and so no digest of `what`.
    """
    prefix = text.strip().lower().removesuffix(".dir")
    if not _PREFIX.fullmatch(prefix):
        raise InputError(
            f"{text!r} is no digest of {what}; expected 6 to 64 hexadecimal digits, as "
            "`mno audit` and the tags of a version show them"
        )
    return prefix
