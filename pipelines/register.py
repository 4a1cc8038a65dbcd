"""The stage `register`: package the candidate, try it, and make it a version in the registry."""

import json
from typing import Any

from mno.core.config import section
from mno.core.files import write_json
from mno.data.parts import seen
from mno.data.reading import open_split
from mno.evaluation.config import EvaluateConfig
from mno.evaluation.evaluator import split_error
from mno.evaluation.metrics import Pooled
from mno.registry import reading
from mno.registry.packaging import frames_given
from mno.registry.registration import Evaluated, Request, register
from mno.surrogate.surrogate import Surrogate
from pipelines.stage import Stage, run_stage

_READ = ("metrics.json", "decision.json", "trust.json", reading.CHECK_FILE, reading.ERRORS_FILE)
# What is kept with the run in MLflow.
_KEPT = (
    "metrics.json", reading.ERRORS_FILE, reading.CHECK_FILE, "cost.json", "decision.json",
    "robustness.json", "trust.json", "report.html", "report.ja.html", "figures",
)  # fmt: skip


def body(stage: Stage) -> None:
    """Register the candidate; in a DVC experiment only log what it achieved."""
    reports = stage.reports
    left = {name: reading.read_evaluated(reports / name) for name in _READ}
    metrics, decision = (json.loads(left[name]) for name in ("metrics.json", "decision.json"))
    inputs, predictions = reading.read_predictions(left[reading.CHECK_FILE], reading.CHECK_FILE)
    config = section(stage.params, "evaluate", EvaluateConfig)
    description = Surrogate.load(stage.candidate).description
    forecast = description.forecast
    history = forecast.history if forecast else 0

    def score(model: Any) -> Pooled:
        test = seen(open_split(stage.data, "test"), **description.as_seen)
        return split_error(model.predict, test, config.batch_size, frames_given(model), history)

    of = stage.environment
    registered = register(
        Request(stage.root, of.workspace, stage.params, of.experiment, of.flow_run_id),
        stage.candidate,
        Evaluated(
            relative_l2=metrics["relative_l2"],
            errors=reading.read_errors(left[reading.ERRORS_FILE], reading.ERRORS_FILE),
            metrics={k: v for k, v in metrics.items() if isinstance(v, int | float)},
            inputs=inputs,
            predictions=predictions,
            history=history,
            trust=left["trust.json"],
            reports=tuple(reports / name for name in _KEPT if (reports / name).exists()),
            kpis=decision["kpis"],
            physics=metrics["physics"],
        ),
        score,
    )
    write_json(reports / "registered.json", registered)
    said = "a DVC experiment: logged to MLflow, not registered"
    if registered["version"] is not None:
        said = "{name} version {version}, {decision}".format(**registered)
        now = registered["decided_now"]
        said += f": {registered['reason']}" if now else ", as was decided when it was registered"
    stage.say(f"register   {said}")


if __name__ == "__main__":
    run_stage("register", body)
