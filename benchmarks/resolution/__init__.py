"""Does a model trained on one grid give the same answer on others? A study in space and in time."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from mno.core.grid import Grid


@dataclass(frozen=True)
class Sampled:
    """Functions of space, or of time and space, at the points of one grid.

    Attributes:
        grid: The grid.
        inputs: Values of the input functions, of shape `(sample, *grid.shape)`.
        targets: Values of the solutions, of the same shape.
    """

    grid: Grid
    inputs: Tensor
    targets: Tensor


@dataclass(frozen=True)
class Task:
    """Samples of a problem on several grids.

    Attributes:
        train: Training samples, on the one grid that models are trained on.
        validation: By name of the grid, the training grid first; choices were made by these.
        test: The same for other samples; looked at once everything was chosen.
        symmetric: Whether the problem stays the same when the square is turned or mirrored.
    """

    train: Sampled
    validation: dict[str, list[Sampled]]
    test: dict[str, list[Sampled]]
    symmetric: bool = False
