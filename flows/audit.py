"""`mno audit`: every link of a registered model's lineage, held against its content."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from flows.auditing.endpoint import is_address, served_model
from flows.auditing.remote_data import fetched
from flows.auditing.replay import replay
from flows.progress import progress_bar
from flows.workspace import cache_folder, find_workspace, prepare_environment
from mno.core.errors import InputError
from mno.lineage.audit.evidence import Evidence, entry
from mno.lineage.audit.finding import Finding, Verdict, differs, worst
from mno.lineage.replay.options import ReplayOptions
from mno.lineage.replay.outcome import Outcome
from mno.lineage.replay.plan import make_plan

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
        replay: What making the model again has come to; none where that was not asked for.
        certificate: What a certificate of it says; none where none was asked for.
    """

    model: str
    lineage: Mapping[str, str]
    findings: Sequence[Finding]
    replay: Outcome | None = None
    certificate: Certificate | None = None

    @property
    def passed(self) -> bool:
        """Whether nothing was changed or missing, nor made again otherwise."""
        return not differs(self.findings) and (self.replay is None or self.replay.reproduced)

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
            **({"replay": self.replay.to_dict()} if self.replay else {}),
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


def audit_model(
    target: str,
    places: Places,
    quiet: bool,
    options: ReplayOptions | None = None,
    told: Callable[[Audit], None] = lambda _: None,
    *,
    certify: bool = False,
) -> Audit:
    """Audit a registered version; nothing that is looked at is written to.

    Args:
        target: What `mno.registry.evidence.find_model` takes, or the address of a served endpoint.
        places: Where to look for the rest.
        quiet: Draw no progress.
        options: How to make the model again, too; it is not made again if none.
        told: Is handed what the audit has found before the model is made again.
        certify: Also take what a certificate says.

    Raises:
        InputError: There is no such model, endpoint, folder or remote.
        MnoError: MLflow cannot be used, or the model cannot be made again.
    """
    root = find_workspace()
    prepare_environment(root)
    for folder in (*places.caches, *places.originals):
        if not folder.is_dir():
            raise InputError(f"{folder} is not a folder; give one that exists")
    from mno.lineage.audit.walk import audit
    from mno.registry.evidence import existing_workspace, find_model, gather, model_with_digest

    if options is not None:
        make_plan(options.stage, options.data)  # refuses what cannot be before anything is read
    workspace = existing_workspace(root)
    served, said = served_model(target) if is_address(target) else (target, None)
    name, version = find_model(workspace, served)
    caches = [cache_folder(root), *places.caches]
    with ExitStack() as stack:
        evidence = stack.enter_context(gather(workspace, name, version, caches, places.originals))
        if places.remote is not None:
            cache = stack.enter_context(fetched(root, places.remote, evidence.data_md5))
            evidence = replace(evidence, caches=(cache,))
        with progress_bar(quiet, "links") as show:
            findings = audit(evidence, show)
        lineage = {**({"endpoint": said} if said else {}), **_lineage(evidence)}
        found = Audit(f"models:/{name}/{version}", lineage, findings)
        told(found)
        if options is not None:
            scratch = Path(stack.enter_context(TemporaryDirectory(prefix="mno-replay-")))
            outcome = replay(
                evidence, options, lambda sha256: model_with_digest(workspace, sha256, scratch)
            )
            found = replace(found, replay=outcome)
        return replace(found, certificate=_certificate(evidence, found)) if certify else found


def _certificate(evidence: Evidence, found: Audit) -> Certificate:
    from mno.certificate.content import certificate_of

    made = datetime.now(UTC).isoformat(timespec="seconds")
    return certificate_of(evidence, found.findings, made, found.replay)


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
