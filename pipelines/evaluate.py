"""The stage `evaluate`: measure the candidate on the test split and write the report."""

import json
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from mno.core.absent import Absent, as_json
from mno.core.config import section
from mno.core.files import replacing, write_json
from mno.core.times import recorded_seconds
from mno.core.words import LANGUAGES
from mno.data.parts import seen
from mno.data.reading import open_split
from mno.evaluation.config import EvaluateConfig
from mno.evaluation.cost import measure_cost, memory_use, spent
from mno.evaluation.decision import decide
from mno.evaluation.evaluator import evaluate, mean_fields
from mno.evaluation.influence import influence
from mno.evaluation.learning import fit_points
from mno.evaluation.robustness import measure_robustness
from mno.evaluation.solver import physical_consistency, solver_of
from mno.evaluation.tools import measure_tools
from mno.evaluation.trust import calibrated_trust, largest_errors
from mno.lineage.dvcfiles import DATA_FILE, read_data_version
from mno.lineage.record import candidate_digest
from mno.report.document import write_report
from mno.report.page import Results
from mno.surrogate.surrogate import Surrogate
from pipelines.stage import Stage, run_stage, taken_so_far


def body(stage: Stage) -> None:
    """Predict the test split, measure, draw, and write what `register` checks against."""
    results, reports = _measure(stage), stage.reports
    for name, content in {
        "metrics": results.metrics,
        "per_sample": results.evaluation.per_sample(),
        "robustness": results.robustness,
        "trust": results.trust,
        "cost": results.cost,
        "decision": results.decision,
    }.items():
        write_json(reports / f"{name}.json", content, as_json)
    evaluation = results.evaluation  # of which a few predictions are kept, to check the package by
    arrays = {f"input/{name}": array for name, array in evaluation.check_inputs.items()}
    arrays |= {f"prediction/{n}": array for n, array in evaluation.check_predictions.items()}
    with replacing(reports / "check.npz") as partial, partial.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)
    (reports / "figures").mkdir(parents=True, exist_ok=True)
    for language in LANGUAGES:
        english = language == "en"
        name = "report.html" if english else f"report.{language}.html"
        figures = write_report(reports / name, results, language)
        for figure in figures if english else ():
            (reports / "figures" / f"{figure.name}.png").write_bytes(figure.png)
    stage.say(_summary(results.metrics))


def _measure(stage: Stage) -> Results:
    """Measure all that the reports tell; nothing is fitted on the test split."""
    config = section(stage.params, "evaluate", EvaluateConfig)
    surrogate, digest = Surrogate.load(stage.candidate), candidate_digest(stage.candidate)
    as_seen = surrogate.description.as_seen
    test = seen(open_split(stage.data, "test"), **as_seen)
    train, validation = (  # verified above
        seen(open_split(stage.data, name, checked=False), **as_seen)
        for name in ("train", "validation")
    )
    dataset, training, learning = (
        json.loads((stage.reports / f"{name}.json").read_text(encoding="utf-8"))
        for name in ("dataset", "train", "learning_curve")
    )
    batch_size, baseline = config.batch_size, mean_fields(train)

    memory = memory_use(stage.candidate, surrogate.description, test)
    evaluation = evaluate(surrogate, test, baseline, config)
    physics = physical_consistency(surrogate, test, config.robustness.samples, batch_size)
    robustness = measure_robustness(surrogate, test, baseline, config.robustness, batch_size)
    calibrated = calibrated_trust(
        surrogate, train, validation, test, config.trust, digest, batch_size
    )
    trust = calibrated.to_json()
    cost = memory() | measure_cost(surrogate, test, config.economics)
    peers = (config.tools, train, validation, test, surrogate.description, config.intervals)
    cost["tools"] = measure_tools(*peers, model=partial(surrogate.predict, batch_size=batch_size))
    worked = ("generate", "train", *(("learning_curve",) if learning["points"] else ()))
    taken = {name: recorded_seconds(stage.root, name) for name in worked}
    taken["evaluate"] = taken_so_far()
    cost["spent"] = spent(taken, config.economics.watts_per_core)
    metrics = {**evaluation.metrics(), "physics": physics}
    decision = decide(
        config.kpis,
        config.economics,
        metrics=metrics,
        cost=cost,
        samples={"train": dataset["splits"]["train"], "all": dataset["samples"]},
        curve=fit_points(learning),
        trust=trust,
    )
    description = surrogate.description
    scales = dict(description.normaliser.scales)
    middle, solver = evaluation.example("median"), solver_of(test.schema)
    examples = evaluation.examples if description.readings else ()
    told = description.to_dict()["forecast"] or {}
    return Results(
        scenario=description.scenario,
        schema=test.schema,
        evaluation=evaluation,
        metrics=metrics,
        cost=cost,
        decision=decision,
        robustness=robustness,
        learning_curve=learning,
        trust=trust,
        dataset=dataset,
        model=description.model.model_dump()
        | {k: v for k, v in told.items() if k != "intervals"}
        | ({"scales": scales} if scales else {})
        | ({"predict": "change"} if description.normaliser.changes else {}),
        training=training,
        settings=stage.params["train"],
        lineage={
            "dataset (DVC md5)": read_data_version(stage.root / DATA_FILE).md5,
            "model (sha256)": digest,
            **{f"{s['file']} (sha256)": s["sha256"] for s in test.schema.sources},
        },
        influence=influence(surrogate, middle),
        bounds=largest_errors(calibrated, description, examples),
        bodies=() if isinstance(solver, Absent) else solver.bodies(middle.inputs),
    )


def _summary(metrics: Mapping[str, Any]) -> str:
    kept = ""
    if "persistence_relative_l2" in metrics:
        kept = f"; keeping the last given frame {metrics['persistence_relative_l2']:.2%}"
    return (
        f"evaluate   test error (relative L2) {metrics['relative_l2']:.2%}; predicting the mean "
        f"field {metrics['baseline_relative_l2']:.2%}{kept}; report: reports/report.html"
    )


if __name__ == "__main__":
    run_stage("evaluate", body)
