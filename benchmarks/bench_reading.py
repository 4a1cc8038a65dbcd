"""Reading for training: random samples against zarr-python, and a training step's time waiting."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
import zarr
from torch import Tensor

from benchmarks.page import Section, Table, figure
from benchmarks.timing import Times, in_turn, median_ratio
from mno.core.config import read_params, section
from mno.core.forecast import TaskConfig, forecast_of
from mno.core.memory import keep_freed_memory
from mno.data.config import ExecutionConfig, GenerateConfig
from mno.data.generate.plan import DatasetPlan
from mno.data.generate.run import generate
from mno.data.loading import Loader
from mno.data.normalise import Normaliser
from mno.data.samples import Samples
from mno.nn.config import ModelConfig
from mno.scenarios.base import scenario_class
from mno.surrogate.description import Description
from mno.training.config import TrainConfig
from mno.training.objective import relative_error

THREADS = 2
ROUNDS = 5
RESOLUTION = 64
DATASETS = {"darcy": (1600, {}), "diffusion_reaction": (160, {"frames": 21})}
BATCHES = (16, 32)
READ = 320
STEPS = 20
ROOT = Path(__file__).parent.parent
ABOUT = f"""**Random samples** on {RESOLUTION} x {RESOLUTION} points, {READ} of a training split in
random order, all fields, from files in the system's cache to batches of torch. Ours is
`mno.data.Samples` with nothing in memory and no worker process. The peers are zarr-python's basic
indexing, one sample at a time, and its `get_orthogonal_selection`, one batch at a time. All give
the same values, bit for bit. To be twice as fast as basic indexing is asked for."""
WAITING = f"""**Waiting for data.** Of {STEPS} training steps on `darcy` at {RESOLUTION} x
{RESOLUTION} with the model and the batch of `params.yaml`, forward and backward pass and the
optimiser: the time from asking `mno.data.Loader` for a batch to having it, over the time of the
step. Samples are read from their files as they are asked for, or lie in memory; less than 5 % is
asked for. The last column is the same without a thread that reads ahead."""


def run() -> Section:
    keep_freed_memory()  # as every command does
    rows, stores = [], {}
    with tempfile.TemporaryDirectory() as folder:
        for scenario in DATASETS:
            stores[scenario] = make(scenario, Path(folder) / scenario)
            rows += [against_zarr(scenario, stores[scenario], batch) for batch in BATCHES]
        waiting = [wait(stores["darcy"], in_memory) for in_memory in (False, True)]
    columns = ("data", "batch", "ours, samples/s", "basic", "ratio", "orthogonal", "ratio")
    columns_waiting = ("samples", "step, ms", "waiting", "waiting without a thread")
    return Section(
        "Reading", (ABOUT, Table(columns, rows), WAITING, Table(columns_waiting, waiting))
    )


def make(name: str, folder: Path) -> Path:
    """Make a dataset and return its store."""
    samples, parameters = DATASETS[name]
    scenario = scenario_class(name)
    config = GenerateConfig.model_validate(
        {
            "samples": samples, "resolution": RESOLUTION, "shard_size": 40, "seed": 0,
            "split": {"train": 0.8, "validation": 0.1, "test": 0.1},
        }
    )  # fmt: skip
    parameters = scenario.Parameters.model_validate(parameters)
    plan = DatasetPlan(scenario, parameters, config, code="benchmark")
    generate(plan, folder / "work", folder / "data", ExecutionConfig(workers=1))
    return folder / "data"


def against_zarr(name: str, store: Path, batch_size: int) -> tuple[str, ...]:
    """Return speeds of all sides at one size of batch."""
    samples = Samples(store, in_memory=False)
    arrays = {field.name: zarr.open_array(store / field.name, mode="r") for field in samples.fields}
    rng = np.random.default_rng(0)
    passes = -(-READ // len(samples))
    order = np.concatenate([rng.permutation(len(samples)) for _ in range(passes)])[:READ]
    numbers = [order[start : start + batch_size] for start in range(0, READ, batch_size)]

    def basic(chosen: np.ndarray) -> dict[str, Tensor]:
        return {
            name: torch.from_numpy(np.stack([np.asarray(array[int(n)]) for n in chosen]))
            for name, array in arrays.items()
        }

    def orthogonal(chosen: np.ndarray) -> dict[str, Tensor]:
        return {
            name: torch.from_numpy(np.asarray(array.get_orthogonal_selection((chosen,))))
            for name, array in arrays.items()
        }

    for chosen in numbers[:3]:
        ours = samples.batch(chosen)
        for peer in (basic, orthogonal):
            theirs = peer(samples.indices[chosen])
            if any(not torch.equal(ours[field], theirs[field]) for field in ours):
                raise AssertionError(f"{peer.__name__} gives other values")
    sides: dict[str, Callable[[], object]] = {
        "ours": lambda: [samples.batch(chosen) for chosen in numbers],
        "basic": lambda: [basic(samples.indices[chosen]) for chosen in numbers],
        "orthogonal": lambda: [orthogonal(samples.indices[chosen]) for chosen in numbers],
    }
    times = in_turn(sides, ROUNDS)
    return (
        f"`{name}`", str(batch_size), _speed(times, "ours"), _speed(times, "basic"),
        figure(median_ratio(times, "basic", "ours")), _speed(times, "orthogonal"),
        figure(median_ratio(times, "orthogonal", "ours")),
    )  # fmt: skip


def wait(store: Path, in_memory: bool) -> tuple[str, ...]:
    """Return what a step takes, and the share of it that is waiting."""
    config = section(read_params(ROOT), "train", TrainConfig)
    everything = Samples(store, in_memory=True)
    values = everything.batch(np.arange(len(everything)))
    normaliser = Normaliser.fit({name: field.numpy() for name, field in values.items()})
    samples = Samples(store, in_memory=in_memory, normaliser=normaliser)
    step = training_step(samples, normaliser, config)
    shares, milliseconds = [], []
    batches = Loader(samples, config.batch_size)
    alone = (samples.batch(batch) for batch in _endless(len(samples), config.batch_size))
    for source in (_passes(batches), alone):
        step(next(source))
        seconds, waited = _timed(source, step)
        shares.append(f"{waited / seconds:.2%}")
        milliseconds.append(seconds / STEPS * 1e3)
    return ("in memory" if in_memory else "in files", figure(milliseconds[0]), *shares)


def training_step(
    samples: Samples, normaliser: Normaliser, config: TrainConfig
) -> Callable[[dict[str, Tensor]], None]:
    """Return one step of training with the default model."""
    schema = samples.schema
    description = Description(
        scenario=schema.scenario,
        inputs={field.name: field.units for field in schema.inputs},
        outputs={field.name: field.units for field in schema.outputs},
        extent=schema.extent,
        reference_spacing=schema.spacing,
        normaliser=normaliser,
        model=section(read_params(ROOT), "model", ModelConfig),
        offset=schema.offset,
        forecast=forecast_of(TaskConfig(), schema.fields, schema.axes),
    )
    torch.manual_seed(0)
    operator = description.build()
    optimiser = torch.optim.AdamW(operator.parameters(), lr=config.learning_rate)

    def step(batch: dict[str, Tensor]) -> None:
        optimiser.zero_grad()
        answer = operator(description.batch(description.given(batch)))
        relative_error(answer.fields, description.truth(batch), normaliser).mean().backward()
        optimiser.step()

    return step


def _timed(
    source: Iterator[dict[str, Tensor]], step: Callable[[dict[str, Tensor]], None]
) -> tuple[float, float]:
    """Return the seconds of some steps, and those that were waiting."""
    waited, begun = 0.0, time.perf_counter()
    for _ in range(STEPS):
        asked = time.perf_counter()
        batch = next(source)
        waited += time.perf_counter() - asked
        step(batch)
    return time.perf_counter() - begun, waited


def _passes(batches: Loader) -> Iterator[dict[str, Tensor]]:
    while True:
        yield from batches


def _endless(samples: int, batch_size: int) -> Iterator[np.ndarray]:
    rng = np.random.default_rng(0)
    while True:
        order = rng.permutation(samples)
        yield from (order[start : start + batch_size] for start in range(0, samples, batch_size))


def _speed(times: Times, side: str) -> str:
    return figure(READ / float(np.median(times[side])))
