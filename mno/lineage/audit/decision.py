"""Link: the decision on the version, its figures, and the aliases that followed from it.

What was noted is judged again by the rule, or held against what a person may do.
"""

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

from mno.lineage import decision as rule
from mno.lineage.audit import Evidence, Finding, Link
from mno.lineage.decision import CHALLENGER, CHAMPION
from mno.lineage.record import Tag, entry

DECISION = Link("decision")


def check_decision(evidence: Evidence) -> Iterator[Finding]:
    """Check the decision against its figures, these against their sources, and the aliases."""
    tags = evidence.tags
    if Tag.DECISION in tags:
        yield from _own_figure(evidence)
        judged = judged_of(tags)
        yield from check_noted(judged, tags[Tag.DECISION], tags.get(Tag.REASON, ""))
        if judged.get("how") == rule.BY_RULE:
            yield from _figures(evidence, judged)
    else:
        yield DECISION.missing("decision", "champion or challenger", "register with: mno run")
    yield from _chain(evidence)
    yield from _aliases(evidence)


def judged_of(tags: Mapping[str, str]) -> Mapping[str, Any]:
    """Return what was judged, or who decided; what is not there or cannot be read is empty."""
    try:
        content = json.loads(tags.get(Tag.JUDGED, ""))
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def check_noted(judged: Mapping[str, Any], decision: str, reason: str) -> Iterator[Finding]:
    """Check a decision, and why the version says it was made, against what was noted of it."""
    try:
        by_rule, apart, who = judged["how"] == rule.BY_RULE, 0.0, str(judged["by"])
        expected = rule.verdict(judged) if by_rule else rule.BY_PERSON[judged["how"]]
        if by_rule and judged["standing"] == "against":
            own, theirs = judged["relative_l2"], judged["champion_relative_l2"]
            apart = abs(own - theirs - judged["difference"]) / max(abs(own), abs(theirs), 1e-30)
    except (KeyError, TypeError, IndexError):
        yield DECISION.changed("what was judged", "figures, or who decided", "something else")
        return
    yield DECISION.equal("decision by its figures", expected, decision)
    if apart > 1e-9:
        found = judged["difference"]
        yield DECISION.changed("difference that was judged", "of the two errors", found)
    if reason and who:
        yield DECISION.verified("who decided, and why", f"{who}: {reason}")
    else:
        yield DECISION.missing("who decided, and why")


def _own_figure(evidence: Evidence) -> Iterator[Finding]:
    tag, subject = evidence.tags.get(Tag.RELATIVE_L2), "relative L2 of the version"
    if (ours := _number(tag)) is None:
        yield DECISION.equal(subject, "a number", tag)
        return
    report = entry(evidence.run_json("evaluation/metrics.json"), "relative_l2")
    yield DECISION.equal(f"{subject} in the run's metrics.json", ours, report)
    metric = entry(evidence.facts, "run", "metrics", "evaluation/relative_l2", "latest")
    yield DECISION.equal(f"{subject} in MLflow's run", ours, metric)


def _figures(evidence: Evidence, judged: Mapping[str, Any]) -> Iterator[Finding]:
    tags, ours = evidence.tags, _number(judged.get("relative_l2"))
    known = _errors(evidence, evidence.version, tags)
    if not _among(ours, known):
        yield DECISION.changed("error that was judged", " or ".join(sorted(known)), ours)
    if (rival := judged.get("champion")) is not None:
        yield DECISION.equal("rival that was judged", tags.get(Tag.RIVAL), str(rival))
    if judged.get("standing") != "against":
        return
    noted, theirs = _number(tags.get(Tag.RIVAL_L2)), judged.get("champion_relative_l2")
    yield DECISION.equal("rival's error that was judged", noted, _number(theirs))
    rival = int(str(rival))
    subject, their_tags = f"error of rival {rival}", evidence.versions.get(rival)
    if their_tags is None:
        yield DECISION.missing(f"version {rival}", "the rival that it was compared with")
        return
    if not (known := _errors(evidence, rival, their_tags, Tag.DATA, Tag.EVALUATION)):
        why = "it was measured anew, on other data than it was registered by"
        yield DECISION.unknown(subject, why)
    elif _among(noted, known):
        yield DECISION.verified(subject, str(noted))
    else:
        yield DECISION.changed(subject, " or ".join(sorted(known)), noted)


def _errors(evidence: Evidence, version: int, tags: Mapping[str, str], *same: str) -> set[str]:
    """Return the errors that a version has had; only of the same test, if its tags are given."""
    seals = (seal for seal in evidence.whole_chain if seal.version == version)
    sealed = [seal.content["version"]["tags"] for seal in seals]
    if version == evidence.version and evidence.sealed:
        sealed.append(evidence.sealed["version"]["tags"])
    return {
        found[Tag.RELATIVE_L2]
        for found in (tags, *sealed)
        if Tag.RELATIVE_L2 in found
        and all(found.get(key) == evidence.tags.get(key) for key in same)
    }


def _chain(evidence: Evidence) -> Iterator[Finding]:
    subject = "chain of decisions"
    if not evidence.chain:
        yield DECISION.missing(subject, "seals", "register with: mno run")
        return
    last = evidence.chain[-1]
    advice = "restore the files of the runs, or the tag mno.seal of the model, from a backup"
    if last.problem == "missing":
        yield DECISION.missing(subject, str(last.pointer), advice)
    elif last.problem:
        yield DECISION.changed(subject, str(last.pointer), last.problem, advice)
    else:
        yield DECISION.verified(subject, f"{len(evidence.chain)} seals")
    sealed = {seal.version for seal in evidence.whole_chain}
    for version in sorted(sealed - evidence.versions.keys()):
        yield DECISION.missing(f"version {version}", "a sealed version", "deleted by hand")


def _aliases(evidence: Evidence) -> Iterator[Finding]:
    seals = evidence.whole_chain
    left: Mapping[str, Any] = seals[0].content["aliases"] if seals else {}
    advice = "it was moved past the pipeline, by hand; see who did, or set it back"
    for alias in (CHAMPION, CHALLENGER):
        expected, found = left.get(alias), evidence.aliases.get(alias)
        now = f"version {found}" if found else None
        if expected is not None:
            yield DECISION.equal(f"alias {alias}", f"version {expected}", now, advice)
        elif now is not None:
            yield DECISION.changed(f"alias {alias}", "nobody", now, advice)


def _among(noted: float | None, known: set[str]) -> bool:
    """Tell whether an error that was judged was recorded: their sums may round apart."""
    numbers = [number for text in known if (number := _number(text)) is not None]
    return noted is not None and any(math.isclose(noted, n, rel_tol=1e-9) for n in numbers)


def _number(text: Any) -> float | None:
    try:
        value = float(text)
    except (TypeError, ValueError):
        return None
    return value if math.isfinite(value) else None
