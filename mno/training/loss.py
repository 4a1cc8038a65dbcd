"""The loss: the relative L2 error of the predicted fields, in physical units."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from mno.data.normalise import Normaliser

# A field weaker than this share of its standard deviation in the training split is measured
# against that share: dividing by a norm near zero would let one silent sample drown all others.
NORM_FLOOR = 0.01


def relative_l2(
    predicted: Mapping[str, Tensor], truth: Mapping[str, Tensor], normaliser: Normaliser
) -> Tensor:
    r"""Return each sample's error `‖u_pred − u‖₂ / ‖u‖₂`, averaged over the fields.

    Args:
        predicted: Normalised fields of shape `(batch, *grid)`, by name.
        truth: The same fields as solved, normalised likewise.
        normaliser: Brings both to the physical units in which the norms are taken.

    Returns:
        Errors of shape `(batch,)`, nondimensional.
    """
    errors = []
    for name, field in predicted.items():
        std = normaliser.std[name]
        # The difference is taken before decoding, where the mean cancels without rounding.
        error = std * (field - truth[name]).flatten(1).norm(dim=1)
        solved = normaliser.decode(name, truth[name]).flatten(1)
        floor = NORM_FLOOR * std * solved.shape[1] ** 0.5
        errors.append(error / solved.norm(dim=1).clamp_min(floor))
    return torch.stack(errors).mean(dim=0)
