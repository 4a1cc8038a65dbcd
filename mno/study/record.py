"""What is kept of a finished cell: all that the report is made from, read from its reports."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mno.lineage.environment import machine_facts
from mno.study.design import Cell
from mno.study.identity import Identity

_DIGITS = 6  # significant, of each sample's error: the files are to be committed


def done_record(cell: Cell, identity: Identity, folder: Path, workers: int) -> dict[str, Any]:
    """Return what is kept of a cell that was made in a folder.

    Args:
        cell: The cell.
        identity: As it was made: with the md5 of its data.
        folder: Where its `reports/` are.
        workers: Cells that were made at the same time, at most.
    """
    reports = {
        name: _read(folder / f"reports/{name}.json")
        for name in ("metrics", "per_sample", "train", "cost", "robustness", "learning_curve")
    }
    metrics, cost, train = reports["metrics"], reports["cost"], reports["train"]
    spent = cost["spent"]
    return {
        **_head(cell, identity, "done", workers),
        "parameters": cost["parameters"],
        "metrics": {k: v for k, v in metrics.items() if k not in ("intervals", "physics")},
        "physics": metrics["physics"],
        "per_sample": {
            "sample": reports["per_sample"]["sample"],
            "relative_l2": [_rounded(e) for e in reports["per_sample"]["relative_l2"]],
        },
        "training": {
            "best_epoch": train["best_epoch"],
            "validation": [_rounded(e["validation_relative_l2"]) for e in train["epochs"]],
            "train": [_rounded(e["train_relative_l2"]) for e in train["epochs"]],
        },
        "resolution": reports["robustness"].get("resolution"),
        "learning_curve": reports["learning_curve"]["points"],
        "cost": {k: v for k, v in cost.items() if k != "spent"},
        "seconds": {stage: spent[stage] for stage in ("generate", "train", "evaluate")},
    }


def failed_record(cell: Cell, identity: Identity, reason: str, workers: int) -> dict[str, Any]:
    """Return what is kept of a cell that could not be made, and why."""
    return {**_head(cell, identity, "failed", workers), "reason": reason}


def scaling_record(
    cell: Cell, identity: Identity, parameters: int, points: list[dict[str, Any]]
) -> dict[str, Any]:
    """Return what is kept of the measurements of an operator on several grids."""
    return {**_head(cell, identity, "done", 1), "parameters": parameters, "points": points}


def _head(cell: Cell, identity: Identity, state: str, workers: int) -> dict[str, Any]:
    return {
        "study": cell.study,
        "state": state,
        "cell": {
            "scenario": cell.scenario,
            "model": cell.model.name,
            "backbone": cell.model.backbone,
            "mixer": cell.model.mixer,
            "seed": cell.seed,
        },
        "identity": {**vars(identity), "cell": identity.digest},
        "params": cell.tracked,
        "machine": {**machine_facts(), "workers": workers},
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.{_DIGITS}g}")


def _read(path: Path) -> Mapping[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))
