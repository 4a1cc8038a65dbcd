"""What a model was made on at the time and what it is made on again: packages and machine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mno.lineage.audit.environment import FILE
from mno.lineage.audit.evidence import Evidence, entry
from mno.lineage.environment import CONSTRAINTS_FILE, environment_digest
from mno.lineage.replay.outcome import Change

# Whose versions may decide the last bits of data, weights or figures.
COMPUTING = frozenset(
    {"llvmlite", "numba", "numcodecs", "numpy", "scipy", "torch", "triton", "zarr"}
)
_DECIDING_FACTS = frozenset({"architecture", "cores", "cpu", "device"})


@dataclass(frozen=True)
class Conditions:
    """What the bits of a result may depend on besides data, code and parameters.

    Attributes:
        packages: Lines `name==version`; none where they are not known.
        machine: Facts of the machine by name, with the device; empty where they are not known.
    """

    packages: Sequence[str] | None
    machine: Mapping[str, Any]


def recorded_conditions(evidence: Evidence) -> Conditions:
    """Return what a version's record says that it was made on.

    The list of packages counts only if it has the digest that the record names.
    """
    facts = dict(entry(evidence.record, "machine") or {})
    device = entry(evidence.record, "device")
    if device is not None:
        facts["device"] = device
    packages = None
    path = evidence.run / FILE if evidence.run else None
    if path is not None and path.is_file() and not entry(evidence.record, "restored"):
        lines = path.read_bytes().removesuffix(b"\n").split(b"\n")
        constraints = evidence.tree.files.get(CONSTRAINTS_FILE, b"")
        recorded = entry(evidence.record, "environment_sha256")
        if environment_digest(constraints, lines) == recorded:
            packages = [line.decode(errors="replace") for line in lines]
    return Conditions(packages, facts)


def changed_packages(recorded: Conditions, present: Conditions) -> list[Change] | None:
    """Return the packages that are other ones, the deciding ones first; none if nobody knows."""
    if recorded.packages is None or present.packages is None:
        return None
    before, now = _versions(recorded.packages), _versions(present.packages)
    changes = [
        Change(name, before.get(name), now.get(name), name in COMPUTING)
        for name in sorted(before.keys() | now.keys())
        if before.get(name) != now.get(name)
    ]
    return sorted(changes, key=lambda change: not change.matters)


def changed_machine(recorded: Conditions, present: Conditions) -> list[Change]:
    """Return the facts of the machine that are other ones, the deciding ones first."""
    names = [name for name in recorded.machine if name in present.machine]
    changes = [
        Change(name, str(recorded.machine[name]), str(present.machine[name]),
               name in _DECIDING_FACTS)
        for name in names
        if recorded.machine[name] != present.machine[name]
    ]  # fmt: skip
    return sorted(changes, key=lambda change: not change.matters)


def same_bits(recorded: Conditions, present: Conditions) -> bool:
    """Tell whether nothing is known to differ that bits depend on, and everything is known."""
    packages = changed_packages(recorded, present)
    if packages is None or not recorded.machine:
        return False
    return not any(c.matters for c in (*packages, *changed_machine(recorded, present)))


def _versions(packages: Iterable[str]) -> dict[str, str]:
    """Return versions by name; of a package that is there twice, both."""
    found: dict[str, str] = {}
    for line in packages:
        name, _, version = line.partition("==")
        found[name] = f"{found[name]} and {version}" if name in found else version
    return found
