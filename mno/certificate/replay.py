"""How a model that was made again compares with the one that was registered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

IDENTICAL, WITHIN, DIFFERENT = "identical", "within tolerance", "different"
NOT_COMPARED = "cannot be compared"


@dataclass(frozen=True)
class Comparison:
    """One thing that was made again.

    Attributes:
        subject: For example `weights.safetensors`.
        verdict: `identical`, `within tolerance`, `different` or `cannot be compared`.
        recorded: What was registered: a digest or a figure.
        replayed: What came of making it again.
        remark: By how much it differs, or why it cannot be compared.
    """

    subject: str
    verdict: str
    recorded: str
    replayed: str
    remark: str = ""


@dataclass(frozen=True)
class Replay:
    """The comparisons of a replay.

    Attributes:
        comparisons: One for each thing that was made again.
        facts: What was made again, on what, and to which tolerance, as name and text.
    """

    comparisons: Sequence[Comparison]
    facts: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> Replay:
        """Take it from the plain values that a replay tells.

        Args:
            told: `items`, each with `name`, `likeness`, `recorded`, `found` and `note`; and where
                they are known `stages`, `given`, `tolerance`, and `packages` and `machine`, which
                list what differs by `name`, `recorded` and `present`.
        """
        items = [
            Comparison(item["name"], str(item["likeness"]), item["recorded"], item["found"],
                       item["note"])
            for item in told["items"]
        ]  # fmt: skip
        return cls(items, dict(_facts(told)))

    @property
    def passed(self) -> bool:
        """Whether something was compared and nothing is different."""
        verdicts = {comparison.verdict for comparison in self.comparisons} - {NOT_COMPARED}
        return bool(verdicts) and verdicts <= {IDENTICAL, WITHIN}

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {
            "passed": self.passed,
            "comparisons": [asdict(comparison) for comparison in self.comparisons],
            "facts": dict(self.facts),
        }


def _facts(told: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if told.get("stages"):
        yield "Stages that were run again", ", ".join(told["stages"])
    if told.get("given"):
        yield "Taken as recorded", ", ".join(told["given"])
    if told.get("tolerance"):
        yield "Tolerance", str(told["tolerance"])
    for key, name in (("packages", "Packages that differ"), ("machine", "Machine, what differs")):
        if key in told:
            yield name, _changes(told[key])


def _changes(changes: Sequence[Mapping[str, Any]] | None) -> str:
    if changes is None:
        return "not known"
    texts = (f"{c['name']}: {c['recorded'] or 'none'} → {c['present'] or 'none'}" for c in changes)
    return "; ".join(texts) or "none"
