"""Simple peers on a study's data: what an engineer has without training a network."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mno.core.absent import Absent
from mno.core.config import section
from mno.core.forecast import TaskConfig
from mno.data.parts import seen
from mno.data.reading import open_splits
from mno.evaluation.simple_peers import errors_of_peer, fit_peer
from mno.study.design import Cell
from mno.study.operators import model_of
from mno.training.problem import describe


def fit_peers(cell: Cell, dataset: Path, names: Sequence[str], root: Path) -> list[dict[str, Any]]:
    """Fit simple peers to the data of a cell, and judge them.

    Of each that there is, in the order given, there are its `name`, hyperparameters (`settings`),
    training `samples`, processor `seconds` of fitting it and choosing them, and mean relative L2 on
    the `validation` and the `test` split. Data that cannot be read are refused.
    """
    task = section(cell.params, "task", TaskConfig)
    training, validation, test = (
        seen(split, task.part, task.skip)
        for split in open_splits(dataset, "train", "validation", "test")
    )
    scales = cell.params["train"]["scales"]
    left = task.model_copy(update={"skip": 0})  # which the splits have left out
    description = describe(training, model_of(cell.params, root), left, scales)
    found = []
    for name in names:
        peer = fit_peer(name, training, validation, description)
        if isinstance(peer, Absent):
            continue
        errors = {
            split.name: float(errors_of_peer(peer, split, description).mean())
            for split in (validation, test)
        }
        found.append({
            "name": name, "settings": peer.settings, "samples": peer.samples,
            "seconds": round(peer.seconds, 2), **errors,
        })  # fmt: skip
    return found
