"""A schedule of a furnace: what a search by a model finds in thirty solves, and the solver alone.

`python -m benchmarks.bench_optimise MODEL DATA --draws 100` makes what is missing of the results in
`results/optimise.json`, from a workspace in which `params.yaml` has been run as it is.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import zarr
from scipy.optimize import minimize

from benchmarks.bench_lining_wear import binomial, fresh_runs
from benchmarks.page import Section, Table, figure, processor
from benchmarks.timing import use_threads
from mno.core.config import validate
from mno.core.files import write_json
from mno.data.reading import read_split
from mno.inverse.goal import Goal, Wanted
from mno.inverse.optimise import optimise
from mno.inverse.run import Run
from mno.sensors.inputs import from_store
from mno.surrogate.surrogate import Surrogate

THREADS = 1
RESULTS = Path(__file__).parent / "results" / "optimise.json"
SOLVES, LEAST, STEP = 30, 1000, 4e-3  # of a search; of the solver alone, and of its differences
WITHIN = 3e-4  # deviations by which the solver alone may miss bounds: 0.1 K of core temperatures
READY, HOURS = 36_000, 12
ABOUT = f"""`batch_furnace`, the plant `car_bottom` and the model of readings as `params.yaml` has
them. Runs that are none of the dataset's are drawn. Set-points at seven times, alike in both zones,
are to be set so that least energy is supplied in {HOURS} hours, and after {READY // 3600} hours the
core of every piece is as hot as the coldest was in the run as it was drawn, and no piece has a
greater spread than the greatest was. `mno optimise` may ask the solver {SOLVES} times. Asked are an
energy within 1 % of what the solver alone finds, and no schedule returned that misses a bound.
Where none is found that holds them all, the command says so, by how much, and ends with exit code
1; of the one run here, 42 solves find one. A search takes half as long as the solver alone, or
less, though a solve takes but some 30 ms; it pays more where they are dearer."""
ALONE = f"""**The solver alone**: sequential quadratic programming with slopes by differences, from
the run as it was and from places drawn evenly, until {LEAST:,} solves are spent; the best that
holds all bounds within about 0.1 K."""


def main() -> None:
    """Make what is missing of the results."""
    options = argparse.ArgumentParser()
    options.add_argument("model", type=Path)
    options.add_argument("data", type=Path)
    options.add_argument("--work", type=Path, default=Path("build/optimise"))
    options.add_argument("--draws", type=int, default=100, help="runs that are set")
    options.add_argument("--alone", type=int, default=3, help="of them by the solver alone too")
    given = options.parse_args()
    use_threads(THREADS)
    surrogate, fresh = Surrogate.load(given.model), fresh_runs(given.data, given.work, given.draws)
    found: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"runs": {}}
    found["machine"] = f"{processor()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    training = read_split(given.data, "train")
    for run in range(given.draws):
        row = found["runs"].setdefault(str(run), {})
        wanted = wanted_of(surrogate, fresh, run)
        if "model" not in row:
            start = time.process_time()
            best = optimise(wanted, training, SOLVES, run, lambda *told: None)
            row["model"] = {
                "energy": float(best.worth.objective), "violation": best.worth.violation,
                "promised": float(best.promised.objective), "solves": best.solves,
                "seconds": time.process_time() - start,
            }  # fmt: skip
            drawn = zarr.open_group(fresh, mode="r")["zone_energy"]
            row["drawn"] = float(np.asarray(drawn[run])[-1].sum())  # type: ignore[index]
            write_json(RESULTS, found)
        if run < given.alone and "alone" not in row:
            start = time.process_time()
            energy, solves = alone(wanted, run)
            row["alone"] = {
                "energy": energy,
                "solves": solves,
                "seconds": time.process_time() - start,
            }
            write_json(RESULTS, found)


def wanted_of(surrogate: Surrogate, fresh: Path, run: int) -> Wanted:
    """Return the goal of a run: the same result as it had, for less."""
    given = from_store(surrogate, fresh, run)
    data: Any = zarr.open_group(fresh, mode="r")
    frame = int(np.argmin(abs(data["time"][:] - READY)))
    coldest = float(np.nanmin(data["core_temperature"][run, frame]))
    spread = float(np.nanmax(data["temperature_spread"][run, frame]))
    times = [7200.0 * number for number in range(7)]
    goal = {
        "vary": {"setpoint": {"within": [500.0, 1550.0], "times": times, "alike": True}},
        "minimize": {"of": "zone_energy", "at": 43200.0, "take": "sum"},
        "subject_to": [
            {"of": "core_temperature", "at": READY, "at_least": coldest},
            {"of": "temperature_spread", "at": READY, "at_most": spread},
        ],
    }
    return Wanted(validate(Goal, goal), Run(surrogate, given), 0)


def alone(wanted: Wanted, seed: int) -> tuple[float, int]:
    """Return the least energy that the solver finds by itself, and by how many solves."""
    known: dict[bytes, Any] = {}

    def look(x: np.ndarray) -> Any:
        key = np.clip(x, 0.0, 1.0).round(9).tobytes()
        if key not in known:
            own = wanted.inputs(torch.from_numpy(np.clip(x, 0.0, 1.0)))
            (solved,) = wanted.run.solved([{n: values[0].numpy() for n, values in own.items()}])
            assert solved
            known[key] = wanted.worth(solved)
        return known[key]

    def slopes(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        here, costs, slack = look(x), [], []
        for number in range(len(x)):
            there, step = x.copy(), STEP if x[number] < 0.5 else -STEP
            there[number] += step
            worth = look(there)
            costs.append(float(worth.objective - here.objective) / step / wanted.size)
            slack.append((worth.slack - here.slack).numpy() / step)
        return np.array(costs), np.array(slack).T

    rng, start = np.random.default_rng(seed), wanted.nearest().numpy()
    while len(known) < LEAST:
        minimize(
            lambda x: float(look(x).objective) / wanted.size, start,
            jac=lambda x: slopes(x)[0], bounds=[(0.0, 1.0)] * wanted.count, method="SLSQP",
            constraints={
                "type": "ineq", "fun": lambda x: look(x).slack.numpy(),
                "jac": lambda x: slopes(x)[1],
            },
            options={"maxiter": 40, "ftol": 1e-5},
        )  # fmt: skip
        start = rng.uniform(0.1, 0.9, wanted.count)
    held = [float(worth.objective) for worth in known.values() if worth.violation <= WITHIN]
    return min(held), len(known)


def run() -> Section:
    """Return what the kept results say."""
    found = json.loads(RESULTS.read_text())
    rows = [row for row in found["runs"].values() if "model" in row]
    missed = sum(row["model"]["violation"] > 0 for row in rows)
    low, high = binomial(missed, len(rows))
    saved = [1.0 - row["model"]["energy"] / row["drawn"] for row in rows]
    counted = Table(
        ("runs", "none that holds, said so (95 % interval)", "energy saved, median", "solves, mean",
         "processor's seconds, median"),
        [(
            str(len(rows)), f"{missed} ({low:.1%} to {high:.1%})", f"{np.median(saved):.1%}",
            f"{np.mean([row['model']['solves'] for row in rows]):.1f}",
            figure(float(np.median([row["model"]["seconds"] for row in rows]))),
        )],
    )  # fmt: skip
    compared = [
        (
            number, f"{row['drawn'] / 1e9:.2f}", f"{row['model']['energy'] / 1e9:.2f}",
            f"{row['alone']['energy'] / 1e9:.2f}",
            f"{row['model']['energy'] / row['alone']['energy'] - 1:+.2%}",
            str(row["model"]["solves"]), str(row["alone"]["solves"]),
            figure(row["model"]["seconds"]), figure(row["alone"]["seconds"]),
        )
        for number, row in found["runs"].items()
        if "alone" in row
    ]  # fmt: skip
    columns = (
        "run", "as drawn, GJ", "by the model", "by the solver alone", "more than that", "solves",
        "solves alone", "processor's seconds", "seconds alone",
    )  # fmt: skip
    asked = ()
    if len(rows) < 100:
        asked = (f"**Asked were 100 runs: so far there are {len(rows)}.**",)
    blocks = (ABOUT, *asked, counted, ALONE, Table(columns, compared))
    return Section("A schedule for least energy", (*blocks, f"Made on {found['machine']}."))


if __name__ == "__main__":
    main()
