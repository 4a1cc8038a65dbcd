"""The stage `evaluate`: measure the candidate on the test split.

What it writes follows from data, weights and parameters alone; times, and what is judged by them,
are the stage `report`'s.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from mno.core.absent import as_json, as_kept
from mno.core.config import section
from mno.core.files import replacing, write_json
from mno.data.parts import seen
from mno.data.reading import open_split
from mno.evaluation.config import EvaluateConfig
from mno.evaluation.evaluator import AnySplit, evaluate, mean_fields
from mno.evaluation.result import Evaluation
from mno.evaluation.robustness import measure_robustness
from mno.evaluation.solver import physical_consistency
from mno.evaluation.trust import calibrated_trust
from mno.lineage.record import candidate_digest
from mno.surrogate.surrogate import Surrogate
from pipelines.stage import Stage, run_stage


class Measured(NamedTuple):
    """The candidate and the splits of its data, as it sees them; and its errors on the last."""

    surrogate: Surrogate
    train: AnySplit
    validation: AnySplit
    test: AnySplit
    evaluation: Evaluation
    metrics: Mapping[str, Any]  # the content of `reports/metrics.json`


def measured(stage: Stage) -> Measured:
    """Predict the test split, and measure; nothing is fitted on it."""
    config = section(stage.params, "evaluate", EvaluateConfig)
    surrogate = Surrogate.load(stage.candidate)
    as_seen, size = surrogate.description.as_seen, config.batch_size
    test = seen(open_split(stage.data, "test"), **as_seen)
    train, validation = (  # verified above
        seen(open_split(stage.data, name, checked=False), **as_seen)
        for name in ("train", "validation")
    )
    evaluation = evaluate(surrogate, test, mean_fields(train), config)
    physics = physical_consistency(surrogate, test, config.robustness.samples, size)
    metrics = {**evaluation.metrics(), "physics": physics}
    return Measured(surrogate, train, validation, test, evaluation, metrics)


def body(stage: Stage) -> None:
    """Measure, and write what `report` tells and `register` checks against."""
    config, reports = section(stage.params, "evaluate", EvaluateConfig), stage.reports
    surrogate, train, validation, test, evaluation, metrics = measured(stage)
    size, digest = config.batch_size, candidate_digest(stage.candidate)
    robustness = measure_robustness(surrogate, test, mean_fields(train), config.robustness, size)
    trust = calibrated_trust(surrogate, train, validation, test, config.trust, digest, size)
    write_json(reports / "metrics.json", metrics, as_json)
    write_json(reports / "per_sample.json", evaluation.per_sample(), as_json)
    write_json(reports / "robustness.json", robustness, as_kept)
    write_json(reports / "trust.json", trust.to_json(), as_json)
    # A few predictions are kept, to check the package by.
    arrays = {f"input/{name}": array for name, array in evaluation.check_inputs.items()}
    arrays |= {f"prediction/{n}": array for n, array in evaluation.check_predictions.items()}
    with replacing(reports / "check.npz") as partial, partial.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)
    stage.say(_summary(metrics))


def _summary(metrics: Mapping[str, Any]) -> str:
    kept = ""
    if "persistence_relative_l2" in metrics:
        kept = f"; keeping the last given frame {metrics['persistence_relative_l2']:.2%}"
    return (
        f"evaluate   test error (relative L2) {metrics['relative_l2']:.2%}; predicting the mean "
        f"field {metrics['baseline_relative_l2']:.2%}{kept}"
    )


if __name__ == "__main__":
    run_stage("evaluate", body)
