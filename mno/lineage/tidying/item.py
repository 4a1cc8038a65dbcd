"""One thing that may go."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Kind = Literal["leftovers", "runs", "models", "files", "cache", "snapshots"]
# In the order in which they go: what names others goes before what it names.
KINDS: tuple[Kind, ...] = ("leftovers", "runs", "models", "files", "cache", "snapshots")


@dataclass(frozen=True)
class Item:
    """One thing that nothing needs.

    Attributes:
        kind: `leftovers` of killed work in the workspace, `runs` of MLflow with their files,
            `models` that were packaged and never registered, `files` that MLflow has forgotten,
            objects of DVC's `cache`, `snapshots` in git.
        name: What it is called: an id, a hash, a path or a ref.
        size: Bytes on disk.
        path: Where it lies; none where it is not a file or folder of its own.
    """

    kind: Kind
    name: str
    size: int
    path: Path | None = None

    def to_dict(self) -> dict[str, object]:
        """Return what `--json` prints of it."""
        return {"kind": self.kind, "name": self.name, "bytes": self.size}


def size_of(path: Path, seen: set[tuple[int, int]] | None = None) -> int:
    """Return the bytes of a file, or of all files in a folder; a linked file counts once.

    Args:
        path: It need not exist.
        seen: Files that were counted before, by device and inode; those in the folder are added.
    """
    seen = set() if seen is None else seen
    total = 0
    waiting = [path]
    while waiting:
        place = waiting.pop()
        try:
            status = place.lstat()
            if place.is_dir() and not place.is_symlink():
                waiting.extend(place.iterdir())
                continue
        except OSError:  # it has gone meanwhile
            continue
        if (status.st_dev, status.st_ino) not in seen:
            seen.add((status.st_dev, status.st_ino))
            total += status.st_size
    return total
