"""What the backbones that work on grids alone share: points seen as an image, channels first."""

from __future__ import annotations

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor

from mno.core.grid import Grid
from mno.core.points import Points


def on_image(
    network: Callable[[Tensor], Tensor],
    x: Float[Tensor, "batch point channel"],
    place: Grid | Points,
    backbone: str,
) -> Float[Tensor, "batch point output"]:
    """Apply a network of images, `(batch, channels, *grid)`, to features of a grid's points.

    Raises:
        ValueError: The place is `Points`.
    """
    if isinstance(place, Points):
        raise ValueError(
            f"backbone={backbone!r} takes grids only, and was given {place.num_points} scattered "
            "points; interpolate them to a grid, or use plain, gnot, galerkin, oformer or "
            "transolver"
        )
    image = x.transpose(1, 2).unflatten(2, place.shape)
    # Not every layer takes an empty batch: there, one sample is computed and left out.
    out = network(image) if len(x) else network(image.new_zeros(1, *image.shape[1:]))[:0]
    return out.flatten(2).transpose(1, 2)
