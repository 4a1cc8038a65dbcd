"""What an audit says of one link of the chain."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """What was found of a link.

    `verified`: its content is what was recorded. `changed`: it is there and is something else.
    `missing`: it was recorded and is not there. `unknown`: nothing was recorded that could tell, or
    nobody but the user can look.
    """

    VERIFIED = "verified"
    CHANGED = "changed"
    MISSING = "missing"
    UNKNOWN = "cannot be known"

    @property
    def is_difference(self) -> bool:
        """Whether an audit with such a finding fails."""
        return self in (Verdict.CHANGED, Verdict.MISSING)


@dataclass(frozen=True)
class Finding:
    """A verdict on one subject.

    Attributes:
        link: The part of the chain, for example `data`.
        subject: What was looked at, for example a file.
        verdict: What was found.
        expected: What the record says; empty where there is nothing to say.
        found: What is there.
        advice: What to do about it.
    """

    link: str
    subject: str
    verdict: Verdict
    expected: str = ""
    found: str = ""
    advice: str = ""

    def to_dict(self) -> dict[str, str]:
        """Return it as plain values."""
        return {**asdict(self), "verdict": str(self.verdict)}


@dataclass(frozen=True)
class Link:
    """Makes the findings of one link.

    Attributes:
        name: The link.
    """

    name: str

    def verified(self, subject: str, found: str = "") -> Finding:
        """Say that a subject is what was recorded."""
        return Finding(self.name, subject, Verdict.VERIFIED, found=found)

    def changed(self, subject: str, expected: object, found: object, advice: str = "") -> Finding:
        """Say that a subject is something else than was recorded."""
        return Finding(self.name, subject, Verdict.CHANGED, str(expected), str(found), advice)

    def missing(self, subject: str, expected: object = "", advice: str = "") -> Finding:
        """Say that a subject is not there."""
        return Finding(self.name, subject, Verdict.MISSING, str(expected), "nothing", advice)

    def unknown(self, subject: str, why: str, advice: str = "") -> Finding:
        """Say that nothing can be said, and why."""
        return Finding(self.name, subject, Verdict.UNKNOWN, found=why, advice=advice)

    def equal(self, subject: str, expected: object, found: object, advice: str = "") -> Finding:
        """Compare a value with what was recorded; None is one that is not there."""
        if found is None and expected is not None:
            return self.missing(subject, expected, advice)
        if found != expected:
            return self.changed(subject, expected, found, advice)
        return self.verified(subject, str(found))


def differs(findings: Iterable[Finding]) -> bool:
    """Tell whether an audit has found a difference."""
    return any(finding.verdict.is_difference for finding in findings)


def worst(findings: Iterable[Finding], otherwise: Verdict = Verdict.VERIFIED) -> Verdict:
    """Return the verdict that weighs most.

    Args:
        findings: What was found.
        otherwise: What to say where there are none.
    """
    order = (Verdict.CHANGED, Verdict.MISSING, Verdict.UNKNOWN, Verdict.VERIFIED)
    return min((finding.verdict for finding in findings), key=order.index, default=otherwise)
