"""The replay of a model: made again from its record, and compared with what was recorded.

Here is what a person may say of it, what is then made again and what taken as it was, and on what
packages and machine a model was made at the time and is made again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from mno.core.errors import InputError, MnoError
from mno.lineage.audit import Evidence
from mno.lineage.audit.objects import Tree
from mno.lineage.dvcfiles import DATA_FILE
from mno.lineage.environment import CONSTRAINTS_FILE, PACKAGES_FILE, environment_digest
from mno.lineage.record import entry

LINE = ("generate", DATA_FILE, "train", "learning_curve", "evaluate")
"""What makes a model and its figures, in its order."""
ALONE = ("generate", "train", "evaluate")
"""The stages that can be replayed alone."""
# Whose versions may decide the last bits of data, weights or figures.
COMPUTING = frozenset(
    {"lightning", "llvmlite", "numba", "numcodecs", "numpy", "scipy", "torch", "triton", "zarr"}
)
_DECIDING_FACTS = frozenset({"architecture", "cores", "cpu", "device"})


class DataFrom(StrEnum):
    """Where a replay has the data from."""

    REGENERATE = "regenerate"
    PULL = "pull"
    BOTH = "both"


class EnvironmentOf(StrEnum):
    """Which packages a replay runs with."""

    PRESENT = "present"
    BUILD = "build"


@dataclass(frozen=True)
class ReplayOptions:
    """What a user may say of a replay.

    Attributes:
        data: Where the data come from; see `make_plan`.
        stage: The only stage to replay; all if none.
        environment: Run with the packages that are there, or build an environment of the recorded
            ones.
        keep: Keep the folder when all is done.
        quiet: Print failures only.
    """

    data: DataFrom | None = None
    stage: str | None = None
    environment: EnvironmentOf = EnvironmentOf.PRESENT
    keep: bool = False
    quiet: bool = False


@dataclass(frozen=True)
class ReplayPlan:
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


def make_plan(stage: str | None, data: DataFrom | None) -> ReplayPlan:
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
        return ReplayPlan(["generate"], data=False, model=False, data_report=False)
    if data is None:
        data = DataFrom.REGENERATE if stage is None else DataFrom.PULL
    begin = {
        DataFrom.REGENERATE: ["generate", DATA_FILE],
        DataFrom.BOTH: ["generate"],
        DataFrom.PULL: [],
    }[data]
    then = [stage] if stage is not None else list(LINE[2:])
    return ReplayPlan(
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


@dataclass(frozen=True)
class Conditions:
    """What the bits of a result may depend on besides data, code and parameters.

    Attributes:
        packages: Lines `name==version`; none where they are not known.
        machine: Facts of the machine by name, with the device; empty where they are not known.
    """

    packages: Sequence[str] | None
    machine: Mapping[str, Any]


@dataclass(frozen=True)
class ConditionChange:
    """A fact of the environment or the machine that is another than at the time.

    Attributes:
        name: For example `cpu` or `torch`.
        recorded: What it was; none where there was nothing of the name.
        present: What it is; none where there is nothing of the name.
        matters: Whether the bits of a result may depend on it.
    """

    name: str
    recorded: str | None
    present: str | None
    matters: bool

    def __str__(self) -> str:
        return f"{self.name}: {self.recorded or 'none'} → {self.present or 'none'}"


def recorded_conditions(evidence: Evidence) -> Conditions:
    """Return what a version's record says that it was made on.

    The list of packages counts only if it has the digest that the record names.
    """
    record = evidence.record
    facts = dict(entry(record, "machine") or {})
    if entry(record, "device") is not None:
        facts["device"] = entry(record, "device")
    path = evidence.run / PACKAGES_FILE if evidence.run else None
    if path is None or not path.is_file() or entry(record, "restored"):
        return Conditions(None, facts)
    lines = path.read_bytes().removesuffix(b"\n").split(b"\n")
    digest = environment_digest(evidence.tree.files.get(CONSTRAINTS_FILE, b""), lines)
    if digest != entry(record, "environment_sha256"):
        return Conditions(None, facts)
    return Conditions([line.decode(errors="replace") for line in lines], facts)


def changed_packages(recorded: Conditions, present: Conditions) -> list[ConditionChange] | None:
    """Return the packages that are other ones, the deciding ones first; none if nobody knows."""
    if recorded.packages is None or present.packages is None:
        return None
    before, now = _versions(recorded.packages), _versions(present.packages)
    names = sorted(before.keys() | now.keys())
    return _changes((n, before.get(n), now.get(n), n in COMPUTING) for n in names)


def changed_machine(recorded: Conditions, present: Conditions) -> list[ConditionChange]:
    """Return the facts of the machine that are other ones, the deciding ones first."""
    before, now = recorded.machine, present.machine
    names = [name for name in before if name in now and before[name] != now[name]]
    return _changes((n, str(before[n]), str(now[n]), n in _DECIDING_FACTS) for n in names)


def same_bits(recorded: Conditions, present: Conditions) -> bool:
    """Tell whether nothing is known to differ that bits depend on, and everything is known."""
    packages = changed_packages(recorded, present)
    if packages is None or not recorded.machine:
        return False
    return not any(c.matters for c in (*packages, *changed_machine(recorded, present)))


def _changes(facts: Iterable[tuple[str, str | None, str | None, bool]]) -> list[ConditionChange]:
    found = [ConditionChange(*fact) for fact in facts if fact[1] != fact[2]]
    return sorted(found, key=lambda change: not change.matters)


def _versions(packages: Iterable[str]) -> dict[str, str]:
    """Return versions by name; of a package that is there twice, both."""
    found: dict[str, str] = {}
    for line in packages:
        name, _, version = line.partition("==")
        found[name] = f"{found[name]} and {version}" if name in found else version
    return found
