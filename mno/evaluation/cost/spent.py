"""What has been spent on a surrogate before its first use: computing, and the energy it took."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mno.core.times import Seconds

_CACHED = "not recorded: what this stage makes was not made here, but restored from a cache"


def spent(
    recorded: Mapping[str, Seconds | None], watts_per_core: float
) -> dict[str, dict[str, Any] | str]:
    """Return the computing that each stage took; or, in one line, why it is not known.

    Args:
        recorded: Times of the stages, by name; none where none were recorded.
        watts_per_core: Power of a busy processor core, W.

    Returns:
        By stage `seconds` by the clock, `cpu_seconds` of all cores together, and `watt_hours`, an
        estimate: the latter times the power of a core.
    """
    return {
        stage: _CACHED
        if times is None
        else {
            "seconds": times.seconds,
            "cpu_seconds": times.cpu_seconds,
            "watt_hours": times.cpu_seconds * watts_per_core / 3600,
        }
        for stage, times in recorded.items()
    }
