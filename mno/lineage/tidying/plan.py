"""The plan of what may go: everything that is there, less everything that is needed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from mno.lineage.tidying.item import KINDS, Item

GIB = 2**30


@dataclass(frozen=True)
class Plan:
    """What may go, and why the rest may not.

    Attributes:
        items: In the order in which they go.
        kept: Why something is not touched at all, in sentences.
        spared: How many runs stay only because the latest are to stay.
        total: Bytes that the workspace takes on disk.
    """

    items: Sequence[Item]
    kept: Sequence[str] = field(default_factory=tuple)
    spared: int = 0
    total: int = 0

    @property
    def size(self) -> int:
        """Bytes that would be free."""
        return sum(item.size for item in self.items)

    def by_kind(self) -> dict[str, tuple[int, int]]:
        """Return number and bytes of what may go, of each kind."""
        found = {kind: (0, 0) for kind in KINDS}
        for item in self.items:
            number, size = found[item.kind]
            found[item.kind] = number + 1, size + item.size
        return found

    def to_dict(self) -> dict[str, object]:
        """Return what `--json` prints."""
        kinds = self.by_kind().items()
        return {
            "total_bytes": self.total,
            "bytes": self.size,
            "kinds": {kind: {"count": n, "bytes": size} for kind, (n, size) in kinds},
            "spared_runs": self.spared,
            "not_touched": list(self.kept),
            "items": [item.to_dict() for item in self.items],
        }


def fit(plan_with: Callable[[int], Plan], keep_runs: int, max_gib: float | None) -> Plan:
    """Return the plan that spares as many runs as the room on disk allows.

    Args:
        plan_with: Makes the plan that spares a number of runs, the latest.
        keep_runs: How many are to be spared.
        max_gib: Room on disk, GiB; none where there is no limit.
    """
    plan = plan_with(keep_runs)
    if max_gib is None:
        return plan
    spared = min(keep_runs, plan.spared)
    while plan.total - plan.size > max_gib * GIB and spared > 0:
        spared -= 1
        plan = plan_with(spared)
    left = plan.total - plan.size
    if left > max_gib * GIB:
        over = (
            f"{left / GIB:.2f} GiB are needed, more than retention.max_gib={max_gib:g}; to need "
            "less, delete registered versions in MLflow, or branches and experiments in git"
        )
        return replace(plan, kept=(*plan.kept, over))
    return plan
