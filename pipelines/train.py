"""The stage `train`: fit the operator to `data/` and write `models/candidate`."""

from __future__ import annotations

from pathlib import Path

from mno.core.config import section
from mno.core.files import replacing_folder, write_json
from mno.core.forecast import TaskConfig
from mno.lineage.dvcfiles import DATA_FILE, flat, read_data_version
from mno.lineage.record import candidate_digest, start_record
from mno.lineage.snapshot import take_snapshot
from mno.nn.config import ModelConfig
from mno.registry.tracking import TrainingRun
from mno.training.config import TrainConfig
from mno.training.fit import train
from mno.training.processes import training_device
from pipelines.stage import Stage, run_stage
from pipelines.train_processes import others as other_processes
from pipelines.train_processes import splits
from pipelines.warm_start import find_warm_start

DATA = Path("data")
CANDIDATE = Path("models/candidate")
REPORT = Path("reports/train.json")


class _TrackedEpochs:
    """Hands every epoch to MLflow as it ends."""

    def __init__(self, run: TrainingRun) -> None:
        self.run = run

    def on_epoch(self, epoch: int, metrics: dict[str, float]) -> None:
        self.run.log_epoch(epoch, metrics)


def body(stage: Stage) -> None:
    """Train, or continue what an earlier attempt began, with every epoch in MLflow as it ends."""
    config = section(stage.params, "train", TrainConfig)
    model = section(stage.params, "model", ModelConfig)
    task = section(stage.params, "task", TaskConfig)
    data = stage.root / DATA
    training, validation = splits(data)
    scenario = training.schema.scenario
    start = find_warm_start(stage.environment.workspace, config.warm_start)
    work = stage.work_folder("checkpoints", stage.data_digest)
    record = start_record(
        stage.root,
        take_snapshot(stage.root),
        stage.params,
        threads=config.threads,
        processes=config.processes,
        device=training_device(),
        warm_start_sha256=start.sha256 if start else None,
        sources=training.schema.sources,
        ids={
            "prefect_flow_run": stage.environment.flow_run_id,
            "warm_start": start.version if start else None,
        },
    )
    with TrainingRun.open(
        stage.environment.workspace, scenario, stage.key, flat(stage.inputs.params)
    ) as run:
        md5 = read_data_version(stage.root / DATA_FILE).md5
        if md5 is not None:
            run.log_dataset(scenario, str(DATA), md5, "training")
        run.watch_system()
        with other_processes(config.processes, work):
            surrogate, history = train(
                training,
                validation,
                model=model,
                config=config,
                seed=stage.params["seed"],
                work=work,
                task=task,
                initial=start.surrogate if start else None,
                observers=[_TrackedEpochs(run)],
                console=stage.console,
                quiet=stage.environment.quiet,
            )
        with replacing_folder(stage.root / CANDIDATE) as fresh:
            surrogate.save(fresh)
        write_json(stage.root / REPORT, history.to_dict())
        run.finish(candidate_digest(stage.root / CANDIDATE), record, [stage.root / REPORT])
    best = history.best
    stage.say(
        f"train      {surrogate.num_parameters} parameters; best epoch {best.epoch} of "
        f"{len(history)}: validation error {best.validation_relative_l2:.2%}"
    )


if __name__ == "__main__":
    run_stage("train", body)
