"""Where an operator answers: at its inputs' places, or at others."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from mno.core.batch import Batch
from mno.core.grid import Grid
from mno.core.points import Points
from mno.nn.operator import coordinates


@dataclass(frozen=True)
class Queries:
    """Places at which an operator is asked for its outputs.

    Attributes:
        place: What the answer's fields live on.
        coordinates: Where the points are: relative to the domain on a grid, as given for points.
    """

    place: Grid | Points
    coordinates: Float[Tensor, "batch point axis"]


def queries(batch: Batch, at: Grid | Points | None, dims: int) -> Queries:
    """Return where an operator is asked.

    Args:
        batch: What it is given.
        at: Where it is asked, in the coordinates that the inputs are given in; where the inputs are
            if `None`.
        dims: Axes that it was built for.

    Raises:
        ValueError: The place has another number of axes, or is one for each of another number of
            samples.
    """
    place = batch.place if at is None else at
    like = next(iter(batch.fields.values()))
    given = coordinates(place, like)
    if given.shape[-1] != dims:
        raise ValueError(
            f"at has {given.shape[-1]} axes, but this operator was built for {dims}; ask it at "
            f"places with {dims} coordinates"
        )
    if len(given) not in (1, len(batch)):
        raise ValueError(
            f"at holds the places of {len(given)} samples, but the batch has {len(batch)}; give "
            "one set of places for all, or one per sample"
        )
    return Queries(place, given.expand(len(batch), -1, -1))
