"""`mno audit`: every link of a registered model's lineage, held against its content."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from flows.options import Json, Quiet, answer, console
from flows.workspace import cache_folder, find_workspace, prepare_environment, progress_bar
from mno.core.errors import InputError
from mno.lineage.audit import Evidence, Finding, Verdict, counts, differs, worst
from mno.lineage.record import Tag, entry

if TYPE_CHECKING:
    from mno.lineage.replay_compare import Outcome

DIFFERENCE_FOUND = 3
_STYLES = {Verdict.VERIFIED: "green", Verdict.UNKNOWN: "yellow"}

Model = Annotated[str, typer.Argument(
    help="models:/NAME@ALIAS, models:/NAME/VERSION, runs:/ID, a model's folder or its file of "
    "weights."
)]  # fmt: skip
Caches = Annotated[
    list[Path] | None,
    typer.Option("--cache", help="Look for data in this DVC cache, too; may be repeated.",
                 metavar="FOLDER"),
]  # fmt: skip
Everything = Annotated[bool, typer.Option("--all", help="Show what was verified, too.")]


def audit(
    model: Model, cache: Caches = None,
    originals: Annotated[list[Path] | None, typer.Option(
        help="Look here for imported files, too; may be repeated.", metavar="FOLDER")] = None,
    everything: Everything = False, quiet: Quiet = False, as_json: Json = False,
) -> None:  # fmt: skip
    """Verify where a registered model comes from: every link by its content, not by its label.

    Weights, training run, record, dataset, imported files, code, parameters, environment, snapshot
    and the decision to promote it; each is verified, changed, missing, or cannot be known. Nothing
    that is looked at is written to. Exit code 3 if anything was changed or is missing.

    Example: mno audit models:/mno-darcy@champion

    To make it again, to the last bit: mno replay;  to certify it: mno certify
    """
    with audited(model, quiet or as_json, cache or (), originals or ()) as (_, found):
        silent = quiet and found.passed
        answer(found.to_dict(), as_json, silent, lambda _: print_audit(found, everything))
    if not found.passed:
        raise typer.Exit(DIFFERENCE_FOUND)


@dataclass(frozen=True)
class Audit:
    """What an audit has found."""

    model: str  # the version, as `models:/NAME/VERSION`
    lineage: Mapping[str, str]  # what the model says that it comes from, in the chain's order
    findings: Sequence[Finding]
    replay: "Outcome | None" = None  # what making it again has come to, if that was asked for

    @property
    def passed(self) -> bool:
        """Whether nothing was changed or missing, nor made again otherwise."""
        return not differs(self.findings) and (self.replay is None or self.replay.reproduced)

    def to_dict(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        return {
            "model": self.model, "passed": self.passed, "lineage": self.lineage,
            "verdicts": counts(self.findings),
            "findings": [asdict(finding) for finding in self.findings],
            **({"replay": self.replay.to_dict()} if self.replay else {}),
        }  # fmt: skip


@contextmanager
def audited(
    target: str, quiet: bool, caches: Sequence[Path] = (), originals: Sequence[Path] = ()
) -> Iterator[tuple[Evidence, Audit]]:
    """Audit a registered version and yield what was looked at, too; none of it is written to.

    The version is what `mno.registry.evidence.find_model` takes. Objects are looked for in these
    DVC caches, too, and files that data were imported from in the folders of originals.
    """
    from mno.lineage.audit.walk import audit as walk
    from mno.registry.catalogue import existing_workspace, registry_of
    from mno.registry.evidence import find_model, gather

    root = find_workspace()
    prepare_environment(root)
    for folder in (*caches, *originals):
        if not folder.is_dir():
            raise InputError(f"{folder} is not a folder; give one that exists")
    workspace = existing_workspace(root)
    version = find_model(registry_of(workspace), target)
    places = [cache_folder(root), *caches]
    with gather(workspace, version.name, version.number, places, originals) as evidence:
        with progress_bar(quiet, "links") as show:
            findings = walk(evidence, show)
        yield evidence, Audit(version.uri, _lineage(evidence), findings)


def _lineage(evidence: Evidence) -> dict[str, str]:
    known = {
        "weights": evidence.recorded("model", "sha256"),
        "trained": evidence.recorded("times", "started"), "run": evidence.facts["version"]["run"],
        "data": evidence.data_md5, "code": evidence.recorded("snapshot", "commit"),
        "commit": evidence.recorded("head"), "environment": evidence.recorded("environment_sha256"),
        "machine": evidence.recorded("machine", "cpu"), "decision": evidence.tags.get(Tag.DECISION),
        "because": evidence.tags.get(Tag.REASON), "sealed": entry(evidence.sealed, "sealed"),
    }  # fmt: skip
    return {name: str(value) for name, value in known.items() if value}


def print_audit(audit: Audit, everything: bool = False) -> None:
    """Draw a verdict per link, and of each difference what was expected and what to do."""
    out = console()
    out.print(f"Audit of {audit.model}\n")
    for name, value in audit.lineage.items():
        out.print(f"{name:<15}{value}")
    out.print()
    print_findings(audit.findings, everything)
    good, changed, missing, unknown = counts(audit.findings).values()
    rest = f"; {unknown} cannot be known" if unknown else ""
    said = f"PASSED: {good} checks verified"
    if failed := differs(audit.findings):
        said = f"FAILED: {changed} changed, {missing} missing"
    print_verdict(not failed, said + rest)


def print_verdict(good: bool, said: str) -> None:
    """Draw what a look at a model has come to."""
    console().print(Text(f"\n{said}", style="bold green" if good else "bold red"))


def print_findings(findings: Sequence[Finding], everything: bool) -> None:
    """Draw a verdict per link, and what of its findings is not verified, or all of them."""
    out = console()
    for link, group in groupby(findings, key=lambda finding: finding.link):
        found = list(group)
        good = sum(finding.verdict is Verdict.VERIFIED for finding in found)
        summary = f"{good} of {len(found)} checks verified"
        out.print(Text.assemble(f"{link:<15}", _styled(worst(found)), summary))
        for finding in found:
            if everything or finding.verdict is not Verdict.VERIFIED:
                out.print(Text.assemble("  ", _styled(finding.verdict), finding.subject))
                if finding.verdict.is_difference:
                    out.print(f"      expected  {finding.expected or 'it to be there'}")
                if finding.found:
                    out.print(f"      found     {finding.found}")
                if finding.advice:
                    out.print(f"      do        {finding.advice}")


def _styled(verdict: Verdict) -> Text:
    return Text(f"{verdict:<16}", style=_STYLES.get(verdict, "bold red"))
