"""The certificate as an HTML file, in the look of the report: the verdict, then the proof."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from mno.certificate.content import DOCUMENTS, Certificate
from mno.core.files import sha256
from mno.lineage.audit import Finding, Verdict, counts, worst
from mno.lineage.record import Tag, entry
from mno.lineage.replay import ConditionChange
from mno.report.language import Words
from mno.report.page import Section, render_page, templates

if TYPE_CHECKING:
    from mno.lineage.replay_compare import Outcome

# How a verdict looks, never by colour alone; any other is a bad one.
_LOOKS = {Verdict.VERIFIED: ("✓", "good"), Verdict.UNKNOWN: ("?", "fair")}
# Title on the page, and what its checks compare; in the order in which one asks.
LINKS = {
    "decision": ("Decision", "Why the version was let go on, and all decisions on the model."),
    "registry": (
        "Version in the registry",
        "Every row of the registry and every file of the run, against the seal that was made when "
        "the version was registered.",
    ),
    "record": ("Training run", "The lineage record, its digest computed again, and its copies."),
    "weights": ("Weights", "Each file of the package, against the seal and the record."),
    "data": ("Data", "Each file of the dataset, every byte of it read."),
    "imported files": ("Imported files", "The files that the data were imported from."),
    "stages": (
        "Stages",
        "What each stage depended on and made, by the lock at registration, against the snapshot.",
    ),
    "parameters": ("Parameters", "Those of the snapshot, against the record and the run."),
    "snapshot": ("Code", "Commit, trees and files of the code that ran, hashed again."),
    "environment": ("Environment", "Installed packages, and the machine that was trained on."),
}
# What is recorded of each link: a title, and where the record has it, or which tag.
_FACTS: dict[str, dict[str, str]] = {
    "decision": {
        "Decision": Tag.DECISION,
        "Because": Tag.REASON,
        "Test error (relative L2)": Tag.RELATIVE_L2,
        "Compared with version": Tag.RIVAL,
        "Its test error": Tag.RIVAL_L2,
    },
    "registry": {
        "MLflow run": "ids mlflow_run",
        "MLflow model": "ids mlflow_model",
        "Registered": "times registered",
    },
    "record": {
        "Scenario": "scenario",
        "MLflow run": "ids mlflow_run",
        "Prefect flow run": "ids prefect_flow_run",
        "Started": "times started",
        "Seed": "seed",
        "Threads": "threads",
        "Device": "device",
        "Lineage SHA-256": "lineage_sha256",
        "Began from the weights (SHA-256)": "warm_start sha256",
    },
    "weights": {
        "SHA-256 over the model's files": "model sha256",
        "MD5 by DVC": "model md5",
        "SHA-256 over the package": Tag.PACKAGE,
    },
    "data": {
        "Version (MD5 by DVC)": "data md5",
        "Released from (MD5 by DVC)": "data source_md5",
    },
    "parameters": {"SHA-256": "params_sha256"},
    "snapshot": {
        "Snapshot commit": "snapshot commit",
        "Its tree": "snapshot tree",
        "Commit that was checked out": "head",
    },
    "environment": {
        "SHA-256 of packages and constraints": "environment_sha256",
        "Processor": "machine cpu",
        "Cores": "machine cores",
        "Architecture": "machine architecture",
        "System": "machine system",
        "Python": "machine python",
    },
}
# The lineage as a graph: each part's title, the link that verified it, the corner of its box, and
# where the record or a tag says which one it is.
_PARTS = {
    "source": ("Generator", "stages", (0, 0), "scenario"),
    "parameters": ("Parameters", "parameters", (0, 98), "params_sha256"),
    "code": ("Code", "snapshot", (0, 196), "snapshot commit"),
    "environment": ("Environment", "environment", (0, 294), "environment_sha256"),
    "data": ("Data", "data", (180, 40), "data md5"),
    "training": ("Training run", "record", (360, 190), "ids mlflow_run"),
    "weights": ("Weights", "weights", (540, 190), "model sha256"),
    "evaluation": ("Evaluation", "stages", (720, 40), Tag.RELATIVE_L2),
    "version": ("Version", "registry", (720, 190), ""),
    "decision": ("Decision", "decision", (900, 115), Tag.DECISION),
}
_EDGES = (
    ("source", "data"), ("parameters", "data"), ("code", "data"),
    ("data", "training"), ("parameters", "training"), ("code", "training"),
    ("environment", "training"), ("training", "weights"), ("data", "evaluation"),
    ("weights", "evaluation"), ("weights", "version"), ("evaluation", "decision"),
    ("version", "decision"),
)  # fmt: skip


def render_certificate(certificate: Certificate, signer: str | None) -> str:
    """Return the page; it loads nothing, and all that it is given is escaped.

    The signer is the fingerprint of the key that the folder is signed with, if it is.
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
    number = counts(certificate.findings)
    tiles = [("Checks", str(len(certificate.findings)))]
    tiles += [(f"{verdict[:1].upper()}{verdict[1:]}", str(n)) for verdict, n in number.items()]
    yield _section("verdict", "Verdict", certificate=certificate, tiles=tiles,
                   unknown=number[Verdict.UNKNOWN])  # fmt: skip
    by_link = {link: [f for f in certificate.findings if f.link == link] for link in LINKS}
    found = {link: findings for link, findings in by_link.items() if findings}
    rows = [
        {
            "title": LINKS[link][0],
            "target": _target(link),
            **_shown(worst(findings)),
            "summary": f"{sum(f.verdict is Verdict.VERIFIED for f in findings)} of {len(findings)}",
        }
        for link, findings in found.items()
    ]
    yield _section("lineage", "Lineage", links=rows, edges=_EDGES,
                   boxes=_boxes(certificate, by_link))  # fmt: skip
    differing = [f for f in certificate.findings if f.verdict.is_difference]
    if differing:
        yield _section("differences", "What differs", rows=_rows(differing))
    if certificate.replay:
        replay = certificate.replay
        yield _section("replay", "Made again", items=replay.items, told=list(_replay(replay)))
    for link, findings in found.items():
        title, what = LINKS[link]
        yield _section(
            "link", title, _target(link), what=what, facts=list(_facts(certificate, link)),
            rows=_rows(findings), extra=_extra(certificate, link),
        )  # fmt: skip
    documents = [(n, DOCUMENTS[n], sha256(content)) for n, content in certificate.documents.items()]
    yield _section("proof", "This certificate", documents=documents, signer=signer)


def _extra(certificate: Certificate, link: str) -> Markup:
    """Return what only one link has to show."""
    if link == "decision":
        return _render("decisions", certificate=certificate, moment=moment)
    if link == "parameters":
        values = certificate.params.items()
        shown = [(k, v if isinstance(v, str) else json.dumps(v, default=str)) for k, v in values]
        return _render("parameters", params=shown)  # as `params.yaml` has them
    if link == "environment":
        return _render("licences", packages=certificate.packages)
    return Markup()


def _section(template: str, title: str, identity: str = "", **content: Any) -> Section:
    return Section(identity or template, title, _render(template, title=title, **content))


def _render(template: str, **content: Any) -> Markup:
    page = templates().get_template(f"certificate/templates/{template}.html.j2")
    return Markup(page.render(**content))


def _rows(findings: Iterable[Finding]) -> list[dict[str, Any]]:
    return [{"finding": finding, **_shown(finding.verdict)} for finding in findings]


def _shown(verdict: Verdict) -> dict[str, str]:
    mark, look = _LOOKS.get(verdict, ("✗", "bad"))
    return {"verdict": str(verdict), "mark": mark, "look": look}


def _target(link: str) -> str:
    """Return where on the page a link of the audit is told of."""
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
    for title, place in _FACTS.get(link, {}).items():
        value = _recorded(certificate, place)
        if value is not None:
            yield title, str(value)
    if link == "snapshot":
        yield "Files in no commit", ", ".join(record.get("uncommitted") or ()) or "none"
    if link == "imported files":
        for file in entry(record, "data", "files") or ():
            yield str(file["file"]), str(file["sha256"])


def _replay(outcome: Outcome) -> Iterator[tuple[str, str]]:
    """Yield how a model was made again, as name and text."""

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
    for name, (title, link, (x, y), place) in _PARTS.items():
        found = _recorded(certificate, place) or "not recorded"
        detail = str(found).removesuffix(".dir")[:12]
        if name == "source":
            detail = str(certificate.record.get("scenario", ""))
            if files:
                title, link, detail = "Imported files", "imported files", f"{len(files)} files"
        elif name == "evaluation":
            with suppress(ValueError):
                detail = f"error {float(found):.4g}"
        elif name == "version":
            detail = f"{certificate.name}/{certificate.version}"
        elif name == "decision":
            detail = certificate.tags.get(Tag.DECISION, "none")
        verdict = worst(findings.get(link, ()), Verdict.UNKNOWN)  # of nothing, nothing is known
        look = {"target": _target(link), **_shown(verdict)}
        boxes[name] = {"x": x, "y": y, "title": title, "detail": detail, **look}
    return boxes
