"""The certificate as an HTML file, in the look of the report: the verdict, then the proof."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from markupsafe import Markup

from mno.certificate.content import DOCUMENTS, Certificate
from mno.certificate.facts import LINKS, link_facts, replay_facts
from mno.certificate.graph import draw_tall, draw_wide
from mno.certificate.look import MARKS, findings_of, link_look, link_verdict, section_id
from mno.certificate.packages import licence_counts
from mno.lineage.audit.finding import Finding, Verdict
from mno.report.language import Words
from mno.report.page import render_page, templates
from mno.report.section import Section


def render_certificate(certificate: Certificate, signer: str | None) -> str:
    """Return the page; it loads nothing, and all that it is given is escaped.

    Args:
        certificate: What is certified.
        signer: Fingerprint of the key that the folder is signed with; none where it is not.
    """
    return render_page(
        "report/page.html.j2",
        language="en",
        words=Words.of("en"),
        title=f"Certificate: {certificate.name} version {certificate.version}",
        subtitle=f"Where a registered model comes from, audited link by link on "
        f"{moment(certificate.made)}.",
        sections=list(_sections(certificate, signer)),
    )


def _sections(certificate: Certificate, signer: str | None) -> Iterator[Section]:
    yield _section("verdict", "Verdict", certificate=certificate, tiles=_tiles(certificate),
                   unknown=certificate.count(Verdict.UNKNOWN))  # fmt: skip
    yield _section(
        "lineage", "Lineage", wide=draw_wide(certificate), tall=draw_tall(certificate),
        links=[_link_row(certificate, link) for link in LINKS if findings_of(certificate, link)],
    )  # fmt: skip
    differing = [f for f in certificate.findings if f.verdict.is_difference]
    if differing:
        yield _section("differences", "What differs", rows=_rows(differing))
    if certificate.replay:
        replay = certificate.replay
        yield _section("replay", "Made again", items=replay.items, told=list(replay_facts(replay)))
    for link, (title, what) in LINKS.items():
        findings = findings_of(certificate, link)
        if findings:
            yield _section(
                "link", title, section_id(link), what=what, facts=link_facts(certificate, link),
                rows=_rows(findings), extra=_extra(certificate, link),
            )  # fmt: skip
    digests = {n: hashlib.sha256(c).hexdigest() for n, c in certificate.documents.items()}
    documents = [(name, DOCUMENTS[name], digest) for name, digest in digests.items()]
    yield _section("proof", "This certificate", documents=documents, signer=signer)


def _extra(certificate: Certificate, link: str) -> Markup:
    """Return what only one link has to show."""
    if link == "decision":
        return _render("decisions", certificate=certificate, moment=moment)
    if link == "parameters":
        return _render("parameters", params=[(k, _shown(v)) for k, v in certificate.params.items()])
    if link == "environment":
        return _render("licences", packages=certificate.packages,
                       counts=licence_counts(certificate.packages))  # fmt: skip
    return Markup()


def _section(template: str, title: str, identity: str = "", **content: Any) -> Section:
    return Section(identity or template, title, _render(template, title=title, **content))


def _render(template: str, **content: Any) -> Markup:
    page = templates().get_template(f"certificate/templates/{template}.html.j2")
    return Markup(page.render(**content))


def _tiles(certificate: Certificate) -> list[tuple[str, str]]:
    counts = [(_title(verdict), str(certificate.count(verdict))) for verdict in Verdict]
    return [("Checks", str(len(certificate.findings))), *counts]


def _title(verdict: Verdict) -> str:
    return str(verdict)[:1].upper() + str(verdict)[1:]


def _link_row(certificate: Certificate, link: str) -> dict[str, Any]:
    verdict, findings = link_verdict(certificate, link), findings_of(certificate, link)
    good = sum(finding.verdict is Verdict.VERIFIED for finding in findings)
    return {
        "title": LINKS[link][0],
        "target": section_id(link),
        **_verdict(verdict),
        "summary": f"{good} of {len(findings)}",
    }


def _rows(findings: list[Finding]) -> list[dict[str, Any]]:
    return [{"finding": finding, **_verdict(finding.verdict)} for finding in findings]


def _verdict(verdict: Verdict) -> Mapping[str, str]:
    return {"verdict": str(verdict), "mark": MARKS[verdict], "look": link_look(verdict)}


def _shown(value: Any) -> str:
    """Return a parameter as `params.yaml` has it."""
    return value if isinstance(value, str) else json.dumps(value, default=str)


def moment(time: str) -> str:
    """Return a time in ISO 8601 as people read it."""
    return time.replace("T", " ").replace("+00:00", " UTC")
