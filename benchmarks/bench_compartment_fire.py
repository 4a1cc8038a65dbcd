"""A fire in a compartment, as thermocouples saw it: what simple forecasts of readings are worth."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path

import numpy as np

from benchmarks.page import Section, Table, figure
from mno.evaluation.filters import kalman_filter
from mno.evaluation.linear_state_space import (
    Gaussian,
    LinearStateSpace,
    Runs,
    fit_state_space,
)
from mno.imports.mapping import read_mapping
from mno.imports.readings import read_readings

THREADS = 1
HERE = Path(__file__).parent
PLACES = (Path("/"), HERE.parent / "build" / "openfoam-examples")
LOG = Path(
    "usr/share/doc/openfoam-examples/examples/combustion/fireFoam/LES/compartmentFire",
    "validation/Probes/Temperature/temperature.dat",
)
MAPPING = HERE / "compartment_fire.yaml"
KNOWN, HELD_OUT, HORIZON = 200, 80, 60  # seconds, one frame each
LEADS = (10, 30, HORIZON)
SIZES, PENALTIES = (1, 2, 4, 8, 16, 32, 64), tuple(10.0**k for k in range(-8, 2))
MISSING = f"""The log is not on this machine. `apt-get download openfoam-examples` and
`dpkg -x openfoam-examples_*.deb {PLACES[1].relative_to(HERE.parent)}` bring it (Debian)."""
ABOUT = f"""The thermocouple log of OpenFOAM's example `compartmentFire` (Debian's package
`openfoam-examples`): 25 thermocouples, one reading a second for 351 s. Root mean square errors in
kelvin, of forecasts made at every second from {KNOWN} s on and looking up to {HORIZON} s ahead.
**20 of them** are read all the time, and everything is fitted on their first {KNOWN} s: components
and penalty are those that predict {HORIZON} s ahead best in the last {HELD_OUT} s of these. **The
5 others**, every fifth, are known for these {KNOWN} s and then no longer read: what is missed of
them now and {HORIZON} s ahead. Nothing is told of the fire's fuel. It is one run of one fire: no
more than this figure follows from it."""

Forecast = Callable[[int], tuple[np.ndarray, np.ndarray | None]]
"""From a second to the means of all seconds from then on, `(HORIZON + 1, thermocouples)`, and to
their variances where it has any."""


def run() -> Section:
    """Fit on the first seconds, forecast the others."""
    path = next((place / LOG for place in PLACES if (place / LOG).is_file()), None)
    if path is None:
        return Section("A fire", (MISSING,))
    log = read(path)
    hidden = np.arange(4, log.shape[1], 5)
    read_on = np.setdiff1d(np.arange(log.shape[1]), hidden)
    read_alone, settings = fitted(log[:, read_on], log[:, read_on])
    with_hidden, _ = fitted(log, log[:, read_on])
    rows, errors = [], {}
    for name in ("persistence", "linear state space", "Kalman filter"):
        misses, covered = missed(forecasts(name, read_alone, log[:, read_on]), log[:, read_on])
        others, _ = missed(forecasts(name, with_hidden, log, read_on), log)
        errors[name] = rms(misses[:, HORIZON])
        rows.append((
            name, *(figure(rms(misses[:, lead])) for lead in LEADS),
            *(figure(rms(others[:, lead][:, hidden])) for lead in (0, HORIZON)),
            "–" if covered is None else f"{100 * covered[:, HORIZON].mean():.0f} %",
        ))  # fmt: skip
    columns = (
        "forecast by", *(f"20 read, {lead} s ahead" for lead in LEADS), "5 others, now",
        f"5 others, {HORIZON} s ahead", f"of the 20 in 90 % bands {HORIZON} s ahead",
    )  # fmt: skip
    best = f"""Of the 20, {min(errors, key=lambda name: errors[name])} misses least {HORIZON} s
ahead; {settings[0]} components and a penalty of {settings[1]:g} were chosen for them."""
    return Section("A fire", (ABOUT, best, Table(columns, rows)))


def read(path: Path) -> np.ndarray:
    """Return the readings, `(seconds, thermocouples)`, degrees Celsius."""
    with tempfile.TemporaryDirectory() as scratch:
        table = Path(scratch) / "fire.csv"
        table.write_text(path.read_text(encoding="utf-8").removeprefix("#"), encoding="utf-8")
        found = read_readings(table, read_mapping(MAPPING).sensors)
    log = np.full((round(found.time[-1]) + 1, len(found.sensors)), np.nan)
    log[np.rint(found.time).astype(int), found.series_sensor[found.series]] = found.value
    return log


def fitted(log: np.ndarray, readings: np.ndarray) -> tuple[LinearStateSpace, tuple[int, float]]:
    """Fit a linear state space to what is known, and return what was chosen for it."""
    parts = (slice(0, KNOWN - HELD_OUT), slice(KNOWN - HELD_OUT, KNOWN), slice(0, KNOWN))
    training, held_out, known = (Runs.of(log[None, p], readings[None, p]) for p in parts)
    settings = chosen(training, held_out, HORIZON)
    return fit_state_space(known, *settings), settings


def chosen(runs: Runs, held_out: Runs, ahead: int) -> tuple[int, float]:
    """Return the components and the penalty that predict held-out states best, so far `ahead`."""
    units, states = runs.states.std(axis=(0, 1)), held_out.states
    units = np.where(units > 1e-12 * np.abs(runs.states.mean(axis=(0, 1))), units, 1.0)

    def error(size: int, penalty: float) -> float:
        model = fit_state_space(runs, size, penalty)
        found = model.states.components(states[:, :-ahead])
        with np.errstate(over="ignore", invalid="ignore"):
            for frame in range(ahead):
                drive = held_out.controls[:, frame : frame + found.shape[1]]
                found = model.dynamics.after(found, drive)
            told = found @ model.states.matrix.T + model.states.level
            missed = np.square((told - states[:, ahead:]) / units).mean()
        return float(np.nan_to_num(missed, nan=np.inf))

    most = min(runs.states.shape[2], runs.states[:, 1:, 0].size - runs.controls.shape[2] - 2)
    sizes = sorted({min(size, most) for size in SIZES})
    return min(((k, p) for k in sizes for p in PENALTIES), key=lambda pair: error(*pair))


def forecasts(
    name: str, model: LinearStateSpace, log: np.ndarray, read_on: np.ndarray | None = None
) -> Forecast:
    """Return forecasts by name; after what is known only some are `read_on`, all if not given."""
    some = np.arange(log.shape[1]) if read_on is None else read_on
    last = log.copy()
    last[KNOWN:] = last[KNOWN - 1]
    last[:, some] = log[:, some]
    beliefs = [*kalman_filter(model, log[None, :, some])]
    inverse = np.linalg.pinv(model.sensors.matrix)

    def persistence(second: int) -> tuple[np.ndarray, None]:
        return np.repeat(last[second : second + 1], HORIZON + 1, axis=0), None

    def state_space(second: int) -> tuple[np.ndarray, np.ndarray | None]:
        if name == "Kalman filter":
            belief = beliefs[second]
        else:
            z = (log[second, some] - model.sensors.level) @ inverse.T
            belief = Gaussian(z[None], np.zeros((len(z), len(z))))
        later = accumulate(np.empty((HORIZON, 1, 0)), model.after, initial=belief)
        mean, variance = zip(*(model.state(one) for one in later), strict=True)
        variances = np.stack([v.reshape(-1) for v in variance])
        return np.concatenate(mean), variances if name == "Kalman filter" else None

    return persistence if name == "persistence" else state_space


def missed(forecast: Forecast, log: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Return what forecasts miss, `(seconds, leads, thermocouples)`, and what 90 % bands cover."""
    misses, covered = [], []
    for second in range(KNOWN, len(log) - HORIZON):
        mean, variance = forecast(second)
        misses.append(mean - log[second : second + HORIZON + 1])
        if variance is not None:
            covered.append(np.abs(misses[-1]) < 1.645 * np.sqrt(variance))
    return np.stack(misses), np.stack(covered) if covered else None


def rms(misses: np.ndarray) -> float:
    """Return the root of the mean of squares."""
    return float(np.sqrt(np.square(misses).mean()))
