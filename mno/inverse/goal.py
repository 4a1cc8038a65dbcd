"""What is wanted of a run: what may be set, what is to be least, and what must hold."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from mno.core.config import Config
from mno.core.distributions import Distribution, Pair
from mno.core.errors import InputError
from mno.inverse.run import Run
from mno.sensors.pairs import ends

_MOST = 300  # numbers that may be set, for which a search keeps a square matrix


class Varied(Config):
    """An input that may be set."""

    within: Pair
    """Least and greatest value."""
    times: list[float] = []
    """Of an input over time: when its values may be set, in seconds; they are linear between and
    constant beyond. At each frame if there are none."""
    alike: bool = False
    """Whether it is the same at all places."""

    @model_validator(mode="after")
    def _is_in_order(self) -> Self:
        low, high = self.within
        if not low < high:
            raise ValueError(f"within: [{low:g}, {high:g}]; expected least and greatest value")
        if sorted(set(self.times)) != self.times:
            raise ValueError(f"times: {self.times}; expected rising ones")
        return self


class Quantity(Config):
    """Values of something that the model predicts."""

    of: str
    """Its name, or NAME.PLACE for one of its places."""
    at: float | Pair | None = None
    """When: one time, or all frames from one to another, in seconds; all of them if not given"""


class Objective(Quantity):
    """What is to be least or greatest: one number."""

    take: Literal["mean", "sum", "min", "max"] = "mean"
    """How it is made of the values."""


class Bound(Quantity):
    """What each of the values must be."""

    at_least: float | None = None
    at_most: float | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        low = -math.inf if self.at_least is None else self.at_least
        high = math.inf if self.at_most is None else self.at_most
        if (low, high) == (-math.inf, math.inf) or low > high:
            raise ValueError(
                f"{self.of}: at_least {self.at_least}, at_most {self.at_most}; expected one of "
                "them, or the first below the second"
            )
        return self


class Goal(Config):
    """A file of what is wanted."""

    vary: dict[str, Varied] = Field(min_length=1)
    """Inputs that may be set, by name"""
    minimize: Objective | None = None
    maximize: Objective | None = None
    subject_to: list[Bound] = []
    """What must hold, of every member"""
    uncertain: dict[str, Distribution] = {}
    """Inputs that are not known, by name: the mean of the objective over members counts"""
    members: int = Field(8, ge=2, le=1000)
    """How many draws of the uncertain inputs there are"""

    @property
    def objective(self) -> Objective:
        """What is to be least, or greatest."""
        return self.minimize or self.maximize  # type: ignore[return-value]

    @model_validator(mode="after")
    def _wants_one_thing(self) -> Self:
        if (self.minimize is None) == (self.maximize is None):
            raise ValueError("expected either minimize or maximize")
        if both := sorted(self.vary.keys() & self.uncertain.keys()):
            raise ValueError(f"{both[0]} is set and uncertain; expected one of them")
        return self


@dataclass(frozen=True, eq=False)
class Worth:
    """What settings are worth, by the model or by the solver."""

    objective: Tensor  # the mean over members, in its unit
    slack: Tensor  # by which bounds hold, in deviations of training data, `(values,)`; or negative

    @property
    def violation(self) -> float:
        """By how much a bound is violated at most; 0 if none is."""
        return max(0.0, *(-self.slack).tolist()) if len(self.slack) else 0.0


class Wanted:
    """A goal for a run of a model; numbers `x` from 0 to 1 are what may be set.

    Attributes:
        count: How many numbers there are.
        members: How many runs are worth something together.
        size: Of the objective, about.

    Raises:
        InputError: The goal names what the model does not know, or times that it does not predict.
    """

    def __init__(self, goal: Goal, run: Run, seed: int) -> None:
        self.goal, self.run = goal, run
        self.count, self._parts = 0, {}
        self._uncertain: dict[str, Tensor] = {}
        description = run.surrogate.description
        known = {n for n in description.inputs if n not in description.states}
        named = [*goal.vary, *goal.uncertain]
        if not known.issuperset(named):
            raise InputError(
                f"{', '.join(sorted({*named} - known))}: expected some of what the model is given: "
                f"{', '.join(sorted(known))}"
            )
        for name in named:
            if not np.isfinite(run.inputs[name]).all():
                raise InputError(f"{name} has places without a value in this run; leave it out")
        for name, varied in goal.vary.items():
            run.check_scale(name, varied.within[0] <= 0)
            self._parts[name] = _Setting(name, varied, run, self.count)
            self.count += self._parts[name].size
        if self.count > _MOST:
            raise InputError(
                f"vary: {self.count} numbers may be set; expected {_MOST} at most: set fewer "
                "times, or all places alike"
            )
        self.members = goal.members if goal.uncertain else 1
        rng = torch.Generator().manual_seed(seed)
        for name, prior in goal.uncertain.items():
            run.check_scale(name, prior.can_be_zero)
            z = torch.randn((goal.members, *run.shape(name)), generator=rng, dtype=torch.float64)
            self._uncertain[name] = prior.of_normal(z, torch.special.ndtr, torch.exp)
        self._sign = 1.0 if goal.minimize else -1.0
        self._values = _Values(goal.objective, run)
        self._bounds = [(bound, _Values(bound, run)) for bound in goal.subject_to]
        with torch.no_grad():
            self.size = abs(float(self.predicted(self.nearest()).objective)) or 1.0

    @property
    def named(self) -> str:
        """What the objective is, in words."""
        one = self.goal.objective
        return f"{one.take} of {one.of}" + ("" if one.at is None else f" at {one.at} s")

    def inputs(self, x: Tensor) -> dict[str, Tensor]:
        """Return the inputs of numbers `(count,)`, `(members, …)` by name, in physical units."""
        own = {name: part.values(x) for name, part in self._parts.items()}
        own = {name: values.expand(self.members, *values.shape) for name, values in own.items()}
        return {**self._uncertain, **own}

    def settings(self, x: Tensor) -> dict[str, list[float]]:
        """Return what is set, in physical units, by name, flat: time first."""
        return {name: part.own(x).tolist() for name, part in self._parts.items()}

    def nearest(self) -> Tensor:
        """Return the numbers that are nearest to what the run itself was set to."""
        return torch.cat([part.nearest() for part in self._parts.values()])

    def predicted(self, x: Tensor) -> Worth:
        """Return what numbers are worth by the model, with gradients."""
        return self.worth(self.run.predicted(self.inputs(x)))

    def worth(self, fields: Mapping[str, Tensor]) -> Worth:
        """Return what predictions are worth, `(members, …)` by name."""
        taken = _TAKE[self.goal.objective.take](self._values.of(fields))
        slack = [taken.new_empty(0)]
        for bound, values in self._bounds:
            found, unit = values.of(fields), values.unit
            if bound.at_least is not None:
                slack.append((found - bound.at_least).flatten() / unit)
            if bound.at_most is not None:
                slack.append((bound.at_most - found).flatten() / unit)
        return Worth(taken.double().mean(), torch.cat(slack).double())

    def cost(self, worth: Worth) -> Tensor:
        """Return what is to be made least."""
        return self._sign * worth.objective

    def missed(self, worth: Worth) -> dict[str, float]:
        """Return by how much each bound is violated, in its unit, by what it is of."""
        found, start = {}, 0
        for bound, values in self._bounds:
            sides = (bound.at_least is not None) + (bound.at_most is not None)
            stop = start + sides * self.members * values.count
            worst = -float(worth.slack[start:stop].min()) * values.unit
            found[bound.of] = max(found.get(bound.of, 0.0), worst)
            start = stop
        return found


_TAKE: Mapping[str, Callable[[Tensor], Tensor]] = {
    "mean": lambda values: values.mean(1), "sum": lambda values: values.sum(1),
    "min": lambda values: values.amin(1), "max": lambda values: values.amax(1),
}  # fmt: skip


class _Setting:
    """An input that may be set: which numbers it is made of, and how."""

    def __init__(self, name: str, varied: Varied, run: Run, first: int) -> None:
        self._within = varied.within
        self._run_values = torch.from_numpy(run.inputs[name])[0]
        frames, self._shape = None, run.shape(name)
        if name in run.surrogate.description.forcings:
            frames = run.times(self._shape[0])
        elif varied.times:
            raise InputError(f"vary: {name} is no input over time; leave its times out")
        places = self._shape if frames is None else self._shape[1:]
        kept = tuple(1 for _ in places) if varied.alike else places
        self._lines = None  # from what is set, over time
        if frames is not None:
            times = np.array(varied.times or frames)
            if not frames[0] <= times[0] <= times[-1] <= frames[-1]:
                raise InputError(
                    f"vary: {name} is set at {times[0]:g} to {times[-1]:g} s; expected times from "
                    f"{frames[0]:g} to {frames[-1]:g}"
                )
            self._lines = torch.from_numpy(_lines(times, frames))
            kept = (len(times), *kept)
        self._kept, self.size = kept, math.prod(kept)
        self._numbers = slice(first, first + self.size)

    def own(self, x: Tensor) -> Tensor:
        low, high = self._within
        return low + (high - low) * x[self._numbers]

    def values(self, x: Tensor) -> Tensor:
        """Return the input as the dataset has it."""
        values = self.own(x).reshape(self._kept)
        if self._lines is not None:
            values = torch.tensordot(self._lines, values, dims=1)
        return values.expand(self._shape)

    def nearest(self) -> Tensor:
        """Return the numbers that are nearest to the run's own values."""
        low, high = self._within
        own = self._run_values.double()
        if self._lines is not None:
            own = torch.tensordot(torch.linalg.pinv(self._lines[: len(own)]), own, dims=1)
        for dim, length in enumerate(self._kept):
            own = own.mean(dim, keepdim=True) if own.shape[dim] != length else own
        return ((own.flatten() - low) / (high - low)).clamp(0.0, 1.0)


def _lines(points: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Return the weights of linear interpolation, `(at, points)`."""
    corners, shares = ends(points, at)
    weights = np.zeros((len(at), len(points)))
    np.add.at(weights, (np.arange(len(at))[:, None], corners), shares)
    return weights


class _Values:
    """Values of a quantity: which of a prediction they are made of."""

    def __init__(self, quantity: Quantity, run: Run) -> None:
        description = run.surrogate.description
        self._name, _, place = quantity.of.partition(".")
        if self._name not in description.outputs:
            known = ", ".join(description.outputs)
            raise InputError(f"of: {quantity.of}; the model predicts {known}")
        self.unit = description.normaliser.unit(self._name)
        self._frames: Tensor | None = None
        if self._name in description.states:
            self._frames = torch.from_numpy(_frames(quantity, run))
        elif quantity.at is not None:
            raise InputError(f"of: {quantity.of} has no times; leave its at out")
        self._places = self._there(run, place, quantity.of)
        self.count = len(self._places) * (1 if self._frames is None else len(self._frames))

    def _there(self, run: Run, place: str, named: str) -> Tensor:
        """Return the numbers of its places in a flat prediction: those that the run has."""
        description, there = run.surrogate.description, run.places(self._name)
        if place:
            first = description.readings.get(self._name, ("", 0, 0))[1]
            labels = description.places(self._name) if self._name in description.readings else ()
            if place not in labels:
                raise InputError(f"of: {named}; its places are {', '.join(labels) or 'not named'}")
            there = there[there == first + labels.index(place)]
        if not len(there):
            raise InputError(f"of: {named} is not in this run; leave it out")
        return torch.from_numpy(there)

    def of(self, fields: Mapping[str, Tensor]) -> Tensor:
        """Return the values, `(members, values)`."""
        values = fields[self._name]
        if self._frames is None:
            return values.flatten(1)[:, self._places]
        values = values.flatten(2)[..., self._places]
        return torch.einsum("gf,mfp->mgp", self._frames.to(values), values).flatten(1)


def _frames(quantity: Quantity, run: Run) -> np.ndarray:
    """Return of which predicted frames values are made, `(values, frames)`."""
    later, at = run.later, quantity.at
    low, high = at if isinstance(at, list) else (later[0], later[-1]) if at is None else (at, at)
    edge = 1e-6 * (later[-1] - later[0])
    inside = (later >= low - edge) & (later <= high + edge)
    if low > high or low < later[0] - edge or high > later[-1] + edge:
        raise InputError(
            f"of: {quantity.of}, at: {at}; expected a time, or two in order, from {later[0]:g} to "
            f"{later[-1]:g} s, which are predicted"
        )
    if at is None or isinstance(at, list):
        if not inside.any():
            raise InputError(f"of: {quantity.of}, at: {at}; no frame is between them")
        return np.eye(len(later))[inside]
    return _lines(later, np.array([low]))
