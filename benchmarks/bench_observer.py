"""An observer of the batch furnace beside the filters that an engineer would try first."""

import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.page import Section, Table, figure
from mno.core.observing import READ
from mno.core.readings import from_points
from mno.data.parts import seen
from mno.data.reading import open_split
from mno.evaluation.kalman_peer import MEMBERS, fit_kalman_filter, make_ensemble_filter
from mno.evaluation.simple_peers import Peer
from mno.evaluation.timing import one_thread
from mno.surrogate.following import Run
from mno.surrogate.surrogate import Surrogate
from mno.surrogate.trust.trust import Trust

THREADS = 1
MODEL, DATA, TRUST = Path("models/candidate"), Path("data"), Path("reports/trust.json")
RUNS = 12
SHOWN = {"core_temperature": 1.0, "wear": 1000.0}  # K, mm
MISSING = "No observer was found here: `mno run --preset furnace-observer` makes one."
ABOUT = f"""An observer of the batch furnace (preset `furnace-observer`), as it was trained, on its
test runs, and two filters. **Kalman filter**: a linear state space on principal components, fitted
to the same training runs, its settings chosen on the validation runs; what is the same throughout a
run stands among its controls and tells where it begins. **Ensemble filter**: {MEMBERS} members
with the wear and the warmth of the lining of as many training runs, each sent through the solver
that made the data, so that its model of the plant has no error; of the first {RUNS} test runs.
Root mean square errors over all readings of a run, and late, in its last quarter."""

Arrays = dict[str, np.ndarray]


def run() -> Section:
    """Compare on the candidate of this workspace."""
    if not MODEL.is_dir() or not (surrogate := Surrogate.load(MODEL)).description.observes:
        return Section("Observer", (MISSING,))
    description = surrogate.description
    splits: Any = [
        seen(open_split(DATA, name), **description.as_seen)
        for name in ("train", "validation", "test")
    ]
    test, peer = splits[2], fit_kalman_filter(splits[0], splits[1], description)
    ensemble = make_ensemble_filter(splits[0], description, MEMBERS)
    assert isinstance(peer, Peer) and isinstance(ensemble, Peer)
    given, truth = description.given(test.fields), description.truth(test.fields)
    told = {"observer": surrogate.predict(given), "Kalman filter": peer.predict(given)}
    readings = description.readings
    truth = from_points(readings, truth)
    told = {name: from_points(readings, found) for name, found in told.items()}
    raw = from_points(readings, test.fields)
    with one_thread():
        own = timed(surrogate, raw)
        start = time.perf_counter()
        filtered = from_points(readings, ensemble.predict({n: f[:RUNS] for n, f in given.items()}))
        spent = (time.perf_counter() - start) / RUNS / truth["wear"].shape[1]
    rows = [
        (name, *errors(found, truth, slice(None)), "–" if name != "observer" else milliseconds(own))
        for name, found in told.items()
    ]
    few = [
        (name, *errors(found, truth, slice(0, RUNS)), cost)
        for name, found, cost in (
            ("observer", told["observer"], milliseconds(own)),
            ("ensemble filter", filtered, milliseconds(spent)),
        )
    ]
    columns = (
        "told by", "core, K", "of that late", "wear, mm", "of that late", "ms a reading"
    )  # fmt: skip
    parts = [
        ABOUT, f"**All {len(test)} test runs.**", Table(columns, rows),
        f"**The first {RUNS} of them.**", Table(columns, few), bands(told["observer"], truth, raw),
    ]  # fmt: skip
    return Section("Observer", parts)


def errors(found: Arrays, truth: Arrays, samples: slice) -> tuple[str, ...]:
    """Return the root mean square errors of what is shown, in its unit, as text."""
    cells = []
    for name, scale in SHOWN.items():
        wrong = scale * (found[name][: samples.stop] - truth[name][samples])
        last = wrong[:, 3 * wrong.shape[1] // 4 :]
        cells += [figure(float(np.sqrt(np.nanmean(part**2)))) for part in (wrong, last)]
    return tuple(cells)


def milliseconds(seconds: float) -> str:
    """Write a time."""
    return figure(1e3 * seconds)


def timed(surrogate: Surrogate, raw: Arrays, rounds: int = 2000) -> float:
    """Return the median time of one reading, in seconds."""
    description = surrogate.description
    same = set(description.given_names) - set(description.forcings) - {"reading"}
    following, times = Run(surrogate, {name: raw[name][0] for name in same}), []
    frames = raw["wear"].shape[1]
    for number in range(rounds):
        reading = {name: raw[name][0, number % frames] for name in description.forcings}
        start = time.perf_counter()
        following.told(1800.0 * number, reading)
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def bands(found: Arrays, truth: Arrays, raw: Arrays) -> str:
    """Say how often the truth lay in the bands, with a dead thermocouple and without."""
    trust = Trust.read(TRUST)
    read = np.asarray(raw["thermocouple_temperature" + READ])
    dead = np.isnan(read[:, -3:]).all(axis=1).any(axis=-1)
    said = []
    for name in SHOWN:
        limits = np.array(trust.bounds[name]["max_error"].values, dtype=float)
        wrong = np.abs(found[name] - truth[name])
        wrong = wrong.reshape(*wrong.shape[:2], -1)
        held = np.nanmax(wrong, axis=2) <= limits
        said.append(
            f"{name.replace('_', ' ')}: {held.mean():.0%} of all readings "
            f"({held[dead].mean():.0%} of those of the {dead.sum()} runs in which a thermocouple "
            f"had died)"
        )
    return f"Bands of {trust.level:.0%} held for: " + "; ".join(said) + "."
