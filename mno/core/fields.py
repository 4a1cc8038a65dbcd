"""Fields and axes: names, units and places of physical quantities."""

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

SPACE = ("x", "y", "z", "point")
"""Axes of space; `point` numbers places without an order."""
TAKEN = ("split", "group", "start", "identity", "sample", "time", "point")
"""What arrays of a dataset are called that are no fields, beside axes."""
PLAIN, LOG = "plain", "log"
RATE = "rate_of_"
"""What the rate of a field is called, before that field's name."""
_LESS = "less "


def difference_from(scale: str) -> str | float | None:
    """Return what a field on this scale is less: another field's name, or a number; else none.

    Raises:
        ValueError: It is no scale (see `Field.scale`).
    """
    if scale in (PLAIN, LOG):
        return None
    other = scale.removeprefix(_LESS)
    if other != scale and other.isidentifier():
        return other
    try:
        number = float(other) if other != scale else math.nan
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(
            f"{scale!r} is no scale of a field; expected {PLAIN}, {LOG}, or what it is less, as in "
            f"`{_LESS}ambient_temperature` or `{_LESS}293.15`"
        )
    return number


@dataclass(frozen=True)
class Field:
    """A named physical quantity on a set of axes; units as CF conventions write them, or `1`."""

    name: str
    """In stores, models and requests, for example `permeability`."""
    units: str
    long_name: str
    """What a figure's label says."""
    role: Literal["input", "output", "state", "coordinate", "times", "rate"]
    """Whether an operator is given the field, predicts it, or is given its first frames and
    predicts the later ones; a state has a time axis. A coordinate says where points are; times,
    over the time axis alone, say when each sample's frames are, from any beginning. A rate is that
    of another field along directions of what is given: a direction, or the Jacobian times it."""
    dims: tuple[str, ...]
    """Axes of one sample's array, in order, for example `("x", "y")`, time before those of space;
    none for one number per sample. On unordered points, `point` is the axis of space."""
    gaps: bool = False
    """Whether values may be missing; a missing one is NaN."""
    scale: str = PLAIN
    """What of it models are given and predict: it as it is (`plain`), its logarithm (`log`), or its
    difference from an input or a number in its unit (`less ambient_temperature`, `less 293.15`)."""

    @property
    def is_scalar(self) -> bool:
        """Whether it is one number per sample."""
        return not self.dims

    @property
    def is_forcing(self) -> bool:
        """Whether it is an input over time, known in advance.

        Its frame `k` holds from frame `k` of the states to the next.
        """
        return self.role == "input" and "time" in self.dims


class HasFields:
    """What has fields, and tells those of an operator."""

    fields: tuple[Field, ...]

    @property
    def inputs(self) -> tuple[Field, ...]:
        """Fields an operator is given, states at their first frames."""
        return tuple(field for field in self.fields if field.role in ("input", "state"))

    @property
    def outputs(self) -> tuple[Field, ...]:
        """Fields an operator predicts, states at their later frames."""
        return tuple(field for field in self.fields if field.role in ("output", "state"))


@dataclass(frozen=True, eq=False)
class Axis:
    """A coordinate axis: `time`, one of `SPACE`, or what numbers zones and the like."""

    name: str
    units: str
    long_name: str
    points: np.ndarray  # coordinates, shape `(num_points,)`
    extent: tuple[float, float]  # where the domain begins and ends along the axis
    labels: tuple[str, ...] = ()
    """What each point is called, in one word; empty where its coordinate says it."""

    @property
    def flags(self) -> dict[str, Any]:
        """The labels as attributes of the coordinates, by the CF conventions; none without."""
        if not self.labels:
            return {}
        return {"flag_values": self.points.tolist(), "flag_meanings": " ".join(self.labels)}
