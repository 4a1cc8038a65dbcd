"""The training run in MLflow: opened, resumed, and finished exactly once.

A run carries the tag `mno.training_key`, the digest of what the training depends on. Whoever
trains with the same key again, after a kill or on purpose, continues the same run.

The tag `mno.state` is `pending` while training, `trained` when done, `abandoned` when the process
died or failed, and `restored` when a run was made afterwards for a model from DVC's cache.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import psutil

from mno.lineage.environment import installed_packages
from mno.registry.settings import Workspace, use_workspace

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

KEY = "mno.training_key"
STATE = "mno.state"
CANDIDATE = "mno.candidate"
OWNER = "mno.owner"
RECORD_FILE = "record.json"
_MACHINE = "mno.workspace"
_SAMPLING_SECONDS = 5


@dataclass
class TrainingRun:
    """A run of training in MLflow; use it as a context manager.

    An exception within marks the run as failed; opening it again continues it.

    Attributes:
        workspace: The MLflow that the run is in.
        run_id: MLflow's id.
        resumed: Whether the run existed before.
    """

    workspace: Workspace
    run_id: str
    resumed: bool
    _logged: dict[str, set[int]] = field(default_factory=dict)
    _monitor: SystemMetricsMonitor | None = None

    @classmethod
    def open(cls, root: Path, scenario: str, key: str, params: Mapping[str, Any]) -> TrainingRun:
        """Find the run of this key, or create one; sweep what dead processes left behind.

        Args:
            root: The workspace.
            scenario: Also the experiment's name.
            key: Digest of all that the training depends on.
            params: Parameters to show in MLflow, flat.

        Raises:
            MnoError: MLflow cannot be used.
        """
        workspace = use_workspace(root)
        client, experiment = workspace.client, workspace.experiment(scenario)
        _sweep(workspace, experiment)
        found = client.search_runs(
            [experiment], f"tags.`{KEY}` = '{key}'", order_by=["start_time DESC"], max_results=1
        )
        if found:
            run_id = found[0].info.run_id
            client.update_run(run_id, status="RUNNING")
        else:
            name = f"train-{key[:8]}"
            run_id = client.create_run(experiment, tags={KEY: key}, run_name=name).info.run_id
        for tag, value in ((STATE, "pending"), (OWNER, _owner()), (_MACHINE, _machine(root))):
            client.set_tag(run_id, tag, value)
        _log_params(workspace, run_id, params)
        return cls(workspace, run_id, resumed=bool(found))

    def log_dataset(self, name: str, source: str, md5: str, context: str) -> None:
        """Name the dataset that the run uses.

        Args:
            name: Its name, for example the scenario.
            source: Where it lies, for example `data`.
            md5: DVC's hash of it; MLflow takes up to 36 characters, what `….dir` needs.
            context: What it is used for, for example `training`.
        """
        from mlflow.entities import Dataset, DatasetInput, InputTag

        # The same as a MetaDataset of MLflow's with a local source.
        dataset = Dataset(name, md5, source_type="local", source=json.dumps({"uri": source}))
        tag = InputTag("mlflow.data.context", context)
        self.workspace.client.log_inputs(self.run_id, datasets=[DatasetInput(dataset, [tag])])

    def log_epoch(self, step: int, metrics: Mapping[str, float]) -> None:
        """Log metrics of one epoch, unless a run that was resumed has logged them already."""
        from mlflow.entities import Metric
        from mlflow.utils.time import get_current_time_millis

        now = get_current_time_millis()
        new = [
            Metric(name, float(value), now, step)
            for name, value in metrics.items()
            if step not in self._steps(name)
        ]
        if new:
            self.workspace.client.log_batch(self.run_id, metrics=new)
        for metric in new:
            self._logged[metric.key].add(step)

    def watch_system(self) -> None:
        """Log load, memory, disk, network and GPU of the machine every few seconds from now on."""
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        self._monitor = SystemMetricsMonitor(
            self.run_id, sampling_interval=_SAMPLING_SECONDS, resume_logging=self.resumed
        )
        self._monitor.start()

    def finish(
        self, candidate_sha256: str, record: Mapping[str, Any], artifacts: Iterable[Path] = ()
    ) -> None:
        """Say that the training is done, and what came of it.

        Args:
            candidate_sha256: What `mno.lineage.record.candidate_digest` returned.
            record: The lineage record; the run's id is added to it.
            artifacts: Further files to keep with the run, for example curves.
        """
        self._stop_watching()
        client = self.workspace.client
        log_record(self.workspace, self.run_id, record)
        client.log_text(self.run_id, "\n".join(installed_packages()) + "\n", "environment.txt")
        for path in artifacts:
            client.log_artifact(self.run_id, str(path), "training")
        # In this order: a run that is found by its candidate is complete.
        client.set_tag(self.run_id, CANDIDATE, candidate_sha256)
        client.set_tag(self.run_id, STATE, "trained")
        client.set_terminated(self.run_id, "FINISHED")

    def __enter__(self) -> TrainingRun:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop_watching()
        if kind is not None:
            status = "FAILED" if issubclass(kind, Exception) else "KILLED"
            _abandon(self.workspace, self.workspace.client.get_run(self.run_id), status)

    def _steps(self, name: str) -> set[int]:
        if name not in self._logged:
            history = (
                self.workspace.client.get_metric_history(self.run_id, name) if self.resumed else []
            )
            self._logged[name] = {metric.step for metric in history}
        return self._logged[name]

    def _stop_watching(self) -> None:
        if self._monitor is not None:
            self._monitor.finish()
            self._monitor = None


def log_record(workspace: Workspace, run_id: str, record: Mapping[str, Any]) -> None:
    """Keep a lineage record with a run, the run's id in it."""
    full = {**record, "ids": {**record["ids"], "mlflow_run": run_id}}
    text = json.dumps(full, indent=2, sort_keys=True)
    workspace.client.log_text(run_id, text + "\n", RECORD_FILE)


def _log_params(workspace: Workspace, run_id: str, params: Mapping[str, Any]) -> None:
    from mlflow.entities import Param

    # Parameters cannot be changed; those that are not part of the key may differ on resuming.
    known = workspace.client.get_run(run_id).data.params
    new = [Param(name, str(value)) for name, value in params.items() if name not in known]
    for start in range(0, len(new), 100):  # what one request may hold
        workspace.client.log_batch(run_id, params=new[start : start + 100])


def _sweep(workspace: Workspace, experiment: str) -> None:
    """Close the runs of this workspace whose process is gone."""
    pending = workspace.client.search_runs(
        [experiment],
        f"tags.`{STATE}` = 'pending' AND tags.`{_MACHINE}` = '{_machine(workspace.root)}'",
    )
    for run in pending:
        if not _is_alive(run.data.tags.get(OWNER, "")):
            _abandon(workspace, run, "KILLED")


def _abandon(workspace: Workspace, run: Run, status: str) -> None:
    # A run that had finished before it was opened again still describes its candidate.
    finished = CANDIDATE in run.data.tags
    client, run_id = workspace.client, run.info.run_id
    client.set_tag(run_id, STATE, "trained" if finished else "abandoned")
    client.set_terminated(run_id, "FINISHED" if finished else status)


def _owner() -> str:
    """Name this process so that a later one with the same number is not taken for it."""
    return f"{os.getpid()}@{psutil.Process().create_time():.0f}"


def _is_alive(owner: str) -> bool:
    number, _, created = owner.partition("@")
    try:
        return f"{psutil.Process(int(number)).create_time():.0f}" == created
    except (psutil.Error, ValueError):
        return False


def _machine(root: Path) -> str:
    """Tell this workspace from others on a shared server, without naming the machine."""
    return hashlib.sha256(f"{socket.gethostname()}:{root.resolve()}".encode()).hexdigest()[:16]
