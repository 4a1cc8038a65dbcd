"""Whether data of sensors suffice for training: each judgement with its figure and its limit."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.spatial import KDTree

from mno.core.numbers import number, percent
from mno.report.inspected_fields import FieldMeasurement
from mno.report.inspected_sensors import Presence, Sensors, condition

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

_LATTICE = {1: 1001, 2: 65, 3: 25}  # places along each axis at which the distance is measured
_MOST_SENSORS = 1000


class Judgement(NamedTuple):
    """One thing that data must keep."""

    subject: str  # the field that it is of, or `sensors`, `samples`
    what: str
    figure: str  # what was found
    limit: str  # what is expected
    holds: bool
    lacking: str  # what is missing, for the verdict


def judge(
    sensors: Sensors, fields: Sequence[FieldMeasurement], split_counts: Mapping[str, int]
) -> tuple[Judgement, ...]:
    """Compare what was measured with the limits above."""
    measured = {m.field.name: m for m in fields}
    found: list[Judgement] = []
    for presence in sensors.presence:
        found += _of_values(sensors, presence)
        found.append(_of_sensors(sensors, presence))
        if presence.field.role == "state":
            found += _of_time(presence)
        found += _of_range(measured[presence.field.name])
    found += _of_places(sensors)
    for split, fewest in WINDOWS.items():
        count = split_counts.get(split, 0)
        lacking = f"{count} samples in {split}: record for longer, or take fewer frames a sample"
        limit = f"at least {fewest}"
        found.append(
            Judgement("samples", f"in {split}", str(count), limit, count >= fewest, lacking)
        )
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
        "judgements": [
            j._asdict() | {"lacking": None if j.holds else j.lacking} for j in judgements
        ],
        "sensors": {
            p.field.name: [
                {
                    "sensor": sensors.name(p, n),
                    "missing": float(p.missing[n]),
                    "longest_gap": float(p.gaps[n] * p.interval) if p.frames > 1 else None,
                    "deviation": float(p.deviation[n]),
                    "condition": condition(p, n),
                }
                for n in range(min(p.sensors, _MOST_SENSORS))
            ]
            for p in sensors.presence
        },
    }


def _share(
    subject: str, what: str, share: float, limit: float, lacking: str, of: str = ""
) -> Judgement:
    """Judge a share that must not be above a limit, which is of something."""
    expected = f"at most {percent(limit)}{of}"
    return Judgement(subject, what, percent(share), expected, share <= limit, lacking)


def _of_values(sensors: Sensors, presence: Presence) -> Iterator[Judgement]:
    name, share = presence.field.name, presence.share_missing
    lacking = f"{percent(share)} of the values are missing"
    yield _share(name, "values missing", share, MISSING, lacking)
    gap = presence.longest_gap
    if gap is None or presence.frames == 1:
        return
    length, recorded = gap.frames * presence.interval, presence.total * presence.interval
    moment = sensors.moment(presence, gap.sample, gap.frame)
    where = f"{sensors.name(presence, gap.sensor)}, until {moment}"
    yield Judgement(
        name,
        "longest gap",
        f"{length:.6g} s ({percent(length / recorded)} of the time; {where})",
        f"at most {percent(LONGEST_GAP)} of the time",
        length <= LONGEST_GAP * recorded,
        f"nothing for {length:.6g} s at {where}",
    )


def _of_sensors(sensors: Sensors, presence: Presence) -> Judgement:
    located = "point" in presence.field.dims and not presence.same
    silent = sensors.silent() if located else ~presence.measured
    faults = {"silent": silent, "constant": presence.constant, "dead": presence.dead}
    told, faulty = [], 0
    for word, which in faults.items():
        numbers = np.flatnonzero(which).tolist()
        faulty += len(numbers)
        if numbers:
            names = ", ".join(f"({sensors.name(presence, n)})" for n in numbers[:5])
            more = f" and {len(numbers) - 5} more" if len(numbers) > 5 else ""
            told.append(f"{names}{more} {'is' if len(numbers) == 1 else 'are'} {word}")
    count, listed = int((presence.measured | silent).sum()), "; ".join(told)
    return Judgement(
        presence.field.name,
        "sensors silent, constant or dead",
        f"{faulty} of {count}" + (f" ({listed})" if told else ""),
        f"at most {percent(FAULTY)} of them",
        faulty <= FAULTY * count,
        f"sensors do not work: {listed}",
    )


def _of_time(presence: Presence) -> Iterator[Judgement]:
    name, change, noise = presence.field.name, presence.change, presence.noise
    if math.isfinite(change):
        what, of = "variance between neighbouring frames", " (a wave of 8 frames)"
        lacking = f"a higher rate: {percent(change)} of the variance is between neighbouring frames"
        yield _share(name, what, change, RATE, lacking, of)
    if math.isfinite(noise):
        lacking = f"less noise: it is {percent(noise)} of the deviation (fast changes count)"
        yield _share(name, "noise over deviation", noise, NOISE, lacking)


def _of_range(measured: FieldMeasurement) -> Iterator[Judgement]:
    train, test = (measured.moments.get(split) for split in ("train", "test"))
    if train is None or test is None or not train.count or not test.count:
        return
    beyond = max(train.min - test.min, test.max - train.max, 0.0)
    width = train.max - train.min
    share = beyond / width if width > 0 else (math.inf if beyond else 0.0)
    lacking = f"the range of the test in training: values lie {percent(share)} beyond it"
    of = f" of the range ({number(train.min, 3)} to {number(train.max, 3)})"
    yield _share(
        measured.field.name, "test beyond the range of training", share, RANGE, lacking, of
    )


def _of_places(sensors: Sensors) -> Iterator[Judgement]:
    if sensors.places is None:
        return
    silent = sensors.silent()
    alive = sensors.places[~silent] if len(silent) else sensors.places
    if not len(alive):
        return
    hole, counts = largest_hole(alive), points_per_axis(alive)
    lacking = f"sensors in the largest hole, {percent(hole)} of the box around all"
    of = " of the box around them"
    yield _share("sensors", "largest hole between them", hole, HOLE, lacking, of)
    told = ", ".join(f"{axis} {count}" for axis, count in zip(sensors.axes, counts, strict=True))
    yield Judgement(
        "sensors", "places along each axis", told, f"at least {POINTS}",
        min(counts) >= POINTS, f"more places along an axis: {told}",
    )  # fmt: skip


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
