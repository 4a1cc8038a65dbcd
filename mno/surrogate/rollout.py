"""Rollouts: an operator that continues a field by one frame, asked again with what it answered."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from mno.core.batch import Batch


def roll_out(
    operator: nn.Module, batch: Batch, steps: int, forcings: Collection[str] = ()
) -> Batch:
    """Continue the fields of a batch by a number of frames, `(batch, steps, *place)`.

    The operator is given the last frames of each field, `(batch, frames, *place)`, or one without
    an axis for it, and predicts the next one; that is appended, the first is dropped, and it is
    asked again. An output continues the input of its name. Inputs that no output continues, and
    scalars, stay as they are. Fields are normalised, an output as the input that it continues, so
    that an answer can be put in as it comes out.

    A forcing is an input whose frames are known in advance: frame `k` holds from frame `k` of the
    others to the next. At each step the operator sees as many of its frames as it sees of the
    fields that are continued, beginning and ending at the same time. It has those frames and those
    of all steps but the last, or more: the surplus is not looked at.

    Gradients, where they are recorded, pass through all steps.

    Raises:
        ValueError: `steps` is less than 1, an output has no input of its name, or it is not one
            frame, or a forcing ends too early.
    """
    check_steps(steps)
    frames = []
    for step in range(steps):
        if step:
            batch = advanced(batch, frames[-1], forcings)
        frames.append(next_frame(operator, batch, forcings))
    fields = {name: torch.cat([frame[name] for frame in frames], dim=1) for name in frames[0]}
    return Batch(fields, batch.place)


def next_frame(
    operator: nn.Module, batch: Batch, forcings: Collection[str] = ()
) -> dict[str, Tensor]:
    """Return the next frame of each output, shape `(batch, 1, *place)`; see `roll_out`."""
    answer: Batch = operator(_seen(batch, forcings))
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


def _seen(batch: Batch, forcings: Collection[str]) -> Batch:
    """Return the batch with as many frames of each forcing as the other fields have."""
    lengths = {
        field.shape[1] if field.ndim > 1 + len(batch.shape) else 1
        for name, field in batch.fields.items()
        if name not in forcings
    }
    history = max(lengths, default=1)
    for name in forcings:
        if (given := batch.fields[name].shape[1]) < history:
            raise ValueError(
                f"forcing {name} ends {history - given} frames too early for this number of steps; "
                "give it the frames of the others and those of all steps but the last"
            )
    cut = {name: batch.fields[name][:, :history] for name in forcings}
    return replace(batch, fields={**batch.fields, **cut})


def advanced(batch: Batch, frame: Mapping[str, Tensor], forcings: Collection[str] = ()) -> Batch:
    """Return the batch one frame later, given what `next_frame` returned."""
    fields = dict(batch.fields)
    for name in forcings:
        fields[name] = fields[name][:, 1:]
    for name, new in frame.items():
        old = fields[name]
        with_frames = old.ndim == new.ndim
        fields[name] = torch.cat([old[:, 1:], new], dim=1) if with_frames else new[:, 0]
    return replace(batch, fields=fields)


def check_steps(steps: int) -> None:
    """Raise a `ValueError` for a rollout of no step."""
    if steps < 1:
        raise ValueError(f"steps={steps}; expected at least one")
