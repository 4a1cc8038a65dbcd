"""The dossier: what standards of credibility ask, answered from what the line has measured.

The questions and answers stand in `dossier.toml`; a figure that an answer names and the
certificate's folder does not have makes it none.
"""

import json
import re
import tomllib
from collections.abc import Mapping
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
_VERDICTS = {"worth_it": "worth it", "worth_it_if": "worth it on conditions"}


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
        if name.endswith(".json"):
            known[name] = json.loads(content)
    metrics, trust = known.get("metrics.json", {}), known.get("trust.json")
    surrogate = known.get("package/artifacts/candidate/surrogate.json", {})
    checks = entry(metrics, "physics", "checks") or {}
    rates = [
        rate["count"] / rate["samples"]
        for measures in (entry(trust, "measured", "coverage") or {}).values()
        for rate in (rate for frames in measures.values() for rate in frames if rate)
    ]
    outside = list((entry(trust, "measured", "outside") or {}).values())
    latest = certificate.decisions[0] if certificate.decisions else {}
    known["counted"] = {
        "audited": certificate.made, "model": certificate.model, "decision": latest,
        "outcome": "nothing differs" if certificate.passed else "differences were found",
        "checks": len(certificate.findings), "packages": len(certificate.packages),
        "verified": sum(f.verdict is Verdict.VERIFIED for f in certificate.findings),
        "verdict": _VERDICTS.get(entry(known.get("decision.json"), "verdict"), "not worth it"),
        "outputs": ", ".join(metrics.get("fields", {})), "decisions": len(certificate.decisions),
        "inputs": ", ".join(surrogate.get("inputs", {})), "laws": len(checks) or None,
        "kept": len(checks) - len(broken_checks(metrics.get("physics"))) if checks else None,
        "coverage": min(rates, default=None),
        "found": sum(one["count"] for one in outside) if outside else None,
        "tried": sum(one["samples"] for one in outside),
        "again": "was made again and compared" if certificate.replay else None,
    }  # fmt: skip
    return known
