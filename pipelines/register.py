"""The stage `register`: package the candidate, try it, and make it a version in the registry.

Who becomes champion is decided after the verdict, by the stage `report`.
"""

import json

from mno.core.files import write_json
from mno.registry import reading
from mno.registry.registration import Evaluated, Request, register
from pipelines.stage import Stage, run_stage

_READ = ("metrics.json", "trust.json", reading.CHECK_FILE, reading.ERRORS_FILE)
_KEPT = (*_READ, "robustness.json")  # with the run in MLflow


def request_of(stage: Stage) -> Request:
    """Return where and for whom a stage registers."""
    of = stage.environment
    return Request(stage.root, of.workspace, stage.params, of.experiment, of.flow_run_id)


def body(stage: Stage) -> None:
    """Register the candidate; in a DVC experiment only log what it achieved."""
    reports = stage.reports
    left = {name: reading.read_evaluated(reports / name) for name in _READ}
    metrics = json.loads(left["metrics.json"])
    inputs, predictions = reading.read_predictions(left[reading.CHECK_FILE], reading.CHECK_FILE)
    registered = register(
        request_of(stage),
        stage.candidate,
        Evaluated(
            relative_l2=metrics["relative_l2"],
            metrics={k: v for k, v in metrics.items() if isinstance(v, int | float)},
            inputs=inputs,
            predictions=predictions,
            trust=left["trust.json"],
            reports=tuple(reports / name for name in _KEPT if (reports / name).exists()),
        ),
    )
    write_json(reports / "registered.json", registered)
    stage.note_done()
    said = "a DVC experiment: logged to MLflow, not registered"
    if registered["version"] is not None:
        said = "{name} version {version}".format(**registered)
    stage.say(f"register   {said}")


if __name__ == "__main__":
    run_stage("register", body)
