"""The stage `generate`: solve the scenario's samples into `build/dataset`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from mno.core.config import section
from mno.core.files import write_json
from mno.data.config import ExecutionConfig, GenerateConfig
from mno.data.generate.plan import make_plan
from mno.data.generate.run import generate
from mno.data.imported import source_class, source_parameters
from pipelines.progress import SampleProgress
from pipelines.stage import Stage, run_stage

DATASET = Path("build/dataset")
REPORT = Path("reports/dataset.json")


def body(stage: Stage) -> None:
    """Make what is missing of the dataset, check all of it, release it."""
    name = stage.params["scenario"]
    plan = make_plan(
        source_class(name),
        source_parameters(name, stage.params["scenarios"][name]),
        section(stage.params, "generate", GenerateConfig),
        code=stage.inputs.digest,
        root=stage.environment.workspace,
    )
    execution = section(stage.params, "execution", ExecutionConfig)
    work = stage.work_folder("work")
    with SampleProgress(stage) as progress:
        report = generate(plan, work, stage.root / DATASET, execution, progress)
    write_json(stage.root / REPORT, asdict(report))
    checks = ", ".join(f"{n} {c.max:.1e} (≤ {c.tolerance:.1e})" for n, c in report.checks.items())
    passed = f"checks: {checks}" if checks else "no physics checks"
    stage.say(f"generate   {report.samples} samples in {report.shards} shards; {passed}")


if __name__ == "__main__":
    run_stage("generate", body)
