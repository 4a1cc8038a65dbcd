"""The record of a finished training: its best weights and its history, in one file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from mno.training.checkpoint import is_whole, write_sealed
from mno.training.history import History
from mno.training.keeper import check_fingerprint

_STEM, _SUFFIX = "finished", ".safetensors"


def write_finished(
    work: Path, fingerprint: str, weights: Mapping[str, Tensor], history: History
) -> None:
    """Record that the training in this folder is finished.

    Raises:
        MnoError: The file cannot be written.
    """
    metadata = {"fingerprint": fingerprint, "history": json.dumps(history.to_dict())}
    tensors = {key: value.contiguous() for key, value in weights.items()}
    write_sealed(work, _STEM, _SUFFIX, lambda path: save_file(tensors, path, metadata=metadata))


def read_finished(work: Path, fingerprint: str) -> tuple[dict[str, Tensor], History] | None:
    """Return best weights and history if the training in this folder is finished.

    A damaged record is removed: the checkpoints lead back to it.

    Raises:
        InputError: The folder holds another finished training.
    """
    for path in work.glob(f"{_STEM}.*{_SUFFIX}"):
        if not is_whole(path):
            path.unlink()
            continue
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
        check_fingerprint(metadata["fingerprint"], fingerprint, work)
        return load_file(path), History.from_records(json.loads(metadata["history"])["epochs"])
    return None
