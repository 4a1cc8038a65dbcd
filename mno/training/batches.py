"""What a training step is given: samples of a split, normalised, and changed as options say.

What is drawn in an epoch is a function of the seed and the epoch, and of nothing else. Because no
random state is carried from one epoch to the next, none has to be restored: a resumed training sees
the batches, and draws the random numbers, of an uninterrupted one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from mno.core.batch import Batch
from mno.core.errors import InputError
from mno.core.fields import RATE, Field
from mno.core.observing import READ, Sensor, reading_stream
from mno.data.normalise import Normaliser
from mno.data.reading import Schema, Split, StoredSplit
from mno.data.samples import Samples
from mno.surrogate.description import INTERVALS, Description
from mno.training.config import TrainConfig, check_derivatives
from mno.training.processes import Rank

Fields = Mapping[str, Tensor]
Purpose = Literal["turn", "window", "direction"]
# 0 and 1 are of order and torch, 4 of the learning curve.
_STREAMS: dict[Purpose, int] = {"turn": 2, "window": 3, "direction": 5}

Change = Callable[[dict[str, Tensor], Tensor, int], dict[str, Tensor]]
"""What is done to the fields of a batch, given the numbers of its samples and the epoch."""

Choices = Callable[[int], np.ndarray]
"""Gives what `epoch_choices` has drawn for each sample of the split, given the epoch."""


def seed_epoch(seed: int, epoch: int, rank: int = 0) -> None:
    """Start torch's random stream of an epoch (counted from 0), for dropout and its like.

    Each of several processes (`rank`, counted from 0) has one of its own.
    """
    sequence = np.random.SeedSequence(seed, spawn_key=(epoch, 1, rank) if rank else (epoch, 1))
    torch.manual_seed(int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(1)))


def epoch_choices(
    num_samples: int, num_choices: int, seed: int, epoch: int, purpose: Purpose
) -> np.ndarray:
    """Return a number drawn for each sample in an epoch, from 0 to below `num_choices`.

    It depends on what is said here and on the sample's own number, not on the order in which
    samples are taken. What is chosen is the symmetry by which a sample is turned or the frame at
    which its window begins, drawn independently.
    """
    return _stream(seed, epoch, purpose).integers(num_choices, size=num_samples)


def _stream(seed: int, epoch: int, purpose: Purpose) -> np.random.Generator:
    sequence = np.random.SeedSequence(seed, spawn_key=(epoch, _STREAMS[purpose]))
    return np.random.default_rng(sequence)


class TrainingSamples:
    """The samples of a split, normalised, as `mno.data.loading.Loader` makes batches of them.

    What lies in files is read when a batch asks for it. The changes are made to the fields of each
    batch, in this order; of several processes, `rank` takes its part of it.
    """

    def __init__(
        self,
        split: Split | StoredSplit,
        normaliser: Normaliser,
        changes: Sequence[Change] = (),
        rank: Rank | None = None,
    ) -> None:
        self.samples = Samples(split, normaliser=normaliser, in_memory=False)
        self.changes, self.rank = tuple(changes), rank or Rank()
        self.in_memory = self.samples.in_memory

    def __len__(self) -> int:
        return len(self.samples)

    def batch(self, items: np.ndarray, epoch: int) -> dict[str, Tensor]:
        """Return this process's part of a batch, given the numbers of all its samples."""
        numbers = self.rank.of(items)
        batch = self.samples.batch(numbers)
        for change in self.changes:
            batch = change(batch, torch.from_numpy(numbers), epoch)
        return batch


@dataclass(frozen=True)
class Windows:
    """Cuts fields that have frames to windows of `length`, each beginning where `starts` says.

    Where frames follow each other at `intervals`, the windows' own stand beside the fields.
    """

    names: Collection[str]
    length: int
    starts: Choices
    intervals: Sequence[float] = ()

    def __call__(self, fields: Fields, samples: Tensor, epoch: int) -> dict[str, Tensor]:
        """Return the fields of a batch, those with frames `(batch, length, *grid)`."""
        starts = torch.from_numpy(self.starts(epoch))[samples]
        rows = torch.arange(len(samples))[:, None]
        frames = starts[:, None] + torch.arange(self.length)
        cut = {n: f[rows, frames] if n in self.names else f for n, f in fields.items()}
        if self.intervals:
            cut[INTERVALS] = torch.tensor(self.intervals)[frames]
        return cut


@dataclass(frozen=True)
class Readings:
    """Reads anew, in each epoch, what an observer is given, with the faults of its sensors.

    Of half of the runs it is read at other times, drawn from all of the run, as plants do not read
    at equal distances: between frames what is told is interpolated linearly, as are their times,
    by their `intervals` or the sample's own, and what drives it is that of the frame before.
    """

    sensors: Mapping[str, Sensor]
    normaliser: Normaliser
    told: Collection[str]
    driving: Collection[str]
    seed: int
    times: Collection[str] = ()
    intervals: Sequence[float] = ()

    def __call__(self, fields: Fields, samples: Tensor, epoch: int) -> dict[str, Tensor]:
        """Return the fields of a batch, those that are read as they would be in this epoch."""
        found = self._at_other_times(fields, samples, epoch)
        beside = self.normaliser.references(fields)
        for name, sensor in self.sensors.items():
            runs = self.normaliser.decode(name, found[name], beside).numpy()
            rows = [
                sensor.read(values, reading_stream(self.seed, name, number, epoch))
                for values, number in zip(runs, samples.tolist(), strict=True)
            ]
            read = torch.from_numpy(np.stack(rows))
            found[name + READ] = self.normaliser.encode(name + READ, read, beside)
        return found

    def _at_other_times(self, fields: Fields, samples: Tensor, epoch: int) -> dict[str, Tensor]:
        frames = fields[next(iter(self.told))].shape[1]
        times = np.tile(np.arange(frames, dtype=np.float32), (len(samples), 1))
        for row, number in enumerate(samples.tolist()):
            rng = reading_stream(self.seed, "time", number, epoch)
            if frames > 2 and rng.random() < 0.5:
                times[row, 1:] = np.sort(rng.uniform(0.05, frames - 1.0, frames - 1))
        at = torch.from_numpy(times)
        before = at.floor().long().clamp_max(frames - 1)
        after = (before + 1).clamp_max(frames - 1)
        rows = torch.arange(len(samples))[:, None]
        found = dict(fields)
        for name in self.driving:
            found[name] = fields[name][rows, before]
        for name in (*self.told, *self.times):
            field = fields[name]
            share = (at - before).reshape(*at.shape, *(1,) * (field.ndim - 2))
            found[name] = torch.lerp(field[rows, before], field[rows, after], share)
        clock = torch.tensor(self.intervals or (1.0,) * frames).cumsum(0) - 1.0
        steps = torch.lerp(clock[before], clock[after], at - before).diff(dim=1).clamp_min(1e-3)
        found[INTERVALS] = torch.nn.functional.pad(steps, (1, 1), value=1.0)
        return found


Turn = Callable[[Tensor], Tensor]
"""A symmetry as it acts on an array of one field, `(batch, *dims)`."""


def turns_of(schema: Schema) -> tuple[Mapping[str, Turn], ...]:
    """Return what each symmetry that a dataset declares does to each of its fields.

    An `InputError` says that one is no map of the grid, or exchanges axes that a field lacks.
    """
    return tuple(
        {field.name: _turn(schema, name, field) for field in schema.fields}
        for name in schema.symmetries
    )


def _turn(schema: Schema, symmetry: str, field: Field) -> Turn:
    lengths = {axis.name: len(axis.points) for axis in schema.space}
    sources = [part.removeprefix("-") for part in symmetry.split()]
    dims = ["sample", *field.dims]
    order, flipped = list(range(len(dims))), []
    fits = sorted(sources) == sorted(lengths)
    for target, source, part in zip(lengths, sources, symmetry.split(), strict=False):
        if target in dims and source in dims:
            fits = fits and lengths[target] == lengths[source]
            order[dims.index(target)] = dims.index(source)
            if part.startswith("-"):
                flipped.append(dims.index(target))
        elif target in dims or source in dims:
            fits = False
    if not fits:
        raise InputError(
            f"symmetry {symmetry!r} of the dataset does not map the grid of {field.name} onto "
            f"itself; name each axis once, for example {' '.join(lengths)!r}, and exchange such as "
            "have the same points: correct it in the scenario and generate the dataset again"
        )
    return lambda values: values.permute(order).flip(flipped)


@dataclass(frozen=True)
class Augmentation:
    """Turns the samples of a batch, each by that of the `turns` which is chosen for it."""

    turns: tuple[Mapping[str, Turn], ...]
    choices: Choices

    def __call__(self, fields: Fields, samples: Tensor, epoch: int) -> dict[str, Tensor]:
        """Return the fields of a batch, turned."""
        chosen = torch.from_numpy(self.choices(epoch))[samples]
        turned = {name: field.clone() for name, field in fields.items()}
        for number in chosen.unique().tolist():
            rows = (chosen == number).nonzero()[:, 0]
            for name in fields.keys() - {INTERVALS}:
                turn = self.turns[number][name.removeprefix(RATE)]
                turned[name][rows] = turn(fields[name][rows])
        return turned


def maps_of(schema: Schema) -> Tensor:
    """Return what each symmetry that points have does to their coordinates, `(number, axes, axes)`.

    An `InputError` says that one does not name every coordinate once.
    """
    names = [field.name for field in schema.coordinates]
    for symmetry in schema.symmetries:
        if sorted(part.removeprefix("-") for part in symmetry.split()) != sorted(names):
            raise InputError(
                f"symmetry {symmetry!r} of the dataset does not name each coordinate once, for "
                f"example {' '.join(names)!r}: correct it and generate the dataset again"
            )
    parts = (symmetry.split() for symmetry in schema.symmetries)
    return torch.tensor(
        [[[float(p == n) - float(p == "-" + n) for n in names] for p in of] for of in parts]
    )


@dataclass(frozen=True)
class TurnedPoints:
    """Moves the points of a batch, of each sample by that of the `maps` which is chosen for it."""

    maps: Tensor
    names: tuple[str, ...]
    normaliser: Normaliser
    choices: Choices

    def __call__(self, fields: Fields, samples: Tensor, epoch: int) -> dict[str, Tensor]:
        """Return the fields of a batch, whose coordinates, and rates of these, are others."""
        maps, found = self.maps[self.choices(epoch)[samples]].mT, dict(fields)
        mean, std = (
            torch.tensor([of[name] for name in self.names])
            for of in (self.normaliser.mean, self.normaliser.std)
        )
        for prefix, middle in (("", mean), (RATE, 0.0 * mean)):
            if all(prefix + name in fields for name in self.names):
                places = torch.stack([fields[prefix + name] for name in self.names], dim=-1)
                moved = ((places * std + middle) @ maps - middle) / std
                found |= {prefix + n: moved[..., k] for k, n in enumerate(self.names)}
        return found


@dataclass(frozen=True)
class Rates:
    """Puts rates of fields beside these, normalised, along a random mixture of directions.

    A Jacobian makes of a sum what it makes of its parts; so each epoch meets another direction of
    a sample, with normal shares of all that are kept, and none is learned by heart. Samples without
    are given none: rates of zero, which any operator has along no direction.
    """

    arrays: Mapping[str, np.ndarray]
    normaliser: Normaliser
    seed: int

    def __call__(self, fields: Fields, samples: Tensor, epoch: int) -> dict[str, Tensor]:
        """Return the fields of a batch, and rates under names that begin with `RATE`."""
        count, of = next(iter(self.arrays.values())).shape[:2]
        shares = _stream(self.seed, epoch, "direction").standard_normal((count, of)) / of**0.5
        rows, encode = samples.numpy(), self.normaliser.encode_rate
        mixed = shares[rows].astype(np.float32)
        rates = {
            name: torch.from_numpy(np.einsum("sd,sd...->s...", mixed, np.nan_to_num(array[rows])))
            for name, array in self.arrays.items()
            if name in fields
        }
        return {**fields, **{RATE + n: encode(n, x, fields[n], rates) for n, x in rates.items()}}


def changes_of(
    training: Split | StoredSplit, description: Description, config: TrainConfig, seed: int
) -> list[Change]:
    """Return what is done to the fields of a batch before a step, in this order."""
    forecast, changes = description.forecast, list[Change]()

    def drawn(number: int, purpose: Purpose) -> Choices:
        return lambda epoch: epoch_choices(len(training), number, seed, epoch, purpose)

    if forecast is not None and description.rolls_out:
        names = (*description.states, *description.forcings, *description.times)
        starts = drawn(forecast.skip + forecast.steps - config.unroll + 1, "window")
        frames = forecast.history + config.unroll
        changes.append(Windows(names, frames, starts, forecast.intervals))
    if forecast is not None and (sensors := description.sensors):
        driving = [n for n in description.forcings if n.removesuffix(READ) not in sensors]
        given = description.normaliser, description.outputs, driving, seed, description.times
        changes.append(Readings(sensors, *given, forecast.intervals))
    check_derivatives(config, bool(training.rates), forecast)
    if config.derivatives:
        arrays = {name: array[:] for name, array in training.rates.items()}
        changes.append(Rates(arrays, description.normaliser, seed))
    if config.augment and training.schema.symmetries:
        choices = drawn(len(training.schema.symmetries), "turn")
        if places := tuple(description.coordinates):
            maps = maps_of(training.schema)
            changes.append(TurnedPoints(maps, places, description.normaliser, choices))
        else:
            changes.append(Augmentation(turns_of(training.schema), choices))
    return changes


def corrupt(batch: Batch, *, noise: float, mask: float, gaps: Collection[str] = ()) -> Batch:
    """Return a batch with noise in its fields and with points whose values are missing.

    A missing point is missing in all fields, at all their frames. In fields that may have gaps it
    is NaN, as what is missing in the data, and the operator is told. In others it holds 0, the
    field's mean in normalised units, and nothing says so: the operator is used likewise, with the
    mean in place of what was not measured. Noise comes first, so missing points carry none.

    The fields are normalised; `noise` is the standard deviation of white, normal noise, `mask` the
    share of points that are missing, and `gaps` names the fields that may have gaps. What is drawn
    (nothing for 0) comes from torch's generator on the fields' device (`seed_epoch`).
    """
    fields = dict(batch.fields)
    if noise:
        fields = {name: x + noise * torch.randn_like(x) for name, x in fields.items()}
    if mask:
        some = next(iter(fields.values()))
        present = torch.rand((len(batch), *batch.shape), device=some.device) >= mask
        for name, x in fields.items():
            with_frames = x.ndim > present.ndim
            hole = math.nan if name in gaps else 0.0
            fields[name] = torch.where(present[:, None] if with_frames else present, x, hole)
    return replace(batch, fields=fields)
