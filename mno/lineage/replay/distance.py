"""How far what was made again is from what was recorded: relative; infinite if it is not alike."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from safetensors.numpy import load_file


def weights_apart(recorded: Path, made: Path) -> tuple[float, str]:
    """Return the relative distance of all weights; infinite where they are of another shape."""
    before, now = load_file(recorded), load_file(made)
    if {k: v.shape for k, v in before.items()} != {k: v.shape for k, v in now.items()}:
        return math.inf, "other tensors"
    squares = [(np.square(now[k] - v, dtype=float).sum(), np.square(v, dtype=float).sum())
               for k, v in before.items()]  # fmt: skip
    apart, length = (math.sqrt(sum(column)) for column in zip(*squares, strict=True))
    distance = apart / length if length else math.inf
    same = all(before[k].tobytes() == now[k].tobytes() for k in before)
    if not same and not distance > 0:  # a sign of zero, or a NaN
        distance = math.inf
    return distance, f"{distance:.1e} of their length apart"


def arrays_apart(recorded: Path, made: Path) -> tuple[float, str]:
    """Return the largest relative distance of the arrays of two stores, and which array's it is."""
    before, now = (dict(zarr.open_group(p, mode="r").arrays()) for p in (recorded, made))
    if {k: v.shape for k, v in before.items()} != {k: v.shape for k, v in now.items()}:
        return math.inf, "other arrays:"
    return max((_array_apart(before[name], now[name]), name) for name in before)


def _array_apart(before: zarr.Array, now: zarr.Array) -> float:
    """Return the distance of two arrays over the length of the first, a shard at a time."""
    step = max(1, (before.shards or before.chunks or (1,))[0]) if before.ndim else 1
    apart = length = 0.0
    for start in range(0, before.shape[0] if before.ndim else 1, step):
        part = slice(start, start + step) if before.ndim else ...
        ours, theirs = np.asarray(before[part]), np.asarray(now[part])
        if ours.dtype.kind not in "fiub":
            if not np.array_equal(ours, theirs):
                return math.inf
            continue
        if not np.array_equal(np.isnan(ours), np.isnan(theirs)):
            return math.inf
        apart += np.nansum(np.square(theirs.astype(float) - ours.astype(float)))
        length += np.nansum(np.square(ours.astype(float)))
    return math.sqrt(apart / length) if length else (math.inf if apart else 0.0)


def figures_apart(before: Any, now: Any) -> tuple[float, str]:
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
