"""The replay of a model: made again from its record, and compared with what was recorded.

Here is what a person may say of it, what is then made again and what taken as it was, and on what
packages and machine a model was made at the time and is made again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from mno.core.errors import InputError, MnoError
from mno.lineage.audit import Evidence
from mno.lineage.audit.objects import Tree
from mno.lineage.dvcfiles import DATA_FILE, MAKING
from mno.lineage.environment import CONSTRAINTS_FILE, PACKAGES_FILE, environment_digest

# Whose versions, or what of a machine, may decide the last bits of data, weights or figures.
_COMPUTING = frozenset(
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


class ReplayOptions(NamedTuple):
    """What a user may say of a replay."""

    data: DataFrom | None = None
    stage: str | None = None  # the only one to replay
    environment: EnvironmentOf = EnvironmentOf.PRESENT  # as it is, or built of recorded packages
    keep: bool = False  # the folder, when all is done
    quiet: bool = False


class ReplayPlan(NamedTuple):
    """The stages to run, and what they are given as it was recorded."""

    targets: Sequence[str]  # of DVC's graph, in their order
    data: bool  # the data, for what comes after `generate`
    model: bool  # the trained model, and what was noted in training
    data_report: bool  # the report on the data


def make_plan(stage: str | None, data: DataFrom | None) -> ReplayPlan:
    """Return what is to be done: all stages or one alone, for which data are pulled if not said.

    Raises:
        InputError: There is no such stage, or nothing would be done.
    """
    if stage is not None and stage not in MAKING:
        raise InputError(f"--stage {stage}: expected one of {', '.join(MAKING)}")
    if stage == "generate":
        if data in (DataFrom.PULL, DataFrom.BOTH):
            raise InputError(
                f"--stage generate --data {data}: the stage makes the data; leave out --data"
            )
        return ReplayPlan(["generate"], data=False, model=False, data_report=False)
    if data is None:
        data = DataFrom.REGENERATE if stage is None else DataFrom.PULL
    begin = {DataFrom.REGENERATE: ["generate", DATA_FILE], DataFrom.BOTH: ["generate"]}
    then = ["train", "learning_curve", "evaluate"] if stage is None else [stage]
    return ReplayPlan(
        [*begin.get(data, ()), *then],
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


class Conditions(NamedTuple):
    """What the bits of a result may depend on besides data, code and parameters."""

    packages: Sequence[str] | None  # lines `name==version`; none where they are not known
    machine: Mapping[str, Any]  # facts by name, with the device; empty where they are not known


@dataclass(frozen=True)
class ConditionChange:
    """A fact of the environment or the machine that is another than at the time."""

    name: str  # for example `cpu` or `torch`
    recorded: str | None
    present: str | None
    matters: bool  # whether the bits of a result may depend on it

    def __str__(self) -> str:
        return f"{self.name}: {self.recorded or 'none'} → {self.present or 'none'}"


def recorded_conditions(evidence: Evidence) -> Conditions:
    """Return what a version's record says that it was made on.

    The list of packages counts only if it has the digest that the record names.
    """
    facts = dict(evidence.recorded("machine") or {})
    if evidence.recorded("device") is not None:
        facts["device"] = evidence.recorded("device")
    path = evidence.run_file(PACKAGES_FILE)
    if path is None or evidence.recorded("restored"):
        return Conditions(None, facts)
    lines = path.read_bytes().removesuffix(b"\n").split(b"\n")
    digest = environment_digest(evidence.tree.files.get(CONSTRAINTS_FILE, b""), lines)
    known = digest == evidence.recorded("environment_sha256")
    return Conditions([line.decode(errors="replace") for line in lines] if known else None, facts)


def changed_packages(recorded: Conditions, present: Conditions) -> list[ConditionChange] | None:
    """Return the packages that are other ones, the deciding ones first; none if nobody knows."""
    if recorded.packages is None or present.packages is None:
        return None
    before, now = _versions(recorded.packages), _versions(present.packages)
    return _changes(sorted(before.keys() | now.keys()), before, now, _COMPUTING)


def changed_machine(recorded: Conditions, present: Conditions) -> list[ConditionChange]:
    """Return the facts of the machine that are other ones, the deciding ones first."""
    before, now = recorded.machine, present.machine
    shared = [name for name in before if name in now]
    before, now = ({name: str(facts[name]) for name in shared} for facts in (before, now))
    return _changes(shared, before, now, _DECIDING_FACTS)


def same_bits(recorded: Conditions, present: Conditions) -> bool:
    """Tell whether nothing is known to differ that bits depend on, and everything is known."""
    packages = changed_packages(recorded, present)
    if packages is None or not recorded.machine:
        return False
    return not any(c.matters for c in (*packages, *changed_machine(recorded, present)))


def _changes(
    names: Iterable[str],
    before: Mapping[str, str],
    now: Mapping[str, str],
    deciding: frozenset[str],
) -> list[ConditionChange]:
    found = [ConditionChange(n, before.get(n), now.get(n), n in deciding) for n in names]
    differing = (change for change in found if change.recorded != change.present)
    return sorted(differing, key=lambda change: not change.matters)


def _versions(packages: Iterable[str]) -> dict[str, str]:
    """Return versions by name; of a package that is there twice, both."""
    found: dict[str, str] = {}
    for line in packages:
        name, _, version = line.partition("==")
        found[name] = f"{found[name]} and {version}" if name in found else version
    return found
