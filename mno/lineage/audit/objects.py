"""DVC's cache, in which an object's name is the MD5 of its bytes."""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from mno.core.config import PARAMS_FILE, read_params
from mno.core.errors import MnoError
from mno.lineage.snapshot import git

_ID = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


def whole_object(caches: Iterable[Path], name: object) -> bytes | None:
    """Return an object's bytes if they are what its name promises; none where they are not."""
    path = find_object(caches, name)
    content = path.read_bytes() if path else None
    whole = content is not None and md5_of(content) == str(name).removesuffix(FOLDER_MARK)
    return content if whole else None


def listed_files(caches: Iterable[Path], name: object) -> dict[str, str] | None:
    """Return the MD5 of each file of a folder; none where its list is not at hand or damaged."""
    content = whole_object(caches, name)
    try:
        return None if content is None else read_listing(content)
    except (ValueError, TypeError, KeyError):
        return None


@dataclass(frozen=True)
class Tree:
    """The files of a commit, as far as they could be read.

    Attributes:
        commit: The commit; none where none was named.
        tree: Its tree, as the commit says; none where the commit cannot be read.
        files: Content by path, relative to the workspace; no symbolic links.
        missing: Why it could not be read; none if it could.
        damaged: Objects that do not hold what their names promise.
    """

    commit: str | None
    tree: str | None = None
    files: Mapping[str, bytes] = field(default_factory=dict)
    missing: str | None = None
    damaged: tuple[str, ...] = ()

    @property
    def whole(self) -> bool:
        """Whether all of it is there and is what it was."""
        return self.missing is None and not self.damaged

    @cached_property
    def params(self) -> dict[str, Any] | None:
        """The parameters in it; none where they cannot be read."""
        if PARAMS_FILE not in self.files:
            return None
        try:
            with self.checked_out(PARAMS_FILE) as folder:
                return read_params(folder)
        except MnoError:
            return None

    @contextmanager
    def checked_out(self, *names: str) -> Iterator[Path]:
        """Yield a temporary folder with the files, or with some of them."""
        with tempfile.TemporaryDirectory(prefix="mno-audit-") as folder:
            for name in names or self.files:
                content, path = self.files[name], Path(folder) / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            yield Path(folder)


def read_tree(root: Path, commit: str | None) -> Tree:
    """Read and verify a commit.

    Args:
        root: A clone; of a workspace within a larger repository, the workspace.
        commit: The commit's id, from a record that may hold anything.
    """
    if commit is None:
        return Tree(None, missing="no commit is recorded")
    if not is_id(commit):
        return Tree(None, missing=f"{commit!r} is no commit's id")
    try:
        git(root, "cat-file", "-e", commit)
    except MnoError as error:
        return Tree(commit, missing=str(error))
    try:
        text = git(root, "cat-file", "commit", commit)
        tree = text.split(b"\n", 1)[0].removeprefix(b"tree ").decode()
        listed = git(root, "ls-tree", "-r", "-t", "-z", "--full-tree", commit)
        everything = [tree, *(line.split()[2].decode() for line in _lines(listed))]
        ours = _paths(git(root, "ls-tree", "-r", "-z", commit))
        objects = dict(_objects(root, [commit, *dict.fromkeys(everything)]))
    except (MnoError, ValueError, IndexError) as error:  # git refuses what does not unpack
        return Tree(commit, damaged=(str(error),))
    damaged = tuple(
        identity
        for identity, (kind, content) in objects.items()
        if _hash(identity, kind, content) != identity
    )
    files = {path: objects[identity][1] for path, identity in ours.items()}
    return Tree(commit, tree, files, damaged=damaged)


def is_id(text: object) -> bool:
    """Tell whether something is the full id of an object, and nothing that git reads otherwise."""
    return isinstance(text, str) and _ID.fullmatch(text) is not None


def _lines(listed: bytes) -> list[bytes]:
    return [line for line in listed.split(b"\0") if line]


def _paths(listed: bytes) -> dict[str, str]:
    """Return the id of each regular file; no path may lead out of its folder."""
    found = {}
    for line in _lines(listed):
        description, _, name = line.partition(b"\t")
        mode, _, identity = description.split()
        path = os.fsdecode(name)
        if mode.startswith(b"100") and is_inside(path):
            found[path] = identity.decode()
    return found


def is_inside(path: str) -> bool:
    """Tell whether a recorded path stays in the folder that it is relative to."""
    parts = PurePosixPath(path)
    return bool(path) and not parts.is_absolute() and ".." not in parts.parts


def _objects(root: Path, identities: list[str]) -> Iterator[tuple[str, tuple[bytes, bytes]]]:
    """Yield kind and content of objects, by the id that was asked for."""
    answer = git(root, "cat-file", "--batch", stdin="\n".join(identities).encode() + b"\n")
    position = 0
    for identity in identities:
        end = answer.index(b"\n", position)
        words = answer[position:end].split()
        if len(words) != 3:
            raise ValueError(f"{identity} is missing")
        size = int(words[2])
        yield identity, (words[1], answer[end + 1 : end + 1 + size])
        position = end + 1 + size + 1


def _hash(identity: str, kind: bytes, content: bytes) -> str:
    algorithm = hashlib.sha1 if len(identity) == 40 else hashlib.sha256
    header = kind + b" " + str(len(content)).encode() + b"\0"
    return algorithm(header + content, usedforsecurity=False).hexdigest()


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


def folder_md5s(folder: Path) -> dict[str, str]:
    """Return the MD5 of all files in a folder, by path in it."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): digests(path).md5 for path in paths}


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
