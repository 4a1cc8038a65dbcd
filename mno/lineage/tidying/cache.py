"""DVC's cache: objects that nothing needs, and the entries of its run cache that name them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from mno.lineage.audit.objects import FOLDER_MARK, find_object, is_object_name, md5_of, read_listing
from mno.lineage.tidying.item import Item
from mno.lineage.tidying.needed import Needed

OBJECTS, RUNS = Path("files/md5"), Path("runs")
_OUT = re.compile(r"\bmd5: ([0-9a-f]{32}(?:\.dir)?)\b")


def needed_objects(cache: Path, needed: Needed) -> set[str]:
    """Return the names of all objects that are needed, files of needed folders among them.

    Where the list of files of a version of the data is lost, that is added to `needed.doubts`.
    """
    found = {name for name in needed.hashes if is_object_name(name)}
    for name in [name for name in found if name.endswith(FOLDER_MARK)]:
        path = find_object([cache], name)
        content = path.read_bytes() if path else b""
        try:
            if md5_of(content) != name.removesuffix(FOLDER_MARK):
                raise ValueError("it does not hold what its name promises")
            found.update(read_listing(content).values())
        except (ValueError, TypeError, KeyError):
            if name in needed.data:
                needed.doubts.append(
                    f"the list of files of data {name}, which {needed.data[name]} needs, is lost "
                    "or damaged: which files are its own is not known; bring it back: dvc fetch"
                )
    return found


def unneeded_objects(cache: Path, needed: set[str]) -> list[Item]:
    """Return what of a cache nothing needs, in the order in which it may be removed.

    First entries of the run cache, then lists of folders, then files: so what a kill leaves behind
    never names what is gone.
    """
    entries = [
        Item("cache", path.relative_to(cache).as_posix(), path.stat().st_size, path)
        for path in _files(cache / RUNS)
        if not _outs(path) <= needed
    ]
    objects = [
        Item("cache", name, path.stat().st_size, path)
        for name, path in _objects(cache)
        if name not in needed
    ]
    return entries + sorted(objects, key=lambda item: not item.name.endswith(FOLDER_MARK))


def _objects(cache: Path) -> Iterator[tuple[str, Path]]:
    for path in _files(cache / OBJECTS):
        name = path.parent.name + path.name
        if is_object_name(name):
            yield name, path


def _outs(entry: Path) -> set[str]:
    """Return the objects that an entry of the run cache promises."""
    _, _, outs = entry.read_text(encoding="utf-8", errors="replace").partition("\nouts:")
    return set(_OUT.findall(outs))


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
