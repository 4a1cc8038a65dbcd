"""Time as an axis of an operator: mixers in space and along time in turn, and a state between."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from mno.core.batch import Batch
from mno.core.points import Points
from mno.nn.config import ModelConfig
from mno.nn.mixers.time import TimeMixer
from mno.nn.operator import AHEAD, Features, Mixers, Operator, Signature
from mno.scan.paths import Domain


class TimeBlock(nn.Module):
    """x + mixer(norm(x)) along time."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(config.width)
        self.mixer = TimeMixer(config.width, d_state=config.time_state, expand=config.expand)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, intervals: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
        """Apply the layer to `(lines, frames, width)`; arguments are those of its mixer."""
        mixed, behind = self.mixer(self.norm(x), intervals, state)
        return x + self.dropout(mixed), behind


class Stream:
    """The frames of a batch, and what its operator remembers of those before and hands on."""

    def __init__(self, intervals: Tensor, state: Tensor | None) -> None:
        self.intervals, self.before = intervals, state
        self._of_lines: Tensor | None = None  # intervals of each point's line
        self._behind: list[Tensor] = []

    def through(self, block: nn.Module, x: Features, sources: int | None = None) -> Features:
        """Return features `(batch * frames, points, width)` after the next layer along time.

        Where others only listen to them, the first points, `sources`, alone remember.
        """
        if sources is not None and sources < x.shape[1]:
            return torch.cat([self.through(block, x[:, :sources]), x[:, sources:]], dim=1)
        (samples, frames), (_, points, width) = self.intervals.shape, x.shape
        if self._of_lines is None:
            self._of_lines = self.intervals.repeat_interleave(points, 0)
        before = None
        if self.before is not None:
            before = self.before[:, len(self._behind)].flatten(0, 1)
        lines = x.reshape(samples, frames, points, width).transpose(1, 2).flatten(0, 1)
        y, behind = block(lines, self._of_lines, before)
        self._behind.append(behind)
        return y.reshape(samples, points, frames, width).transpose(1, 2).flatten(0, 1)

    @property
    def state(self) -> Tensor:
        """What is remembered behind the last frame; see `OperatorInTime.forward`."""
        # Channels are innermost in memory, as mixers take them.
        stacked = torch.stack([behind.mT for behind in self._behind])
        layers, _, kept, channels = stacked.shape
        return stacked.view(layers, self.intervals.shape[0], -1, kept, channels).transpose(0, 1).mT


class OperatorInTime(Operator):
    """An operator that may have time as an axis (`Signature.along_time`).

    Each of its layers, a block that mixes the points of every frame, is then followed by one that
    mixes the frames of every point, causally. A subclass's `_predict` does so by `_in_turn`.
    """

    def __init__(self, config: ModelConfig, mixers: Mixers, signature: Signature) -> None:
        super().__init__(config, mixers, signature)
        layers = config.layers if signature.along_time else 0
        self.time_blocks = nn.ModuleList(TimeBlock(config) for _ in range(layers))

    def _predict(self, batch: Batch, stream: Stream | None) -> Batch:
        raise NotImplementedError

    def forward(
        self, batch: Batch, state: Tensor | None = None, *, return_state: bool = False
    ) -> Batch | tuple[Batch, Tensor]:
        """Predict the output fields where the input fields are.

        Along time fields that have frames are `(batch, frames, *place)`, any number of frames, and
        each output answers, at each, the frame behind it, of all up to it. Frames may follow those
        of an earlier call, whose state is then given: in pieces or one by one the answers are those
        of the whole sequence.

        The state is one tensor, `(batch, layers, points, channels, kept)`, where points are those
        that mixers work on, the tokens of a latent operator, and of fields beside readings those of
        the readings alone, to which the others listen; see `TimeMixer`.

        Raises:
            ValueError: The batch or the state does not fit the operator, among them points given to
                a latent one that was built for grids and the reverse, or a state is given or asked
                for where time is no axis.
        """
        if not self.signature.along_time:
            if state is not None or return_state:
                raise ValueError(
                    "this operator has no state: time is no axis of it; build it with "
                    "along_time=True"
                )
            return self._predict(batch, None)
        frames = self._num_frames(batch)
        size, intervals = batch.samples, batch.intervals
        like = next(iter(batch.fields.values()))
        if intervals is None:
            intervals = like.new_ones(size, frames + 1)
        if intervals.shape[0] != size or intervals.shape[1] <= frames:
            raise ValueError(
                f"intervals have shape {tuple(intervals.shape)}; expected one before each of the "
                f"{frames} frames and one behind the last, {(size, frames + 1)}"
            )
        if state is not None and (state.ndim != 5 or state.shape[:2] != (size, len(self.blocks))):
            raise ValueError(
                f"the state has shape {tuple(state.shape)}; expected (batch, layers, points, "
                f"channels, kept) with {(size, len(self.blocks))} in front: give what this "
                "operator returned for the same samples"
            )
        stream = Stream(intervals[:, :frames], state)
        answer = self._predict(self._one_by_one(batch, intervals[:, 1 : frames + 1]), stream)
        fields = {n: f[:, 0].unflatten(0, (size, frames)) for n, f in answer.fields.items()}
        answer = Batch(fields, batch.place)
        return (answer, stream.state) if return_state else answer

    def _num_frames(self, batch: Batch) -> int:
        shapes = {n: tuple(batch.fields[n].shape) for n in self.over_time if n in batch.fields}
        counts = {shape[1] for shape in shapes.values() if len(shape) == 2 + len(batch.shape)}
        if len(counts) != 1 or len(shapes) != len(self.over_time):
            raise ValueError(
                f"fields over time have shapes {shapes}; expected {', '.join(self.over_time)}, "
                f"each (batch, frames, *place) with as many frames, at {batch.shape}"
            )
        return counts.pop()

    def _one_by_one(self, batch: Batch, ahead: Tensor) -> Batch:
        """Return a batch of which each frame is a sample."""
        frames = ahead.shape[1]

        def repeated(x: Tensor) -> Tensor:
            return x if frames == 1 else x.repeat_interleave(frames, 0)

        fields = {}
        for name in self.inputs:
            field = batch.fields.get(name)
            if name in self.over_time and field is not None:
                fields[name] = field.flatten(0, 1)[:, None]
            elif field is not None:
                fields[name] = repeated(field)
        scalars = {name: repeated(values) for name, values in batch.scalars.items()}
        if AHEAD in self.scalars:
            scalars[AHEAD] = ahead.flatten().log()
        place = batch.place
        if isinstance(place, Points) and place.coordinates.ndim == 3 and frames > 1:
            place = replace(place, coordinates=repeated(place.coordinates))
        return Batch(fields, place, scalars)

    def _in_turn(self, x: Tensor, domain: Domain, stream: Stream | None) -> Features:
        """Return features after all `blocks`, each followed by its own along time, if there are."""
        sources = domain.sources if isinstance(domain, Points) else None
        for layer, block in enumerate(self.blocks):
            x = block(x, domain)
            if stream is not None:
                x = stream.through(self.time_blocks[layer], x, sources)
        return x
