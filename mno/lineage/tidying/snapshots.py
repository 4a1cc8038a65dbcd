"""Snapshots in git that nothing needs."""

from __future__ import annotations

from pathlib import Path

from mno.core.errors import MnoError
from mno.lineage.git import git
from mno.lineage.tidying.item import Item
from mno.lineage.tidying.needed import Needed

_REFS = "refs/mno/"


def unneeded_snapshots(root: Path, needed: Needed) -> list[Item]:
    """Return the refs of snapshots that nothing needs; git frees their objects by itself later.

    The size of all of them together is that of the first: they share most objects.
    """
    listed = git(root, "for-each-ref", "--format=%(refname) %(objectname)", _REFS).decode()
    refs = dict(line.split() for line in listed.splitlines())
    gone = {ref: commit for ref, commit in refs.items() if commit not in needed.hashes}
    kept = [commit for ref, commit in refs.items() if ref not in gone]
    size = _freed(root, list(gone.values()), kept) if gone else 0
    return [Item("snapshots", ref, 0 if n else size) for n, ref in enumerate(gone)]


def remove_snapshot(root: Path, ref: str) -> None:
    """Remove the ref of a snapshot.

    Raises:
        MnoError: It is no snapshot, or git failed.
    """
    if not ref.startswith(_REFS):
        raise MnoError(f"{ref} is no snapshot")
    git(root, "update-ref", "-d", ref)


def _freed(root: Path, gone: list[str], kept: list[str]) -> int:
    lines = "".join(f"{commit}\n" for commit in gone) + "".join(f"^{commit}\n" for commit in kept)
    try:
        used = git(root, "rev-list", "--objects", "--disk-usage", "--stdin", "--not", "--branches",
                   "--tags", "--remotes", stdin=lines.encode())  # fmt: skip
        return int(used)
    except (MnoError, ValueError):  # a git that cannot tell
        return 0
