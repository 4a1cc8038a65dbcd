"""The training run in MLflow: opened, resumed, and finished exactly once.

A run carries the tag `mno.training_key`, the digest of what the training depends on. Whoever
trains with the same key again, after a kill or on purpose, continues the same run.

The tag `mno.state` is `pending` while training, `trained` when done, `abandoned` when the process
died or failed, and `restored` when a run was made afterwards for a model from DVC's cache.
"""

import getpass
import json
import os
import socket
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from mno.core.files import sha256
from mno.lineage.environment import PACKAGES_FILE, installed_packages
from mno.lineage.record import RECORD_FILE, Tag
from mno.registry.settings import Workspace, use_workspace

if TYPE_CHECKING:
    from mlflow.entities import Run


def account() -> str:
    """Return the name of the account that works here, or its number where it has none."""
    with suppress(KeyError, OSError):
        return getpass.getuser()
    return f"user {os.getuid()}"


def latest_run(workspace: Workspace, experiment: str, tag: str, value: str) -> "Run | None":
    """Return the run of an experiment with a tag that began last."""
    asked, latest = f"tags.`{tag}` = '{value}'", ["start_time DESC"]
    found = workspace.client.search_runs([experiment], asked, order_by=latest, max_results=1)
    return found[0] if found else None


@dataclass
class TrainingRun:
    """A run of training in MLflow; an exception marks it as failed, opening continues it."""

    workspace: Workspace
    run_id: str
    resumed: bool  # it existed before
    _last: dict[str, int] = field(default_factory=dict)  # step logged of each metric

    @classmethod
    def open(cls, root: Path, scenario: str, key: str, params: Mapping[str, Any]) -> "TrainingRun":
        """Find the run of this key, or create one; sweep what dead processes left behind."""
        from mlflow.entities import Param

        workspace = use_workspace(root)
        client, experiment = workspace.client, workspace.experiment(scenario)
        _sweep(workspace, experiment)
        if found := latest_run(workspace, experiment, Tag.TRAINING_KEY, key):
            run_id = found.info.run_id
            client.update_run(run_id, status="RUNNING")
        else:
            tags = {str(Tag.TRAINING_KEY): key, "mlflow.user": account()}
            name = f"{scenario} training {key[:8]}"
            run_id = client.create_run(experiment, tags=tags, run_name=name).info.run_id
        client.set_tag(run_id, Tag.STATE, "pending")
        # So that a later process with the same number is not taken for this one.
        client.set_tag(run_id, Tag.OWNER, f"{os.getpid()}@{psutil.Process().create_time():.0f}")
        client.set_tag(run_id, Tag.WORKSPACE, _machine(root))
        # Parameters cannot be changed; those that are not part of the key may differ on resuming.
        known = client.get_run(run_id).data.params
        new = [Param(name, str(value)) for name, value in params.items() if name not in known]
        client.log_batch(run_id, params=new)
        return cls(workspace, run_id, resumed=bool(found))

    def log_dataset(self, name: str, source: str, md5: str) -> None:
        """Name the dataset that the run trains on, by DVC's hash of it, of up to 36 characters."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        # The same as a MetaDataset of MLflow's with a local source.
        dataset = Dataset(name, md5, source_type="local", source=json.dumps({"uri": source}))
        tag = InputTag("mlflow.data.context", "training")
        self.workspace.client.log_inputs(self.run_id, datasets=[DatasetInput(dataset, [tag])])

    def log_epoch(self, step: int, metrics: Mapping[str, float]) -> None:
        """Log metrics of one epoch, unless a run that was resumed has logged them already."""
        from mlflow.entities import Metric
        from mlflow.utils.time import get_current_time_millis

        now = get_current_time_millis()
        client, new = self.workspace.client, []
        for name, value in metrics.items():
            if name not in self._last:
                history = client.get_metric_history(self.run_id, name) if self.resumed else []
                self._last[name] = max((metric.step for metric in history), default=-1)
            if step > self._last[name]:
                new.append(Metric(name, float(value), now, step))
                self._last[name] = step
        client.log_batch(self.run_id, metrics=new)

    def finish(
        self, candidate_sha256: str, record: Mapping[str, Any], artifacts: Iterable[Path] = ()
    ) -> None:
        """Say that the training is done; keep its record, with the run's id, and further files."""
        client = self.workspace.client
        log_record(self.workspace, self.run_id, record)
        client.log_text(self.run_id, "\n".join(installed_packages()) + "\n", PACKAGES_FILE)
        for path in artifacts:
            client.log_artifact(self.run_id, str(path), "training")
        # In this order: a run that is found by its candidate is complete.
        client.set_tag(self.run_id, Tag.CANDIDATE, candidate_sha256)
        client.set_tag(self.run_id, Tag.STATE, "trained")
        client.set_terminated(self.run_id, "FINISHED")

    def __enter__(self) -> "TrainingRun":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            status = "FAILED" if issubclass(kind, Exception) else "KILLED"
            _abandon(self.workspace, self.workspace.client.get_run(self.run_id), status)


def log_record(workspace: Workspace, run_id: str, record: Mapping[str, Any]) -> None:
    """Keep a lineage record with a run, the run's id in it."""
    full = {**record, "ids": {**record["ids"], "mlflow_run": run_id}}
    text = json.dumps(full, indent=2, sort_keys=True)
    workspace.client.log_text(run_id, text + "\n", RECORD_FILE)


def _sweep(workspace: Workspace, experiment: str) -> None:
    ours = f"tags.`{Tag.STATE}` = 'pending' AND tags.`{Tag.WORKSPACE}` = "
    for run in workspace.client.search_runs([experiment], f"{ours}'{_machine(workspace.root)}'"):
        if not _is_alive(run.data.tags.get(Tag.OWNER, "")):
            _abandon(workspace, run, "KILLED")


def _abandon(workspace: Workspace, run: "Run", status: str) -> None:
    # A run that had finished before it was opened again still describes its candidate.
    finished = Tag.CANDIDATE in run.data.tags
    client, run_id = workspace.client, run.info.run_id
    client.set_tag(run_id, Tag.STATE, "trained" if finished else "abandoned")
    client.set_terminated(run_id, "FINISHED" if finished else status)


def _is_alive(owner: str) -> bool:
    number, _, created = owner.partition("@")
    try:
        return f"{psutil.Process(int(number)).create_time():.0f}" == created
    except (psutil.Error, ValueError):
        return False


def _machine(root: Path) -> str:
    """Tell this workspace from others on a shared server, without naming the machine."""
    return sha256(f"{socket.gethostname()}:{root.resolve()}")[:16]
