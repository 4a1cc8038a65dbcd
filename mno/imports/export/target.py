"""Where an export goes: written beside, and put in its place when it is whole."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mno.core.errors import InputError, MnoError, first_line

_OURS = {".vtr", ".vtu", ".pvd"}


def check_target(target: Path, source: Path, force: bool) -> None:
    """Refuse a place where an export would do harm.

    Args:
        target: Where the export is to go.
        source: The store it is made of.
        force: Whether an earlier export there may be replaced.

    Raises:
        InputError: Something is there that must stay.
    """
    there, store = target.resolve(), source.resolve()
    if there == store or there in store.parents or store in there.parents:
        raise InputError(f"{target} is the store itself, or holds it, or lies in it; name another")
    if not (target.exists() or target.is_symlink()):
        return
    if not force:
        raise InputError(f"{target} exists already; name another, or replace it with --force")
    if target.is_dir() and not _is_export(target):
        raise InputError(
            f"{target} is a folder with other files than an export's (.vtr, .vtu, .pvd), which "
            "--force does not remove; name another"
        )


@contextmanager
def beside(target: Path, size: int) -> Iterator[Path]:
    """Yield a path to write to; what is there in the end takes the target's place.

    Args:
        target: A file or a folder.
        size: Bytes that will be written, about.

    Raises:
        InputError: There is no room, or no folder.
        MnoError: Writing fails.
    """
    partial = target.with_name(f"{target.stem}.partial{target.suffix}")
    old = target.with_name(f"{target.stem}.replaced{target.suffix}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(target.parent).free
        if size > free:
            raise InputError(
                f"{target} would take {size / 2**20:.0f} MiB, but {free / 2**20:.0f} MiB are free; "
                "make room, or choose less with --field and --sample"
            )
        for leftover in (partial, old):
            _remove(leftover)
        yield partial
        if target.is_dir():
            target.rename(old)
        os.replace(partial, target)
        _remove(old)
    except (OSError, RuntimeError) as error:  # h5py raises either
        reason = getattr(error, "strerror", None) or first_line(error)
        raise MnoError(
            f"{target} cannot be written ({reason}); nothing is left of it: put that right and run "
            "again"
        ) from None
    finally:
        _remove(partial)


def _is_export(folder: Path) -> bool:
    return all(path.is_dir() or path.suffix in _OURS for path in folder.rglob("*"))


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    elif path.exists() or path.is_symlink():
        path.unlink()
