"""Holding what a replay made against what was recorded: bytes first, then by how much.

Where nothing differs that bits depend on, they have to be the same. Elsewhere rounding differs in
the last digits, training carries that on from step to step, and a tolerance is allowed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from mno.core.errors import MnoError
from mno.lineage.audit.objects import digests, folder_md5
from mno.lineage.record import candidate_digest
from mno.lineage.replay.distance import arrays_apart, figures_apart, weights_apart
from mno.lineage.replay.outcome import Item, Likeness

DATASET = "dataset"
_WEIGHTS = ".safetensors"


@dataclass(frozen=True)
class Tolerance:
    """How far something may be off on another kind of machine; relative, without a unit.

    Attributes:
        data: Euclidean distance of each array over the length of the one recorded.
        weights: Likewise of all weights together.
        figures: Of each figure of a report, over the larger of the two.
    """

    data: float = 1e-4
    weights: float = 0.02
    figures: float = 0.05

    def __str__(self) -> str:
        return (
            f"data to {self.data:.2%} of their length, weights to {self.weights:.0%} of theirs, "
            f"figures to {self.figures:.0%} each"
        )


def compare_dataset(
    md5: str | None, recorded: Path | None, folder: Path, tolerance: Tolerance | None
) -> Item:
    """Compare a dataset, every byte of it, with DVC's hash of it; then, if allowed, its values.

    Args:
        md5: The recorded hash; none where there is none.
        recorded: A folder with the recorded data; none where they are not at hand.
        folder: What was made.
        tolerance: What is allowed; none if bits have to be the same.
    """
    made = folder_md5({p.relative_to(folder).as_posix(): digests(p).md5 for p in _files(folder)})
    if md5 is None:
        return Item(DATASET, Likeness.UNKNOWN, "", made, "the record names no hash of it")
    if made == md5:
        return Item(DATASET, Likeness.IDENTICAL, md5, made)
    if tolerance is None or recorded is None:
        note = "" if tolerance is None else "the recorded data are not at hand to say by how much"
        return Item(DATASET, Likeness.DIFFERENT, md5, made, note)
    distance, where = arrays_apart(recorded, folder)
    likeness = Likeness.CLOSE if distance <= tolerance.data else Likeness.DIFFERENT
    return Item(DATASET, likeness, md5, made, f"{where} at most {distance:.1e} of its length apart")


def compare_model(
    sha256: str | None, recorded: Path | None, folder: Path, tolerance: Tolerance | None
) -> Iterator[Item]:
    """Compare a trained model with the recorded one, as a whole and file by file.

    Args:
        sha256: The recorded digest of the whole.
        recorded: The folder of the recorded model; none where it cannot be read.
        folder: The one that was made.
        tolerance: What is allowed; none if bits have to be the same.
    """
    try:
        made = candidate_digest(folder)
    except MnoError as error:
        yield Item("model", Likeness.DIFFERENT, sha256 or "", "", str(error))
        return
    if sha256 is None:
        yield Item("model", Likeness.UNKNOWN, "", made, "the record names no digest of it")
        return
    if made == sha256:
        for path in _files(folder):
            sha = digests(path).sha256
            yield Item(path.name, Likeness.IDENTICAL, sha, sha)
        return
    if recorded is None or not recorded.is_dir() or candidate_digest(recorded) != sha256:
        note = "the recorded model is not at hand to say by how much"
        yield Item("model", Likeness.DIFFERENT, sha256, made, note)
        return
    folders = (recorded, folder)
    for name in sorted({p.relative_to(f).as_posix() for f in folders for p in _files(f)}):
        yield _compare_file(name, recorded / name, folder / name, tolerance)


def compare_report(recorded: Path | None, made: Path, tolerance: Tolerance | None) -> Item:
    """Compare a report, a file of JSON, figure by figure to the last digit.

    Args:
        recorded: The recorded report; none where it cannot be read.
        made: The one that was made.
        tolerance: What is allowed; none if bits have to be the same.
    """
    if recorded is None or not recorded.is_file():
        found = digests(made).sha256 if made.is_file() else ""
        return Item(made.name, Likeness.UNKNOWN, "", found, "it was not kept with the run")
    return _compare_file(made.name, recorded, made, tolerance)


def _compare_file(name: str, recorded: Path, made: Path, tolerance: Tolerance | None) -> Item:
    before, now = (digests(p).sha256 if p.is_file() else "" for p in (recorded, made))
    if before == now and now:
        return Item(name, Likeness.IDENTICAL, before, now)
    if not before or not now:
        note = "not made again" if before else "there was none"
        return Item(name, Likeness.DIFFERENT, before, now, note)
    try:
        if name.endswith(_WEIGHTS):
            distance, note = weights_apart(recorded, made)
            allowed = tolerance.weights if tolerance else 0.0
        else:
            distance, note = figures_apart(_json(recorded), _json(made))
            allowed = tolerance.figures if tolerance else 0.0
    except (ValueError, SafetensorError):
        return Item(name, Likeness.DIFFERENT, before, now, "it cannot be read")
    if distance == 0.0:  # written otherwise, with the same content
        return Item(name, Likeness.IDENTICAL, before, now, "the same content, other bytes")
    close = Likeness.CLOSE if distance <= allowed else Likeness.DIFFERENT
    return Item(name, close, before, now, note)


def _json(path: Path) -> Any:
    return json.loads(path.read_bytes())


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _verdict(same: bool) -> Likeness:
    return Likeness.IDENTICAL if same else Likeness.DIFFERENT
