"""Rollouts: an operator that continues a field by one frame, asked again with what it answered."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from mno.core.batch import Batch

Operator = Callable[[Batch], Batch]
"""A module, or what is made of one; fields in and out are normalised."""


def from_changes(operator: Operator, changes: Mapping[str, float]) -> Operator:
    """Return what predicts states, given an operator that answers how they change.

        u_k = u_0 + s a_k

    u_0 is the last frame of the input of the output's name, and where that is missing the last
    before it that is not, or else 0, the mean; a_k are the frames of the answer, and s says how
    large changes are, by name. Other outputs stay as they are. An operator that answers zero
    predicts persistence.
    """

    def predict(batch: Batch) -> Batch:
        last = {name: _last_known(batch.fields[name]) for name in changes}
        answer = operator(batch)
        changed = {name: last[name] + size * answer.fields[name] for name, size in changes.items()}
        return replace(answer, fields={**answer.fields, **changed})

    return predict


def _last_known(frames: Tensor) -> Tensor:
    """Return the last value of each place that is not missing, `(batch, 1, *place)`, or else 0."""
    last = torch.zeros_like(frames[:, :1])
    for frame in frames.split(1, dim=1):
        last = torch.where(frame.isnan(), last, frame)
    return last


def roll_out(operator: Operator, batch: Batch, steps: int, forcings: Collection[str] = ()) -> Batch:
    """Continue the fields of a batch by one or more frames, `(batch, steps, *place)`.

    The operator is given the last frames of each field, `(batch, frames, *place)`, and predicts the
    next one; that is appended, the first is dropped, and it is asked again. An output continues the
    input of its name. Inputs that no output continues, and scalars, stay as they are. Fields are
    normalised, an output as the input that it continues, so that an answer can be put in as it
    comes out.

    A forcing is an input whose frames are known in advance: frame `k` holds from frame `k` of the
    others to the next. At each step the operator sees as many of its frames as it sees of the
    fields that are continued, beginning and ending at the same time. It has those frames and those
    of all steps but the last, or more: the surplus is not looked at.

    Gradients, where they are recorded, pass through all steps.

    Raises:
        ValueError: An output has no input of its name, or it is not one frame.
    """
    frames = [next_frame(operator, batch, forcings)]
    for _ in range(steps - 1):
        batch = advanced(batch, frames[-1], forcings)
        frames.append(next_frame(operator, batch, forcings))
    fields = {name: torch.cat([frame[name] for frame in frames], dim=1) for name in frames[0]}
    return Batch(fields, batch.place)


def next_frame(
    operator: Operator, batch: Batch, forcings: Collection[str] = ()
) -> Mapping[str, Tensor]:
    """Return the next frame of each output, shape `(batch, 1, *place)`; see `roll_out`."""
    others = [field for name, field in batch.fields.items() if name not in forcings]
    history = max(f.shape[1] if f.ndim > 1 + len(batch.shape) else 1 for f in others)
    seen = {n: f[:, :history] if n in forcings else f for n, f in batch.fields.items()}
    answer: Batch = operator(replace(batch, fields=seen))
    for name, field in answer.fields.items():
        if name not in seen or tuple(field.shape) != (len(batch), 1, *batch.shape):
            raise ValueError(
                f"output {name} has shape {tuple(field.shape)}; expected one frame that continues "
                f"an input, one of {sorted(seen)}: build the operator with one frame per output, "
                "named as the input that it continues"
            )
    return answer.fields


def advanced(batch: Batch, frame: Mapping[str, Tensor], forcings: Collection[str] = ()) -> Batch:
    """Return the batch one frame later, given what `next_frame` returned."""
    fields = dict(batch.fields)
    for name in forcings:
        fields[name] = fields[name][:, 1:]
    for name, new in frame.items():
        fields[name] = torch.cat([fields[name][:, 1:], new], dim=1)
    return replace(batch, fields=fields)
