"""Normalisation: every field to mean zero and standard deviation one, and back.

A field `u` of mean m and standard deviation s on its scale (`mno.core.fields.Field.scale`) becomes

    (u − m) / s,    (ln u − m) / s,    (u − v − m) / s

as it is, as its logarithm, or less another field or a number `v`.
"""

import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Self, TypeVar

import numpy as np
from torch import Tensor
from torch.compiler import is_compiling

from mno.core.errors import InputError
from mno.core.fields import LOG, PLAIN, difference_from
from mno.core.forecast import Forecast
from mno.data.reading import SampleArray, blocks

ArrayT = TypeVar("ArrayT", np.ndarray, Tensor)
_NOTHING: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class Normaliser:
    """One mean and one standard deviation per field, on its scale.

    They are single numbers, not maps, so that a model may be asked at any resolution. A field whose
    zero is to stay zero has mean 0; the deviation is 1 where it would be 0. Both are in the field's
    unit, or those of its logarithm.
    """

    mean: Mapping[str, float]
    std: Mapping[str, float]
    scales: Mapping[str, str] = field(default_factory=dict)  # of those that are not plain
    changes: Mapping[str, float] = field(default_factory=dict)
    """Of states whose changes are predicted, how large these are: in deviations, one number each.
    """

    @classmethod
    def fit(
        cls,
        fields: Mapping[str, SampleArray],
        about_zero: Collection[str] = (),
        scales: Mapping[str, str] = _NOTHING,
    ) -> Self:
        """Fit to samples, in memory or in files; hand it those of the training split only.

        Fields are arrays of shape `(samples, *sample)` with at least one value each; those that are
        missing, NaN, do not count. Those `about_zero` are divided by their root mean square only.
        An `InputError` says that a field on the scale `log` has a value that is not positive.
        """
        mean, std = {}, {}
        for name, field_ in fields.items():
            scale = scales.get(name, PLAIN)
            mean[name], std[name] = _mean_and_std(_scaled_blocks(name, field_, scale, fields))
        for name in about_zero:
            mean[name], std[name] = 0.0, math.hypot(mean[name], std[name])
        kept = {name: scale for name, scale in scales.items() if scale != PLAIN}
        return cls(mean, {name: value or 1.0 for name, value in std.items()}, kept)

    def with_changes(
        self, fields: Mapping[str, SampleArray], states: Collection[str], forecast: Forecast
    ) -> Self:
        """Return a normaliser that knows, too, how large the changes of states are.

        That is their root mean square from the last given frame to those that an operator predicts
        at once, of samples as `fit` takes them, on the scales of the fields.
        """
        changes = {}
        for name in states:
            scale = self.scale(name)
            frames = _scaled_blocks(name, fields[name], scale, fields)
            parts = (_changes(part / self.std[name], forecast) for part in frames)
            changes[name] = math.hypot(*_mean_and_std(parts)) or 1.0
        return replace(self, changes=changes)

    def scale(self, name: str) -> str:
        """Return the scale of a field."""
        return self.scales.get(name, PLAIN)

    def encode(
        self, name: str, field: ArrayT, beside: Mapping[str, ArrayT] | None = None
    ) -> ArrayT:
        """Bring a field from physical units to zero mean and unit deviation.

        `beside` are physical fields of the same samples, among them what this one is less, if it
        is. All are arrays of shape `(samples, *sample)`. An `InputError` says that a logarithm is
        wanted of a value that is not positive.
        """
        scaled = _scaled(name, field, self.scale(name), beside or {})
        return (scaled - self.mean[name]) / self.std[name]

    def decode(
        self, name: str, field: ArrayT, beside: Mapping[str, ArrayT] | None = None
    ) -> ArrayT:
        """Bring a field back to physical units; arguments as of `encode`."""
        scaled, scale = field * self.std[name] + self.mean[name], self.scale(name)
        if scale == PLAIN:
            return scaled
        if scale == LOG:
            return scaled.exp() if isinstance(scaled, Tensor) else np.exp(scaled)
        return scaled + _reference(name, scale, scaled, beside or {})

    def encode_rate(
        self, name: str, rate: ArrayT, field: ArrayT, beside: Mapping[str, ArrayT]
    ) -> ArrayT:
        """Return the rate of what `encode` makes of a field, of the rate of the physical one.

        The field is normalised; `beside` are rates of physical fields.
        """
        if self.scale(name) == LOG:
            rate = rate / self.decode(name, field)
        elif self.reference(name):
            rate = rate - _reference(name, self.scale(name), rate, beside)
        return rate / self.std[name]

    def reference(self, name: str) -> str | None:
        """Return the name of the field that another one is less, if it is."""
        other = difference_from(self.scale(name))
        return other if isinstance(other, str) else None

    def references(self, normalised: Mapping[str, ArrayT]) -> dict[str, ArrayT]:
        """Return those of some normalised fields that others are less, in physical units."""
        others = {self.reference(name) for name in self.scales}
        return {name: self.decode(name, f) for name, f in normalised.items() if name in others}

    def rises(
        self, fields: Mapping[str, np.ndarray], beside: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """Return those of some physical fields that are taken less another, less that one."""
        own = {n: field for n, field in fields.items() if self.reference(n) is not None}
        return {n: _scaled(n, field, self.scale(n), beside) for n, field in own.items()}

    def moved(self, name: str, field: np.ndarray, by: np.ndarray) -> np.ndarray:
        """Return a physical field after it was moved `by` so much on its scale, as by noise."""
        return field * np.exp(by) if self.scale(name) == LOG else field + by

    def unit(self, name: str) -> float:
        """Return what a deviation of one is like in the field's unit.

        Of a logarithm that is its geometric mean, by which what it stands for is multiplied.
        """
        return math.exp(self.mean[name]) if self.scale(name) == LOG else self.std[name]


def first_not_positive(values: np.ndarray) -> tuple[int, float] | None:
    """Return the first value that has no logarithm, with the number of its sample, if there is one.

    Values are `(samples, *sample)`; those that are missing do not count.
    """
    bad = values <= 0.0
    if not bad.any():
        return None
    place = int(bad.ravel().argmax())
    return place // (values.size // len(values)), float(values.ravel()[place])


def no_logarithm(what: str, found: tuple[int, float]) -> InputError:
    """Return the error over a value, of the sample of that number, that has no logarithm."""
    sample, value = found
    name = what.removeprefix("field ").split()[0]
    return InputError(
        f"{what} has the value {value:g} in its sample {sample}, which has no logarithm; expected "
        f"numbers above 0: correct that sample, or train with train.scales={{{name}: {PLAIN}}}"
    )


def _scaled(
    name: str, field: ArrayT, scale: str, beside: Mapping[str, ArrayT], first: int = 0
) -> ArrayT:
    """Return a physical field on its scale; its samples are numbered from the first."""
    if scale == PLAIN:
        return field
    if scale != LOG:
        return field - _reference(name, scale, field, beside)
    if isinstance(field, Tensor) and is_compiling():  # a graph, whose values are not known
        return field.log()
    found = first_not_positive(field.detach().cpu().numpy() if isinstance(field, Tensor) else field)
    if found:
        raise no_logarithm(f"field {name}", (first + found[0], found[1]))
    return field.log() if isinstance(field, Tensor) else np.log(field)


def _reference(
    name: str, scale: str, field: ArrayT, beside: Mapping[str, ArrayT]
) -> ArrayT | float:
    """Return what a field is less, with as many axes: `(samples, *space)` holds for all frames."""
    other = difference_from(scale)
    if not isinstance(other, str):
        return other or 0.0
    if other not in beside:
        raise ValueError(f"{name} is taken {scale}, which is not among {sorted(beside)}; give it")
    values = beside[other]
    ones = (1,) * (field.ndim - values.ndim)
    return values.reshape(*values.shape[:1], *ones, *values.shape[1:])


def _scaled_blocks(
    name: str, field: SampleArray, scale: str, fields: Mapping[str, SampleArray]
) -> Iterator[np.ndarray]:
    other = difference_from(scale)
    for rows in blocks(field):
        beside = {other: fields[other][rows]} if isinstance(other, str) else {}
        yield _scaled(name, field[rows], scale, beside, rows.start)


def _changes(frames: np.ndarray, forecast: Forecast) -> np.ndarray:
    """Return how frames, `(samples, frames, *space)`, differ from the last one given before."""
    last = forecast.history - 1
    if forecast.scheme == "rollout":
        return np.diff(frames[:, last:], axis=1)
    return frames[:, last + 1 :] - frames[:, last : last + 1]


def _mean_and_std(parts: Iterable[np.ndarray]) -> tuple[float, float]:
    """Return what is added up of the blocks (Chan, Golub and LeVeque, 1983, eq. 1.3)."""
    count, mean, std = 0, 0.0, 0.0
    for values in parts:
        missing = np.isnan(values)
        present = values[~missing] if missing.any() else values
        if not present.size:
            continue
        share = present.size / (count + present.size)
        here = float(np.mean(present, dtype=np.float64))
        spread = float(np.std(present, dtype=np.float64))
        if count:
            step = here - mean
            spread = math.sqrt(
                (1 - share) * std**2 + share * spread**2 + share * (1 - share) * step**2
            )
            here = mean + share * step
        count, mean, std = count + present.size, here, spread
    return mean, std
