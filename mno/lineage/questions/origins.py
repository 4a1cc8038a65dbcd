"""Which versions came from a version of the data, from one of its shards, or from imported files.

A version names its data by DVC's hash of a folder. The objects of DVC's cache by that name list
the files in it, and the dataset's own root file names each file's SHA-256.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mno.core.errors import InputError
from mno.lineage.audit.objects import digests, find_object, md5_of, read_listing
from mno.lineage.questions.version import DATA, RegisteredVersion, digest_prefix

RecordOf = Callable[[RegisteredVersion], Mapping[str, Any] | None]
_ROOT_FILE = "zarr.json"


@dataclass(frozen=True)
class Origin:
    """The versions that a question about data is answered by.

    Attributes:
        asked: What was asked for, in words.
        versions: Those that came from it, the latest first.
        files: Where it was found, by version of the data: names of files in the dataset.
        unknown: Versions of the data of which it cannot be known, since no list of their files is
            at hand, with the number of registered versions that came from each.
    """

    asked: str
    versions: Sequence[RegisteredVersion]
    files: Mapping[str, Sequence[str]]
    unknown: Mapping[str, int]

    def to_dict(self) -> dict[str, object]:
        """Return what `--json` prints."""
        return {
            "asked": self.asked,
            "versions": [version.to_dict() for version in self.versions],
            "files": {md5: list(names) for md5, names in self.files.items()},
            "cannot_be_known": dict(self.unknown),
        }


def of_data(versions: Sequence[RegisteredVersion], md5: str) -> Origin:
    """Return the versions that were trained on a version of the data.

    Args:
        versions: All that are registered.
        md5: DVC's hash of `data/`, or its beginning.

    Raises:
        InputError: It is no such hash, or the beginning of several.
    """
    prefix = digest_prefix(md5, "a version of the data")
    found = [version for version in versions if version.tags.get(DATA, "").startswith(prefix)]
    data = sorted({version.tags[DATA] for version in found})
    if len(data) > 1:
        raise InputError(f"{md5!r} is the beginning of {', '.join(data[:3])}; give more of it")
    return Origin(f"data {data[0] if data else md5}", found, {}, {})


def of_shard(versions: Sequence[RegisteredVersion], shard: str, caches: Iterable[Path]) -> Origin:
    """Return the versions whose data have a file, wherever in the dataset it lies.

    Args:
        versions: All that are registered.
        shard: The file, or its MD5 or SHA-256, or the beginning of that.
        caches: DVC caches, in which the lists of files are looked up.

    Raises:
        InputError: It is neither a file nor a digest.
    """
    path = Path(shard)
    prefix = digests(path).md5 if path.is_file() else digest_prefix(shard, "a shard, nor a file")
    by_data: dict[str, list[RegisteredVersion]] = {}
    for version in versions:
        if DATA in version.tags:
            by_data.setdefault(version.tags[DATA], []).append(version)
    files: dict[str, list[str]] = {}
    unknown: dict[str, int] = {}
    for md5, made in by_data.items():
        listing = _listing(md5, caches)
        if listing is None:
            unknown[md5] = len(made)
            continue
        named = _by_sha256(listing, caches) if len(prefix) > 32 else listing
        places = [name for name, digest in named.items() if digest.startswith(prefix)]
        if places:
            files[md5] = places
    found = [version for version in versions if version.tags.get(DATA) in files]
    return Origin(f"shard {shard}", found, files, unknown)


def of_file(versions: Sequence[RegisteredVersion], file: str, records: RecordOf) -> Origin:
    """Return the versions whose data were imported from a file.

    Args:
        versions: All that are registered.
        file: The file, or its SHA-256, or the beginning of that.
        records: Returns the lineage record of a version.

    Raises:
        InputError: It is neither a file nor a digest.
    """
    path = Path(file)
    prefix = _sha256(path) if path.is_file() else digest_prefix(file, "a file, nor a file")
    files: dict[str, list[str]] = {}
    unknown: dict[str, int] = {}
    found = []
    for version in versions:
        data = version.tags.get(DATA, "unknown")
        record = records(version)
        if record is None:
            unknown[data] = unknown.get(data, 0) + 1
            continue
        given = (record.get("data") or {}).get("files") or []
        names = [str(item["file"]) for item in given if item["sha256"].startswith(prefix)]
        if names:
            found.append(version)
            files[data] = names
    return Origin(f"imported file {file}", found, files, unknown)


def _listing(md5: str, caches: Iterable[Path]) -> dict[str, str] | None:
    """Return the MD5 of each file of a dataset; none where its list is not at hand or damaged."""
    path = find_object(caches, md5)
    if path is None:
        return None
    content = path.read_bytes()
    if md5_of(content) != md5.removesuffix(".dir"):
        return None
    try:
        return read_listing(content)
    except (ValueError, TypeError, KeyError):
        return None


def _by_sha256(listing: Mapping[str, str], caches: Iterable[Path]) -> dict[str, str]:
    """Return the SHA-256 of each file, as the dataset's root file names them."""
    path = find_object(caches, listing.get(_ROOT_FILE))
    if path is None:
        return {}
    try:
        shards = json.loads(path.read_bytes())["attributes"]["shards"]
        return {str(name): str(digest) for name, digest in shards.items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
