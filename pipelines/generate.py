"""The stage `generate`: solve the scenario's samples into `build/dataset`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from mno.config import section, validate
from mno.data.config import ExecutionConfig, GenerateConfig
from mno.data.generate import generate
from mno.data.plan import DatasetPlan
from mno.scenarios import scenario_class
from pipelines.progress import SampleProgress
from pipelines.stage import Stage, run_stage, write_json

DATASET = Path("build/dataset")
REPORT = Path("reports/dataset.json")


def body(stage: Stage) -> None:
    """Make what is missing of the dataset, check all of it, release it."""
    name = stage.params["scenario"]
    scenario = scenario_class(name)
    parameters = stage.params["scenarios"][name] or {}
    plan = DatasetPlan(
        scenario=scenario,
        parameters=validate(scenario.Parameters, parameters, f"scenarios.{name}"),
        config=section(stage.params, "generate", GenerateConfig),
        code=stage.inputs.digest,
    )
    execution = section(stage.params, "execution", ExecutionConfig)
    work = stage.work_folder("work")
    with SampleProgress(stage) as progress:
        report = generate(plan, work, stage.root / DATASET, execution, progress)
    write_json(stage.root / REPORT, asdict(report))
    checks = ", ".join(f"{n} {c.max:.1e} (≤ {c.tolerance:.1e})" for n, c in report.checks.items())
    stage.say(f"generate   {report.samples} samples in {report.shards} shards; checks: {checks}")


if __name__ == "__main__":
    run_stage("generate", body)
