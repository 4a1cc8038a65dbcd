"""DVC's cache, in which an object's name is the MD5 of its bytes."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from mno.lineage.audit.tree import is_inside

FOLDER_MARK = ".dir"
_NAME = re.compile(r"[0-9a-f]{32}(\.dir)?")
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Digests:
    """What the bytes of a file hash to."""

    md5: str
    sha256: str


def digests(path: Path) -> Digests:
    """Read a file once for both of its digests."""
    md5, sha256 = hashlib.md5(usedforsecurity=False), hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            md5.update(block)
            sha256.update(block)
    return Digests(md5.hexdigest(), sha256.hexdigest())


def md5_of(content: bytes) -> str:
    """Return what DVC calls the hash of a file."""
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def folder_md5(files: Mapping[str, str]) -> str:
    """Return DVC's hash of a folder from the MD5 of its files, by path in it."""
    listing = [{"md5": files[name], "relpath": name} for name in sorted(files)]
    return md5_of(json.dumps(listing, sort_keys=True).encode()) + FOLDER_MARK


def is_object_name(name: object) -> bool:
    """Tell whether something is DVC's hash of a file or folder, and leads nowhere else."""
    return isinstance(name, str) and _NAME.fullmatch(name) is not None


def find_object(caches: Iterable[Path], name: object) -> Path | None:
    """Return the file of an object in the first cache that has it.

    Args:
        caches: Folders `files/md5` of DVC caches, or those that hold it.
        name: The object's hash, from a record that may hold anything.
    """
    if not isinstance(name, str) or not is_object_name(name):
        return None
    for cache in caches:
        for folder in (cache, cache / "files" / "md5"):
            path = folder / name[:2] / name[2:]
            if path.is_file():
                return path
    return None


def read_listing(content: bytes) -> dict[str, str]:
    """Read the object of a folder: the MD5 of its files, by path in it.

    Raises:
        ValueError: It is no such object, or a path in it leads out of the folder.
    """
    entries = json.loads(content)
    files = {item["relpath"]: item["md5"] for item in entries}
    outside = [name for name in files if not is_inside(name)]
    if outside:
        raise ValueError(f"{outside[0]} leads out of the folder")
    return files
