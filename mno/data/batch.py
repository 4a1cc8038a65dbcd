"""The batch: named fields on one grid, what every operator takes and returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from mno.grid import Grid


@dataclass(frozen=True)
class Batch:
    """Named fields that share a grid.

    Attributes:
        fields: Tensors of shape `(batch, *grid.shape)`, by field name.
        grid: The grid of all fields.

    Raises:
        ValueError: No field is given, or a field's shape does not fit the grid or its siblings.
    """

    fields: Mapping[str, Tensor]
    grid: Grid

    def __post_init__(self) -> None:
        if not self.fields:
            raise ValueError("a batch needs at least one field, got none")
        size = len(next(iter(self.fields.values())))
        for name, field in self.fields.items():
            if tuple(field.shape) != (size, *self.grid.shape):
                raise ValueError(
                    f"field {name} has shape {tuple(field.shape)}; "
                    f"expected (batch, *grid) = {(size, *self.grid.shape)}"
                )

    def __len__(self) -> int:
        return len(next(iter(self.fields.values())))
