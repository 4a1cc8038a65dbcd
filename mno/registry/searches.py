"""Searches in MLflow: one parent run for each search, and a nested run for each of its trials."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mno.core.errors import MnoError, first_line
from mno.registry.settings import Workspace, use_workspace

SEARCH, TRIAL, STATE = "mno.search", "mno.trial", "mno.trial_state"
_PARENT = "mlflow.parentRunId"
_AT_ONCE = 900  # metrics, of the 1,000 that one request may hold


class SearchLog:
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
        self._key = key
        self._workspace: Workspace = use_workspace(root)
        self._client = self._workspace.client
        self._experiment = self._workspace.experiment(f"tune-{name}")
        self.run_id = self._parent(title)
        kept = self._client.search_runs(
            [self._experiment], f"tags.`{SEARCH}` = '{key}'", max_results=50_000
        )
        self._kept = {run.data.tags[TRIAL] for run in kept}

    def close(self, *, whole: bool, figures: Mapping[str, float]) -> None:
        """Say of the search's run that nobody works on it now.

        Args:
            whole: Whether all trials have been made.
            figures: Of the search.
        """
        for name, value in figures.items():
            self._client.log_metric(self.run_id, name, value)
        self._client.set_terminated(self.run_id, "FINISHED" if whole else "KILLED")

    def keep(
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
        from mlflow.exceptions import MlflowException

        if trial in self._kept:
            return
        try:
            self._log(trial, state, params, figures, epochs)
        except MlflowException as error:
            raise MnoError(f"MLflow cannot keep the trial: {first_line(error)}") from None
        self._kept.add(trial)

    def _log(
        self,
        trial: str,
        state: str,
        params: Mapping[str, Any],
        figures: Mapping[str, float],
        epochs: Sequence[Mapping[str, float]],
    ) -> None:
        from mlflow.entities import Metric, Param
        from mlflow.utils.time import get_current_time_millis

        # The tag by which it is known comes last: a kill leaves no half that passes for the whole.
        tags = {_PARENT: self.run_id, STATE: state}
        run = self._client.create_run(self._experiment, tags=tags, run_name=trial).info.run_id
        now = get_current_time_millis()
        metrics = [Metric(key, value, now, 0) for key, value in figures.items()]
        metrics += [
            Metric(key, value, now, step)
            for step, epoch in enumerate(epochs, 1)
            for key, value in epoch.items()
        ]
        self._client.log_batch(run, params=[Param(k, str(v)) for k, v in params.items()])
        for start in range(0, len(metrics), _AT_ONCE):
            self._client.log_batch(run, metrics=metrics[start : start + _AT_ONCE])
        self._client.set_tag(run, TRIAL, trial)
        self._client.set_tag(run, SEARCH, self._key)
        self._client.set_terminated(run, "FAILED" if state == "failed" else "FINISHED")

    def _parent(self, title: str) -> str:
        found = self._client.search_runs(
            [self._experiment],
            f"tags.`{SEARCH}.parent` = '{self._key}'", max_results=1,
        )  # fmt: skip
        if found:
            self._client.update_run(found[0].info.run_id, status="RUNNING")
            return found[0].info.run_id
        tags = {f"{SEARCH}.parent": self._key}
        return self._client.create_run(self._experiment, tags=tags, run_name=title).info.run_id
