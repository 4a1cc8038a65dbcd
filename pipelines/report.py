"""The stage `report`: measure what the candidate costs, judge it, write the report.

What is measured is another thing each time, so these files are no outputs of DVC's: `dvc.lock`
would have the hashes of one machine's times. Its output is a note of what has been told of. Where
the candidate has been registered, its version is decided on here, by error and verdict.
"""

import json
import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from mno.core.absent import Absent, as_json, from_kept
from mno.core.config import section
from mno.core.files import replacing_folder, write_json
from mno.core.times import recorded_seconds
from mno.core.words import LANGUAGES
from mno.data.parts import seen
from mno.data.reading import open_split
from mno.evaluation.config import EvaluateConfig
from mno.evaluation.cost import measure_cost, memory_use, spent
from mno.evaluation.decision import decide
from mno.evaluation.evaluator import split_error
from mno.evaluation.influence import influence
from mno.evaluation.learning import fit_points
from mno.evaluation.metrics import Pooled
from mno.evaluation.solver import solver_of
from mno.evaluation.tools import measure_tools
from mno.evaluation.trust import largest_errors
from mno.lineage.dvcfiles import DATA_FILE, read_data_version
from mno.lineage.environment import machine_facts
from mno.lineage.record import candidate_digest
from mno.registry import reading
from mno.registry.packaging import frames_given
from mno.registry.registration import Told, conclude
from mno.report.document import write_report
from mno.report.page import Results
from mno.surrogate.trust.trust import Trust
from pipelines.evaluate import Measured, measured
from pipelines.register import request_of
from pipelines.stage import Stage, run_stage

# What is kept with the run in MLflow.
_KEPT = ("cost.json", "decision.json", "report.html", "report.ja.html", "figures")


def body(stage: Stage) -> None:
    """Measure, judge, draw; and decide on the version, if one has been registered."""
    of, reports = measured(stage), stage.reports
    results = _results(stage, of)
    write_json(reports / "cost.json", results.cost, as_json)
    write_json(reports / "decision.json", results.decision, as_json)
    with replacing_folder(reports / "figures") as pictures:  # none of another model stays
        for language in LANGUAGES:
            english = language == "en"
            name = "report.html" if english else f"report.{language}.html"
            figures = write_report(reports / name, results, language)
            for figure in figures if english else ():
                (pictures / f"{figure.name}.png").write_bytes(figure.png)
    verdict = results.decision["verdict"].replace("_if", " under conditions").replace("_", " ")
    stage.say(f"report     {verdict}; reports/report.html")
    if registered := reading.registered_now(stage.root):
        _decide(stage, of, results, registered)
    stage.note_done()


def _decide(stage: Stage, of: Measured, results: Results, registered: dict[str, Any]) -> None:
    config = section(stage.params, "evaluate", EvaluateConfig)
    description = of.surrogate.description
    history = description.forecast.history if description.forecast else 0

    def score(model: Any) -> Pooled:
        test = seen(open_split(stage.data, "test"), **description.as_seen)
        return split_error(model.predict, test, config.batch_size, frames_given(model), history)

    errors = reading.read_evaluated(stage.reports / reading.ERRORS_FILE)
    told = Told(
        errors=reading.read_errors(errors, reading.ERRORS_FILE),
        decision=results.decision,
        physics=results.metrics["physics"],
        figures=_figures(results),
        reports=tuple(stage.reports / name for name in _KEPT),
    )
    decided = conclude(request_of(stage), registered, told, score)
    write_json(stage.reports / "registered.json", decided)
    why = decided["reason"] if decided["decided_now"] else "as was decided before"
    stage.say("report     {name} version {version}, {decision}: ".format(**decided) + why)


def _figures(results: Results) -> dict[str, float]:
    """Return what MLflow's pages show besides errors: of each field, of cost, and the verdict."""
    worth = {"not_worth_it": 0.0, "worth_it_if": 0.5, "worth_it": 1.0}
    found = {"worth_it": worth[results.decision["verdict"]]}
    fields = results.metrics["fields"]
    of_fields = {f"{name}/{k}": v for name, of in fields.items() for k, v in of.items()}
    for name, value in (of_fields | dict(results.cost)).items():
        if isinstance(value, int | float) and math.isfinite(value):
            found[name] = float(value)
    return found


def _results(stage: Stage, of: Measured) -> Results:
    """Measure all that the reports tell."""
    config = section(stage.params, "evaluate", EvaluateConfig)
    surrogate, train, validation, test, evaluation, metrics = of
    description, size = surrogate.description, config.batch_size

    def left(name: str) -> Any:
        content = reading.read_evaluated(stage.reports / f"{name}.json")
        return json.loads(content, object_hook=from_kept)

    dataset, training, learning = map(left, ("dataset", "train", "learning_curve"))
    calibrated = Trust.read(stage.reports / "trust.json")
    trust = calibrated.to_json()
    cost = memory_use(stage.candidate, description, test)
    cost |= measure_cost(surrogate, test, config.economics)
    peers = (config.tools, train, validation, test, description, config.intervals)
    cost["tools"] = measure_tools(*peers, model=partial(surrogate.predict, batch_size=size))
    worked = ("generate", "train", *(("learning_curve",) if learning["points"] else ()), "evaluate")
    taken = {name: recorded_seconds(stage.root, name) for name in worked}
    cost["spent"] = spent(taken, config.economics.watts_per_core)
    decision = decide(
        config.kpis,
        config.economics,
        metrics=metrics,
        cost=cost,
        samples={"train": dataset["splits"]["train"], "all": dataset["samples"]},
        curve=fit_points(learning),
        trust=trust,
    )
    return Results(
        scenario=description.scenario,
        schema=test.schema,
        evaluation=evaluation,
        metrics=metrics,
        cost=cost,
        decision=decision,
        robustness=left("robustness"),
        learning_curve=learning,
        trust=trust,
        dataset=dataset,
        model=_model_facts(of),
        training=training,
        settings=stage.params["train"],
        lineage={
            **_origin(stage.root),
            "dataset (DVC md5)": read_data_version(stage.root / DATA_FILE).md5,
            "model (sha256)": candidate_digest(stage.candidate),
            **{f"{s['file']} (sha256)": s["sha256"] for s in test.schema.sources},
        },
        **_examples(of, calibrated),
    )


def _origin(root: Path) -> dict[str, Any]:
    """Return which version this is, if it has been registered, and what made it."""
    found = {"machine": machine_facts()["cpu"]}
    if registered := reading.registered_now(root):
        record, version = registered["record"], "{name} version {version}".format(**registered)
        found |= {"version": version, "commit": record["head"]}
        found["snapshot"] = record["snapshot"]["commit"]
        found["parameters (sha256)"] = record["params_sha256"]
    return found


def _model_facts(of: Measured) -> Mapping[str, Any]:
    description = of.surrogate.description
    told, scales = description.to_dict()["forecast"] or {}, dict(description.normaliser.scales)
    return (
        description.model.model_dump()
        | {k: v for k, v in told.items() if k != "intervals"}
        | ({"scales": scales} if scales else {})
        | ({"predict": "change"} if description.normaliser.changes else {})
    )


def _examples(of: Measured, trust: Trust) -> dict[str, Any]:
    """Return what is shown of single samples: what one listened to, bounds, bodies in space."""
    description, middle = of.surrogate.description, of.evaluation.example("median")
    solver = solver_of(of.test.schema)
    examples = of.evaluation.examples if description.readings else ()
    return {
        "influence": influence(of.surrogate, middle),
        "bounds": largest_errors(trust, description, examples),
        "bodies": () if isinstance(solver, Absent) else solver.bodies(middle.inputs),
    }


if __name__ == "__main__":
    run_stage("report", body)
