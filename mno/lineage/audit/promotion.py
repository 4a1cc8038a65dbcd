"""The decision as it was noted: applied again by the rule, or held against what a person may do."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

from mno.lineage import rule
from mno.lineage.audit.finding import Finding, Link

LINK = Link("decision")
_NOTED = "what was judged"


def judged_of(tags: Mapping[str, str]) -> Mapping[str, Any] | None:
    """Return what was judged, or who decided; none for a version decided on before that was kept.

    What cannot be read is an empty mapping.
    """
    text = tags.get(rule.PROMOTION)
    if text is None:
        return None
    try:
        content = json.loads(text)
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def check(judged: Mapping[str, Any], decision: str, reason: str) -> Iterator[Finding]:
    """Check a decision against what was noted of it.

    Args:
        judged: What `judged_of` returned.
        decision: What the version says was decided.
        reason: What it says why.
    """
    try:
        by_rule = judged["how"] == rule.BY_RULE
        expected = rule.verdict(judged) if by_rule else rule.BY_PERSON[judged["how"]]
        apart = _difference(judged) if by_rule else 0.0
        who = str(judged["by"])
    except (KeyError, TypeError, IndexError):
        yield LINK.changed(_NOTED, "figures, or who decided", "something else")
        return
    yield LINK.equal("decision by its figures", expected, decision)
    if apart > 1e-9:
        yield LINK.changed("difference that was judged", "of the two errors", judged["difference"])
    if reason and who:
        yield LINK.verified("who decided, and why", f"{who}: {reason}")
    else:
        yield LINK.missing("who decided, and why")


def same_error(noted: float | None, known: float | None) -> bool:
    """Compare an error that was judged with one that was recorded: their sums may round apart."""
    if noted is None or known is None:
        return False
    return math.isclose(noted, known, rel_tol=1e-9)


def _difference(judged: Mapping[str, Any]) -> float:
    """Return how far the difference lies from that of the two errors, relative to these."""
    if judged["standing"] != "against":
        return 0.0
    own, theirs = judged["relative_l2"], judged["champion_relative_l2"]
    return abs(own - theirs - judged["difference"]) / max(abs(own), abs(theirs), 1e-30)
