"""What has been spent on a surrogate before its first use: time of computing, energy."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol


class Seconds(Protocol):
    """How long a stage took, as it is recorded."""

    @property
    def seconds(self) -> float:
        """By the clock."""
        ...

    @property
    def cpu_seconds(self) -> float:
        """Of all processor cores together."""
        ...


@dataclass(frozen=True)
class Computing:
    """The computing that one stage took.

    Attributes:
        seconds: By the clock.
        cpu_seconds: Of all processor cores together.
        watt_hours: Estimate of the energy, `cpu_seconds` times the power of a busy core.
    """

    seconds: float
    cpu_seconds: float
    watt_hours: float


def spent(
    recorded: Mapping[str, Seconds | None], watts_per_core: float
) -> dict[str, dict[str, float] | str]:
    """Return the computing of each stage; or, in one line, why it is not known.

    Args:
        recorded: Times of the stages, by name; none where none were recorded.
        watts_per_core: Power of a busy processor core, W.
    """
    result: dict[str, Any] = {}
    for stage, times in recorded.items():
        if times is None:
            result[stage] = "not recorded: the result was restored from a cache, not made here"
        else:
            energy = times.cpu_seconds * watts_per_core / 3600
            result[stage] = vars(Computing(times.seconds, times.cpu_seconds, energy))
    return result


@dataclass(frozen=True)
class SoFar:
    """What this process has taken so far; it counts from its start.

    Attributes:
        seconds: By the clock.
        cpu_seconds: Of all its threads together.
    """

    seconds: float
    cpu_seconds: float


def so_far(started: float) -> SoFar:
    """Return it.

    Args:
        started: When the work began, by `time.perf_counter`.
    """
    return SoFar(time.perf_counter() - started, time.process_time())
