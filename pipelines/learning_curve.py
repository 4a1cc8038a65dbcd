"""The stage `learning_curve`: train on shares of the training split, if any are asked for."""

from itertools import product
from typing import TYPE_CHECKING, Any

from mno.core.absent import Absent
from mno.core.config import section
from mno.core.files import write_json
from mno.training.config import LearningCurveConfig, nested_samples, with_as_many_steps
from pipelines.stage import Stage, run_stage

if TYPE_CHECKING:
    from mno.surrogate.surrogate import Surrogate


def body(stage: Stage) -> None:
    """Measure the error at every share, or say that none was asked for."""
    config = section(stage.params, "learning_curve", LearningCurveConfig)
    report = stage.reports / "learning_curve.json"
    if not config.shares:
        write_json(report, {"points": [], "why_off": str(Absent("learning.off"))})
        return
    points = _measured_points(stage, config)
    training = "as many steps of the optimiser on every share"
    write_json(report, {"points": points, "why_off": None, "training": training})
    errors = [(p["samples"], p["validation"]["relative_l2"]) for p in points]
    said = ", ".join(f"{n}: {error:.2%}" for n, error in errors if error is not None)
    stage.say(f"learning_curve  validation error by training samples: {said}")


def _measured_points(stage: Stage, config: LearningCurveConfig) -> list[dict[str, Any]]:
    """Train on each share, with each seed, and measure; the last point is the candidate's.

    A training that an earlier attempt began is taken up, also where the shares have changed since:
    the work folder belongs to what the candidate's training depends on.
    """
    from mno.data.parts import open_parts
    from mno.evaluation.evaluator import mean_error, split_error
    from mno.lineage.dvcfiles import stage_inputs
    from mno.surrogate.surrogate import Surrogate
    from mno.training.checkpoint import checkpoints
    from mno.training.fit import train
    from pipelines.training import training_arguments

    given, _ = training_arguments(stage.params, stage.environment.workspace)
    options = given["config"]
    splits = open_parts(stage.data, given["task"], "train", "validation", "test")
    training, validation, test = splits
    inputs = stage_inputs(stage.root, "train", stage.params).digest
    work = stage.work_folder("learning_curve", stage.data_digest, inputs)

    def point(surrogate: "Surrogate", share: float, number: int, seed: int) -> dict[str, Any]:
        forecast, size = surrogate.description.forecast, options.batch_size
        history = forecast.history if forecast else 0
        errors = {
            split.name: mean_error(
                split_error(lambda x: surrogate.predict(x, size), split, size, history, history)
            )
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
            quiet=stage.environment.quiet,
        )
        for checkpoint in checkpoints(folder)[1:]:  # the last has the best weights
            checkpoint.unlink()
        points.append({**point(surrogate, share, len(rows), seed), "epochs": len(history)})
    points.append(point(Surrogate.load(stage.candidate), 1.0, len(training), given["seed"]))
    return points


if __name__ == "__main__":
    run_stage("learning_curve", body)
