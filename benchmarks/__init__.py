"""Speed of this project's parts against named peers, on the machine at hand."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One comparison.

    Attributes:
        what: The task that both sides do, with its size.
        ours: Our median time.
        peer: The peer's median time.
        ratio: How many times faster ours is: the median over pairs of peer / ours.
        unit: Unit of the two times.
        peer_name: Who the peer is, and how it was called.
        note: What a reader must know to judge the figures, such as the accuracy of each.
    """

    what: str
    ours: float
    peer: float
    ratio: float
    unit: str
    peer_name: str
    note: str


def paired_times(
    ours: Callable[[], object], peer: Callable[[], object], pairs: int = 25
) -> tuple[float, float, float]:
    """Time two functions in turn, so that a busy moment of the machine meets both.

    Each is called twice first, untimed.

    Returns:
        Our median in seconds, the peer's, and the median over pairs of peer / ours.
    """
    for _ in range(2):
        ours()
        peer()
    times = [(_seconds(ours), _seconds(peer)) for _ in range(pairs)]
    return (
        statistics.median(a for a, _ in times),
        statistics.median(b for _, b in times),
        statistics.median(b / a for a, b in times),
    )


def _seconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start
