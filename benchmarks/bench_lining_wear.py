"""Wear of a lining, inferred from readings: how often intervals hold the truth, and at what cost.

In a workspace, `python -m benchmarks.bench_lining_wear --plant plants/twelve.yaml` writes the
plant, `mno run --set scenarios.batch_furnace.plant=twelve` makes data and model of it, and
`python -m benchmarks.bench_lining_wear models/candidate data --draws 400 --exact 5` what is missing
of the results in `results/lining_wear.json`.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import time
from pathlib import Path
from typing import Any

import numpy as np
import yaml
import zarr
from scipy.special import ndtri

from benchmarks.page import Section, Table, figure, processor
from benchmarks.timing import use_threads
from mno.core.config import validate
from mno.core.files import write_json
from mno.data.config import ExecutionConfig, GenerateConfig
from mno.data.generate.plan import make_plan
from mno.data.generate.run import generate
from mno.data.reading import read_schema, read_split
from mno.imports.mapping import Mapping
from mno.inverse.infer import Answer, Posterior, infer
from mno.inverse.question import Question, Unknowns, read_observations
from mno.inverse.run import Run
from mno.scenarios.base import scenario_class
from mno.sensors.inputs import from_store
from mno.surrogate.surrogate import Surrogate

THREADS = 1
ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "lining_wear.json"
SENSOR = "thermocouple_temperature"
MORE = {
    "wall_low": [-0.06, 0.4, 0.7], "wall_front": [-0.06, 1.4, 0.7], "wall_rear": [-0.06, 1.4, 2.1],
    "right_front": [2.06, 1.0, 0.7], "right_rear": [2.06, 1.0, 2.1], "right_low": [2.06, 0.4, 1.4],
    "roof_middle": [1.0, 2.06, 1.4], "hearth_front": [1.0, -0.08, 0.15],
}  # fmt: skip
HOURS, NOISE, MISSING, SEED = 12, 2.0, 0.05, 1001
CHAIN_DRAWS, SOLVES = 600, 4000
STEP = 1e-4  # m, of the wear that the solver takes
PRIOR: dict[str, Any] = {"unknown": {"wear": {"uniform": [0.0, 0.04]}}}  # as it is drawn
ABOUT = f"""`batch_furnace` with the plant `car_bottom`, of {4 + len(MORE)} thermocouples for four,
6 or 8 cm deep in walls, roof and hearth; the model of readings as `params.yaml` has it. Runs
that are none of the dataset's are drawn and solved; each thermocouple, and nothing else, is read
every hour for {HOURS} hours, with noise of {NOISE:g} K, and {MISSING:.0%} of the readings are
missing. The wear of the lining, uniform up to 40 mm a priori, is inferred by the model's chains,
with its error on the validation split as one more noise, as `mno infer` does by itself. Asked are
85 to 95 % of intervals of 90 % that hold the truth, and at most 60 seconds a run. The wear of a run
is a whole number of mm: one run in forty has 0 or 40, an end of the prior, which an interval
between quantiles cannot hold."""
EXACT = f"""**By the solver**: the same by delayed acceptance, {SOLVES} solves a run, beside a
quadrature of the solver's likelihood: it takes wear in steps of 0.1 mm, so that the sum over these
is exact. In brackets behind a difference of the two means are two standard errors of it, by the
effective draws."""


def main() -> None:
    """Make what is missing of the results."""
    options = argparse.ArgumentParser()
    options.add_argument("model", type=Path, nargs="?", default=Path("models/candidate"))
    options.add_argument("data", type=Path, nargs="?", default=Path("data"))
    options.add_argument("--plant", type=Path, help="write the plant here, and no more")
    options.add_argument("--work", type=Path, default=Path("build/lining_wear"))
    options.add_argument("--draws", type=int, default=400, help="runs that are inferred")
    options.add_argument("--exact", type=int, default=5, help="of them by the solver too")
    options.add_argument("--results", type=Path, default=RESULTS)
    given = options.parse_args()
    if given.plant:
        plant = yaml.safe_load((ROOT / "plants/car_bottom.yaml").read_text())
        plant["thermocouples"] |= MORE
        given.plant.write_text(yaml.safe_dump(plant))
        return
    use_threads(THREADS)
    make(given.model, given.data, given.work, given.draws, given.exact, given.results)


def make(model: Path, data: Path, work: Path, draws: int, exact: int, results: Path) -> None:
    """Infer runs that are not among the results yet, and add them."""
    surrogate = Surrogate.load(model)
    fresh = fresh_runs(data, work, draws)
    found: dict[str, Any] = json.loads(results.read_text()) if results.exists() else {"runs": {}}
    found["machine"] = f"{processor()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    rows = found["runs"]
    validation = read_split(data, "validation")
    for solves, count in ((0, draws), (SOLVES, exact)):
        name = "exact" if solves else "model"
        for run in range(count):
            row = rows.setdefault(str(run), {})
            if name in row:
                continue
            start = time.process_time()
            posterior, row["wear"] = asked(surrogate, fresh, run, work)
            answer = infer(posterior, validation, CHAIN_DRAWS, solves, run, lambda *told: None)
            row[name] = {**told(answer), "seconds": time.process_time() - start}
            if solves:
                row["quadrature"] = quadrature(posterior)
            write_json(results, found)


def fresh_runs(data: Path, work: Path, runs: int) -> Path:
    """Return a dataset of the same scenario with so many other runs."""
    store, schema = work / f"data-{runs}", read_schema(data)
    if not store.exists():
        kind = scenario_class(schema.scenario)
        split = {"train": 0.5, "validation": 0.25, "test": 0.25}  # of no use here
        sizes = {"samples": max(runs, 8), "resolution": schema.resolution, "shard_size": 8}
        config = validate(GenerateConfig, {**sizes, "seed": SEED, "split": split})
        parameters = validate(kind.Parameters, dict(schema.parameters))
        plan = make_plan(kind, parameters, config, "benchmark", Path.cwd())
        generate(plan, work / f"shards-{runs}", store, ExecutionConfig(workers=1))
    return store


def asked(surrogate: Surrogate, fresh: Path, run: int, work: Path) -> tuple[Posterior, float]:
    """Return the posterior of a run that is read with noise, and its true wear."""
    given, rng = from_store(surrogate, fresh, run), np.random.default_rng((SEED, run))
    truth: Any = zarr.open_group(fresh, mode="r")
    times = truth["time"][:]
    lines = ["time,quantity,value,unit,uncertainty"]
    for hour in range(1, HOURS + 1):
        frame = int(np.argmin(abs(times - 3600.0 * hour)))
        for place, label in enumerate(surrogate.description.places(SENSOR)):
            value = truth[SENSOR][run, frame, place] + NOISE * rng.standard_normal()
            if rng.random() >= MISSING:
                lines.append(f"{times[frame]},{SENSOR}.{label},{value},K,{NOISE}")
    table = work / "readings.csv"
    table.write_text("\n".join(lines) + "\n")
    question = validate(Question, PRIOR)
    of = Run(surrogate, given)
    observed = read_observations(table, Mapping(), of, question.noise)
    return Posterior(of, Unknowns(question, of), observed), float(truth["wear"][run])


def quadrature(posterior: Posterior) -> dict[str, float]:
    """Return mean and deviation of the solver's posterior of a run's wear."""
    low, high = PRIOR["unknown"]["wear"]["uniform"]
    wear = np.linspace(low, high, round((high - low) / STEP) + 1)
    z = ndtri(np.clip((wear - low) / (high - low), 1e-9, 1.0 - 1e-9))
    found = posterior.exact(z[:, None])
    weights = np.exp(found - found.max())
    weights[[0, -1]] *= 0.5  # of these, half is beyond the prior's ends
    mean = np.average(wear, weights=weights)
    variance = np.average((wear - mean) ** 2, weights=weights) + STEP**2 / 12.0
    return {"mean": float(mean), "deviation": float(np.sqrt(variance))}


def told(answer: Answer) -> dict[str, Any]:
    """Return what is kept of an answer."""
    groups: Any = answer.draws
    wear = groups.posterior["wear"].to_numpy()
    low, high = np.quantile(wear, [0.05, 0.95])
    return {
        "mean": float(wear.mean()), "deviation": float(wear.std()), "low": float(low),
        "high": float(high), "effective": answer.effective, "rhat": answer.rhat,
        "accepted": answer.accepted, "solves": answer.solves,
    }  # fmt: skip


def run() -> Section:
    """Return what the kept results say."""
    found = json.loads(RESULTS.read_text())
    return Section("Wear of a lining, asked backwards", (ABOUT, *parts(found)))


def parts(found: dict[str, Any]) -> list[str | Table]:
    """Return the tables of results, and the machine that made them."""
    rows = [row for row in found["runs"].values() if "model" in row]
    exact = sum("exact" in row for row in rows)
    blocks: list[str | Table] = []
    if len(rows) < 400 or exact < 5:
        blocks.append(
            f"**Asked were 400 runs, and five by the solver: so far there are {len(rows)}, and "
            f"{exact or 'none'} by the solver.**"
        )
    counted = []
    inner = [row for row in rows if 0.0005 < row["wear"] < 0.0395]
    for title, some in (("all runs", rows), ("wear of 1 to 39 mm", inner)):
        held = sum(row["model"]["low"] <= row["wear"] <= row["model"]["high"] for row in some)
        low, high = binomial(held, len(some))
        errors = [row["model"]["mean"] - row["wear"] for row in some]
        counted.append((
            title, str(len(some)), f"{held / len(some):.1%} ({low:.1%} to {high:.1%})",
            f"{1e3 * float(np.sqrt(np.mean(np.square(errors)))):.2g}",
            f"{1e3 * float(np.mean([row['model']['deviation'] for row in some])):.2g}",
            str(sum(row["model"]["rhat"] > 1.01 for row in some)),
            figure(float(np.median([row["model"]["seconds"] for row in some]))),
        ))  # fmt: skip
    columns = (
        "runs", "number", "coverage (95 % interval)", "error of the mean, mm",
        "posterior deviation, mm", "not converged", "processor's seconds a run",
    )  # fmt: skip
    blocks.append(Table(columns, counted))
    both = [(number, row) for number, row in found["runs"].items() if "exact" in row]
    compared = []
    for number, row in both:
        exact, summed = row["exact"], row["quadrature"]
        error = exact["deviation"] / math.sqrt(exact["effective"])
        compared.append((
            number, f"{1e3 * row['wear']:.3g}",
            *(
                f"{1e3 * s['mean']:.4g} ± {1e3 * s['deviation']:.2g}"
                for s in (row["model"], exact, summed)
            ),
            f"{1e3 * (exact['mean'] - summed['mean']):+.2g} ({2e3 * error:.1g})",
            f"{exact['accepted']:.0%}", figure(exact["effective"]), f"{exact['rhat']:.3f}",
            figure(exact["seconds"]),
        ))  # fmt: skip
    if compared:
        columns = (
            "run", "wear, mm", "by the model", "by the solver", "by quadrature", "difference",
            "accepted", "effective draws", "R-hat", "processor's seconds",
        )  # fmt: skip
        blocks += [EXACT, Table(columns, compared)]
    return [*blocks, f"Made on {found['machine']}."]


def binomial(held: int, of: int) -> tuple[float, float]:
    """Return Clopper and Pearson's interval of a share, at 95 %."""
    from scipy.stats import binomtest

    found = binomtest(held, of).proportion_ci(0.95, method="exact")
    return float(found.low), float(found.high)


if __name__ == "__main__":
    main()
