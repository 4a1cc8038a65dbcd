"""Files that survive any interruption: written beside, flushed, renamed, named by their content.

A file's name carries the SHA-256 of its bytes, so that one that was cut short or altered is
recognised before it is trusted, without a second file that could itself be out of step.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from mno.core.errors import MnoError

KEPT_CHECKPOINTS = 2
_CHECKPOINT = re.compile(r"epoch-(\d+)\.[0-9a-f]{64}\.ckpt")
_PARTIAL = ".partial"


def write_sealed(folder: Path, stem: str, suffix: str, write: Callable[[Path], None]) -> Path:
    """Write a file whose name ends in the SHA-256 of its content.

    Args:
        folder: Where the file goes.
        stem: What the name begins with.
        suffix: What it ends with, with the dot.
        write: Writes the content to the path it is given.

    Raises:
        MnoError: The file cannot be written, for example because the disk is full.
    """
    partial = folder / f"{stem}{suffix}{_PARTIAL}"
    try:
        write(partial)
        with partial.open("rb+") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            os.fsync(file.fileno())
        path = folder / f"{stem}.{digest}{suffix}"
        os.replace(partial, path)
        _flush_folder(folder)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise MnoError(
            f"cannot write {stem}{suffix} into {folder}: {error.strerror or error}; make room or "
            "allow writing there, then run again: training continues after its last whole epoch"
        ) from error
    return path


def is_whole(path: Path) -> bool:
    """Whether a sealed file holds the bytes that its name promises."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == path.name.split(".")[1]


def checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints in a folder, the newest first, whole or not."""
    found = [path for path in folder.iterdir() if _CHECKPOINT.fullmatch(path.name)]
    return sorted(found, key=_epoch, reverse=True)


def newest_checkpoint(folder: Path) -> tuple[Path, dict[str, Any]] | None:
    """Return the newest checkpoint that is whole, with its content, if there is any.

    Removed are damaged ones, ones that would run code, and what a killed process left half-written.
    """
    for path in folder.glob(f"*{_PARTIAL}"):
        path.unlink()
    for path in checkpoints(folder):
        if is_whole(path):
            try:
                # `weights_only` admits tensors and plain containers, and runs nothing.
                return path, torch.load(path, map_location="cpu", weights_only=True)
            except (RuntimeError, ValueError, KeyError, EOFError, UnpicklingError):
                pass
        print(f"checkpoint of epoch {_epoch(path)} is damaged; going back before it", flush=True)
        path.unlink()
    return None


def prune_checkpoints(folder: Path, newest: Path) -> None:
    """Remove all checkpoints but the newest and its predecessors that are kept."""
    older = [path for path in checkpoints(folder) if _epoch(path) < _epoch(newest)]
    kept = {newest, *older[: KEPT_CHECKPOINTS - 1]}
    for path in checkpoints(folder):
        if path not in kept:
            path.unlink()


def _epoch(path: Path) -> int:
    return int(path.name.split(".")[0].removeprefix("epoch-"))


def _flush_folder(folder: Path) -> None:
    # Without it the rename itself may be lost with the power.
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
