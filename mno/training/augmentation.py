"""Augmentation: samples turned by the symmetries that their scenario declares."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mno.core.errors import InputError
from mno.core.fields import Field
from mno.data.reading import Schema


@dataclass(frozen=True)
class Turn:
    """A symmetry as it acts on an array of one field, `(batch, *dims)`.

    Attributes:
        order: The dimension whose values run along each of the result's, for all dimensions.
        flipped: Dimensions of the result along which they run backwards.
    """

    order: tuple[int, ...]
    flipped: tuple[int, ...]

    def __call__(self, field: Tensor) -> Tensor:
        """Return the turned field."""
        return field.permute(self.order).flip(self.flipped)


def turns_of(schema: Schema) -> tuple[Mapping[str, Turn], ...]:
    """Return what each symmetry that a dataset declares does to each of its fields.

    Raises:
        InputError: None is declared, a name is not that of a map of the grid onto itself, or a
            field does not have the axes that a map exchanges.
    """
    if not schema.symmetries:
        raise InputError(
            f"train.augment=true, but the dataset of scenario {schema.scenario} declares no "
            "symmetry; set train.augment=false, or declare the symmetries in the scenario and "
            "generate the dataset again"
        )
    return tuple(
        {field.name: _turn(schema, name, field) for field in schema.fields}
        for name in schema.symmetries
    )


def _turn(schema: Schema, symmetry: str, field: Field) -> Turn:
    axes = {axis.name: axis for axis in schema.space}
    sources = [part.removeprefix("-") for part in symmetry.split()]
    if sorted(sources) != sorted(axes):
        raise InputError(
            f"symmetry {symmetry!r} of the dataset does not name each of the axes "
            f"{', '.join(axes)} once, for example {' '.join(axes)!r}; correct it in the scenario "
            "and generate the dataset again"
        )
    dims = ["sample", *field.dims]
    order, flipped = list(range(len(dims))), []
    for target, source, part in zip(axes, sources, symmetry.split(), strict=True):
        if (target in dims) != (source in dims) or (
            target in dims and len(axes[target].points) != len(axes[source].points)
        ):
            raise InputError(
                f"symmetry {symmetry!r} of the dataset exchanges {source} and {target}, along "
                f"which {field.name} does not have the same points; correct it in the scenario and "
                "generate the dataset again"
            )
        if target in dims:
            order[dims.index(target)] = dims.index(source)
            if part.startswith("-"):
                flipped.append(dims.index(target))
    return Turn(tuple(order), tuple(flipped))


class Augmentation:
    """Turns the samples of a batch, each by the symmetry chosen for it in this epoch.

    Args:
        turns: What `turns_of` returned.
        choices: Gives the number of each sample's symmetry in this epoch, one of `epoch_choices`.
    """

    def __init__(
        self, turns: tuple[Mapping[str, Turn], ...], choices: Callable[[], np.ndarray]
    ) -> None:
        self.turns = turns
        self.choices = choices

    def __call__(self, fields: Mapping[str, Tensor], samples: Tensor) -> dict[str, Tensor]:
        """Return the fields of a batch, turned.

        Args:
            fields: Tensors of shape `(batch, *dims)`, by field name.
            samples: The number of each sample in the training split.
        """
        chosen = torch.from_numpy(self.choices())[samples]
        turned = {name: field.clone() for name, field in fields.items()}
        for number in chosen.unique().tolist():
            rows = (chosen == number).nonzero()[:, 0]
            for name, field in fields.items():
                turned[name][rows] = self.turns[number][name](field[rows])
        return turned
