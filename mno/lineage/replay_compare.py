"""Holding what a replay made against what was recorded: bytes first, then by how much.

Where nothing differs that bits depend on, they have to be the same, which is called exact.
Elsewhere rounding differs in the last digits, training carries that on from step to step, and a
tolerance is allowed. Distances are relative, and infinite where two things are not alike. What was
recorded is none where it is not at hand.
"""

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from safetensors import SafetensorError
from safetensors.numpy import load_file

from mno.core.files import file_sha256, folder_files
from mno.lineage.audit.objects import md5_on_disk
from mno.lineage.record import candidate_digest
from mno.lineage.replay import ConditionChange

DATASET = "dataset"
_WEIGHTS = ".safetensors"
# How far something may be off on another kind of machine; relative, without a unit.
_DATA = 1e-4  # Euclidean distance of each array over the length of the one recorded
_OF_WEIGHTS = 0.02  # likewise of all weights together
_FIGURES = 0.05  # of each figure of a report, over the larger of the two


class Agreement(StrEnum):
    """How what was made again compares with what was recorded."""

    IDENTICAL = "identical"  # the same bytes, or the same figures to the last digit
    CLOSE = "within tolerance"  # close enough for another kind of machine
    DIFFERENT = "different"
    UNKNOWN = "cannot be compared"  # there is nothing at hand to compare with


@dataclass(frozen=True)
class Remade:
    """One thing that was made again; its digests are empty where there was nothing."""

    name: str  # for example `dataset` or `weights.safetensors`
    agreement: Agreement
    recorded: str = ""
    found: str = ""
    note: str = ""  # by how much it differs, or why it cannot be compared


@dataclass(frozen=True)
class Outcome:
    """What a replay has come to."""

    stages: Sequence[str]  # that were run again, in their order
    given: Sequence[str]  # what was taken as it was recorded, its digests verified
    packages: Sequence[ConditionChange] | None  # that are other ones; none if nobody knows
    machine: Sequence[ConditionChange]
    tolerance: str  # what was allowed, in words
    items: Sequence[Remade]
    folder: str | None = None  # where it was made; none where that was removed

    @property
    def reproduced(self) -> bool:
        """Whether something was compared and nothing is different."""
        agreements = {item.agreement for item in self.items}
        return Agreement.DIFFERENT not in agreements and bool(agreements - {Agreement.UNKNOWN})

    def count(self, agreement: Agreement) -> int:
        """Return how many items have a verdict."""
        return sum(item.agreement is agreement for item in self.items)

    def to_dict(self) -> Mapping[str, Any]:
        """Return it as plain values."""
        own = asdict(self)
        last = {name: own.pop(name) for name in ("items", "folder")}
        counted = {str(agreement): self.count(agreement) for agreement in Agreement}
        return {"reproduced": self.reproduced, **own, "agreements": counted, **last}


def allowed(exact: bool) -> str:
    """Return in words how far something may be off."""
    if exact:
        return "none: every bit has to be the same"
    return (
        f"data to {_DATA:.2%} of their length, weights to {_OF_WEIGHTS:.0%} of theirs, "
        f"figures to {_FIGURES:.0%} each"
    )


def compare_dataset(md5: str | None, recorded: Path | None, folder: Path, exact: bool) -> Remade:
    """Compare a dataset, every byte of it, with DVC's hash of it; then, if allowed, its values."""
    made = md5_on_disk(folder)
    if md5 is None:
        return Remade(DATASET, Agreement.UNKNOWN, "", made, "the record names no hash of it")
    if made == md5:
        return Remade(DATASET, Agreement.IDENTICAL, md5, made)
    if exact or recorded is None:
        note = "" if exact else "the recorded data are not at hand to say by how much"
        return Remade(DATASET, Agreement.DIFFERENT, md5, made, note)
    distance, where = _arrays_apart(recorded, folder)
    agreement = Agreement.CLOSE if distance <= _DATA else Agreement.DIFFERENT
    note = f"{where} at most {distance:.1e} of its length apart"
    return Remade(DATASET, agreement, md5, made, note)


def compare_model(
    sha256: str | None, recorded: Path | None, folder: Path, exact: bool
) -> Iterator[Remade]:
    """Compare a trained model with the recorded one by the digest of the whole, then by file."""
    made = candidate_digest(folder)
    if sha256 is None:
        yield Remade("model", Agreement.UNKNOWN, "", made, "the record names no digest of it")
    elif made == sha256:
        for path in folder_files(folder).values():
            sha = file_sha256(path)
            yield Remade(path.name, Agreement.IDENTICAL, sha, sha)
    elif recorded is None or not recorded.is_dir() or candidate_digest(recorded) != sha256:
        note = "the recorded model is not at hand to say by how much"
        yield Remade("model", Agreement.DIFFERENT, sha256, made, note)
    else:
        for name in sorted(folder_files(recorded).keys() | folder_files(folder).keys()):
            yield _compare_file(name, recorded / name, folder / name, exact)


def compare_report(recorded: Path | None, made: Path, exact: bool) -> Remade:
    """Compare a report, a file of JSON, figure by figure to the last digit."""
    if recorded is None or not recorded.is_file():
        found = file_sha256(made) if made.is_file() else ""
        return Remade(made.name, Agreement.UNKNOWN, "", found, "it was not kept with the run")
    return _compare_file(made.name, recorded, made, exact)


def _compare_file(name: str, recorded: Path, made: Path, exact: bool) -> Remade:
    before, now = (file_sha256(p) if p.is_file() else "" for p in (recorded, made))
    if before == now and now:
        return Remade(name, Agreement.IDENTICAL, before, now)
    if not before or not now:
        note = "not made again" if before else "there was none"
        return Remade(name, Agreement.DIFFERENT, before, now, note)
    try:
        if name.endswith(_WEIGHTS):
            distance, note = _weights_apart(recorded, made)
            tolerance = _OF_WEIGHTS
        else:
            distance, note = _figures_apart(*(json.loads(p.read_bytes()) for p in (recorded, made)))
            tolerance = _FIGURES
    except (ValueError, SafetensorError):
        return Remade(name, Agreement.DIFFERENT, before, now, "it cannot be read")
    if distance == 0.0:  # written otherwise, with the same content
        return Remade(name, Agreement.IDENTICAL, before, now, "the same content, other bytes")
    close = Agreement.CLOSE if not exact and distance <= tolerance else Agreement.DIFFERENT
    return Remade(name, close, before, now, note)


def _shapes(arrays: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    return {name: array.shape for name, array in arrays.items()}


def _distance(pairs: Iterable[tuple[np.ndarray, np.ndarray]]) -> float:
    """Return the Euclidean distance of arrays over the length of the first of each pair."""
    apart = length = 0.0
    for before, now in pairs:
        if before.dtype.kind not in "fiub":
            if not np.array_equal(before, now):
                return math.inf
            continue
        if not np.array_equal(np.isnan(before), np.isnan(now)):
            return math.inf
        apart += np.nansum(np.square(now.astype(float) - before.astype(float)))
        length += np.nansum(np.square(before.astype(float)))
    return math.sqrt(apart / length) if length else (math.inf if apart else 0.0)


def _weights_apart(recorded: Path, made: Path) -> tuple[float, str]:
    before, now = load_file(recorded), load_file(made)
    if _shapes(before) != _shapes(now):
        return math.inf, "other tensors"
    distance = _distance((values, now[name]) for name, values in before.items())
    if not distance and any(before[k].tobytes() != now[k].tobytes() for k in before):
        distance = math.inf  # a sign of zero, or a NaN
    return distance, f"{distance:.1e} of their length apart"


def _arrays_apart(recorded: Path, made: Path) -> tuple[float, str]:
    """Return the largest relative distance of the arrays of two stores, and which array's it is."""
    before, now = (dict(zarr.open_group(p, mode="r").arrays()) for p in (recorded, made))
    if _shapes(before) != _shapes(now):
        return math.inf, "other arrays:"
    return max((_distance(_by_shard(before[name], now[name])), name) for name in before)


def _by_shard(before: zarr.Array, now: zarr.Array) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    step = max(1, (before.shards or before.chunks or (1,))[0]) if before.ndim else 1
    for start in range(0, before.shape[0] if before.ndim else 1, step):
        part = slice(start, start + step) if before.ndim else ...
        yield np.asarray(before[part]), np.asarray(now[part])


def _figures_apart(before: Any, now: Any) -> tuple[float, str]:
    """Return the largest relative difference of figures, and where; infinite for other things."""
    distance, path, ours, theirs = max(_differences(before, now), key=lambda found: found[0])
    if distance == math.inf:
        return distance, f"{path}: {ours} → {theirs}"[:200]
    return distance, f"at most {distance:.1e} apart, at {path}"


def _differences(before: Any, now: Any, path: str = "") -> Iterator[tuple[float, str, Any, Any]]:
    """Yield of each leaf of plain values its relative difference, its path, and both values."""
    if isinstance(before, dict) and isinstance(now, dict) and before.keys() == now.keys():
        parts = [(f"{path} {key}".strip(), before[key], now[key]) for key in before]
    elif isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        parts = [(f"{path} {i}", *pair) for i, pair in enumerate(zip(before, now, strict=True))]
    else:
        yield _apart(before, now), path, before, now
        return
    yield 0.0, path, before, now  # of what is empty, nothing differs
    for inside, ours, theirs in parts:
        yield from _differences(ours, theirs, inside)


def _apart(before: Any, now: Any) -> float:
    if json.dumps(before, sort_keys=True) == json.dumps(now, sort_keys=True):  # NaN, too
        return 0.0
    numbers = [v for v in (before, now) if isinstance(v, int | float) and not isinstance(v, bool)]
    if len(numbers) < 2 or not all(map(math.isfinite, numbers)):
        return math.inf
    largest = max(abs(before), abs(now))
    return abs(before - now) / largest if largest else math.inf  # 0.0 and -0.0
