"""What registration is given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mno.registry.packaging import Arrays


@dataclass(frozen=True)
class Request:
    """Where and for whom a model is registered.

    Attributes:
        root: The folder whose code, parameters and `dvc.lock` made the model.
        workspace: The folder whose MLflow is used; the same, but in a DVC experiment.
        params: The content of `params.yaml`.
        experiment: Name of the DVC experiment; in one, nothing is registered, only logged.
        flow_run_id: Id of the Prefect flow run.
    """

    root: Path
    workspace: Path
    params: Mapping[str, Any]
    experiment: str | None = None
    flow_run_id: str | None = None


@dataclass(frozen=True)
class Evaluated:
    """What the evaluation found.

    Attributes:
        relative_l2: Relative L2 error on the test split; the figure that decides.
        errors: The same of each test sample; NaN where none is known.
        metrics: Figures to log, by name.
        inputs: Input fields of some samples, in physical units.
        predictions: What the evaluation predicted from them.
        history: Frames of states among these inputs; 0 without states.
        reports: Files and folders to keep with the run.
        trust: Content of the file that predictions are judged by, to go into the package.
        kpis: `kpis` of `reports/decision.json`.
        physics: `physics` of `reports/metrics.json`; or why nothing was checked.
    """

    relative_l2: float
    errors: tuple[float, ...]
    metrics: Mapping[str, float]
    inputs: Arrays
    predictions: Arrays
    history: int = 0
    reports: tuple[Path, ...] = ()
    trust: bytes | None = None
    kpis: Sequence[Mapping[str, Any]] = ()
    physics: Mapping[str, Any] | str = "nothing was checked"
