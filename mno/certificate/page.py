"""A certificate's pages, in the look of the report: the verdict with its proof, and the dossier."""

import json
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from importlib.resources import files as resources
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from mno.certificate.content import AUDIT, BILL, PAGE, TABLES, Certificate, described
from mno.core.files import sha256
from mno.core.numbers import number, percent
from mno.evaluation.decision import broken_checks
from mno.lineage.audit import Finding, Verdict, counts, worst
from mno.lineage.record import Tag, entry
from mno.lineage.replay import ConditionChange
from mno.report.language import Words
from mno.report.page import Section, render_page, templates

if TYPE_CHECKING:
    from mno.lineage.replay_compare import Outcome

# How a verdict looks, never by colour alone; any other is a bad one.
_LOOKS = {Verdict.VERIFIED: ("✓", "good"), Verdict.UNKNOWN: ("?", "fair")}
_LINKS: dict[str, dict[str, Any]] = TABLES["links"]
_FIGURE = re.compile(r"\{(?:(\w+):)?([^}]+)\}")


def render_certificate(certificate: Certificate, signer: str | None) -> str:
    """Return the page, all of it escaped; the signer is the fingerprint of a key, if any."""
    return render_page(
        "report/page.html.j2", language="en", words=Words.of("en"),
        title=f"Certificate: {certificate.name} version {certificate.version}",
        subtitle=f"Where a registered model comes from, audited link by link on "
        f"{moment(certificate.made)}.",
        sections=list(_sections(certificate, signer)),
    )  # fmt: skip


def _sections(certificate: Certificate, signer: str | None) -> Iterator[Section]:
    verdicts = counts(certificate.findings)
    tiles = [("Checks", str(len(certificate.findings)))]
    tiles += [(f"{verdict[:1].upper()}{verdict[1:]}", str(n)) for verdict, n in verdicts.items()]
    yield _section("verdict", "Verdict", certificate=certificate, tiles=tiles,
                   unknown=verdicts[Verdict.UNKNOWN])  # fmt: skip
    by_link = {link: [f for f in certificate.findings if f.link == link] for link in _LINKS}
    found = {link: findings for link, findings in by_link.items() if findings}
    rows = [
        {
            "title": _LINKS[link]["title"],
            "target": _target(link),
            **_shown(worst(findings)),
            "summary": f"{sum(f.verdict is Verdict.VERIFIED for f in findings)} of {len(findings)}",
        }
        for link, findings in found.items()
    ]
    yield _section("lineage", "Lineage", links=rows, edges=TABLES["graph"]["edges"],
                   boxes=_boxes(certificate, by_link))  # fmt: skip
    if differing := [f for f in certificate.findings if f.verdict.is_difference]:
        yield _section("differences", "What differs", rows=_rows(differing))
    if certificate.replay:
        replay = certificate.replay
        yield _section("replay", "Made again", items=replay.items, told=list(_replay(replay)))
    for link, findings in found.items():
        title, what = _LINKS[link]["title"], _LINKS[link]["what"]
        yield _section(
            "link", title, _target(link), what=what, facts=list(_facts(certificate, link)),
            rows=_rows(findings), extra=_extra(certificate, link),
        )  # fmt: skip
    documents = [(n, described(n), sha256(c)) for n, c in certificate.documents.items()]
    yield _section("proof", "This certificate", documents=documents, signer=signer)


def _extra(certificate: Certificate, link: str) -> Markup:
    if link == "decision":
        return _render("decisions", certificate=certificate, moment=moment)
    if link == "parameters":
        shown = [(name, _as_yaml(value)) for name, value in certificate.params.items()]
        return _render("parameters", params=shown)
    return _render("licences", packages=certificate.packages) if link == "environment" else Markup()


def _section(template: str, title: str, identity: str = "", **content: Any) -> Section:
    return Section(identity or template, title, _render(template, title=title, **content))


def _render(template: str, **content: Any) -> Markup:
    page = templates().get_template(f"certificate/templates/{template}.html.j2")
    return Markup(page.render(**content))


def _as_yaml(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_as_yaml, value)) or "[]"
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _rows(findings: Iterable[Finding]) -> list[dict[str, Any]]:
    return [{"finding": finding, **_shown(finding.verdict)} for finding in findings]


def _shown(verdict: Verdict) -> dict[str, str]:
    mark, look = _LOOKS.get(verdict, ("✗", "bad"))
    return {"verdict": str(verdict), "mark": mark, "look": look}


def _target(link: str) -> str:
    return link.replace(" ", "-")


def moment(time: str) -> str:
    """Return a time in ISO 8601 as people read it."""
    return time.replace("T", " ").replace("+00:00", " UTC")


def _recorded(certificate: Certificate, place: str) -> Any:
    """Return what a tag says, or the record at a place; none where it is not there."""
    if place in list(Tag):
        return certificate.tags.get(place) or None
    return entry(certificate.record, *place.split())


def _facts(certificate: Certificate, link: str) -> Iterator[tuple[str, str]]:
    """Yield what is recorded of a link; what is not is left out."""
    record = certificate.record
    if link == "registry":
        yield "Name and version", certificate.model
    for title, place in _LINKS[link].get("facts", {}).items():
        if (value := _recorded(certificate, place)) is not None:
            yield title, str(value)
    if link == "snapshot":
        yield "Files in no commit", ", ".join(record.get("uncommitted") or ()) or "none"
    if link == "imported files":
        for file in entry(record, "data", "files") or ():
            yield str(file["file"]), str(file["sha256"])


def _replay(outcome: "Outcome") -> Iterator[tuple[str, str]]:
    def listed(changes: Sequence[ConditionChange] | None) -> str:
        return "not known" if changes is None else "; ".join(map(str, changes)) or "none"

    yield "Stages that were run again", ", ".join(outcome.stages)
    if outcome.given:
        yield "Taken as recorded", ", ".join(outcome.given)
    yield "Tolerance", outcome.tolerance
    yield "Packages that differ", listed(outcome.packages)
    yield "Machine, what differs", listed(outcome.machine)


def _boxes(
    certificate: Certificate, findings: Mapping[str, Sequence[Finding]]
) -> dict[str, dict[str, Any]]:
    """Return the parts of the lineage as they are drawn, from left to right."""
    files, boxes = entry(certificate.record, "data", "files"), {}
    for name, part in TABLES["parts"].items():
        title, link, (x, y) = part["title"], part["link"], part["corner"]
        found = _recorded(certificate, part["place"]) or "not recorded"
        detail = str(found).removesuffix(".dir")[:12]
        if name == "source":
            detail = str(certificate.record.get("scenario", ""))
            if files:
                title, link, detail = "Imported files", "imported files", f"{len(files)} files"
        elif name == "evaluation":
            with suppress(ValueError):
                detail = f"error {float(found):.4g}"
        elif name == "version":
            detail = str(certificate.version)
        elif name == "decision":
            detail = certificate.tags.get(Tag.DECISION, "none")
        verdict = worst(findings.get(link, ()), Verdict.UNKNOWN)  # of nothing, nothing is known
        look = {"target": _target(link), **_shown(verdict)}
        boxes[name] = {"x": x, "y": y, "title": title, "detail": detail, **look}
    return boxes


def render_dossier(certificate: Certificate) -> str:
    """Return the page of what standards of credibility ask; all text of files is escaped.

    The questions and answers stand in `dossier.toml`; a figure that an answer names and the
    certificate's folder does not have makes it none.
    """
    asked = tomllib.loads(resources("mno.certificate").joinpath("dossier.toml").read_text("utf-8"))
    return render_page(
        "certificate/templates/dossier.html.j2", asked=asked, certificate=certificate,
        title=f"Dossier: {certificate.name} version {certificate.version}",
        answer=partial(_answer, known=_known(certificate)),
        there={PAGE, AUDIT, BILL, *certificate.documents},
    )  # fmt: skip


def _answer(text: str, known: Mapping[str, Any]) -> str:
    """Return an answer with its figures; empty where one of them is not there."""
    told = {f[0]: _told(f[1], entry(known, *f[2].split("/"))) for f in _FIGURE.finditer(text)}
    return "" if "" in told.values() else _FIGURE.sub(lambda found: told[found[0]], text)


def _told(form: str | None, value: Any) -> str:
    if form is None:
        return "" if value is None else str(value)
    if not isinstance(value, int | float):
        return ""
    return {"percent": percent, "number": number}[form](value)


def _known(certificate: Certificate) -> dict[str, Any]:
    """Return the JSON files of the folder by name, and what is counted from them."""
    known: dict[str, Any] = {}
    for name, content in certificate.documents.items():
        with suppress(ValueError):  # a damaged file is no evidence, and the audit says so
            known[name] = json.loads(content) if name.endswith(".json") else None
    known["counted"] = {
        "audited": certificate.made, "model": certificate.model,
        "outcome": "nothing differs" if certificate.passed else "differences were found",
        "checks": len(certificate.findings), "packages": len(certificate.packages),
        "verified": sum(f.verdict is Verdict.VERIFIED for f in certificate.findings),
        "decision": next(iter(certificate.decisions), {}), "decisions": len(certificate.decisions),
        "again": "was made again and compared" if certificate.replay else None,
    }  # fmt: skip
    for count in (_of_the_model, _of_trust):
        with suppress(LookupError, TypeError, ValueError, AttributeError, ArithmeticError):
            known["counted"] |= count(known)
    return known


def _of_the_model(known: Mapping[str, Any]) -> dict[str, Any]:
    metrics, checks = known["metrics.json"], entry(known["metrics.json"], "physics", "checks")
    surrogate = known.get("package/artifacts/candidate/surrogate.json")
    verdict = str(entry(known.get("decision.json"), "verdict") or "")
    return {
        "outputs": ", ".join(metrics["fields"]),
        "inputs": ", ".join(entry(surrogate, "inputs") or ()),
        "verdict": verdict.replace("_if", " under conditions").replace("_", " "),
        "laws": len(checks) if checks else None,
        "kept": len(checks) - len(broken_checks(metrics["physics"])) if checks else None,
    }


def _of_trust(known: Mapping[str, Any]) -> dict[str, Any]:
    measured = known["trust.json"]["measured"]
    frames = [f for measures in measured["coverage"].values() for f in measures.values()]
    rates = [rate["count"] / rate["samples"] for of in frames for rate in of if rate]
    outside = measured["outside"].values()
    return {
        "coverage": min(rates), "found": sum(one["count"] for one in outside),
        "tried": sum(one["samples"] for one in outside) or None,
    }  # fmt: skip
