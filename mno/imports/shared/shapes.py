"""What the axes of arrays are that have none but a shape: channels, then those of space."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

MOST_CHANNELS = 16
_CLEARLY = 4  # how many times more places than channels tell one from the other


@dataclass(frozen=True)
class Reading:
    """One way to understand a shape.

    Attributes:
        channels: Number of channels, on the axis before those of space; none without that axis.
        space: Lengths of the axes of space.
    """

    channels: int | None
    space: tuple[int, ...]


def readings(rest: tuple[int, ...]) -> list[Reading]:
    """Return how the axes behind samples and frames can be understood, the likeliest first."""
    found = []
    if 2 <= len(rest) <= 4:
        channels, *space = rest
        if channels == 1 or channels <= MOST_CHANNELS and _CLEARLY * channels <= min(space):
            found.append(Reading(channels, tuple(space)))
    if 1 <= len(rest) <= 3:
        found.append(Reading(None, rest))
    return found


def common(rests: Mapping[str, tuple[int, ...]]) -> dict[str, Reading] | None:
    """Return how all shapes can be understood so that they have one grid; none if they cannot.

    Args:
        rests: Lengths of the axes behind samples and frames, by array.
    """
    candidates = {name: readings(rest) for name, rest in rests.items()}
    for first in next(iter(candidates.values())):
        fitting = {
            name: next((r for r in found if r.space == first.space), None)
            for name, found in candidates.items()
        }
        if all(fitting.values()):
            return {name: reading for name, reading in fitting.items() if reading}
    return None
