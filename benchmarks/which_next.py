"""Chosen solves against random ones: the same number of each, an operator trained on either.

    python -m benchmarks.which_next --seeds 5

Every seed makes one dataset with `generate.strategy: active` and one with `random`. Both have the
same validation samples and the same first training samples; the others are chosen, or drawn. The
same operator is trained on both with the same seed, and both are tested on the same samples, which
are in neither. Finished seeds are kept in `results/which_next.json`, so that it may be interrupted.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mno.core.config import validate
from mno.data.config import ExecutionConfig, GenerateConfig
from mno.data.generate import generate
from mno.data.imported import source_class, source_parameters
from mno.data.plan import make_plan
from mno.data.reading import Split, read_split
from mno.evaluation.sample_errors import sample_errors
from mno.nn.config import ModelConfig
from mno.study.statistics import compare
from mno.training.config import TrainConfig
from mno.training.fit import train

PAGE = Path(__file__).parents[1] / "docs/how-to/choose-the-next-solve.md"
BEGIN, END = "<!-- which-next -->", "<!-- /which-next -->"
RESULTS = Path(__file__).parent / "results/which_next.json"
SCENARIO = "darcy"
GENERATE: dict[str, Any] = {
    "samples": 250,
    "resolution": 16,
    "shard_size": 25,
    "split": {"train": 0.8, "validation": 0.1, "test": 0.1},
    "active": {"initial": 75, "rounds": 3, "pool": 1000},
}
MODEL = {"width": 24, "layers": 2, "d_state": 2, "expand": 1}
TRAIN = {"epochs": 15, "batch_size": 8, "learning_rate": 5e-3, "threads": 1, "warmup_fraction": 0.1}
TEST = {"samples": 500, "seed": 1_000_000}
STRATEGIES = ("active", "random")


def settings() -> dict[str, Any]:
    """Return what the figures depend on."""
    return {
        "scenario": SCENARIO, "generate": GENERATE, "model": MODEL, "train": TRAIN, "test": TEST,
    }  # fmt: skip


def dataset(folder: Path, seed: int, **changes: Any) -> Path:
    """Make a dataset and return where it is."""
    config = validate(GenerateConfig, {**GENERATE, "seed": seed, **changes}, "generate")
    plan = make_plan(source_class(SCENARIO), source_parameters(SCENARIO, {}), config, code="")
    generate(plan, folder / "work", folder / "data", ExecutionConfig(workers=1))
    return folder / "data"


def measured(folder: Path, seed: int, strategy: str, test: Split) -> dict[str, Any]:
    """Train on a dataset made by a strategy; return errors on the common test samples."""
    data = dataset(folder, seed, strategy=strategy)
    training, validation = read_split(data, "train"), read_split(data, "validation")
    surrogate, history = train(
        training, validation, seed=seed, work=folder / "training", quiet=True,
        model=validate(ModelConfig, MODEL, "model"), config=validate(TrainConfig, TRAIN, "train"),
    )  # fmt: skip
    errors = sample_errors(surrogate, test, 50)
    return {
        "training_samples": len(training),
        "mean": float(np.mean(errors)),
        "p95": float(np.quantile(errors, 0.95)),
        "max": float(np.max(errors)),
        "epochs": len(history),
    }


def summary(seeds: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return the paired comparison of each figure: active over random, geometric mean of seeds."""
    found = {}
    for figure in ("mean", "p95", "max"):
        errors = {s: {int(k): v[s][figure] for k, v in seeds.items()} for s in STRATEGIES}
        (c,) = compare(errors, [STRATEGIES])
        found[figure] = {
            "ratio": c.ratio, "low": c.low, "high": c.high, "p": c.p, "seeds": c.seeds,
            **{s: float(np.mean(list(errors[s].values()))) for s in STRATEGIES},
        }  # fmt: skip
    return found


def section(kept: Mapping[str, Any]) -> str:
    """Return what the figures show, as Markdown."""
    summary, seeds = kept["summary"], kept["seeds"]
    generate, training = kept["settings"]["generate"], kept["settings"]["train"]
    counts = {s: next(iter(seeds.values()))[s]["training_samples"] for s in STRATEGIES}
    names = {"mean": "mean", "p95": "95 % of samples below", "max": "worst sample"}
    rows = [
        f"| {names[figure]} | {c['active']:.2%} | {c['random']:.2%} | {c['ratio']:.3f} | "
        f"{c['low']:.3f} to {c['high']:.3f} |"
        for figure, c in summary.items()
    ]
    mean = summary["mean"]
    if mean["high"] < 1:
        verdict = "Choosing won: the mean error is surely lower"
    elif mean["low"] > 1:
        verdict = "Random won: with chosen samples the mean error is surely higher"
    else:
        verdict = "No difference in the mean error is shown"
    head = (
        f"{verdict}. Darcy flow, {generate['resolution']}² points, {counts['active']} training "
        f"samples either way, {generate['active']['initial']} or more of them random, the others "
        f"from {generate['active']['rounds']} rounds of {generate['active']['pool']} candidates; "
        f"{training['epochs']} epochs; relative L2 on the same random test samples; "
        f"{mean['seeds']} seeds, each a dataset and a training of its own."
    )
    table = [
        "| error | active | random | ratio | 95 % interval of the ratio |",
        "| --- | ---: | ---: | ---: | ---: |",
        *rows,
    ]
    return "\n".join([*textwrap.wrap(head, 110, break_on_hyphens=False), "", *table])


def write_page(kept: Mapping[str, Any]) -> None:
    """Put what the figures show into the page, between its marks."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(f"{BEGIN}\n")
    after = rest.partition(f"{END}\n")[2]
    text = f"{before}{BEGIN}\n{section(kept)}\n{END}\n{after}"
    beside = PAGE.with_suffix(".partial")
    beside.write_text(text, encoding="utf-8")
    os.replace(beside, PAGE)


def main() -> None:
    """Measure the seeds that are missing, and say what all of them show."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.which_next",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seeds", type=int, default=5)
    wanted = parser.parse_args().seeds
    kept = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    seeds = kept.get("seeds", {}) if kept.get("settings") == settings() else {}
    with tempfile.TemporaryDirectory() as scratch:
        test = None
        for seed in range(wanted):
            if str(seed) in seeds:
                continue
            if test is None:
                made = dataset(Path(scratch) / "test", **TEST)
                test = read_split(made, "train")  # of a dataset that nothing else is taken from
            folder = Path(scratch) / str(seed)
            seeds[str(seed)] = {s: measured(folder / s, seed, s, test) for s in STRATEGIES}
            content = {"settings": settings(), "seeds": seeds}
            if len(seeds) > 1:
                content["summary"] = summary(seeds)
            beside = RESULTS.with_suffix(".partial")
            beside.write_text(json.dumps(content, indent=1) + "\n")
            os.replace(beside, RESULTS)
            shown = ", ".join(f"{s} {seeds[str(seed)][s]['mean']:.2%}" for s in STRATEGIES)
            print(f"seed {seed}: {shown}", flush=True)
    kept = json.loads(RESULTS.read_text())
    write_page(kept)
    print(section(kept))


if __name__ == "__main__":
    main()
