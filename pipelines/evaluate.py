"""The stage `evaluate`: measure the candidate on the test split and write the report."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from mno.config import section
from mno.data.reading import open_split
from mno.description import Description
from mno.evaluation.baselines import mean_fields
from mno.evaluation.config import EvaluateConfig
from mno.evaluation.cost import measure_cost
from mno.evaluation.evaluator import evaluate
from mno.evaluation.physics import physical_consistency
from mno.evaluation.report.document import write_report
from mno.evaluation.report.language import LANGUAGES
from mno.evaluation.report.results import Results
from mno.evaluation.robustness.measure import measure_robustness
from mno.evaluation.trust.calibration import calibrated_trust
from mno.lineage.dvcfiles import DATA_FILE, read_data_version
from mno.lineage.record import candidate_digest
from mno.surrogate import Surrogate
from pipelines.stage import Stage, run_stage, write_json

DATA = Path("data")
CANDIDATE = Path("models/candidate")
REPORTS = Path("reports")


def body(stage: Stage) -> None:
    """Predict the test split, measure, draw, and write what `register` checks against."""
    config = section(stage.params, "evaluate", EvaluateConfig)
    surrogate = Surrogate.load(stage.root / CANDIDATE)
    test = open_split(stage.root / DATA, "test")
    train, validation = (  # verified above
        open_split(stage.root / DATA, name, checked=False) for name in ("train", "validation")
    )
    baseline = mean_fields(train)
    reports = stage.root / REPORTS
    training = json.loads((reports / "train.json").read_text(encoding="utf-8"))
    dataset = json.loads((reports / "dataset.json").read_text(encoding="utf-8"))

    evaluation = evaluate(surrogate, test, baseline, config)
    cost = measure_cost(surrogate, evaluation.check_inputs, config.batch_size)
    digest = candidate_digest(stage.root / CANDIDATE)
    trust = calibrated_trust(
        surrogate, train, validation, test, config.trust, digest, config.batch_size
    ).to_json()
    robustness = measure_robustness(surrogate, test, baseline, config.robustness, config.batch_size)
    physics = physical_consistency(surrogate, test, config.robustness.samples, config.batch_size)

    metrics = {**evaluation.metrics(), "physics": physics}
    write_json(reports / "metrics.json", metrics)
    write_json(reports / "robustness.json", robustness)
    write_json(reports / "per_sample.json", evaluation.per_sample())
    write_json(reports / "cost.json", cost)
    write_json(reports / "trust.json", trust)
    _write_check(reports / "check.npz", evaluation.check_inputs, evaluation.check_predictions)
    _write_reports(
        reports,
        Results(
            scenario=surrogate.description.scenario,
            schema=test.schema,
            evaluation=evaluation,
            metrics=metrics,
            cost=cost,
            robustness=robustness,
            trust=trust,
            dataset=dataset,
            model=_model_facts(surrogate.description),
            training=training,
            settings=stage.params["train"],
            lineage={
                "dataset (DVC md5)": read_data_version(stage.root / DATA_FILE).md5,
                "model (sha256)": digest,
                **{f"{s['file']} (sha256)": s["sha256"] for s in test.schema.sources},
            },
        ),
    )
    kept = ""
    if "persistence_relative_l2" in metrics:
        kept = f"; keeping the last given frame {metrics['persistence_relative_l2']:.2%}"
    stage.say(
        f"evaluate   test error (relative L2) {metrics['relative_l2']:.2%}; predicting the mean "
        f"field {metrics['baseline_relative_l2']:.2%}{kept}; report: {REPORTS / 'report.html'}"
    )


def _write_reports(reports: Path, results: Results) -> None:
    """Write the report in each language, and the figures of the English one as files."""
    (reports / "figures").mkdir(parents=True, exist_ok=True)
    for language in LANGUAGES:
        english = language == "en"
        name = "report.html" if english else f"report.{language}.html"
        figures = write_report(reports / name, results, language)
        for figure in figures if english else ():
            (reports / "figures" / f"{figure.name}.png").write_bytes(figure.png)


def _model_facts(description: Description) -> dict[str, Any]:
    """Return the operator's configuration, and how it continues states if there are any."""
    facts = description.model.model_dump()
    return facts if description.forecast is None else facts | asdict(description.forecast)


def _write_check(
    path: Path, inputs: dict[str, np.ndarray], predictions: dict[str, np.ndarray]
) -> None:
    """Keep a few predictions, so that the packaged model can be checked against them."""
    arrays = {f"input/{name}": array for name, array in inputs.items()}
    arrays |= {f"prediction/{name}": array for name, array in predictions.items()}
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)
    os.replace(partial, path)


if __name__ == "__main__":
    run_stage("evaluate", body)
