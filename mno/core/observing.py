"""Observers: given readings so far, with their sensors' faults, they tell all that is now.

A dataset says what a plant did. An observer (`task.kind: observe`) is given its inputs, and what
sensors read of some of its fields up to each frame; and it tells what all fields are at that frame.

    <name>_read   what sensors read of a field, NaN where they do not
    hidden        inputs that it is not told, and tells instead: the same at all frames
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from pydantic import Field as Parameter

from mno.core.config import Config
from mno.core.errors import InputError
from mno.core.fields import Field, difference_from

READ = "_read"
"""What is behind a field's name in that of its readings."""
_SEED = 20261129


class Sensor(Config):
    """The faults of the sensors that read a field, one at each of its places."""

    noise: float = Parameter(default=0.0, ge=0.0)
    """Standard deviation of white noise, in the field's unit."""
    drift: float = Parameter(default=0.0, ge=0.0)
    """Standard deviation of what one has drifted by at the end of a run, steadily."""
    missing: float = Parameter(default=0.0, ge=0.0, lt=1.0)
    """Share of readings that are lost."""
    dead: float = Parameter(default=0.0, ge=0.0, lt=1.0)
    """Share of sensors that die at some time of a run."""
    every: int = Parameter(default=1, ge=1)
    """There is one at each so many-th place along every axis of space."""

    def read(self, values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return what is read of one run, `(frames, *places)`, float32; NaN where nothing is."""
        places, frames = values.shape[1:], len(values)
        run = np.linspace(0.0, 1.0, frames).reshape(-1, *(1,) * len(places))
        read = values + self.noise * rng.standard_normal(values.shape)
        read += self.drift * rng.standard_normal(places) * run
        lost = rng.random(values.shape) < self.missing
        lost |= (rng.random(places) < self.dead) & (run >= rng.random(places))
        there = np.zeros(places, dtype=bool)
        there[tuple(slice(self.every // 2, None, self.every) for _ in places)] = True
        return np.where(lost | ~there, np.nan, read).astype(np.float32)


@dataclass(frozen=True)
class Observing:
    """Which fields of a dataset are read, and by what; and what nobody tells.

    An `InputError` says that a name is not that of a field that can be read, or hidden.
    """

    sensors: Mapping[str, Sensor]
    hidden: tuple[str, ...]
    given: tuple[Field, ...]  # all fields of the dataset, or of the part that is looked at

    def __post_init__(self) -> None:
        over_time = [f.name for f in self.given if f.role == "state"]
        told = [f.name for f in self.given if f.role == "input" and "time" not in f.dims]
        less = [difference_from(field.scale) for field in self.given]
        if not over_time:
            raise InputError(
                "task.kind=observe tells fields over time, and there are none; set "
                "task.kind=forecast"
            )
        if not self.sensors:
            raise InputError(
                "task.kind=observe, but nothing says what is read: name fields in task.sensors, as "
                f"{{{over_time[0]}: {{noise: 1.0}}}}, or in the "
                "plant's file"
            )
        for names, known, setting in (
            (self.sensors, over_time, "task.sensors"), (self.hidden, told, "task.hidden")
        ):  # fmt: skip
            if unknown := sorted(set(names) - set(known)):
                raise InputError(
                    f"{setting} names {', '.join(unknown)}; expected some of {', '.join(known)}: "
                    "correct it there, or in the plant's file"
                )
        if others := [name for name in self.hidden if name in less]:
            raise InputError(
                f"task.hidden names {', '.join(others)}, which other fields are measured from, so "
                "that it has to be told: leave it out"
            )

    @property
    def fields(self) -> tuple[Field, ...]:
        """All fields as an observer has them."""
        space = next(f.dims for f in self.given if f.role == "state")
        found = []
        for field in self.given:
            if field.role == "state":
                found.append(replace(field, role="output"))
            elif field.name in self.hidden:
                found.append(replace(field, role="output", dims=space, gaps=True))
            else:
                found.append(field)
            if field.name in self.sensors:
                said = f"{field.long_name}, as read"
                name = field.name + READ
                found.append(replace(field, name=name, role="input", gaps=True, long_name=said))
        return tuple(found)

    def of(
        self, arrays: Mapping[str, np.ndarray], samples: Sequence[int], own: Mapping[str, slice]
    ) -> dict[str, np.ndarray]:
        """Return arrays `(samples, *dims)` as an observer has them.

        What is read follows from the samples' numbers; of what is hidden, `own` says the points
        that have it, all if it does not.
        """
        found = dict(arrays)
        like = arrays[next(f.name for f in self.given if f.role == "state")]
        for name, sensor in self.sensors.items():
            rows = [
                sensor.read(values, reading_stream(_SEED, name, number))
                for number, values in zip(samples, arrays[name], strict=True)
            ]
            found[name + READ] = np.stack(rows) if rows else arrays[name].copy()
        for name in self.hidden:
            values = arrays[name].reshape(len(like), 1, *arrays[name].shape[1:])
            values = values.reshape(*values.shape, *(1,) * (like.ndim - values.ndim))
            points = own.get(name, slice(None))
            found[name] = np.full(like.shape, np.nan, np.float32)
            found[name][..., points] = np.broadcast_to(values, like.shape)[..., points]
        return found


def observing_of(
    fields: Sequence[Field],
    sensors: Mapping[str, Any],
    hidden: Sequence[str],
    said: Mapping[str, Any] | None = None,
) -> Observing:
    """Return what an observer of these fields is given, as a task says or else as a plant does.

    `said` is what the plant's file has of `sensors` and `hidden`, as plain values; hidden fields
    that are not among these are not asked about.
    """
    if not sensors:
        said, there = said or {}, {field.name for field in fields}
        own = (name for name in said.get("hidden", ()) if name in there)
        sensors, hidden = said.get("sensors", {}), (*hidden, *own)
    read = {name: Sensor.model_validate(faults) for name, faults in sensors.items()}
    return Observing(read, tuple(dict.fromkeys(hidden)), tuple(fields))


def reading_stream(seed: int, name: str, *key: int) -> np.random.Generator:
    """Return the random stream of what is read of one field in one run."""
    return np.random.default_rng([seed, *name.encode(), *key])
