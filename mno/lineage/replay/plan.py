"""What a replay makes again, and what it takes as it was recorded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from mno.core.errors import InputError, MnoError
from mno.lineage.audit.tree import Tree
from mno.lineage.dvcfiles import DATA_FILE
from mno.lineage.replay.options import DataFrom

LINE = ("generate", DATA_FILE, "train", "learning_curve", "evaluate")
"""What makes a model and its figures, in its order."""

ALONE = ("generate", "train", "evaluate")
"""The stages that can be replayed alone."""


@dataclass(frozen=True)
class Plan:
    """The stages to run, and what they are given.

    Attributes:
        targets: Targets of DVC's graph, in their order.
        data: Whether the data are taken from a cache, for what comes after `generate`.
        model: Whether the trained model, and what was noted in training, are taken as they were.
        data_report: Whether the report on the data is taken as it was.
    """

    targets: Sequence[str]
    data: bool
    model: bool
    data_report: bool


def make_plan(stage: str | None, data: DataFrom | None) -> Plan:
    """Return what is to be done.

    Args:
        stage: The only stage to replay; all of them if none.
        data: Where the data come from; made again if none, but pulled for a stage alone.

    Raises:
        InputError: There is no such stage, or nothing would be done.
    """
    if stage is not None and stage not in ALONE:
        raise InputError(f"--stage {stage}: expected one of {', '.join(ALONE)}")
    if stage == "generate":
        if data in (DataFrom.PULL, DataFrom.BOTH):
            raise InputError(
                f"--stage generate --data {data}: the stage makes the data; leave out --data"
            )
        return Plan(["generate"], data=False, model=False, data_report=False)
    if data is None:
        data = DataFrom.REGENERATE if stage is None else DataFrom.PULL
    begin = {
        DataFrom.REGENERATE: ["generate", DATA_FILE],
        DataFrom.BOTH: ["generate"],
        DataFrom.PULL: [],
    }[data]
    then = [stage] if stage is not None else list(LINE[2:])
    return Plan(
        [*begin, *then],
        data=data is not DataFrom.REGENERATE,
        model=stage == "evaluate",
        data_report=data is DataFrom.PULL and "evaluate" in then,
    )


def stages_of(tree: Tree) -> list[str]:
    """Return the stages that a snapshot has; an old one may lack some.

    Raises:
        MnoError: Its `dvc.yaml` cannot be read.
    """
    try:
        return list(YAML(typ="safe").load(tree.files["dvc.yaml"].decode())["stages"])
    except (YAMLError, LookupError, TypeError, ValueError) as error:
        raise MnoError(f"dvc.yaml of the snapshot {tree.commit} cannot be read: {error}") from None
