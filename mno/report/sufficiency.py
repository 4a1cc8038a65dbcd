"""Whether data of sensors suffice for training: each judgement with its figure and its limit."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.spatial import KDTree

from mno.core.numbers import number, percent
from mno.report.inspected_fields import FieldMeasurement
from mno.report.inspected_sensors import Presence, Sensors, condition

_LATTICE = {1: 1001, 2: 65, 3: 25}  # places along each axis at which the distance is measured

MISSING = 0.3
"""Largest share of a field's values that may be missing, at the sensors that measure it."""
LONGEST_GAP = 0.1
"""Longest time without a reading of one sensor, as a share of the recorded time."""
FAULTY = 0.1
"""Largest share of sensors that are silent, constant or dead."""
RATE = 0.3
"""Largest share of the variance between neighbouring frames: that of a wave of 8 frames."""
NOISE = 0.3
"""Largest noise, as a share of the standard deviation."""
RANGE = 0.1
"""How far values to be tested on may lie beyond those trained on, as a share of their range."""
HOLE = 0.6
"""Largest diameter without a sensor, as a share of the diagonal of the box around all."""
POINTS = 3
"""Fewest different places along each axis."""
WINDOWS = {"train": 30, "validation": 3, "test": 3}
"""Fewest samples of each split."""


def largest_hole(places: np.ndarray) -> float:
    """Return the largest diameter without a sensor over the diagonal of the box around all.

    Of sensors on one line it is the widest distance between neighbours, as a share of the whole.

    Args:
        places: Shape `(sensors, axes)`, one to three axes.

    Returns:
        Between 0 and 2; 1 for a single sensor.
    """
    low, high = places.min(axis=0), places.max(axis=0)
    wide = high > low
    if not wide.any():
        return 1.0
    places, low, high = places[:, wide], low[wide], high[wide]
    points = _LATTICE[places.shape[1]]
    lines = [np.linspace(a, b, points) for a, b in zip(low, high, strict=True)]
    lattice = np.stack(np.meshgrid(*lines, indexing="ij"), axis=-1).reshape(-1, len(lines))
    distances, _ = KDTree(places).query(lattice)
    return float(2 * distances.max() / np.linalg.norm(high - low))


def points_per_axis(places: np.ndarray) -> list[int]:
    """Return how many different coordinates sensors have along each axis."""
    return [len(np.unique(column)) for column in places.T]


@dataclass(frozen=True)
class Judgement:
    """One thing that data must keep.

    Attributes:
        subject: The field that it is of, or `sensors`, `samples`.
        what: What is judged.
        figure: What was found.
        limit: What is expected.
        holds: Whether it is.
        lacking: What is missing, for the verdict.
    """

    subject: str
    what: str
    figure: str
    limit: str
    holds: bool
    lacking: str


def judge(
    sensors: Sensors, fields: Sequence[FieldMeasurement], split_counts: Mapping[str, int]
) -> tuple[Judgement, ...]:
    """Compare what was measured with the limits above."""
    measured = {m.field.name: m for m in fields}
    found: list[Judgement] = []
    for presence in sensors.presence:
        found += _of_values(sensors, presence)
        found += _of_sensors(sensors, presence)
        if presence.field.role == "state":
            found += _of_time(presence)
        found += _of_range(measured[presence.field.name])
    found += _of_places(sensors)
    for split, fewest in WINDOWS.items():
        count = split_counts.get(split, 0)
        found.append(
            Judgement(
                "samples", f"in {split}", str(count), f"at least {fewest}", count >= fewest,
                f"{count} samples in {split}: record for longer, or take fewer frames a sample",
            )
        )  # fmt: skip
    return tuple(found)


def verdict(judgements: Sequence[Judgement], states: Sequence[str]) -> str:
    """Return in one line whether data suffice, and what is missing."""
    aim = f"training on {', '.join(states)}"
    lacking = [f"{j.subject}: {j.lacking}" for j in judgements if not j.holds]
    if not lacking:
        return f"these data suffice for {aim}"
    return f"these data do not suffice for {aim}: {'; '.join(lacking)}"


def facts(
    sensors: Sensors, judgements: Sequence[Judgement], states: Sequence[str]
) -> dict[str, Any]:
    """Return it all as plain values."""
    return {
        "suffices": all(j.holds for j in judgements),
        "verdict": verdict(judgements, states),
        "judgements": [asdict(j) | {"lacking": None if j.holds else j.lacking} for j in judgements],
        "sensors": {
            p.field.name: [
                {
                    "sensor": sensors.name(p, n),
                    "missing": float(p.missing[n]),
                    "longest_gap": float(p.gaps[n] * p.interval) if p.frames > 1 else None,
                    "deviation": float(p.deviation[n]),
                    "condition": condition(p, n),
                }
                for n in range(min(p.sensors, 1000))
            ]
            for p in sensors.presence
        },
    }


def _of_values(sensors: Sensors, presence: Presence) -> Iterator[Judgement]:
    name, share = presence.field.name, presence.share_missing
    yield Judgement(
        name, "values missing", percent(share), f"at most {percent(MISSING)}",
        share <= MISSING, f"{percent(share)} of the values are missing",
    )  # fmt: skip
    gap = presence.longest_gap
    if gap is None or presence.frames == 1:
        return
    length, recorded = gap.frames * presence.interval, presence.total * presence.interval
    where = f"{sensors.name(presence, gap.sensor)}, until " + sensors.moment(
        presence, gap.sample, gap.frame
    )
    yield Judgement(
        name, "longest gap", f"{length:.6g} s ({percent(length / recorded)} of the time; "
        f"{where})", f"at most {percent(LONGEST_GAP)} of the time",
        length <= LONGEST_GAP * recorded, f"nothing for {length:.6g} s at {where}",
    )  # fmt: skip


def _of_sensors(sensors: Sensors, presence: Presence) -> Iterator[Judgement]:
    located = "point" in presence.field.dims and not presence.same
    silent = sensors.silent() if located else ~presence.measured
    faults = {"silent": silent, "constant": presence.constant, "dead": presence.dead}
    told = "; ".join(
        f"{_named(sensors, presence, which)} {word}"
        for word, which in faults.items()
        if which.any()
    )
    faulty = sum(int(which.sum()) for which in faults.values())
    count = int((presence.measured | silent).sum())
    yield Judgement(
        presence.field.name, "sensors silent, constant or dead", f"{faulty} of {count}"
        + (f" ({told})" if told else ""), f"at most {percent(FAULTY)} of them",
        faulty <= FAULTY * count, f"sensors do not work: {told}",
    )  # fmt: skip


def _named(sensors: Sensors, presence: Presence, which: np.ndarray) -> str:
    numbers = np.flatnonzero(which)
    names = ", ".join(f"({sensors.name(presence, int(n))})" for n in numbers[:5])
    more = f" and {len(numbers) - 5} more" if len(numbers) > 5 else ""
    return f"{names}{more} {'is' if len(numbers) == 1 else 'are'}"


def _of_time(presence: Presence) -> Iterator[Judgement]:
    change, noise = presence.change, presence.noise
    if math.isfinite(change):
        yield Judgement(
            presence.field.name, "variance between neighbouring frames", percent(change),
            f"at most {percent(RATE)} (a wave of 8 frames)", change <= RATE,
            f"a higher rate: {percent(change)} of the variance is between neighbouring frames",
        )  # fmt: skip
    if math.isfinite(noise):
        yield Judgement(
            presence.field.name, "noise over deviation", percent(noise),
            f"at most {percent(NOISE)}", noise <= NOISE,
            f"less noise: it is {percent(noise)} of the deviation (fast changes count)",
        )  # fmt: skip


def _of_range(measured: FieldMeasurement) -> Iterator[Judgement]:
    train = measured.moments.get("train")
    test = measured.moments.get("test")
    if train is None or test is None or not train.count or not test.count:
        return
    beyond = max(train.min - test.min, test.max - train.max, 0.0)
    width = train.max - train.min
    share = beyond / width if width > 0 else (math.inf if beyond else 0.0)
    yield Judgement(
        measured.field.name, "test beyond the range of training", percent(share),
        f"at most {percent(RANGE)} of the range ({number(train.min, 3)} to "
        f"{number(train.max, 3)})", share <= RANGE,
        f"the range of the test in training: values lie {percent(share)} beyond it",
    )  # fmt: skip


def _of_places(sensors: Sensors) -> Iterator[Judgement]:
    if sensors.places is None:
        return
    alive = sensors.places[~sensors.silent()] if len(sensors.silent()) else sensors.places
    if not len(alive):
        return
    hole, counts = largest_hole(alive), points_per_axis(alive)
    yield Judgement(
        "sensors", "largest hole between them", percent(hole),
        f"at most {percent(HOLE)} of the box around them", hole <= HOLE,
        f"sensors in the largest hole, {percent(hole)} of the box around all",
    )  # fmt: skip
    told = ", ".join(f"{axis} {count}" for axis, count in zip(sensors.axes, counts, strict=True))
    yield Judgement(
        "sensors", "places along each axis", told, f"at least {POINTS}",
        min(counts) >= POINTS, f"more places along an axis: {told}",
    )  # fmt: skip
