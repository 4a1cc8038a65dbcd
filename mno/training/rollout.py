"""The pushforward trick: a rollout in training whose last step alone has a gradient."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

import torch
from torch import Tensor, nn

from mno.core.batch import Batch
from mno.surrogate.rollout import advanced, check_steps, next_frame


def pushforward_loss(
    operator: nn.Module,
    batch: Batch,
    truth: Mapping[str, Tensor],
    error: Callable[[Mapping[str, Tensor], Mapping[str, Tensor]], Tensor],
) -> Tensor:
    """Return the error of the last frame of a rollout, with a gradient through its last step alone.

    The operator sees its own mistakes as inputs, and learns not to let them grow; the steps before
    the last cost no memory. With one frame of truth it is the error of one step. To record the
    gradient through all steps, take the error of what `roll_out` returns.

    Args:
        operator: As for `roll_out`.
        batch: As for `roll_out`.
        truth: The frames that follow those of the batch, shape `(batch, steps, *place)`, of every
            output, by name.
        error: Compares predicted fields with true ones, both of shape `(batch, *place)`, by name;
            for example `relative_l2` with its normaliser filled in.

    Returns:
        What `error` returns.

    Raises:
        ValueError: As for `roll_out`.

    Source:
        Brandstetter, Worrall and Welling, "Message Passing Neural PDE Solvers", arXiv:2202.03376,
        section 3.1: the stability loss.
    """
    last = next_frame(operator, pushed(operator, batch, next(iter(truth.values())).shape[1]))
    predicted = {name: frame[:, 0] for name, frame in last.items()}
    return error(predicted, {name: truth[name][:, -1] for name in predicted})


@torch.no_grad()
def pushed(operator: nn.Module, batch: Batch, steps: int, forcings: Collection[str] = ()) -> Batch:
    """Return the batch before the last step of a rollout, without gradients.

    Args:
        operator: As for `roll_out`.
        batch: As for `roll_out`.
        steps: Steps of the rollout, the last included.
        forcings: As for `roll_out`.

    Raises:
        ValueError: As for `roll_out`.
    """
    check_steps(steps)
    for _ in range(steps - 1):
        batch = advanced(batch, next_frame(operator, batch, forcings), forcings)
    # In mixed precision the casts of weights are kept, and these would pass no gradient on.
    torch.clear_autocast_cache()
    return batch
