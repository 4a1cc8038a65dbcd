"""How a model that was made again compares with the one that was registered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

IDENTICAL, WITHIN, DIFFERENT = "identical", "within tolerance", "different"


@dataclass(frozen=True)
class Comparison:
    """One thing that was made again.

    Attributes:
        subject: For example `weights`.
        verdict: `identical`, `within tolerance` or `different`.
        recorded: What was registered: a digest or a figure.
        replayed: What came of making it again.
        remark: The tolerance, or which facts of the machines differ.
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
        facts: When, where and how that was done, as name and text.
    """

    comparisons: Sequence[Comparison]
    facts: Mapping[str, str] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether nothing came out differently; false where nothing was compared."""
        verdicts = {comparison.verdict for comparison in self.comparisons}
        return bool(verdicts) and verdicts <= {IDENTICAL, WITHIN}

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {
            "passed": self.passed,
            "comparisons": [asdict(comparison) for comparison in self.comparisons],
            "facts": dict(self.facts),
        }
