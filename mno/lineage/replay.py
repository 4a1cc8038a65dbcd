"""The replay of a model: made again from its record, and compared with what was recorded.

Here is what a person may say of it, what is then made again, and on what packages and machine a
model was made at the time and is made again.
"""

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any, NamedTuple

from mno.core.errors import InputError
from mno.lineage.audit import Evidence
from mno.lineage.dvcfiles import DATA_FILE, MAKING
from mno.lineage.environment import CONSTRAINTS_FILE, PACKAGES_FILE, environment_digest

# Whose versions, or what of a machine, may decide the last bits of data, weights or figures.
_COMPUTING = frozenset(
    {"lightning", "llvmlite", "numba", "numcodecs", "numpy", "scipy", "torch", "triton", "zarr"}
)
_DECIDING_FACTS = frozenset({"architecture", "cores", "cpu", "device"})


def targets_of(stage: str | None = None, pull: bool = False) -> list[str]:
    """Return what of DVC's graph is made again, in its order: all, or one stage alone.

    What these need and do not make, they are given as it was recorded; data are made or taken.
    """
    if stage is None:
        made = [] if pull else ["generate", DATA_FILE]
        return [*made, "train", "learning_curve", "evaluate"]
    if stage not in MAKING:
        raise InputError(f"--stage {stage}: expected one of {', '.join(MAKING)}")
    if stage == "generate" and pull:
        raise InputError("--stage generate --pull: the stage makes the data; leave out --pull")
    return [stage]


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
    """Return what a version's record says that it was made on; packages by the digest it names."""
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
    before, now = (
        dict(line.split("==", 1) for line in lines if "==" in line)
        for lines in (recorded.packages, present.packages)
    )
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
    names: Iterable[str], before: Mapping[str, str], now: Mapping[str, str], deciding: Set[str]
) -> list[ConditionChange]:
    found = [ConditionChange(n, before.get(n), now.get(n), n in deciding) for n in names]
    differing = (change for change in found if change.recorded != change.present)
    return sorted(differing, key=lambda change: not change.matters)
