"""The stage `train`: fit the operator to `data/` and write `models/candidate`.

Where a training is shared out (`train.processes`), this process is the first; the others compute
their parts of every batch and write nothing. They meet at a file and exchange gradients over the
loopback interface; when one ends too early, all end, and nothing is lost but the epoch at hand.
"""

import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from torch.multiprocessing.spawn import (
    ProcessExitedException,
    ProcessRaisedException,
    start_processes,
)

from mno.core.config import flat
from mno.core.errors import MnoError
from mno.core.files import replacing_folder, write_json
from mno.data.parts import open_parts
from mno.lineage.dvcfiles import DATA_FILE, read_data_version
from mno.lineage.record import candidate_digest, start_record
from mno.lineage.snapshot import take_snapshot
from mno.registry.tracking import TrainingRun
from mno.training.fit import train
from mno.training.processes import Rank, joined, training_device
from pipelines.stage import Stage, exit_when_orphaned, run_stage
from pipelines.training import training_arguments

_PATIENCE = 10.0  # seconds to see that another process is gone


def body(stage: Stage) -> None:
    """Train, or continue what an earlier attempt began, with every epoch in MLflow as it ends."""
    workspace, report = stage.environment.workspace, stage.reports / "train.json"
    given, start = training_arguments(stage.params, workspace)
    config = given["config"]
    training, validation = open_parts(stage.data, given["task"], "train", "validation")
    scenario = training.schema.scenario
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
    with TrainingRun.open(workspace, scenario, stage.key, flat(stage.inputs.params)) as run:
        if (md5 := read_data_version(stage.root / DATA_FILE).md5) is not None:
            run.log_dataset(scenario, stage.data.name, md5)
        with _others(config.processes, stage.params, stage.data, workspace, work):
            surrogate, history = train(
                training,
                validation,
                **given,
                work=work,
                observers=[run.log_epoch],
                quiet=stage.environment.quiet,
            )
        with replacing_folder(stage.candidate) as fresh:
            surrogate.save(fresh)
        write_json(report, history.to_dict())
        run.finish(candidate_digest(stage.candidate), record, [report])
    best = history.best
    stage.say(
        f"train      {surrogate.num_parameters} parameters; best epoch {best.epoch} of "
        f"{len(history)}: validation error {best.validation_relative_l2:.2%}"
    )


@contextmanager
def _others(
    processes: int, params: Mapping[str, Any], data: Path, workspace: Path, work: Path
) -> Iterator[None]:
    """Run the other processes of a training, and be the first of them, while the body trains."""
    if processes == 1:
        yield
        return
    with TemporaryDirectory(prefix="mno-train-") as folder:
        meeting = (Path(folder) / "meeting").absolute().as_uri()
        arguments = (processes, meeting, params, data, workspace, work)
        others: Any = start_processes(_help, arguments, processes - 1, join=False, daemon=True)
        try:
            with joined(Rank(0, processes), meeting):
                yield
        except RuntimeError:  # what torch says when the connection to another is lost
            try:
                others.join(_PATIENCE)
            except ProcessExitedException as ended:
                number, why = ended.error_index, f"exit code {ended.exit_code}"
            except ProcessRaisedException as failed:
                number, why = failed.error_index, str(failed).strip().splitlines()[-1]
                why = why.partition(": ")[2] or why
            else:
                raise
            raise MnoError(
                f"process {number + 2} of {processes} of the training ended ({why}); run again: "
                "training continues after its last whole epoch"
            ) from None
        finally:
            for process in others.processes:
                process.kill()  # it keeps nothing: when the first is done, all is
                process.join()


def _help(
    number: int,
    processes: int,
    meeting: str,
    params: Mapping[str, Any],
    data: Path,
    workspace: Path,
    work: Path,
) -> None:
    # Ctrl-C reaches all; the first process decides, and this one ends with it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    exit_when_orphaned(None)
    for stream in (1, 2):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
    given, _ = training_arguments(params, workspace)
    training, validation = open_parts(data, given["task"], "train", "validation")
    with joined(Rank(number + 1, processes), meeting):
        train(training, validation, **given, work=work, quiet=True)


if __name__ == "__main__":
    run_stage("train", body)
