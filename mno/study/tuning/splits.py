"""The data of a search: what is learned and what is chosen by; no way leads to the test split."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mno.core.errors import InputError
from mno.core.memory import fits_in_memory
from mno.data.reading import Split, StoredSplit, open_split


@dataclass(frozen=True)
class SearchSplits:
    """What a trial is trained on and what it is judged by."""

    training: Split | StoredSplit
    validation: Split | StoredSplit


def search_splits(data: Path) -> SearchSplits:
    """Open the training and the validation split, in memory if they fit well.

    Raises:
        MnoError: They cannot be read, or a file is not as recorded.
    """
    training = open_split(data, "train")
    # Files are verified once.
    validation = open_split(data, "validation", training.schema, checked=False)
    if fits_in_memory(training.nbytes + validation.nbytes):
        return SearchSplits(training.load(), validation.load())
    return SearchSplits(training, validation)


def made_from(data: Path) -> dict[str, Any]:
    """Return what a dataset says of itself: `scenario`, `seed`, `generate`, `parameters`.

    Raises:
        InputError: There is no dataset.
    """
    try:
        content = json.loads((data / "zarr.json").read_bytes())["attributes"]
        return {key: content.get(key) for key in ("scenario", "seed", "generate", "parameters")}
    except (OSError, ValueError, KeyError):
        raise InputError(
            f"{data} holds no dataset; a search takes the one of the line: mno generate"
        ) from None


def data_digest(data: Path) -> str:
    """Return the SHA-256 of a dataset's root file, which holds the checksums of all others."""
    try:
        return hashlib.sha256((data / "zarr.json").read_bytes()).hexdigest()
    except OSError:
        return ""
