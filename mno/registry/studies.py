"""Studies in MLflow: one parent run for each study, and a nested run for each of its cells."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mno.core.errors import MnoError, first_line
from mno.lineage.stages import flat
from mno.registry.settings import use_workspace

STUDY = "mno.study"
CELL = "mno.cell"
CELL_SHA256 = "mno.cell_sha256"
EXPERIMENT = "mno.experiment"
CELL_FILE = "cell.json"
_PARENT = "mlflow.parentRunId"


def open_study(root: Path, study: str, title: str) -> str:
    """Return the id of a study's run; the first time it is made.

    Args:
        root: The workspace.
        study: Name of the study; its runs are in the experiment `study-<name>`.
        title: What the run is called.

    Raises:
        MnoError: MLflow cannot be used.
    """
    workspace = use_workspace(root)
    experiment = workspace.experiment(_experiment(study))
    found = workspace.client.search_runs(
        [experiment], f"tags.`{STUDY}` = '{study}' AND tags.`{CELL}` = ''", max_results=1
    )
    if found:
        workspace.client.update_run(found[0].info.run_id, status="RUNNING")
        return found[0].info.run_id
    tags = {STUDY: study, CELL: ""}
    return workspace.client.create_run(experiment, tags=tags, run_name=title).info.run_id


def close_study(root: Path, run_id: str, *, whole: bool) -> None:
    """Say of a study's run that nobody works on it now.

    Args:
        root: The workspace.
        run_id: Of the study.
        whole: Whether all of its cells are there.
    """
    client = use_workspace(root).client
    client.set_terminated(run_id, "FINISHED" if whole else "KILLED")


def log_cell(root: Path, study: str, parent: str, name: str, record: Mapping[str, Any]) -> str:
    """Keep a finished cell as a run nested in its study's; the same cell is kept once.

    Args:
        root: The workspace.
        study: Name of the study.
        parent: Id of its run.
        name: Of the cell.
        record: What is kept of it in `studies/results/`.

    Returns:
        The id of the cell's run; that of its training is one of its tags.

    Raises:
        MnoError: MLflow cannot be used.
    """
    from mlflow.exceptions import MlflowException

    try:
        return _logged(root, study, parent, name, record)
    except MlflowException as error:
        raise MnoError(f"MLflow cannot keep the cell: {first_line(error)}") from None


def _logged(root: Path, study: str, parent: str, name: str, record: Mapping[str, Any]) -> str:
    from mlflow.entities import Metric, Param, RunTag
    from mlflow.utils.time import get_current_time_millis

    workspace = use_workspace(root)
    client = workspace.client
    digest = record["identity"]["cell"]
    tags = {
        STUDY: study, CELL: name, CELL_SHA256: digest, _PARENT: parent,
        EXPERIMENT: record["experiment"]["name"], "mno.data_md5": record["identity"]["data"],
        "mno.training_run": record["training_run"],
    }  # fmt: skip
    experiment = workspace.experiment(_experiment(study))
    known = client.search_runs([experiment], f"tags.`{CELL_SHA256}` = '{digest}'", max_results=1)
    if known:
        return known[0].info.run_id
    run = client.create_run(experiment, tags=tags, run_name=name).info.run_id
    now = get_current_time_millis()
    params = [Param(key, str(value)) for key, value in flat(record["params"]).items()]
    for start in range(0, len(params), 100):  # what one request may hold
        client.log_batch(run, params=params[start : start + 100])
    metrics = [Metric(key, value, now, 0) for key, value in _figures(record).items()]
    client.log_batch(run, metrics=metrics, tags=[RunTag("mlflow.note.content", name)])
    client.log_text(run, json.dumps(record, indent=1) + "\n", CELL_FILE)
    client.set_terminated(run, "FINISHED")
    return run


def _figures(record: Mapping[str, Any]) -> dict[str, float]:
    figures: dict[str, Any] = dict(record["metrics"])
    figures |= {key: record["cost"][key] for key in ("latency_ms", "peak_memory_mib")}
    figures["parameters"] = record["parameters"]
    train = record["seconds"]["train"]
    if isinstance(train, Mapping):
        figures["train_cpu_seconds"] = train["cpu_seconds"]
    return {k: float(v) for k, v in figures.items() if isinstance(v, int | float)}


def _experiment(study: str) -> str:
    return f"study-{study}"
