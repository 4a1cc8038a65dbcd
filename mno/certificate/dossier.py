"""The dossier: what standards of credibility ask, answered from what the line has measured.

The questions and answers stand in `dossier.toml`; a figure that an answer names and the
certificate's folder does not have makes it none.
"""

import json
import re
import tomllib
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from importlib.resources import files
from typing import Any

from mno.certificate.content import AUDIT, BILL, PAGE, Certificate
from mno.core.numbers import number, percent
from mno.evaluation.decision import broken_checks
from mno.lineage.audit import Verdict
from mno.lineage.record import entry
from mno.report.page import render_page

_FIGURE = re.compile(r"\{(?:(\w+):)?([^}]+)\}")


def render_dossier(certificate: Certificate) -> str:
    """Return the page; all text of files is escaped."""
    asked = tomllib.loads(files("mno.certificate").joinpath("dossier.toml").read_text("utf-8"))
    return render_page(
        "certificate/templates/dossier.html.j2", asked=asked, certificate=certificate,
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
    return (
        {"percent": percent, "number": number}[form](value)
        if isinstance(value, int | float)
        else ""
    )


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
