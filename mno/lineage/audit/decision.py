"""Link: the decision on the version, its figures, and the aliases that followed from it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from mno.lineage.audit.evidence import Evidence, entry
from mno.lineage.audit.finding import Finding
from mno.lineage.audit.promotion import LINK, judged_of, same_error
from mno.lineage.audit.promotion import check as check_noted
from mno.lineage.audit.registry import BEFORE_SEALS
from mno.lineage.rule import BY_RULE
from mno.lineage.seal import Seal

CHAMPION, CHALLENGER = "champion", "challenger"
_ERROR, _RIVAL, _RIVAL_ERROR = (
    "mno.relative_l2", "mno.compared_with", "mno.champion_relative_l2",
)  # fmt: skip
_DECISION, _REASON = "mno.decision", "mno.decision_reason"
_SAME_TEST = ("mno.data_md5", "mno.evaluation_sha256")
_COMPARED = re.compile(r"relative L2 (\S+) against (\S+) of champion (\d+)")
_METRIC = "evaluation/relative_l2"


def check(evidence: Evidence) -> Iterator[Finding]:
    """Check the decision against its figures, these against their sources, and the aliases."""
    tags = evidence.tags
    if _DECISION not in tags:
        yield LINK.missing("decision", "champion or challenger", "register with: mno run")
    else:
        judged = judged_of(evidence.tags)
        yield from _own_figure(evidence)
        yield from _comparison(evidence) if judged is None else _noted(evidence, judged)
    yield from _chain(evidence)
    yield from _aliases(evidence)


def _own_figure(evidence: Evidence) -> Iterator[Finding]:
    """The error of the version, wherever it is kept."""
    tag, subject = evidence.tags.get(_ERROR), "relative L2 of the version"
    ours = _number(tag)
    if ours is None:
        yield LINK.equal(subject, "a number", tag)
        return
    report = entry(evidence.run_json("evaluation/metrics.json"), "relative_l2")
    if report is None:
        yield LINK.missing(f"{subject} in the run's metrics.json", ours)
    else:
        yield LINK.equal(f"{subject} in the run's metrics.json", ours, report)
    metric = entry(evidence.facts, "run", "metrics", _METRIC, "latest")
    yield LINK.equal(f"{subject} in MLflow's run", ours, metric)


def _noted(evidence: Evidence, judged: Mapping[str, Any]) -> Iterator[Finding]:
    """The decision as it was noted, and the errors that it was judged by, wherever they are."""
    tags = evidence.tags
    yield from check_noted(judged, tags[_DECISION], tags.get(_REASON, ""))
    if judged.get("how") != BY_RULE:
        return
    ours = _number(judged.get("relative_l2"))
    known = _history(evidence, evidence.version, tags, ())
    if not any(same_error(ours, _number(error)) for error in known):
        yield LINK.changed("error that was judged", " or ".join(sorted(known)), ours)
    rival = judged.get("champion")
    if rival is not None:
        yield LINK.equal("rival that was judged", tags.get(_RIVAL), str(rival))
    if judged.get("standing") == "against":
        theirs = _number(judged.get("champion_relative_l2"))
        yield LINK.equal("rival's error that was judged", _number(tags.get(_RIVAL_ERROR)), theirs)
        yield from _rival(evidence, int(str(rival)))


def _comparison(evidence: Evidence) -> Iterator[Finding]:
    """The rule of old: a version became champion if it erred less than the champion of the time."""
    tags = evidence.tags
    compared = _COMPARED.fullmatch(tags.get(_REASON, ""))
    if compared is None:
        yield LINK.equal("decision without a rival", CHAMPION, tags[_DECISION])
        yield LINK.verified("reason", tags.get(_REASON, "none"))
        return
    ours, theirs, rival = compared[1], compared[2], compared[3]
    yield LINK.equal("rival in the reason", tags.get(_RIVAL), rival)
    yield LINK.equal("rival's error in the reason", _shown(tags.get(_RIVAL_ERROR)), theirs)
    if ours not in {_shown(error) for error in _history(evidence, evidence.version, tags, ())}:
        yield LINK.changed("error in the reason", _shown(tags.get(_ERROR)), ours)
    own, other = _number(ours), _number(tags.get(_RIVAL_ERROR))
    if own is not None and other is not None:
        expected = CHAMPION if own < other else CHALLENGER
        if _shown(own) != _shown(other):  # else six digits do not tell
            yield LINK.equal("decision by its figures", expected, tags[_DECISION])
    yield from _rival(evidence, int(rival))


def _rival(evidence: Evidence, rival: int) -> Iterator[Finding]:
    """The rival's error as noted with the decision, against the rival's own."""
    tags, subject = evidence.tags, f"error of rival {rival}"
    theirs = evidence.versions.get(rival)
    if theirs is None:
        yield LINK.missing(f"version {rival}", "the rival that it was compared with")
        return
    known = _history(evidence, rival, theirs, _SAME_TEST)
    noted = _number(tags.get(_RIVAL_ERROR))
    if not known:
        yield LINK.unknown(subject, "it was measured anew, on other data than it was registered by")
    elif any(same_error(noted, _number(error)) for error in known):
        yield LINK.verified(subject, str(noted))
    else:
        yield LINK.changed(subject, " or ".join(sorted(known)), noted)


def _history(
    evidence: Evidence, version: int, tags: Mapping[str, str], same: tuple[str, ...]
) -> set[str]:
    """Return the errors that a version has had, those of the same test only if that is asked."""
    sealed = [s.content["version"]["tags"] for s in _seals(evidence.chain) if s.version == version]
    if version == evidence.version and evidence.sealed:
        sealed.append(evidence.sealed["version"]["tags"])
    return {
        found[_ERROR]
        for found in (tags, *sealed)
        if _ERROR in found and all(found.get(key) == evidence.tags.get(key) for key in same)
    }


def _chain(evidence: Evidence) -> Iterator[Finding]:
    """Check that the chain of the model's decisions is whole."""
    if not evidence.chain:
        yield LINK.unknown("chain of decisions", BEFORE_SEALS)
        return
    last = evidence.chain[-1]
    advice = "restore the files of the runs, or the tag mno.seal of the model, from a backup"
    if last.problem == "missing":
        yield LINK.missing("chain of decisions", str(last.pointer), advice)
    elif last.problem:
        yield LINK.changed("chain of decisions", str(last.pointer), last.problem, advice)
    else:
        yield LINK.verified("chain of decisions", f"{len(evidence.chain)} seals")
    for version in sorted({seal.version for seal in _seals(evidence.chain)}):
        if version not in evidence.versions:
            yield LINK.missing(f"version {version}", "a sealed version", "it was deleted by hand")


def _aliases(evidence: Evidence) -> Iterator[Finding]:
    """Check the model's aliases against those that the last decision left."""
    seals = _seals(evidence.chain)
    if not seals:
        champion = evidence.aliases.get(CHAMPION)
        if champion is not None:
            decided = evidence.versions.get(champion, {}).get(_DECISION)
            yield LINK.equal(f"decision on champion {champion}", CHAMPION, decided)
        return
    left: Mapping[str, Any] = seals[0].content["aliases"]
    for alias in (CHAMPION, CHALLENGER):
        expected, found = left.get(alias), evidence.aliases.get(alias)
        subject = f"alias {alias}"
        advice = "it was moved past the pipeline, by hand; see who did, or set it back"
        if found is not None and expected is None:
            yield LINK.changed(subject, "nobody", f"version {found}", advice)
        elif expected is not None:
            yield LINK.equal(
                subject, f"version {expected}", f"version {found}" if found else None, advice
            )


def _seals(chain: tuple[Seal, ...]) -> list[Seal]:
    return [seal for seal in chain if not seal.problem]


def _number(text: Any) -> float | None:
    try:
        value = float(text)
    except (TypeError, ValueError):
        return None
    return value if math.isfinite(value) else None


def _shown(value: Any) -> str | None:
    """Return a figure as the reason shows it."""
    number = _number(value)
    return None if number is None else f"{number:.6g}"
