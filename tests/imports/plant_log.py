"""Logs of a heated rod as a plant would write them: thermocouples, gaps, duplicates, drift."""

import csv
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import numpy as np

BEGIN = datetime.fromisoformat("2026-03-01T06:00:00+00:00")
POWER = "heater power"


@dataclass(frozen=True)
class Row:
    """One reading; no position for one of the whole plant."""

    time: float
    x: float | None
    quantity: str
    value: float
    unit: str
    sensor: str
    uncertainty: float | None = None


@dataclass(frozen=True)
class Plant:
    """A rod of one metre, heated at one end by a heater that is switched on and off.

    Times in seconds, temperatures in degC. Sensors are 8 thermocouples at uneven distances, read
    every `interval` with some jitter. `missing` is the share of readings that are lost.
    """

    duration: float = 7200.0
    interval: float = 10.0
    jitter: float = 1.0
    noise: float = 0.2
    drift: float = 0.0
    missing: float = 0.05
    duplicates: int = 20
    seed: int = 0
    places: tuple[float, ...] = (0.05, 0.15, 0.3, 0.42, 0.55, 0.7, 0.85, 0.95)

    def rows(self):
        """Return all readings in the order of their times; the last sensor drifts."""
        rng = np.random.default_rng(self.seed)
        times = np.arange(0.0, self.duration, self.interval)
        power = np.where((times // 900).astype(int) % 3 < 2, 2.0, 0.0)
        truth = temperatures(times, power, np.array(self.places))
        rows = [Row(t, None, POWER, p, "kW", "JT1") for t, p in zip(times, power, strict=True)]
        for at, place in enumerate(self.places):
            drift = self.drift * times / self.duration if at == len(self.places) - 1 else 0.0
            measured = truth[:, at] + drift + self.noise * rng.normal(size=len(times))
            read_at = times + rng.uniform(-1, 1, len(times)) * self.jitter
            kept = rng.uniform(size=len(times)) >= self.missing
            rows += [
                Row(round(float(t), 3), place, "temperature", round(float(v), 2), "degC",
                    f"TC{at + 1}", self.noise or None)
                for t, v in zip(read_at[kept], measured[kept], strict=True)
            ]  # fmt: skip
        rows += [rows[n] for n in rng.integers(len(rows), size=self.duplicates)]
        return sorted(rows, key=lambda row: row.time)


def temperatures(times, power, places):
    """Solve u_t = a u_xx - b (u - 20) + heat near x = 0 explicitly; shape `(times, places)`."""
    cells, diffusivity, loss = 40, 1e-4, 2e-4
    x = (np.arange(cells) + 0.5) / cells
    heat = 0.08 * np.exp(-((x / 0.1) ** 2))
    field, found, steps = np.full(cells, 20.0), [], 8
    step = (times[1] - times[0]) / steps
    for now in power:
        found.append(np.interp(places, x, field))
        for _ in range(steps):
            padded = np.pad(field, 1, mode="edge")
            curvature = (padded[2:] - 2 * field + padded[:-2]) * cells**2
            field = field + step * (diffusivity * curvature - loss * (field - 20) + now * heat)
    return np.array(found)


def without(rows, sensor, begin, end):
    return [row for row in rows if row.sensor != sensor or not begin <= row.time < end]


def at_value(rows, sensor, value):
    return [replace(row, value=value) if row.sensor == sensor else row for row in rows]


def write_long(path, rows, dates=True, comma=False):
    """Write one row for each reading, with ISO dates or seconds, with `;` and decimal commas."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter=";" if comma else ",")
        writer.writerow(["time", "x", "quantity", "value", "unit", "sensor", "uncertainty"])
        for row in rows:
            moment = (BEGIN + timedelta(seconds=row.time)).isoformat() if dates else row.time
            numbers = [row.x, row.value, row.uncertainty]
            texts = ["" if n is None else repr(float(n)) for n in numbers]
            x, value, sigma = (t.replace(".", ",") if comma else t for t in texts)
            writer.writerow([moment, x, row.quantity, value, row.unit, row.sensor, sigma])
    return path
