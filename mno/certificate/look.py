"""How verdicts are shown: never by colour alone."""

from __future__ import annotations

from mno.certificate.content import Certificate
from mno.lineage.audit.finding import Finding, Verdict, worst

MARKS = {
    Verdict.VERIFIED: "✓",
    Verdict.CHANGED: "✗",
    Verdict.MISSING: "✗",
    Verdict.UNKNOWN: "?",
}
_LOOKS = {Verdict.VERIFIED: "good", Verdict.UNKNOWN: "fair"}


def link_look(verdict: Verdict) -> str:
    """Return the class, in the report's style, of what has a verdict."""
    return _LOOKS.get(verdict, "bad")


def findings_of(certificate: Certificate, link: str) -> list[Finding]:
    """Return the findings on one link."""
    return [finding for finding in certificate.findings if finding.link == link]


def link_verdict(certificate: Certificate, link: str) -> Verdict:
    """Return the worst verdict on a link; one on which nothing was found cannot be known."""
    return worst(findings_of(certificate, link), Verdict.UNKNOWN)


def section_id(link: str) -> str:
    """Return where on the page a link of the audit is told of."""
    return link.replace(" ", "-")
