"""What killed work has left in the workspace."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from mno.lineage.tidying.item import Item, size_of

# Where a stage keeps what a killed run resumes from; of no use once the stage is done.
RESUMABLE = {
    "generate": Path("build/work"),
    "train": Path("build/checkpoints"),
    "learning_curve": Path("build/learning_curve"),
}
_PARTIAL = ("build/*.partial*", "reports/*.partial", "models/*.partial*", "models/*/*.partial")


def leftovers(root: Path, done: Iterable[str]) -> list[Item]:
    """Return what killed work has left and nothing resumes from.

    Args:
        root: The workspace; no run may be active in it.
        done: The stages that are up to date.
    """
    paths = [
        path
        for stage in done
        if stage in RESUMABLE
        for path in sorted((root / RESUMABLE[stage]).glob("*"))
    ]
    paths += [path for pattern in _PARTIAL for path in sorted(root.glob(pattern))]
    return [
        Item("leftovers", path.relative_to(root).as_posix(), size_of(path), path) for path in paths
    ]
