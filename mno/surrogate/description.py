"""The description of a surrogate: all that it is, apart from its weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from mno.core.batch import Batch
from mno.core.errors import InputError
from mno.core.forecast import Forecast
from mno.core.grid import Grid
from mno.core.observing import Sensor
from mno.core.points import Points
from mno.core.readings import Part, is_in_space
from mno.data.normalise import ArrayT, Normaliser
from mno.nn.build import build_operator
from mno.nn.config import ModelConfig
from mno.surrogate import rollout

INTERVALS = "frame intervals"
"""What may be given beside the fields of a model along time: `Batch.intervals`."""
_WHERE_SAID = ("readings", "cells", "sensors", "hidden", "labels", "times")
_AT_FIRST = ("history", "scheme", "steps", "interval")  # what has always been said of forecasts


@dataclass(frozen=True)
class Description:
    """What a surrogate is, apart from its weights.

    A forcing has frames that are known in advance: frame `k` holds from frame `k` of the states to
    the next. Coordinates of unordered points are given with each sample, and the normaliser knows
    them. A missing value is NaN, and the operator is told which are. Of unordered points the
    reference spacing is one number, their typical distance in normalised coordinates.

    Raises:
        ValueError: The outputs should be zero at walls, but are normalised about another number, or
            on a scale on which zero is not zero, or `gaps` names what is no input with a value at
            each point.
    """

    scenario: str  # the family of problems it was trained on
    inputs: Mapping[str, str]  # units of the fields it is given, by name
    outputs: Mapping[str, str]  # of those it predicts; a state is among both
    extent: tuple[float, ...]  # of the domain along each space axis
    reference_spacing: tuple[float, ...]  # between grid points in training, along each axis
    normaliser: Normaliser  # fitted on the training split
    model: ModelConfig
    offset: tuple[float, ...] = ()  # of points in their cells, as shares of their width; middle
    forecast: Forecast | None = None  # how it continues states
    scalars: tuple[str, ...] = ()  # inputs that are one number per sample, as the weights have them
    forcings: tuple[str, ...] = ()
    coordinates: Mapping[str, str] = field(default_factory=dict)  # units by name; none on a grid
    gaps: tuple[str, ...] = ()  # inputs whose values may be missing
    readings: Mapping[str, tuple[str, int, int]] = field(default_factory=dict)
    """Axis and points of each field that is a reading (`mno.core.readings`)."""
    cells: tuple[int, ...] = ()
    """Of the grid along each axis, where the cells are points beside those of readings."""
    sensors: Mapping[str, Sensor] = field(default_factory=dict)
    """Of an observer, by field, what reads it in training; none of models that are no observers."""
    hidden: tuple[str, ...] = ()
    """Outputs of an observer that are the same at all frames of a sample."""
    labels: tuple[str, ...] = ()
    """Of an observer of readings, what each point is called; empty where it has a number alone."""
    times: Mapping[str, str] = field(default_factory=dict)
    """The unit of what says when each sample's frames are, by its name; none where all have the
    same times. It is given for all frames, and normalised it is in units of the mean interval."""

    def __post_init__(self) -> None:
        if unknown := sorted(set(self.gaps) - set(self.fields)):
            raise ValueError(
                f"gaps={unknown}: values can be missing of {self.fields} only, the inputs with a "
                "value at each point"
            )
        if self.model.walls != "zero":
            return
        scales = self.normaliser.scales
        if others := {name: scales[name] for name in self.outputs if name in scales}:
            raise ValueError(
                f"outputs that are zero at the walls are on the scales {others}, on which zero is "
                "not zero; expected them plain: train with train.scales, or set model.walls=free"
            )
        means = {name: self.normaliser.mean[name] for name in self.outputs}
        if any(means.values()):
            raise ValueError(
                f"outputs that are zero at the walls are normalised about {means}; expected 0, so "
                "that zero stays zero: fit the normaliser with about_zero"
            )

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, of which that of this class can be made again.

        What has come to be said of normalisers is left out where there is nothing to say.
        """
        content = {**asdict(self), "model": self.model.model_dump(mode="json")}
        content["sensors"] = {name: s.model_dump() for name, s in self.sensors.items()}
        told = content["normaliser"]
        content["normaliser"] = {k: v for k, v in told.items() if v or k in ("mean", "std")}
        if self.forecast:
            told = content["forecast"]
            content["forecast"] = {k: v for k, v in told.items() if v or k in _AT_FIRST}
        return {k: v for k, v in content.items() if v or k not in _WHERE_SAID}

    def grid(self, shape: tuple[int, ...]) -> Grid:
        """Return the grid of a field of this shape that covers the whole domain."""
        spacing = tuple(length / n for length, n in zip(self.extent, shape, strict=True))
        places: tuple[tuple[float, ...], ...] = ()
        if any(share != 0.5 for share in self.offset):
            axes = zip(shape, self.offset, strict=True)
            places = tuple(tuple((i + share) / n for i in range(n)) for n, share in axes)
        return Grid(shape, spacing, self.reference_spacing, places)

    def grid_of(self, fields: Mapping[str, Tensor]) -> Grid:
        """Return the grid that fields of the model cover, given some of them by name."""
        some = next(fields[name] for name in (*self.fields, *self.outputs) if name in fields)
        return self.grid(tuple(some.shape[-len(self.extent) :]))

    @property
    def part(self) -> Part:
        """Which part of a dataset with fields and readings it is for."""
        return "both" if self.cells else "readings" if self.readings else "fields"

    @property
    def as_seen(self) -> dict[str, Any]:
        """How `mno.data.parts.seen` is to show it a dataset where it is evaluated."""
        read = {"sensors": self.sensors, "hidden": self.hidden} if self.observes else {}
        return {"part": self.part, "skip": self.skip, **read}

    def places(self, name: str) -> tuple[str, ...]:
        """Return what the places of a reading are called, or else numbered from 1; one may be ''.

        Those of a field in space, and of a number of the whole run, are not told.
        """
        axis, first, last = self.readings.get(name, ("", 0, 1))
        labels = self.labels[first:last] or ("",) * (last - first)
        return tuple(label or (str(n + 1) if axis else "") for n, label in enumerate(labels))

    @cached_property
    def sources(self) -> int | None:
        """Points of readings, with which cells are among the points; none where they are not."""
        return min((self.readings[name][1] for name in self.of_cells), default=None)

    @cached_property
    def of_cells(self) -> frozenset[str]:
        """Names of the fields that have values at cells among the points."""
        return frozenset(n for n, (axis, *_) in self.readings.items() if is_in_space(axis))

    @cached_property
    def space(self) -> tuple[str, ...]:
        """Names of the axes of a field at one time."""
        return ("point",) if self.coordinates else tuple("xyz"[: len(self.extent)])

    def dims(self, name: str) -> tuple[str, ...]:
        """Return the axes of a field, or of a coordinate, behind the samples'."""
        if name in self.scalars:
            return ()
        if name in self.times:
            return ("time",)
        return (*(("time",) if name in self._in_time else ()), *self.space)

    # What follows of the rest is worked out once: an answer may take less than half a millisecond.
    @cached_property
    def _in_time(self) -> frozenset[str]:
        return frozenset((*self.timed, *self.forcings, *self.times))

    @cached_property
    def given_names(self) -> tuple[str, ...]:
        """Names of all that is given with a sample: inputs, coordinates of points, and times."""
        return (*self.inputs, *self.coordinates, *self.times)

    @cached_property
    def states(self) -> tuple[str, ...]:
        """Names of the fields that are given at first frames and predicted at later ones."""
        return tuple(name for name in self.inputs if name in self.outputs and self.forecast)

    @property
    def observes(self) -> bool:
        """Whether it is an observer: told of all frames so far, it tells what is now."""
        return self.forecast is not None and self.forecast.observes

    @cached_property
    def timed(self) -> tuple[str, ...]:
        """Names of the outputs that have frames: states, and all that an observer tells."""
        return tuple(self.outputs) if self.observes else self.states

    @property
    def along_time(self) -> bool:
        """Whether time is an axis of the operator."""
        return self.forecast is not None and self.forecast.along_time

    @property
    def skip(self) -> int:
        """First frames of each sample of its dataset that are left out where it is evaluated."""
        return self.forecast.skip if self.forecast else 0

    @property
    def any_steps(self) -> bool:
        """Whether it predicts as many frames as it is asked for."""
        return self.rolls_out or self.along_time

    @property
    def rolls_out(self) -> bool:
        """Whether the operator is asked for one frame after the other."""
        return self.forecast is not None and self.forecast.rolls_out

    @cached_property
    def fields(self) -> tuple[str, ...]:
        """Names of the inputs that have a value at each point, in the order of the weights."""
        return tuple(name for name in self.inputs if name not in self.scalars)

    def build(self) -> nn.Module:
        """Build the operator with fresh weights."""
        at_once = self.forecast.frames_at_once if self.forecast else None
        predicted = 1 if self.along_time else at_once
        # All at once along time, states are missing behind those given.
        unseen = self.states if self.along_time and not self.rolls_out else ()
        return build_operator(
            self.model,
            inputs={name: self._frames_seen(name) for name in self.fields},
            outputs={name: predicted if name in self.timed else None for name in self.outputs},
            scalars=self.scalars,
            dims=len(self.extent),
            gaps={*self.gaps, *unseen},
            along_time=self.along_time,
            now=self.observes,
        )

    def _frames_seen(self, name: str) -> int | None:
        if self.forecast is None or name not in self._in_time:
            return None
        if self.along_time:
            return 1
        whole = name in self.forcings and not self.rolls_out
        return self.frames_given(name) if whole else self.forecast.history

    def frames_given(
        self, name: str, steps: int | None = None, history: int | None = None
    ) -> int | None:
        """Return how many frames of an input are given to predict `steps`; none where it has none.

        Steps, and the frames of states, are those of the forecast if not given.
        """
        if self.forecast is None or name not in self._in_time or self.observes:
            return None
        history = history or self.forecast.history
        if name in self.states:
            return history
        return history + (steps or self.forecast.steps) - (name not in self.times)

    def history_of(self, arrays: Mapping[str, Any]) -> int | None:
        """Return how many frames of states are given, along time as many as one likes; else none.

        Those of the first state count, if it has any; of an observer's first reading.
        """
        if not self.along_time:
            return None
        first = arrays[(*self.states, *self.forcings)[0]]
        return first.shape[1] if first.ndim > 1 else None

    def check_shapes(
        self, arrays: Mapping[str, Any], steps: int | None, *, surplus: bool = False
    ) -> None:
        """Refuse arrays that are not what the model is given, `(samples, *dims)` by name.

        With a `surplus` states may have more frames than are given to predict `steps`, as forcings
        may anyway.
        """
        history = None if surplus else self.history_of(arrays)
        for name, array in arrays.items():
            dims, frames = ("samples", *self.dims(name)), self.frames_given(name, steps, history)
            more = surplus or name in (*self.forcings, *self.times)
            fits = array.ndim == len(dims) and array.dtype.kind in "fiub"
            if fits and frames is not None:
                fits = array.shape[1] == frames or (more and array.shape[1] > frames)
            if not fits:
                least = f"frames={frames}{' or more' if more else ''}"
                axes = ", ".join(least if dim == "time" else dim for dim in dims)
                raise InputError(
                    f"field {name} is {array.dtype} of shape {array.shape}; expected numbers of "
                    f"shape ({axes}{',' if len(dims) == 1 else ''})"
                )
        placed = (*self.fields, *self.coordinates)
        grids = {arrays[name].shape[-len(self.space) :] for name in placed}
        samples = {array.shape[0] for array in arrays.values()}
        frames = {arrays[n].shape[1] for n in (*self.forcings, *self.times) if self.observes}
        alike = len(samples) == len(grids) == 1 and len(frames) <= 1
        if not alike or 0 in (*frames, *next(iter(grids))):
            shapes = sorted({array.shape for array in arrays.values()})
            raise InputError(
                f"fields have shapes {shapes}; expected as many samples of each, at the same places"
                f"{' and times' if self.observes else ''}"
            )

    def given(self, fields: Mapping[str, ArrayT]) -> dict[str, ArrayT]:
        """Return what the operator is given of whole fields, `(samples, *dims)` by name.

        Of states, `(samples, frames, *grid)`, the first frames; of forcings all frames but the
        last, which belongs to the time after the states' last. Observers are given all.
        """
        history = self.forecast.history if self.forecast else 0
        kept = dict.fromkeys(self.states, history)
        kept |= dict.fromkeys(() if self.observes else self.forcings, -1)
        names = (*self.given_names, *(n for n in (INTERVALS,) if n in fields))
        return {n: fields[n][:, : kept[n]] if n in kept else fields[n] for n in names}

    def truth(self, fields: Mapping[str, ArrayT]) -> dict[str, ArrayT]:
        """Return what is to be predicted of whole fields: of states, all later frames."""
        history = self.forecast.history if self.forecast else 0
        return {n: fields[n][:, history:] if n in self.states else fields[n] for n in self.outputs}

    def batch(self, given: Mapping[str, Tensor]) -> Batch:
        """Put what is given, normalised, into the form that an operator takes."""
        if self.coordinates:
            places = torch.stack([given[name] for name in self.coordinates], dim=-1)
            place = Points(places, self.reference_spacing[0], self.sources)
        else:
            place = self.grid_of(given)
        fields = {name: given[name] for name in self.fields}
        intervals = given.get(INTERVALS)
        for name in self.times:
            intervals = nn.functional.pad(given[name].diff(dim=1), (1, 0), value=1.0)
        if intervals is None and self.forecast and self.forecast.intervals:
            like = next(iter(fields.values()))
            intervals = like.new_tensor(self.forecast.intervals).expand(like.shape[0], -1)
        return Batch(fields, place, {name: given[name] for name in self.scalars}, intervals)

    def answer(self, operator: nn.Module, batch: Batch, steps: int | None = None) -> Batch:
        """Return what an operator predicts, by a rollout where that is the scheme.

        There are as many steps as the forecast has if they are not given: of a rollout, and of any
        operator along time.
        """
        if self.observes:
            return operator(self._with_intervals(batch, self.history_of(batch.fields) or 1))
        if self.along_time:
            frames = self.forecast.steps if self.forecast and steps is None else steps or 1
            found = self.all_answers(operator, batch, frames).fields
            return Batch({name: field[:, -frames:] for name, field in found.items()}, batch.place)
        predict = self.predictor(operator)
        if self.forecast is None or not self.rolls_out:
            return predict(batch)
        return rollout.roll_out(predict, batch, steps or self.forecast.steps, self.forcings)

    def all_answers(self, operator: nn.Module, batch: Batch, steps: int) -> Batch:
        """Return what an operator along time answers, also to the given frames but the last."""
        follow = rollout.following(operator, self.normaliser.changes)
        batch = self._with_intervals(batch, (self.history_of(batch.fields) or 1) + steps - 1)
        if self.rolls_out:
            return rollout.follow_on(follow, batch, steps)
        return rollout.all_at_once(follow, batch, steps, self.states)

    @staticmethod
    def _with_intervals(batch: Batch, frames: int) -> Batch:
        """Return a batch whose intervals, if it has any, are those of so many frames, or more.

        Beyond those that are known, frames are evenly spaced.
        """
        if batch.intervals is None:
            return batch
        more = frames + 1 - batch.intervals.shape[1]
        return replace(
            batch, intervals=nn.functional.pad(batch.intervals, (0, max(more, 0)), value=1.0)
        )

    def predictor(self, operator: nn.Module) -> rollout.Operator:
        """Return what predicts states and outputs, once asked; the operator may answer changes."""
        changes = self.normaliser.changes
        return rollout.from_changes(operator, changes) if changes else operator
