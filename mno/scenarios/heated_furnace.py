"""What furnaces of any shape have in common: heaters that are sized, heat balances, checks."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, NamedTuple

import numpy as np
import pydantic

from mno.scenarios.base import POSITIVE, Check, Fields
from mno.scenarios.time_dependent import TimeDependent

Peak = Annotated[float, pydantic.Field(ge=500.0, le=2500.0)]
Share = Annotated[float, pydantic.Field(ge=0.0, le=1.0)]
FurnaceFrames = Annotated[
    int,
    pydantic.Field(
        ge=2, le=1001, description="Frames, the initial one included, at equal distances."
    ),
]
Steps = Annotated[
    int,
    pydantic.Field(ge=1, le=64, description="Steps of the method in time between two frames."),
]

CHECKS = (
    Check(
        "initial",
        "largest change of the initial temperature in the first frame, K",
        0.0,
        of_given=True,
    ),
    Check(
        "defect",
        "largest difference between a frame and what a second statement of the scheme makes "
        "of the one before, over the highest temperature (rounding to float32 leaves up to "
        "6e-8)",
        2e-7,
    ),
    Check(
        "energy",
        "largest difference between what an interval stores, by its frames, and what it is "
        "supplied less what it loses, over the heat content above 0 K (rounding to float32 "
        "leaves up to 6e-8)",
        1e-7,
    ),
)


@dataclass(frozen=True)
class EnergyBalance:
    """Heat in each interval between frames, J per metre of depth, as the solver's steps have it.

    What is stored is what is supplied less what is lost, but for the solver's error. Rounding a
    frame to float32 is no part of it.

    Attributes:
        stored: Increase of the heat content.
        supplied: What the heaters give.
        lost: What leaves through the boundary.
    """

    stored: np.ndarray
    supplied: np.ndarray
    lost: np.ndarray

    @property
    def error(self) -> float:
        """What is missing over the whole run, relative to the larger of supplied and lost."""
        missing = abs(self.stored.sum() - self.supplied.sum() + self.lost.sum())
        size = max(abs(self.supplied.sum()), abs(self.lost.sum()), abs(self.stored.sum()))
        return float(missing / size) if size else 0.0


class SecondRun(NamedTuple):
    """What a second statement of a furnace's scheme makes of each frame.

    Attributes:
        later: Rise above the ambient temperature one frame later, K, shape `(*space, interval)`.
        lost: Heat lost until then, J/m, shape `(interval,)`.
        supplied: Heat supplied until then, likewise.
        capacity: Heat stored per kelvin, J/(m K), shape `(*space,)`.
    """

    later: np.ndarray
    lost: np.ndarray
    supplied: np.ndarray
    capacity: np.ndarray


class HeatedFurnace(TimeDependent):
    """A furnace that is heated, soaked and cools down.

    Its fields are `conductivity`, `heat_capacity`, `power`, `ambient_temperature` and the state
    `temperature`; its parameters have `coolest_peak`, `hottest_peak` and `steps_per_frame`.
    """

    largest_rise: ClassVar[float]
    """Bound of the rise, in units of the greatest that heaters are sized for."""
    _time_units = "s"

    def _hotter(self) -> Mapping[str, Any]:
        """Return a change of the parameters that makes furnaces hotter than they are drawn."""
        coolest, hottest = self._parameters.coolest_peak, self._parameters.hottest_peak
        return {"coolest_peak": hottest, "hottest_peak": hottest + max(hottest - coolest, 200.0)}

    @staticmethod
    def _full_power(
        run: Callable[[np.ndarray, np.ndarray], np.ndarray],
        power: np.ndarray,
        rise: np.ndarray,
        peak: float,
    ) -> float:
        """Return the power density, W/m3, at which the run's hottest place reaches its peak.

        The equation is linear: what is left of the initial rise and what the heaters add are
        solved for one by one.

        Args:
            run: Solves for all frames of the rise above the ambient temperature.
            power: For a power density of 1 W/m3.
            rise: The initial one, K.
            peak: The rise that is wanted, K.
        """
        nominal = 1e5 * power
        added = run(nominal, 0.0 * rise)
        left = run(0.0 * nominal, rise) if rise.any() else np.zeros_like(added)
        return 1e5 / float(np.max(added / (peak - left)))

    def solve(self, inputs: Fields) -> dict[str, np.ndarray]:
        """Solve for the states at all frames.

        Raises:
            InputError: A field has another shape than the scenario's, or values that no furnace
                has.
            MnoError: It could not be solved for.
        """
        return {"temperature": self._run(self._checked(inputs))[0]}

    def balance(self, inputs: Fields) -> EnergyBalance:
        """Solve as `solve` does, and return where the heat went.

        Raises:
            InputError: As for `solve`.
            MnoError: As for `solve`.
        """
        return EnergyBalance(*self._run(self._checked(inputs))[1].T)

    def _checked(self, inputs: Fields) -> dict[str, np.ndarray]:
        anywhere, positive = (-math.inf, math.inf), (POSITIVE, math.inf)
        bounds = dict.fromkeys((field.name for field in type(self).fields), positive)
        bounds |= {name: anywhere for name in ("x", "y", "power") if name in bounds}
        return self.within(inputs, **bounds)

    @abstractmethod
    def _run(self, given: Fields) -> tuple[np.ndarray, np.ndarray]:
        """Return all frames of the temperature, float32, and the heat of each interval.

        The latter has shape `(interval, 3)`: stored, supplied and lost, J/m.
        """

    @abstractmethod
    def _again(self, given: Fields, rise: np.ndarray) -> SecondRun:
        """Advance all frames of the rise, shape `(*space, time)`, by a second statement."""

    def _measure(self, given: Fields, frames: Fields) -> dict[str, float]:
        """Measure defect, energy and range: the scheme a second time, all intervals at once."""
        temperature, ambient = frames["temperature"], given["ambient_temperature"]
        rise = np.moveaxis(temperature - ambient, 0, -1)
        again = self._again(given, rise)
        space = "xy"[: rise.ndim - 1]
        stored = np.einsum(f"{space},{space}t->t", again.capacity, np.diff(rise, axis=-1))
        content = np.einsum(f"{space},t{space}->t", again.capacity, temperature[1:])
        greatest = self._parameters.hottest_peak - ambient
        below = min(ambient, given["temperature"].min()) - temperature.min()
        above = rise.max() - self.largest_rise * greatest
        gap = np.max(np.abs(again.later - rise[..., 1:]))
        return {
            "defect": float(gap / temperature.max()),
            "energy": float(np.max(np.abs(stored - again.supplied + again.lost) / content)),
            "range": float(max(below, above, 0.0) / greatest),
        }
