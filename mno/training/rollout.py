"""Rollouts: an operator that continues a field by one frame, asked again with what it answered."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import islice

import torch
from torch import Tensor, nn

from mno.data.batch import Batch


def roll_out(operator: nn.Module, batch: Batch, steps: int) -> Batch:
    """Continue the fields of a batch by a number of frames.

    The operator is given the last frames of each field and predicts the next one; that is appended,
    the first is dropped, and it is asked again. An output continues the input of its name. Inputs
    that no output continues, and scalars, stay as they are. Fields are normalised, an output as the
    input that it continues, so that an answer can be put in as it comes out.

    Gradients, where they are recorded, pass through all steps.

    Args:
        operator: Takes and returns a `Batch`; predicts one frame of each output, shape
            `(batch, *place)` or `(batch, 1, *place)`.
        batch: The first frames, shape `(batch, frames, *place)`, or `(batch, *place)` for an
            operator that is given one frame without an axis for it.
        steps: Frames to predict.

    Returns:
        The predicted frames of each output, shape `(batch, steps, *place)`.

    Raises:
        ValueError: `steps` is less than 1, an output has no input of its name, or it is not one
            frame.
    """
    _check_steps(steps)
    frames = list(islice(_frames(operator, batch), steps))
    fields = {name: torch.cat([frame[name] for frame in frames], dim=1) for name in frames[0]}
    return Batch(fields, batch.place)


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
    steps = next(iter(truth.values())).shape[1]
    _check_steps(steps)
    with torch.no_grad():
        for _ in range(steps - 1):
            batch = _advanced(batch, _next_frame(operator, batch))
    last = _next_frame(operator, batch)
    predicted = {name: frame[:, 0] for name, frame in last.items()}
    return error(predicted, {name: truth[name][:, -1] for name in predicted})


def _frames(operator: nn.Module, batch: Batch) -> Iterator[dict[str, Tensor]]:
    while True:
        frame = _next_frame(operator, batch)
        yield frame
        batch = _advanced(batch, frame)


def _next_frame(operator: nn.Module, batch: Batch) -> dict[str, Tensor]:
    """Return the next frame of each output, shape `(batch, 1, *place)`."""
    answer: Batch = operator(batch)
    size = (len(batch), 1, *batch.shape)
    fields = {}
    for name, field in answer.fields.items():
        if name not in batch.fields:
            raise ValueError(
                f"output {name} continues no input; the batch holds {sorted(batch.fields)}: give "
                "an output the name of the input that it continues"
            )
        frame = field if field.ndim == len(size) else field[:, None]
        if tuple(frame.shape) != size:
            raise ValueError(
                f"output {name} has shape {tuple(field.shape)}; expected one frame, {size}: build "
                "the operator with one frame per output"
            )
        fields[name] = frame
    return fields


def _advanced(batch: Batch, frame: Mapping[str, Tensor]) -> Batch:
    """Return the batch one frame later."""
    fields = dict(batch.fields)
    for name, new in frame.items():
        old = fields[name]
        with_frames = old.ndim == new.ndim
        fields[name] = torch.cat([old[:, 1:], new], dim=1) if with_frames else new[:, 0]
    return replace(batch, fields=fields)


def _check_steps(steps: int) -> None:
    if steps < 1:
        raise ValueError(f"steps={steps}; expected at least one")
