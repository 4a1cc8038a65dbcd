"""The points of a learning curve: a training on each share, measured on validation and test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mno.core.config import section
from mno.core.forecast import TaskConfig
from mno.core.memory import fits_in_memory
from mno.data.reading import Split, StoredSplit, open_split
from mno.evaluation.scoring import mean_error, sample_errors
from mno.lineage.dvcfiles import stage_inputs
from mno.nn.config import ModelConfig
from mno.surrogate.surrogate import Surrogate
from mno.training.checkpoint import checkpoints
from mno.training.config import LearningCurveConfig, TrainConfig, nested_samples, with_as_many_steps
from mno.training.fit import train
from pipelines.stage import Stage
from pipelines.warm_start import find_warm_start

DATA = Path("data")
CANDIDATE = Path("models/candidate")


def measured_points(stage: Stage, config: LearningCurveConfig) -> list[dict[str, Any]]:
    """Train on each share, with each seed, and measure; the last point is the candidate's.

    A training that an earlier attempt has finished, or begun, is taken up, also where the shares
    have changed since: the work folder belongs to what the candidate's training depends on.

    Returns:
        For each training `samples`, `share`, `seed`, `epochs`, and `validation` and `test`, each
        with `relative_l2` (None where it is not finite), `standard_error` and `measured` samples.
    """
    model = section(stage.params, "model", ModelConfig)
    options = section(stage.params, "train", TrainConfig)
    task = section(stage.params, "task", TaskConfig)
    training, validation, test = _splits(stage.root / DATA)
    start = find_warm_start(stage.environment.workspace, options.warm_start)
    inputs = stage_inputs(stage.root, "train", stage.params).digest
    work = stage.work_folder("learning_curve", stage.data_digest, inputs)

    def point(surrogate: Surrogate, share: float, number: int, seed: int) -> dict[str, Any]:
        return {
            "samples": number,
            "share": share,
            "seed": seed,
            **{
                split.name: mean_error(sample_errors(surrogate, split, options.batch_size))
                for split in (validation, test)
            },
        }

    points = []
    seeds = range(stage.params["seed"], stage.params["seed"] + config.seeds)
    chosen = [(share, seed) for share in sorted(set(config.shares)) for seed in seeds]
    for done, (share, seed) in enumerate(chosen):
        rows = nested_samples(len(training), share, seed)
        scaled = with_as_many_steps(options, len(training), len(rows))
        stage.say(
            f"learning_curve  training {done + 1} of {len(chosen)}: {len(rows)} of "
            f"{len(training)} samples, {scaled.epochs} epochs, seed {seed}"
        )
        folder = work / f"{len(rows)}-{seed}"
        surrogate, history = train(
            training.take(rows),
            validation,
            model=model,
            config=scaled,
            seed=seed,
            work=folder,
            task=task,
            initial=start.surrogate if start else None,
            console=stage.console,
            quiet=stage.environment.quiet,
        )
        for checkpoint in checkpoints(folder):  # its weights are kept, in less room
            checkpoint.unlink()
        points.append({**point(surrogate, share, len(rows), seed), "epochs": len(history)})
    candidate = Surrogate.load(stage.root / CANDIDATE)
    points.append(point(candidate, 1.0, len(training), stage.params["seed"]))
    return points


def _splits(
    data: Path,
) -> tuple[Split, Split, Split] | tuple[StoredSplit, StoredSplit, StoredSplit]:
    """Return the splits for training, validation and test, in memory if they fit well."""
    training = open_split(data, "train")
    # Files are verified once.
    validation, test = (
        open_split(data, name, training.schema, checked=False) for name in ("validation", "test")
    )
    if fits_in_memory(training.nbytes + validation.nbytes + test.nbytes):
        return training.load(), validation.load(), test.load()
    return training, validation, test
