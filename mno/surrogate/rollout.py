"""Rollouts: an operator that continues a field by one frame, asked again with what it answered."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from mno.core.batch import Batch

Operator = Callable[[Batch], Batch]
"""A module, or what is made of one; fields in and out are normalised."""
Follower = Callable[[Batch, Tensor | None], tuple[Batch, Tensor]]
"""What answers, at each frame of a batch, the one behind it, given the state behind the frames
before, and returns that behind its own (`mno.nn.along_time`)."""


def from_changes(operator: Operator, changes: Mapping[str, float]) -> Operator:
    """Return what predicts states, given an operator that answers how they change.

        u_k = u_0 + s a_k

    u_0 is the last frame of the input of the output's name, and where that is missing the last
    before it that is not, or else 0, the mean; a_k are the frames of the answer, and s says how
    large changes are, by name. Other outputs stay as they are. An operator that answers zero
    predicts persistence.
    """

    def predict(batch: Batch) -> Batch:
        last = {name: _known_so_far(batch.fields[name])[:, -1:] for name in changes}
        answer = operator(batch)
        changed = {name: last[name] + size * answer.fields[name] for name, size in changes.items()}
        return replace(answer, fields={**answer.fields, **changed})

    return predict


def following(operator: nn.Module, changes: Mapping[str, float]) -> Follower:
    """Return what predicts states along time, given an operator that may answer how they change.

    Changes are from the frame at which it answers; where it is missing, as in `from_changes`.
    """

    def follow(batch: Batch, state: Tensor | None) -> tuple[Batch, Tensor]:
        answer, behind = operator(batch, state, return_state=True)
        changed = {}
        for name, size in changes.items():
            known = _known_so_far(batch.fields[name])
            changed[name] = known + size * answer.fields[name]
        return replace(answer, fields={**answer.fields, **changed}), behind

    return follow


def _known_so_far(frames: Tensor) -> Tensor:
    """Return frames in which a missing value is the last one before it that is not, or else 0."""
    if not torch.compiler.is_compiling() and not frames.isnan().any():
        return frames
    known = [torch.zeros_like(frames[:, :1])]
    for frame in frames.split(1, dim=1):
        known.append(torch.where(frame.isnan(), known[-1], frame))
    return torch.cat(known[1:], dim=1)


def follow_on(follow: Follower, batch: Batch, steps: int) -> Batch:
    """Continue the states of a batch along time, `(batch, frames, *place)`, by one frame or more.

    Each frame is answered by the one behind it, the last one given, and then that answer, and so
    on: none is seen twice, however many there are. Forcings, and the batch's intervals, go on as
    far as is needed, or further. Returned are all answers: to each given frame but the last the one
    behind it, then the steps.
    """
    given = min(field.shape[1] for field in batch.fields.values() if _has_frames(field, batch))
    answer, state = follow(_frames(batch, 0, given), None)
    found = [answer.fields]
    for start in range(given, given + steps - 1):
        last = {name: field[:, -1:] for name, field in found[-1].items()}
        ahead = _frames(replace(batch, fields={**batch.fields, **last}), start, 1)
        answer, state = follow(ahead, state)
        found.append(answer.fields)
    fields = {name: torch.cat([part[name] for part in found], dim=1) for name in found[0]}
    return Batch(fields, batch.place)


def all_at_once(follow: Follower, batch: Batch, steps: int, states: Collection[str]) -> Batch:
    """Return what `follow_on` does, but of states that are missing behind the frames given."""
    fields = dict(batch.fields)
    for name in states:
        missing = torch.full_like(fields[name][:, :1], math.nan).expand(-1, steps - 1, *batch.shape)
        fields[name] = torch.cat([fields[name], missing], dim=1)
    frames = fields[next(iter(states))].shape[1]
    return follow(_frames(replace(batch, fields=fields), 0, frames), None)[0]


def _has_frames(field: Tensor, batch: Batch) -> bool:
    return field.ndim > 1 + len(batch.shape)


def _frames(batch: Batch, start: int, count: int) -> Batch:
    """Return so many frames of a batch from one on; of a field with a single one that."""
    fields = {
        name: field[:, start : start + count] if _has_frames(field, batch) else field
        for name, field in batch.fields.items()
    }
    alone = {n: f for n, f in batch.fields.items() if _has_frames(f, batch) and f.shape[1] == 1}
    intervals = batch.intervals
    if intervals is not None:
        intervals = intervals[:, start : start + count + 1]
    return replace(batch, fields={**fields, **alone}, intervals=intervals)


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
    fields, frames = dict(batch.fields), list[Mapping[str, Tensor]]()
    others = [field for name, field in fields.items() if name not in forcings]
    history = max(f.shape[1] if f.ndim > 1 + len(batch.shape) else 1 for f in others)
    for step in range(steps):
        part = slice(step, step + history)
        seen = {n: f[:, part] if n in forcings else f for n, f in fields.items()}
        frames.append(operator(replace(batch, fields=seen)).fields)
        for name, frame in frames[-1].items():
            if name not in seen or tuple(frame.shape) != (batch.samples, 1, *batch.shape):
                raise ValueError(
                    f"output {name} has shape {tuple(frame.shape)}; expected one frame that "
                    f"continues an input, one of {sorted(seen)}: build the operator with one frame "
                    "per output, named as the input that it continues"
                )
            fields[name] = torch.cat([fields[name][:, 1:], frame], dim=1)
    found = {name: torch.cat([frame[name] for frame in frames], dim=1) for name in frames[0]}
    return Batch(found, batch.place)
