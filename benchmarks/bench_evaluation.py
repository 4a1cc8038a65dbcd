"""Evaluating a test split: what it costs beyond the forward passes, and its peak of memory."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import torch

from benchmarks.bench_reading import RESOLUTION, ROOT
from benchmarks.memory import extra_peak, is_told
from benchmarks.page import Section, Table, figure
from benchmarks.timing import in_turn, median_ratio
from mno.core.absent import as_json
from mno.core.config import read_params, section
from mno.core.memory import keep_freed_memory
from mno.data.config import ExecutionConfig, GenerateConfig
from mno.data.generate.plan import DatasetPlan
from mno.data.generate.run import generate
from mno.data.normalise import Normaliser
from mno.data.reading import StoredSplit, open_split
from mno.evaluation.config import EvaluateConfig
from mno.evaluation.evaluator import evaluate, mean_fields
from mno.nn.config import ModelConfig
from mno.scenarios.base import scenario_class
from mno.surrogate.description import Description
from mno.surrogate.surrogate import Surrogate

THREADS = 2
ROUNDS = 3
SAMPLES = (250, 1000)
ABOUT = f"""**Time.** `evaluate` on test samples of `darcy` at {RESOLUTION} x {RESOLUTION}, with the
model and the batch of `params.yaml`: samples are read from their files, predicted, and measured by
all metrics of the model and of the mean field, with intervals and spectra, up to what
`reports/metrics.json` and `reports/per_sample.json` hold. Beside it, the bare forward passes: the
same samples, in memory, through `Surrogate.predict`. At most 1.3 times as long is asked for."""
MEMORY = """**Memory.** The resident memory at its peak beyond that before `evaluate` was called,
each in a process of its own. To stay flat with the number of samples is asked for."""


def run() -> Section:
    keep_freed_memory()  # as every command does
    with tempfile.TemporaryDirectory() as folder:
        store = make(Path(folder))
        times = [against_the_forward_pass(store)]
        peaks = [peak(store, samples) for samples in SAMPLES] if is_told() else []
    columns = ("samples", "evaluate, s", "forward passes, s", "ratio")
    blocks = [ABOUT, Table(columns, times)]
    if peaks:
        blocks += [MEMORY, Table(("samples", "fields on disk, MiB", "extra peak, MiB"), peaks)]
    return Section("Evaluation", tuple(blocks))


def make(folder: Path) -> Path:
    """Make a dataset whose test split is as large as the largest that is evaluated."""
    scenario = scenario_class("darcy")
    config = GenerateConfig.model_validate(
        {
            "samples": 2 * SAMPLES[-1], "resolution": RESOLUTION, "shard_size": 50, "seed": 0,
            "split": {"train": 0.45, "validation": 0.05, "test": 0.5},
        }
    )  # fmt: skip
    plan = DatasetPlan(scenario, scenario.Parameters(), config, code="benchmark")
    generate(plan, folder / "work", folder / "data", ExecutionConfig(workers=1))
    return folder / "data"


def against_the_forward_pass(store: Path) -> tuple[str, ...]:
    """Return what an evaluation takes, what its forward passes take, and the ratio."""
    test, config = first(store, SAMPLES[-1]), EvaluateConfig.model_validate({})
    surrogate = untrained(test)
    means = mean_fields(open_split(store, "train", checked=False))
    given = surrogate.description.given({n: array[:] for n, array in test.fields.items()})
    times = in_turn(
        {
            "evaluate": lambda: found_by(surrogate, test, means, config),
            "forward": lambda: surrogate.predict(given, config.batch_size),
        },
        ROUNDS,
    )
    seconds = (figure(float(np.median(times[side]))) for side in ("evaluate", "forward"))
    return (str(len(test)), *seconds, figure(median_ratio(times, "evaluate", "forward")))


def found_by(
    surrogate: Surrogate, test: StoredSplit, means: dict[str, np.ndarray], config: EvaluateConfig
) -> str:
    """Evaluate, and return all that is written of it."""
    evaluation = evaluate(surrogate, test, means, config)
    return json.dumps([evaluation.metrics(), evaluation.per_sample()], default=as_json)


def peak(store: Path, samples: int) -> tuple[str, ...]:
    """Return the extra memory of an evaluation in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.bench_evaluation", str(store), str(samples)]
    answer = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    on_disk, extra = (int(number) / 2**20 for number in answer.stdout.split())
    return (str(samples), figure(on_disk), figure(extra))


def first(store: Path, samples: int) -> StoredSplit:
    """Return the first samples of the test split."""
    whole = open_split(store, "test", checked=False)
    numbers = whole.indices[:samples]
    fields = {n: type(array)(store, n, numbers) for n, array in whole.fields.items()}
    return StoredSplit("test", whole.schema, fields, numbers)


def untrained(test: StoredSplit) -> Surrogate:
    """Return a surrogate of the default model with fresh weights, which cost as much as others."""
    schema = test.schema
    torch.manual_seed(0)
    description = Description(
        scenario=schema.scenario,
        inputs={field.name: field.units for field in schema.inputs},
        outputs={field.name: field.units for field in schema.outputs},
        extent=schema.extent,
        reference_spacing=schema.spacing,
        normaliser=Normaliser.fit({n: array[:32] for n, array in test.fields.items()}),
        model=section(read_params(ROOT), "model", ModelConfig),
        offset=schema.offset,
    )
    return Surrogate(description, description.build())


def tell_peak(store: Path, samples: int) -> None:
    """Print the size of the fields and the extra peak of an evaluation, in bytes."""
    torch.set_num_threads(THREADS)
    test, means = first(store, samples), mean_fields(open_split(store, "train", checked=False))
    surrogate, config = untrained(test), EvaluateConfig.model_validate({})
    print(test.nbytes, extra_peak(partial(found_by, surrogate, test, means, config)))


if __name__ == "__main__":
    tell_peak(Path(sys.argv[1]), int(sys.argv[2]))
