"""`mno audit`: every link of a registered model's lineage, held against its content."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from flows.progress import progress_bar
from flows.remote_data import fetched
from flows.workspace import find_workspace, prepare_environment, program
from mno.errors import InputError
from mno.lineage.audit.evidence import Evidence, entry
from mno.lineage.audit.finding import Finding, Verdict, differs, worst

if TYPE_CHECKING:
    from mno.certificate.content import Certificate

STYLES = {
    Verdict.VERIFIED: "green",
    Verdict.CHANGED: "bold red",
    Verdict.MISSING: "bold red",
    Verdict.UNKNOWN: "yellow",
}


@dataclass(frozen=True)
class Audit:
    """What an audit has found.

    Attributes:
        model: The version, as `models:/NAME/VERSION`.
        lineage: What the model says that it comes from: the chain whose links were verified.
        findings: One for each subject, in the order of the chain.
        certificate: What a certificate of it says; none where none was asked for.
    """

    model: str
    lineage: Mapping[str, str]
    findings: Sequence[Finding]
    certificate: Certificate | None = None

    @property
    def passed(self) -> bool:
        """Whether nothing was changed or missing."""
        return not differs(self.findings)

    def count(self, verdict: Verdict) -> int:
        """Return how many findings have a verdict."""
        return sum(finding.verdict is verdict for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        return {
            "model": self.model,
            "passed": self.passed,
            "lineage": dict(self.lineage),
            "verdicts": {str(verdict): self.count(verdict) for verdict in Verdict},
            "findings": [finding.to_dict() for finding in self.findings],
        }


@dataclass(frozen=True)
class Places:
    """Where an audit looks for what is not in the registry.

    Attributes:
        caches: DVC caches besides the workspace's own.
        originals: Folders in which files that were imported may lie.
        remote: A DVC remote, whose copy of the data is audited instead of the caches'.
    """

    caches: Sequence[Path] = ()
    originals: Sequence[Path] = ()
    remote: str | None = None


def audit_model(target: str, places: Places, quiet: bool, certify: bool = False) -> Audit:
    """Audit a registered version; nothing that is looked at is written to.

    Args:
        target: What `mno.registry.evidence.find_model` takes.
        places: Where to look for the rest.
        quiet: Draw no progress.
        certify: Also take what a certificate says.

    Raises:
        InputError: There is no such model, folder or remote.
        MnoError: MLflow cannot be used.
    """
    root = find_workspace()
    prepare_environment(root)
    for folder in (*places.caches, *places.originals):
        if not folder.is_dir():
            raise InputError(f"{folder} is not a folder; give one that exists")
    from mno.lineage.audit.walk import audit
    from mno.registry.evidence import existing_workspace, find_model, gather

    workspace = existing_workspace(root)
    name, version = find_model(workspace, target)
    caches = [cache_folder(root), *places.caches]
    with ExitStack() as stack:
        evidence = stack.enter_context(gather(workspace, name, version, caches, places.originals))
        if places.remote is not None:
            cache = stack.enter_context(fetched(root, places.remote, evidence.data_md5))
            evidence = replace(evidence, caches=(cache,))
        show = stack.enter_context(progress_bar(quiet, "links"))
        findings = audit(evidence, show)
        model = f"models:/{name}/{version}"
        certificate = _certificate(evidence, findings) if certify else None
        return Audit(model, _lineage(evidence), findings, certificate)


def _certificate(evidence: Evidence, findings: Sequence[Finding]) -> Certificate:
    from mno.certificate.content import certificate_of

    return certificate_of(evidence, findings, datetime.now(UTC).isoformat(timespec="seconds"))


def cache_folder(root: Path) -> Path:
    """Return the folder of a workspace's DVC cache, which may be anywhere.

    Raises:
        InputError: DVC cannot say.
    """
    done = subprocess.run(
        [program("dvc"), "cache", "dir"], cwd=root, capture_output=True, text=True, check=False
    )
    if done.returncode:
        reason = done.stderr.strip().splitlines() or ["dvc cache dir failed"]
        raise InputError(f"{root}: {reason[-1].removeprefix('ERROR: ')}")
    return root / done.stdout.strip()


def _lineage(evidence: Evidence) -> dict[str, str]:
    record, tags = evidence.record, evidence.tags
    known = {
        "weights": entry(record, "model", "sha256"),
        "trained": entry(record, "times", "started"),
        "run": evidence.facts["version"]["run"],
        "data": evidence.data_md5,
        "code": entry(record, "snapshot", "commit"),
        "commit": entry(record, "head"),
        "environment": entry(record, "environment_sha256"),
        "machine": entry(record, "machine", "cpu"),
        "decision": tags.get("mno.decision"),
        "because": tags.get("mno.decision_reason"),
        "sealed": entry(evidence.sealed, "sealed"),
    }
    return {name: str(value) for name, value in known.items() if value}


def print_audit(audit: Audit, console: Console, everything: bool) -> None:
    """Draw a verdict per link, and of each difference what was expected and what to do."""
    console.print(f"Audit of {audit.model}\n")
    for name, value in audit.lineage.items():
        console.print(f"{name:<15}{value}")
    console.print()
    for link, group in groupby(audit.findings, key=lambda finding: finding.link):
        findings = list(group)
        console.print(Text.assemble(f"{link:<15}", _verdict(worst(findings)), _summary(findings)))
        for finding in findings:
            if everything or finding.verdict is not Verdict.VERIFIED:
                _print_finding(finding, console.print)
    console.print()
    console.print(_conclusion(audit))


def _verdict(verdict: Verdict) -> Text:
    return Text(f"{verdict:<16}", style=STYLES[verdict])


def _summary(findings: Sequence[Finding]) -> str:
    good = sum(finding.verdict is Verdict.VERIFIED for finding in findings)
    return f"{good} of {len(findings)} checks verified"


def _print_finding(finding: Finding, say: Callable[[Text], None]) -> None:
    say(Text.assemble("  ", _verdict(finding.verdict), finding.subject))
    if finding.verdict.is_difference:
        say(Text(f"      expected  {finding.expected or 'it to be there'}"))
    if finding.found:
        say(Text(f"      found     {finding.found}"))
    if finding.advice:
        say(Text(f"      do        {finding.advice}"))


def _conclusion(audit: Audit) -> Text:
    unknown = audit.count(Verdict.UNKNOWN)
    rest = f"; {unknown} cannot be known" if unknown else ""
    if audit.passed:
        good = audit.count(Verdict.VERIFIED)
        return Text(f"PASSED: {good} checks verified{rest}", style="bold green")
    changed, missing = audit.count(Verdict.CHANGED), audit.count(Verdict.MISSING)
    return Text(f"FAILED: {changed} changed, {missing} missing{rest}", style="bold red")
