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
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import psutil

from mno.core.errors import MnoError, first_line
from mno.lineage.dvcfiles import flat
from mno.lineage.environment import PACKAGES_FILE, installed_packages
from mno.lineage.record import RECORD_FILE, Tag
from mno.registry.settings import Workspace, use_workspace

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

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
            [experiment],
            f"tags.`{Tag.TRAINING_KEY}` = '{key}'",
            order_by=["start_time DESC"],
            max_results=1,
        )
        if found:
            run_id = found[0].info.run_id
            client.update_run(run_id, status="RUNNING")
        else:
            name = f"train-{key[:8]}"
            run_id = client.create_run(
                experiment, tags={Tag.TRAINING_KEY: key}, run_name=name
            ).info.run_id
        for tag, value in (
            (Tag.STATE, "pending"),
            (Tag.OWNER, _owner()),
            (Tag.WORKSPACE, _machine(root)),
        ):
            client.set_tag(run_id, tag, value)
        _log_params(client, run_id, params)
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
        client.log_text(self.run_id, "\n".join(installed_packages()) + "\n", PACKAGES_FILE)
        for path in artifacts:
            client.log_artifact(self.run_id, str(path), "training")
        # In this order: a run that is found by its candidate is complete.
        client.set_tag(self.run_id, Tag.CANDIDATE, candidate_sha256)
        client.set_tag(self.run_id, Tag.STATE, "trained")
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


def _log_params(client: MlflowClient, run_id: str, params: Mapping[str, Any]) -> None:
    from mlflow.entities import Param

    # Parameters cannot be changed; those that are not part of the key may differ on resuming.
    known = client.get_run(run_id).data.params
    new = [Param(name, str(value)) for name, value in params.items() if name not in known]
    for start in range(0, len(new), 100):  # what one request may hold
        client.log_batch(run_id, params=new[start : start + 100])


def _sweep(workspace: Workspace, experiment: str) -> None:
    """Close the runs of this workspace whose process is gone."""
    pending = workspace.client.search_runs(
        [experiment],
        f"tags.`{Tag.STATE}` = 'pending' AND tags.`{Tag.WORKSPACE}` = '{_machine(workspace.root)}'",
    )
    for run in pending:
        if not _is_alive(run.data.tags.get(Tag.OWNER, "")):
            _abandon(workspace, run, "KILLED")


def _abandon(workspace: Workspace, run: Run, status: str) -> None:
    # A run that had finished before it was opened again still describes its candidate.
    finished = Tag.CANDIDATE in run.data.tags
    client, run_id = workspace.client, run.info.run_id
    client.set_tag(run_id, Tag.STATE, "trained" if finished else "abandoned")
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


STUDY, CELL, CELL_SHA256 = "mno.study", "mno.cell", "mno.cell_sha256"
CELL_FILE = "cell.json"
SEARCH, TRIAL, TRIAL_STATE = "mno.search", "mno.trial", "mno.trial_state"
_AT_ONCE = 900  # metrics, of the 1,000 that one request may hold


class NestedRuns:
    """One parent run, and a nested run for each of its parts, such as a search and its trials.

    Args:
        root: The workspace.
        experiment: The experiment's name.
        tags: What the parent is known by.
        title: What its run is called; the first time it is made.

    Raises:
        MnoError: MLflow cannot be used.
    """

    def __init__(self, root: Path, experiment: str, tags: Mapping[str, str], title: str) -> None:
        workspace = use_workspace(root)
        self._client, self._experiment = workspace.client, workspace.experiment(experiment)
        asked = " AND ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
        found = self._client.search_runs([self._experiment], asked, max_results=1)
        if found:
            self.run_id = found[0].info.run_id
            self._client.update_run(self.run_id, status="RUNNING")
        else:
            made = self._client.create_run(self._experiment, tags=dict(tags), run_name=title)
            self.run_id = made.info.run_id

    def close(self, *, whole: bool, figures: Mapping[str, float] | None = None) -> None:
        """Say of the parent that nobody works on it now.

        Args:
            whole: Whether all of its parts have been made.
            figures: Of all of them.
        """
        for name, value in (figures or {}).items():
            self._client.log_metric(self.run_id, name, value)
        self._client.set_terminated(self.run_id, "FINISHED" if whole else "KILLED")

    def kept(self, tag: str, value: str) -> list[Run]:
        """Return the nested runs with a tag."""
        asked = f"tags.`{tag}` = '{value}'"
        return list(self._client.search_runs([self._experiment], asked, max_results=50_000))

    def keep(
        self,
        name: str,
        tags: Mapping[str, str],
        params: Mapping[str, Any],
        steps: Sequence[tuple[int, Mapping[str, float]]],
        status: str = "FINISHED",
        files: Mapping[str, str] | None = None,
        known_by: Mapping[str, str] | None = None,
    ) -> None:
        """Keep a part as a nested run.

        Args:
            name: Of the part.
            tags: What is said of it.
            params: What it was made with.
            steps: What was measured, by step.
            status: What became of it, in MLflow's words.
            files: Texts to keep with it, by name.
            known_by: Tags that come last: a kill leaves no half that passes for the whole.

        Raises:
            MnoError: MLflow cannot be used.
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
            for key, value in (known_by or {}).items():
                client.set_tag(run, key, value)
            client.set_terminated(run, status)
        except MlflowException as error:
            raise MnoError(f"MLflow cannot keep {name}: {first_line(error)}") from None


def study_log(root: Path, study: str, title: str) -> NestedRuns:
    """Return where MLflow keeps a study and its cells: the experiment `study-<name>`."""
    return NestedRuns(root, f"study-{study}", {STUDY: study, CELL: ""}, title)


def log_cell(log: NestedRuns, study: str, name: str, record: Mapping[str, Any]) -> None:
    """Keep a finished cell of a study; the same cell is kept once.

    Args:
        log: What `study_log` returned.
        study: Name of the study.
        name: Of the cell.
        record: What is kept of it in `studies/results/`.

    Raises:
        MnoError: MLflow cannot be used.
    """
    digest = record["identity"]["cell"]
    if log.kept(CELL_SHA256, digest):
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
    files = {CELL_FILE: json.dumps(record, indent=1) + "\n"}
    known_by = {CELL_SHA256: digest}
    log.keep(name, tags, flat(record["params"]), [(0, numbers)], files=files, known_by=known_by)


class SearchLog(NestedRuns):
    """What MLflow keeps of one search, in the experiment `tune-<name>`.

    Args:
        root: The workspace.
        name: Of the search.
        key: What tells it from earlier ones of that name.
        title: What its run is called.

    Raises:
        MnoError: MLflow cannot be used.
    """

    def __init__(self, root: Path, name: str, key: str, title: str) -> None:
        super().__init__(root, f"tune-{name}", {f"{SEARCH}.parent": key}, title)
        self._key = key
        self._trials = {run.data.tags[TRIAL] for run in self.kept(SEARCH, key)}

    def keep_trial(
        self,
        trial: str,
        state: str,
        params: Mapping[str, Any],
        figures: Mapping[str, float],
        epochs: Sequence[Mapping[str, float]],
    ) -> None:
        """Keep a trial as a nested run; the same one is kept once.

        Args:
            trial: Its name, unique in the search.
            state: What became of it.
            params: Its point of the space.
            figures: What was measured at its end.
            epochs: What was measured after each epoch.

        Raises:
            MnoError: MLflow cannot be used.
        """
        if trial not in self._trials:
            status = "FAILED" if state == "failed" else "FINISHED"
            known_by = {TRIAL: trial, SEARCH: self._key}
            steps = [(0, figures), *enumerate(epochs, 1)]
            self.keep(trial, {TRIAL_STATE: state}, params, steps, status, known_by=known_by)
            self._trials.add(trial)
