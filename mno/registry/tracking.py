"""The training run in MLflow: opened, resumed, and finished exactly once; runs of studies.

A run carries the tag `mno.training_key`, the digest of what the training depends on. Whoever
trains with the same key again, after a kill or on purpose, continues the same run.

The tag `mno.state` is `pending` while training, `trained` when done, `abandoned` when the process
died or failed, and `restored` when a run was made afterwards for a model from DVC's cache.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from mno.core.errors import MnoError, first_line
from mno.core.files import sha256
from mno.lineage.dvcfiles import flat
from mno.lineage.environment import PACKAGES_FILE, installed_packages
from mno.lineage.record import RECORD_FILE, Tag
from mno.registry.settings import Workspace, use_workspace

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

_SAMPLING_SECONDS = 5


def latest_run(workspace: Workspace, experiment: str, tag: str, value: str) -> Run | None:
    """Return the run of an experiment with a tag that began last."""
    asked, latest = f"tags.`{tag}` = '{value}'", ["start_time DESC"]
    found = workspace.client.search_runs([experiment], asked, order_by=latest, max_results=1)
    return found[0] if found else None


@dataclass
class TrainingRun:
    """A run of training in MLflow; use it as a context manager.

    An exception within marks the run as failed; opening it again continues it.
    """

    workspace: Workspace
    run_id: str
    resumed: bool  # it existed before
    _logged: dict[str, set[int]] = field(default_factory=dict)
    _monitor: SystemMetricsMonitor | None = None

    @classmethod
    def open(cls, root: Path, scenario: str, key: str, params: Mapping[str, Any]) -> TrainingRun:
        """Find the run of this key, or create one; sweep what dead processes left behind.

        The key is the digest of all that the training depends on; the experiment is named by the
        scenario, and MLflow shows the parameters, flat.
        """
        workspace = use_workspace(root)
        client, experiment = workspace.client, workspace.experiment(scenario)
        _sweep(workspace, experiment)
        found = latest_run(workspace, experiment, Tag.TRAINING_KEY, key)
        if found:
            run_id = found.info.run_id
            client.update_run(run_id, status="RUNNING")
        else:
            tags, name = {str(Tag.TRAINING_KEY): key}, f"train-{key[:8]}"
            run_id = client.create_run(experiment, tags=tags, run_name=name).info.run_id
        client.set_tag(run_id, Tag.STATE, "pending")
        # So that a later process with the same number is not taken for this one.
        owner = f"{os.getpid()}@{psutil.Process().create_time():.0f}"
        client.set_tag(run_id, Tag.OWNER, owner)
        client.set_tag(run_id, Tag.WORKSPACE, _machine(root))
        _log_params(client, run_id, params)
        return cls(workspace, run_id, resumed=bool(found))

    def log_dataset(self, name: str, source: str, md5: str, context: str) -> None:
        """Name the dataset that the run uses, by DVC's hash of it.

        MLflow takes up to 36 characters, what `….dir` needs. The context is what it is used for,
        for example `training`.
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

    def _steps(self, name: str) -> set[int]:
        if name not in self._logged:
            client = self.workspace.client
            history = client.get_metric_history(self.run_id, name) if self.resumed else []
            self._logged[name] = {metric.step for metric in history}
        return self._logged[name]

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
        """Say that the training is done; keep its record, with the run's id, and further files."""
        self._stop_watching()
        client = self.workspace.client
        log_record(self.workspace, self.run_id, record)
        client.log_text(self.run_id, "\n".join(installed_packages()) + "\n", PACKAGES_FILE)
        for path in artifacts:
            client.log_artifact(self.run_id, str(path), "training")
        # In this order: a run that is found by its candidate is complete.
        client.set_tag(self.run_id, Tag.CANDIDATE, candidate_sha256)
        client.set_tag(self.run_id, Tag.STATE, "trained")
        client.set_terminated(self.run_id, "FINISHED")

    def __enter__(self) -> TrainingRun:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._stop_watching()
        if kind is not None:
            status = "FAILED" if issubclass(kind, Exception) else "KILLED"
            _abandon(self.workspace, self.workspace.client.get_run(self.run_id), status)

    def _stop_watching(self) -> None:
        if self._monitor is not None:
            self._monitor.finish()
            self._monitor = None


def log_record(workspace: Workspace, run_id: str, record: Mapping[str, Any]) -> None:
    """Keep a lineage record with a run, the run's id in it."""
    full = {**record, "ids": {**record["ids"], "mlflow_run": run_id}}
    text = json.dumps(full, indent=2, sort_keys=True)
    workspace.client.log_text(run_id, text + "\n", RECORD_FILE)


def _log_params(client: MlflowClient, run_id: str, params: Mapping[str, Any]) -> None:
    from mlflow.entities import Param

    # Parameters cannot be changed; those that are not part of the key may differ on resuming.
    known = client.get_run(run_id).data.params
    new = [Param(name, str(value)) for name, value in params.items() if name not in known]
    for start in range(0, len(new), 100):  # what one request may hold
        client.log_batch(run_id, params=new[start : start + 100])


def _sweep(workspace: Workspace, experiment: str) -> None:
    """Close the runs of this workspace whose process is gone."""
    ours = f"tags.`{Tag.STATE}` = 'pending' AND tags.`{Tag.WORKSPACE}` = "
    pending = workspace.client.search_runs([experiment], f"{ours}'{_machine(workspace.root)}'")
    for run in pending:
        if not _is_alive(run.data.tags.get(Tag.OWNER, "")):
            _abandon(workspace, run, "KILLED")


def _abandon(workspace: Workspace, run: Run, status: str) -> None:
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


STUDY, CELL, CELL_SHA256 = "mno.study", "mno.cell", "mno.cell_sha256"
SEARCH, TRIAL, TRIAL_STATE = "mno.search", "mno.trial", "mno.trial_state"
_AT_ONCE = 900  # metrics, of the 1,000 that one request may hold


class NestedRuns:
    """One parent run, known by its tags, and a nested run for each of its parts."""

    def __init__(self, root: Path, experiment: str, tags: Mapping[str, str], title: str) -> None:
        workspace = use_workspace(root)
        self._client, self._experiment = workspace.client, workspace.experiment(experiment)
        found = self.kept(tags)
        if found:
            self.run_id = found[0].info.run_id
            self._client.update_run(self.run_id, status="RUNNING")
        else:
            made = self._client.create_run(self._experiment, tags=dict(tags), run_name=title)
            self.run_id = made.info.run_id

    def kept(self, tags: Mapping[str, str]) -> list[Run]:
        """Return the runs that have all of these tags."""
        asked = " AND ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
        return list(self._client.search_runs([self._experiment], asked, max_results=50_000))

    def close(self, *, whole: bool, figures: Mapping[str, float] | None = None) -> None:
        """Say of the parent that nobody works on it now, and whether all parts have been made."""
        for name, value in (figures or {}).items():
            self._client.log_metric(self.run_id, name, value)
        self._client.set_terminated(self.run_id, "FINISHED" if whole else "KILLED")

    def keep(
        self,
        name: str,
        tags: Mapping[str, str],
        params: Mapping[str, Any],
        steps: Sequence[tuple[int, Mapping[str, float]]],
        known_by: Mapping[str, str],
        status: str = "FINISHED",
        files: Mapping[str, str] | None = None,
    ) -> None:
        """Keep a part as a nested run: what was measured by step, and texts by name of file.

        The tags that it is known by come last: a kill leaves no half that passes for the whole.
        """
        from mlflow.entities import Metric
        from mlflow.exceptions import MlflowException
        from mlflow.utils.time import get_current_time_millis

        client, now = self._client, get_current_time_millis()
        metrics = [Metric(k, v, now, step) for step, found in steps for k, v in found.items()]
        try:
            tags = {"mlflow.parentRunId": self.run_id, **tags}
            run = client.create_run(self._experiment, tags=tags, run_name=name).info.run_id
            _log_params(client, run, params)
            for start in range(0, len(metrics), _AT_ONCE):
                client.log_batch(run, metrics=metrics[start : start + _AT_ONCE])
            for file, text in (files or {}).items():
                client.log_text(run, text, file)
            for key, value in known_by.items():
                client.set_tag(run, key, value)
            client.set_terminated(run, status)
        except MlflowException as error:
            raise MnoError(f"MLflow cannot keep {name}: {first_line(error)}") from None


def study_log(root: Path, study: str, title: str) -> NestedRuns:
    """Return where MLflow keeps a study and its cells: the experiment `study-<name>`."""
    return NestedRuns(root, f"study-{study}", {STUDY: study, CELL: ""}, title)


def log_cell(log: NestedRuns, study: str, name: str, record: Mapping[str, Any]) -> None:
    """Keep a finished cell of a study, by its record in `studies/results/`; the same one once."""
    known_by = {CELL_SHA256: record["identity"]["cell"]}
    if log.kept(known_by):
        return
    figures: dict[str, Any] = dict(record["metrics"])
    figures |= {key: record["cost"][key] for key in ("latency_ms", "peak_memory_mib")}
    figures["parameters"] = record["parameters"]
    train = record["seconds"]["train"]
    if isinstance(train, Mapping):
        figures["train_cpu_seconds"] = train["cpu_seconds"]
    numbers = {k: float(v) for k, v in figures.items() if isinstance(v, int | float)}
    tags = {
        STUDY: study,
        CELL: name,
        Tag.EXPERIMENT: record["experiment"]["name"],
        Tag.DATA: record["identity"]["data"],
        "mno.training_run": record["training_run"],
        "mlflow.note.content": name,
    }
    files = {"cell.json": json.dumps(record, indent=1) + "\n"}
    log.keep(name, tags, flat(record["params"]), [(0, numbers)], known_by, files=files)


class SearchLog(NestedRuns):
    """What MLflow keeps of the search with a key, in the experiment `tune-<name>`."""

    def __init__(self, root: Path, name: str, key: str, title: str) -> None:
        super().__init__(root, f"tune-{name}", {f"{SEARCH}.parent": key}, title)
        self._key = key
        self._trials = {run.data.tags[TRIAL] for run in self.kept({SEARCH: key})}

    def keep_trial(
        self,
        trial: str,
        state: str,
        params: Mapping[str, Any],
        figures: Mapping[str, float],
        epochs: Sequence[Mapping[str, float]],
    ) -> None:
        """Keep a trial, its point of the space and what was measured, once, by its name."""
        if trial not in self._trials:
            status = "FAILED" if state == "failed" else "FINISHED"
            known_by = {TRIAL: trial, SEARCH: self._key}
            steps = [(0, figures), *enumerate(epochs, 1)]
            self.keep(trial, {TRIAL_STATE: state}, params, steps, known_by, status)
            self._trials.add(trial)
