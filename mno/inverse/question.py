"""What is asked backwards: unknowns and what is held of them, and what was read of a run."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from mno.core.config import Config
from mno.core.distributions import Distribution
from mno.core.errors import InputError
from mno.core.fields import LOG
from mno.data.reading import read_split
from mno.imports.mapping import Mapping as FieldMapping
from mno.imports.mapping import conversion
from mno.imports.readings import caged_readings
from mno.inverse.run import Run
from mno.sensors.compare import at_points, renamed
from mno.sensors.pairs import at_sensors, ends, repeated

_MOST, _MOST_READINGS = 1000, 5000  # modes of a field, and readings of a run

Share = Annotated[float, Field(gt=0, le=1)]
Deviation = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Question(Config):
    """A file of what is not known: the prior."""

    unknown: dict[str, Distribution] = {}
    """Unknown inputs by name, and how they are distributed; each value of a field by itself"""
    karhunen_loeve: dict[str, Share] = {}
    """Unknown fields that vary as those of the training data: the share of variance that is kept"""
    noise: dict[str, Deviation] = {}
    """Standard uncertainty of readings that do not say theirs, by quantity, in its unit"""


Made = Callable[[Tensor], Tensor]  # an unknown of its numbers, `(chains, numbers)`


class Unknowns:
    """Inputs of a model that are not known, made of numbers that are standard normal a priori.

    What the run is given of an unknown does not count.

    Raises:
        InputError: An unknown is no input of the model, or cannot be one.
    """

    def __init__(self, question: Question, run: Run) -> None:
        description, given = run.surrogate.description, run.inputs
        data = run.origin and run.origin.store
        # Of each unknown which numbers it is made of, its shape, and how it is made.
        self._parts: dict[str, tuple[slice, tuple[int, ...], Made]] = {}
        self.count = 0  # of numbers
        known = set(description.inputs) - {*description.states, *description.forcings}
        names = [*question.unknown, *question.karhunen_loeve]
        if not names or len({*names}) < len(names) or not known.issuperset(names):
            raise InputError(
                f"the unknowns are {', '.join(names) or 'none'}; expected some of what the model "
                f"is given, each once: {', '.join(sorted(known))}"
            )
        for name, prior in question.unknown.items():
            values = given[name][0]
            if not np.isfinite(values).all():
                raise InputError(
                    f"{name} has places without a value, of which none can be inferred; leave it "
                    "out of the unknowns"
                )
            run.check_scale(name, prior.can_be_zero)
            made = partial(prior.of_normal, ndtr=torch.special.ndtr, exp=torch.exp)
            self._add(name, values.size, values.shape, made)
        for name, share in question.karhunen_loeve.items():
            if data is None:
                raise InputError(
                    f"karhunen_loeve: {name} varies as in a dataset, but the run is of none; name "
                    "one with --inputs, or give it a distribution of its own under unknown"
                )
            fields = read_split(data, "train").fields[name].astype(np.float64)
            fits = fields.ndim > 1 and fields.shape[1:] == given[name].shape[1:]
            if not fits or not np.isfinite(fields).all():
                raise InputError(
                    f"karhunen_loeve: {name} is a number, is on another grid than the run, or has "
                    f"gaps, in {data}; expected a whole field: give it a distribution under unknown"
                )
            is_log = description.normaliser.scale(name) == LOG
            mean, modes = _modes(np.log(fields) if is_log else fields, share)
            self._add(name, len(modes), fields.shape[1:], partial(_field, mean, modes, is_log))

    def _add(self, name: str, count: int, shape: tuple[int, ...], made: Made) -> None:
        self._parts[name] = slice(self.count, self.count + count), shape, made
        self.count += count

    def __call__(self, z: Tensor) -> dict[str, Tensor]:
        """Return the inputs, `(chains, *shape)` in their units, of numbers `(chains, count)`."""
        return {
            name: made(z[:, numbers]).reshape(len(z), *shape)
            for name, (numbers, shape, made) in self._parts.items()
        }


def _modes(fields: np.ndarray, share: float) -> tuple[Tensor, Tensor]:
    """Return the mean of fields, flat, and as rows the modes, each as large as it varies.

    There are as many modes as hold that share of the variance.
    """
    rows = fields.reshape(len(fields), -1)
    mean = rows.mean(axis=0)
    _, sizes, modes = np.linalg.svd(rows - mean, full_matrices=False)
    held = np.cumsum(sizes**2) / max(float((sizes**2).sum()), 1e-300)
    kept = min(int(np.searchsorted(held, share - 1e-12)) + 1, len(rows) - 1, _MOST)
    scaled = modes[:kept] * sizes[:kept, None] / np.sqrt(len(rows) - 1)
    return torch.from_numpy(mean), torch.from_numpy(scaled)


def _field(mean: Tensor, modes: Tensor, is_log: bool, numbers: Tensor) -> Tensor:
    values = mean + numbers @ modes
    return values.exp() if is_log else values


class _Block(NamedTuple):
    """Readings of one quantity at one place: which values of a field they are made of."""

    field: str
    places: np.ndarray  # in C order, `(corners,)`
    weights: np.ndarray
    frames: np.ndarray  # of those predicted, `(readings, 2)`; `(readings, 0)` without time
    shares: np.ndarray

    def of(self, values: Tensor) -> Tensor:
        """Return what would have been read, `(samples, readings)`, of `(samples, *dims)`."""
        in_time = self.frames.shape[1] > 0
        at = _weighed(values.flatten(2 if in_time else 1), self.places, self.weights)
        if in_time:
            return _weighed(at, self.frames, self.shares)
        return at[:, None].expand(-1, len(self.frames))


def _weighed(values: Tensor, indices: np.ndarray, weights: np.ndarray) -> Tensor:
    factors = torch.from_numpy(weights).to(values)
    found = factors * values[..., torch.from_numpy(indices)]
    return torch.where(factors == 0.0, 0.0, found).sum(-1)


@dataclass(frozen=True, eq=False)
class Observations:
    """What was read of a run, of quantities that a model predicts; arrays are `(readings,)`."""

    blocks: tuple[_Block, ...]
    value: np.ndarray
    noise: np.ndarray
    left_out: int  # readings of other quantities, places or times, and repeated ones

    def of(self, fields: Mapping[str, Tensor]) -> Tensor:
        """Return what would have been read, `(samples, readings)`, of predictions by name."""
        return torch.cat([block.of(fields[block.field]) for block in self.blocks], dim=1)


def read_observations(
    path: Path, mapping: FieldMapping, run: Run, noise: Mapping[str, float], start: float = 0.0
) -> Observations:
    """Read a table of readings as `mno.sensors.compare` does: of fields, or of places by name.

    The run begins at `start`, s on the readings' clock; predictions are interpolated linearly.

    Raises:
        InputError: The table cannot be read, no reading is of what the model predicts, some have
            no uncertainty, or there are too many.
    """
    description, given, later = run.surrogate.description, run.told, run.later
    units = {**description.outputs, **mapping.units_in_file}
    readings = renamed(caged_readings(path, mapping.sensors, units), mapping)
    if description.readings:
        readings = at_points(readings, run.surrogate, given)
    _, stencil = at_sensors(readings, given, mapping.sensors.position_units)
    to_time = conversion("s", given.time_units, "time")[0] if given.time_units != "1" else 1.0
    blocks: list[_Block] = []
    values, sigmas, again = [], [], repeated(readings)
    for number, quantity in enumerate(readings.series_quantity):
        name = readings.quantities[quantity]
        if name not in description.outputs or not stencil.inside[number]:
            continue
        rows = (readings.series == number) & ~again
        factor, offset = conversion(readings.units[name], description.outputs[name], name)
        time = (readings.time[rows] - start) * to_time
        kept = np.ones(len(time), dtype=bool)
        frames = shares = np.empty((len(time), 0))
        if name in description.states:
            kept = (time >= later[0] * (1 - 1e-9)) & (time <= later[-1] * (1 + 1e-9))
            frames, shares = ends(later, time[kept])
        sigma = readings.uncertainty[rows][kept] * factor
        placed = f"{name}.{readings.sensors[readings.series_sensor[number]]}"
        sigma = np.where(sigma > 0, sigma, noise.get(placed, noise.get(name, np.nan)))
        if np.isnan(sigma).any():
            raise InputError(
                f"{path}: readings of {name} have no uncertainty; add a column uncertainty, or "
                f"noise: {{{name}: …}} to the file of the prior"
            )
        at = stencil.indices[number], stencil.weights[number]
        blocks.append(_Block(name, *at, frames.astype(np.int64), shares))
        values.append(readings.value[rows][kept] * factor + offset)
        sigmas.append(sigma)
    left_out = len(readings) - (count := sum(map(len, values)))
    if count > _MOST_READINGS:
        raise InputError(
            f"{path}: {count} readings; expected at most {_MOST_READINGS}, since each is held "
            "against each other: thin the table, or average it"
        )
    if not count:
        raise InputError(
            f"{path}: none of {len(readings)} readings, of {', '.join(readings.quantities)}, is of "
            f"what the model predicts, {', '.join(description.outputs)}, at its places and times"
        )
    return Observations(tuple(blocks), np.concatenate(values), np.concatenate(sigmas), left_out)
