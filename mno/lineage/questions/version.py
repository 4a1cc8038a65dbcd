"""A registered version as the questions see it: its row and its tags."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from mno.core.errors import InputError

DATA = "mno.data_md5"
SNAPSHOT = "mno.snapshot"
LINEAGE = "mno.lineage_sha256"
CANDIDATE = "mno.candidate"
ERROR = "mno.relative_l2"
SEAL = "mno.seal"

_PREFIX = re.compile(r"[0-9a-f]{6,64}")


@dataclass(frozen=True)
class RegisteredVersion:
    """One version of a registered model.

    Attributes:
        name: The registered model.
        number: The version's number.
        created: When it was registered, milliseconds since 1970.
        run_id: The MLflow run that trained it; none where it was registered by hand.
        source: Where its files are, as MLflow says, for example `models:/m-…`.
        tags: Its tags.
        aliases: What it is called now, in alphabetical order.
    """

    name: str
    number: int
    created: int
    run_id: str | None
    source: str | None
    tags: Mapping[str, str]
    aliases: tuple[str, ...] = ()

    @property
    def uri(self) -> str:
        """Its address, `models:/NAME/VERSION`."""
        return f"models:/{self.name}/{self.number}"

    @property
    def registered(self) -> str:
        """When it was registered, in UTC."""
        return utc(self.created)

    @property
    def relative_l2(self) -> float | None:
        """Its recorded test error; none where none is recorded."""
        try:
            return float(self.tags[ERROR])
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
            "data_md5": self.tags.get(DATA),
            "snapshot": self.tags.get(SNAPSHOT),
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


def utc(milliseconds: int) -> str:
    """Return a time of MLflow's as ISO 8601."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="seconds")


def digest_prefix(text: str, what: str) -> str:
    """Return the beginning of a digest as it is compared: lower case, without DVC's `.dir`.

    Args:
        text: What a person gave.
        what: What it is the digest of, for the message.

    Raises:
        InputError: It is no hexadecimal number of at least six digits.
    """
    prefix = text.strip().lower().removesuffix(".dir")
    if not _PREFIX.fullmatch(prefix):
        raise InputError(
            f"{text!r} is no digest of {what}; expected 6 to 64 hexadecimal digits, as "
            "`mno audit` and the tags of a version show them"
        )
    return prefix
