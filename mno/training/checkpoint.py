"""Files of a training that survive any interruption, named by their content.

A file's name carries the SHA-256 of its bytes, so that one that was cut short or altered is
recognised before it is trusted, without a second file that could itself be out of step.
"""

import io
import re
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from mno.core.errors import MnoError
from mno.core.files import PARTIAL, file_sha256, sha256, write_bytes

_CHECKPOINT = re.compile(r"epoch-(\d+)\.[0-9a-f]{64}\.ckpt")


def checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints in a folder, the newest first, whole or not."""
    found = [path for path in folder.iterdir() if _CHECKPOINT.fullmatch(path.name)]
    return sorted(found, key=_epoch, reverse=True)


def newest_checkpoint(folder: Path) -> dict[str, Any] | None:
    """Return the content of the newest checkpoint that is whole, if there is any.

    Removed are damaged ones, ones that would run code, and what a killed process left half-written.
    """
    for path in folder.glob(f"*{PARTIAL}"):
        path.unlink()
    for path in checkpoints(folder):
        if file_sha256(path) == path.name.split(".")[1]:
            try:
                # `weights_only` admits tensors and plain containers, and runs nothing.
                return torch.load(path, map_location="cpu", weights_only=True)
            except (RuntimeError, ValueError, KeyError, EOFError, UnpicklingError):
                pass
        print(f"checkpoint of epoch {_epoch(path)} is damaged; going back before it", flush=True)
        path.unlink()
    return None


def write_checkpoint(folder: Path, epoch: int, content: dict[str, Any]) -> None:
    """Write the checkpoint of an epoch, counted from 1; keep the one before it and no other.

    An `MnoError` says that the file cannot be written, for example because the disk is full.
    """
    buffer = io.BytesIO()
    torch.save(content, buffer)
    name, data = f"epoch-{epoch:05d}", buffer.getvalue()
    newest = folder / f"{name}.{sha256(data)}.ckpt"
    try:
        write_bytes(newest, data, durable=True)
    except OSError as error:
        raise MnoError(
            f"cannot write {name}.ckpt into {folder}: {error.strerror or error}; make room or "
            "allow writing there, then run again: training continues after its last whole epoch"
        ) from error
    older = [path for path in checkpoints(folder) if _epoch(path) < epoch]
    for path in set(checkpoints(folder)) - {newest, *older[:1]}:
        path.unlink()


def _epoch(path: Path) -> int:
    return int(path.name.split(".")[0].removeprefix("epoch-"))
