"""The small Darcy data that the package `neuraloperator` distributes, on 16 x 16 points.

    -div(a grad u) = 1 on the unit square, u = 0 on its wall, a = 0.36 or 0.02

solved on 421 x 421 cells, and seen at every 26th or 27th of them: at `i / 16` of a side up to a
fine cell, the first points half a fine cell from a wall, the last a whole coarse cell. So what
lies between the points is not given, and the values do not solve the coarse equation. A file
distributes the class of `a` as `x` and `u` as `y`, in 1,000 training and 50 test samples (Zenodo
record 12784353, `darcy_train_16.pt` and `darcy_test_16.pt`).

How `a` was drawn is not said. A Gaussian random field of covariance `(-Laplacian + 100)^-3` has as
many neighbours that differ, at every distance, and pressures as large within 3 %; samples of it
(`drawn`) tell how much more data could bring.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch

from benchmarks.accuracy.fine_darcy import FINE, Flow
from mno.core.fields import Axis, Field
from mno.data.reading import Schema, Split
from mno.surrogate.surrogate import Surrogate

POINTS = 16
HELD_OUT = 100
"""The last of the training samples, on which everything was chosen."""
PERMEABILITY = (0.02, 0.36)
FLOW = Flow(
    "darcy_421_16", 3.0, 10.0, PERMEABILITY, tuple(i * FINE // POINTS for i in range(POINTS))
)

_OFFSET = POINTS * 0.5 / FINE  # of a point in its coarse cell
_OF_NEXT_ROW = {"permeability": 1.0, "pressure": _OFFSET / (1 + _OFFSET)}
"""What the row along a wall is of the next one, in a mirror image."""


def read(folder: Path) -> dict[str, Split]:
    """Read the splits `train` (1,000 samples) and `test` (50).

    A file may also be `darcy16_train.npz` (or `_test`) with arrays `x` and `y`.
    """
    fields = {split: _fields(folder, split) for split in ("train", "test")}
    return {
        split: Split(split, _schema(), each, np.arange(len(each["pressure"])))
        for split, each in fields.items()
    }


def drawn(count: int) -> Split:
    """Return samples that are drawn as the public ones seem to be; solve them, once."""
    return Split("train", _schema(), FLOW.samples(count), np.arange(count))


def part(split: Split, start: int, stop: int, name: str) -> Split:
    """Return some samples as a split of their own."""
    fields = {key: field[start:stop] for key, field in split.fields.items()}
    return Split(name, split.schema, fields, split.indices[start:stop])


def mirrored(split: Split) -> Split:
    """Return the samples, and their mirror images along x, along y and along both.

    The square's mirrors take the points to each other but for the row and the column at a wall,
    where the opposite wall has no point. There a mirrored permeability is that of the next row, and
    its pressure the share of the next row's that a linear rise from the wall has there.
    """
    fields = dict(split.fields)
    for axis in (1, 2):
        fields = {
            name: np.concatenate([field, _mirror(field, axis, _OF_NEXT_ROW[name])])
            for name, field in fields.items()
        }
    return Split(split.name, split.schema, fields, np.arange(4 * len(split)))


def averaged(surrogate: Surrogate, split: Split) -> dict[str, np.ndarray]:
    """Return the mean of the predictions for all images of each sample, carried back to it.

    The images are those of `mirrored`, and the transposed of these.
    """
    total = np.zeros_like(split.fields["pressure"])
    for mirrors in ((), (1,), (2,), (1, 2)):
        given = split.fields["permeability"]
        for axis in mirrors:
            given = _mirror(given, axis, _OF_NEXT_ROW["permeability"])
        for turned in (False, True):
            image = given.swapaxes(1, 2) if turned else given
            answer = surrogate.predict({"permeability": image})["pressure"]
            answer = answer.swapaxes(1, 2) if turned else answer
            for axis in mirrors:
                answer = _mirror(answer, axis, _OF_NEXT_ROW["pressure"])
            total += answer / 8
    return {"pressure": total}


def _mirror(field: np.ndarray, axis: int, of_next_row: float) -> np.ndarray:
    inner = np.flip(np.delete(field, 0, axis), axis)
    first = of_next_row * np.take(inner, [0], axis)
    return np.concatenate([first, inner], axis).astype(np.float32)


def _schema() -> Schema:
    points = (np.arange(POINTS) + _OFFSET) / POINTS
    return Schema(
        scenario="darcy",
        fields=(
            Field("permeability", "1", "permeability", "input", ("x", "y")),
            Field("pressure", "1", "pressure", "output", ("x", "y")),
        ),
        axes=tuple(Axis(name, "1", name, points, (0.0, 1.0)) for name in ("x", "y")),
        symmetries=("x y", "y x"),  # its points do not lie symmetrically along an axis
    )


def _fields(folder: Path, split: str) -> dict[str, np.ndarray]:
    published, arrays = folder / f"darcy_{split}_16.pt", folder / f"darcy16_{split}.npz"
    if published.exists():
        content = {k: v.numpy() for k, v in torch.load(published, weights_only=True).items()}
    elif arrays.exists():
        content = dict(np.load(arrays))
    else:
        sys.exit(f"{folder} holds neither {published.name} nor {arrays.name}; see --help")
    permeability = np.where(content["x"].squeeze() > 0.5, *reversed(PERMEABILITY))
    return {
        "permeability": permeability.astype(np.float32),
        "pressure": content["y"].squeeze().astype(np.float32),
    }
