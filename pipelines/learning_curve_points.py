"""The points of a learning curve: a training on each share, measured on validation and test."""

from __future__ import annotations

from itertools import product
from typing import Any

from mno.data.reading import open_splits
from mno.evaluation.evaluator import mean_error, sample_errors
from mno.lineage.dvcfiles import stage_inputs
from mno.surrogate.surrogate import Surrogate
from mno.training.checkpoint import checkpoints
from mno.training.config import LearningCurveConfig, nested_samples, with_as_many_steps
from mno.training.fit import train
from pipelines.stage import Stage
from pipelines.training import training_arguments


def measured_points(stage: Stage, config: LearningCurveConfig) -> list[dict[str, Any]]:
    """Train on each share, with each seed, and measure; the last point is the candidate's.

    A training that an earlier attempt has finished, or begun, is taken up, also where the shares
    have changed since: the work folder belongs to what the candidate's training depends on.

    Returns:
        For each training `samples`, `share`, `seed`, `epochs`, and `validation` and `test`, each
        with `relative_l2` (None where it is not finite), `standard_error` and `measured` samples.
    """
    given, _ = training_arguments(stage.params, stage.environment.workspace)
    options = given["config"]
    training, validation, test = open_splits(stage.data, "train", "validation", "test")
    inputs = stage_inputs(stage.root, "train", stage.params).digest
    work = stage.work_folder("learning_curve", stage.data_digest, inputs)

    def point(surrogate: Surrogate, share: float, number: int, seed: int) -> dict[str, Any]:
        errors = {
            split.name: mean_error(sample_errors(surrogate, split, options.batch_size))
            for split in (validation, test)
        }
        return {"samples": number, "share": share, "seed": seed, **errors}

    points = []
    seeds = range(given["seed"], given["seed"] + config.seeds)
    chosen = list(product(sorted(set(config.shares)), seeds))
    for number, (share, seed) in enumerate(chosen, start=1):
        rows = nested_samples(len(training), share, seed)
        scaled = with_as_many_steps(options, len(training), len(rows))
        stage.say(
            f"learning_curve  training {number} of {len(chosen)}: {len(rows)} of "
            f"{len(training)} samples, {scaled.epochs} epochs, seed {seed}"
        )
        folder = work / f"{len(rows)}-{seed}"
        surrogate, history = train(
            training.take(rows),
            validation,
            **(given | {"config": scaled, "seed": seed}),
            work=folder,
            console=stage.console,
            quiet=stage.environment.quiet,
        )
        for checkpoint in checkpoints(folder):  # its weights are kept, in less room
            checkpoint.unlink()
        points.append({**point(surrogate, share, len(rows), seed), "epochs": len(history)})
    candidate = Surrogate.load(stage.candidate)
    points.append(point(candidate, 1.0, len(training), given["seed"]))
    return points
