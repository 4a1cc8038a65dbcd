"""What furnaces of any shape have in common: heaters that are sized, heat balances, checks."""

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Annotated, Any, NamedTuple

import numpy as np
from pydantic import Field as Parameter

from mno.core.fields import Field
from mno.scenarios.base import POSITIVE, Check, Fields
from mno.scenarios.time_dependent import TimeDependent

Peak = Annotated[float, Parameter(ge=500.0, le=2500.0)]
Steps = Annotated[
    int, Parameter(ge=1, le=64, description="Steps of the method in time between two frames.")
]


def furnace_fields(space: tuple[str, ...], heaters: str) -> tuple[Field, ...]:
    """Return the fields of all furnaces, over the axes of one."""
    over_time, less = ("time", *space), "less ambient_temperature"
    return (
        Field("conductivity", "W m-1 K-1", "thermal conductivity", "input", space, scale="log"),
        Field(
            "heat_capacity", "J m-3 K-1", "volumetric heat capacity", "input", space, scale="log"
        ),
        Field("power", "W m-3", f"power density of the {heaters}", "input", over_time),
        Field("ambient_temperature", "K", "ambient temperature", "input", ()),
        Field("temperature", "K", "temperature", "state", over_time, scale=less),
    )


def furnace_checks(largest_rise: float, heaters: str) -> tuple[Check, ...]:
    """Return the checks of all furnaces; the rise is bounded in units of what it is sized for."""
    return (
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
        Check(
            "range",
            "how far temperatures lie below both ambient and initial ones, or the rise above "
            f"{largest_rise:g} times the greatest that {heaters} are sized for, over the latter",
            1e-3,
        ),
    )


class EnergyBalance(NamedTuple):
    """Heat in each interval between frames, J per metre of depth, as the solver's steps have it.

    What is stored is what the heaters supply less what is lost through the boundary, but for the
    solver's error. Rounding a frame to float32 is no part of it.
    """

    stored: np.ndarray
    supplied: np.ndarray
    lost: np.ndarray

    @property
    def error(self) -> float:
        """What is missing over the whole run, relative to the largest of the three."""
        stored, supplied, lost = (heat.sum() for heat in self)
        size = max(abs(supplied), abs(lost), abs(stored))
        return float(abs(stored - supplied + lost) / size) if size else 0.0


class SecondRun(NamedTuple):
    """What a second statement of a furnace's scheme makes of each frame until the next."""

    later: np.ndarray  # rise above the ambient temperature, K, shape `(*space, interval)`
    lost: np.ndarray  # heat lost until then, J/m, shape `(interval,)`
    supplied: np.ndarray  # likewise
    capacity: np.ndarray  # heat stored per kelvin, J/(m K), shape `(*space,)`


class HeatedFurnace(TimeDependent):
    """A furnace that is heated, soaked and cools down.

    Its fields are `conductivity`, `heat_capacity`, `power`, `ambient_temperature` and the state
    `temperature`; its parameters have `coolest_peak`, `hottest_peak` and `steps_per_frame`.
    """

    largest_rise: float
    _time_units = "s"

    def _hotter(self) -> Mapping[str, Any]:
        coolest, hottest = self.parameters.coolest_peak, self.parameters.hottest_peak
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
        solved for one by one. `run` solves for all frames of the rise above the ambient
        temperature, given a power in units of 1 W/m3 and the initial `rise`; `peak` is the rise
        that is wanted, K.
        """
        nominal = 1e5 * power
        added = run(nominal, 0.0 * rise)
        left = run(0.0 * nominal, rise) if rise.any() else np.zeros_like(added)
        return 1e5 / float(np.max(added / (peak - left)))

    def solve(self, inputs: Fields) -> dict[str, np.ndarray]:
        """Solve for the states at all frames."""
        return {"temperature": self._run(self._checked(inputs))[0]}

    def balance(self, inputs: Fields) -> EnergyBalance:
        """Solve as `solve` does, and return where the heat went."""
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

    def _measure(self, given: Fields, frames: Fields) -> Mapping[str, Any]:
        temperature, ambient = frames["temperature"], given["ambient_temperature"]
        rise = np.moveaxis(temperature - ambient, 0, -1)
        again = self._again(given, rise)
        space = "xy"[: rise.ndim - 1]
        stored = np.einsum(f"{space},{space}t->t", again.capacity, np.diff(rise, axis=-1))
        content = np.einsum(f"{space},t{space}->t", again.capacity, temperature[1:])
        greatest = self.parameters.hottest_peak - ambient
        below = min(ambient, given["temperature"].min()) - temperature.min()
        above = rise.max() - self.largest_rise * greatest
        gap = np.max(np.abs(again.later - rise[..., 1:]))
        return {
            "defect": gap / temperature.max(),
            "energy": np.max(np.abs(stored - again.supplied + again.lost) / content),
            "range": max(below, above, 0.0) / greatest,
        }
