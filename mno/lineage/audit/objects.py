"""What is named by its content: objects of DVC's cache, by their MD5, and those of git."""

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from mno.core.config import PARAMS_FILE
from mno.core.errors import MnoError
from mno.core.files import feed_file, file_md5, folder_files, md5
from mno.lineage.snapshot import git

FOLDER_MARK = ".dir"  # what DVC's hash of a folder ends in
UNREADABLE = (ValueError, TypeError, KeyError)  # of `read_listing`
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_OBJECT = re.compile(r"[0-9a-f]{32}(\.dir)?")


class Digests(NamedTuple):
    """What the bytes of a file hash to."""

    md5: str
    sha256: str


def digests(path: Path) -> Digests:
    """Read a file once for both of its digests."""
    both = hashlib.md5(usedforsecurity=False), hashlib.sha256()
    feed_file(path, *both)
    return Digests(*(digest.hexdigest() for digest in both))


def folder_md5(files: Mapping[str, str]) -> str:
    """Return DVC's hash of a folder from the MD5 of its files, by path in it."""
    listing = [{"md5": files[name], "relpath": name} for name in sorted(files)]
    return md5(json.dumps(listing, sort_keys=True)) + FOLDER_MARK


def md5_on_disk(path: Path) -> str:
    """Return DVC's hash of a file or folder."""
    if not path.is_dir():
        return file_md5(path)
    return folder_md5({name: file_md5(file) for name, file in folder_files(path).items()})


def is_object_name(name: object) -> bool:
    """Tell whether something is DVC's hash of a file or folder, and leads nowhere else."""
    return isinstance(name, str) and _OBJECT.fullmatch(name) is not None


def find_object(caches: Iterable[Path], name: object) -> Path | None:
    """Return the file of an object, whose name may be anything, in the first cache that has it."""
    if not isinstance(name, str) or not is_object_name(name):
        return None
    places = (place for cache in caches for place in (cache, cache / "files" / "md5"))
    paths = (place / name[:2] / name[2:] for place in places)
    return next((path for path in paths if path.is_file()), None)


def whole_object(caches: Iterable[Path], name: object) -> bytes | None:
    """Return an object's bytes if they are what its name promises; none where they are not."""
    path = find_object(caches, name)
    content = path.read_bytes() if path else None
    whole = content is not None and md5(content) == str(name).removesuffix(FOLDER_MARK)
    return content if whole else None


def read_listing(content: bytes) -> dict[str, str]:
    """Read the object of a folder: the MD5 of its files, by path in it.

    It is a ValueError if it is no such object, or a path in it leads out of the folder.
    """
    files = {item["relpath"]: item["md5"] for item in json.loads(content)}
    if outside := [name for name in files if not is_inside(name)]:
        raise ValueError(f"{outside[0]} leads out of the folder")
    return files


def listed_files(caches: Iterable[Path], name: object) -> dict[str, str] | None:
    """Return the MD5 of each file of a folder; none where its list is not at hand or damaged."""
    try:
        return read_listing(whole_object(caches, name) or b"")
    except UNREADABLE:
        return None


def is_inside(path: str) -> bool:
    """Tell whether a recorded path stays in the folder that it is relative to."""
    parts = PurePosixPath(path)
    return bool(path) and not parts.is_absolute() and ".." not in parts.parts


@dataclass(frozen=True)
class Tree:
    """The files of a commit, as far as they could be read."""

    commit: str | None
    tree: str | None = None  # its tree, as the commit says; none where that cannot be read
    files: Mapping[str, bytes] = field(default_factory=dict)  # by path; no symbolic links
    missing: str | None = None  # why it could not be read
    damaged: tuple[str, ...] = ()  # objects that do not hold what their names promise

    @property
    def whole(self) -> bool:
        """Whether all of it is there and is what it was."""
        return self.missing is None and not self.damaged

    @cached_property
    def params(self) -> dict[str, Any] | None:
        """The parameters in it; none where they cannot be read."""
        try:
            content = YAML(typ="safe").load(self.files[PARAMS_FILE].decode())
        except (KeyError, YAMLError, UnicodeDecodeError):
            return None
        return content if isinstance(content, dict) else None


def read_tree(root: Path, commit: str | None) -> Tree:
    """Read and verify a commit of a clone; of a workspace in a larger one, what is of that.

    Its id may come from a record that may hold anything.
    """
    if commit is None or not is_id(commit):
        why = "no commit is recorded" if commit is None else f"{commit!r} is no commit's id"
        return Tree(None, missing=why)
    try:
        git(root, "cat-file", "-e", commit)
    except MnoError as error:
        return Tree(commit, missing=str(error))
    try:
        text = git(root, "cat-file", "commit", commit)
        tree = text.split(b"\n", 1)[0].removeprefix(b"tree ").decode()
        everything = _listed(root, "-t", "--full-tree", commit)
        identities = [commit, tree, *(identity for _, identity, _ in everything)]
        objects, damaged = _objects(root, list(dict.fromkeys(identities)))
        ours = _listed(root, commit)
    except (MnoError, ValueError, IndexError) as error:  # git refuses what does not unpack
        return Tree(commit, damaged=(str(error),))
    files = {
        path: objects[identity]
        for mode, identity, path in ours
        if mode.startswith("100") and is_inside(path)
    }
    return Tree(commit, tree, files, damaged=tuple(damaged))


def is_id(text: object) -> bool:
    """Tell whether something is the full id of an object, and nothing that git reads otherwise."""
    return isinstance(text, str) and _COMMIT.fullmatch(text) is not None


def _listed(root: Path, *arguments: str) -> list[tuple[str, str, str]]:
    """Return mode, id and path of what is in a tree."""
    lines = git(root, "ls-tree", "-r", "-z", *arguments).split(b"\0")
    pairs = (line.partition(b"\t") for line in lines if line)
    split = ((head.decode().split(), os.fsdecode(name)) for head, _, name in pairs)
    return [(mode, identity, path) for (mode, _, identity), path in split]


def _objects(root: Path, identities: list[str]) -> tuple[dict[str, bytes], list[str]]:
    """Return the content of objects by id, and the ids that their content does not have."""
    answer = git(root, "cat-file", "--batch", stdin="\n".join(identities).encode() + b"\n")
    contents, damaged, position = dict[str, bytes](), [], 0
    for identity in identities:
        end = answer.index(b"\n", position)
        words = answer[position:end].split()
        if len(words) != 3:
            raise ValueError(f"{identity} is missing")
        begin, position = end + 1, end + 1 + int(words[2])
        contents[identity] = answer[begin:position]
        algorithm = hashlib.sha1 if len(identity) == 40 else hashlib.sha256
        whole = b"%b %b\0%b" % (words[1], words[2], contents[identity])
        if algorithm(whole, usedforsecurity=False).hexdigest() != identity:
            damaged.append(identity)
        position += 1
    return contents, damaged
