"""`mno certify`: the certificate of an audit, and its verification."""

import shutil
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from subprocess import SubprocessError
from typing import Annotated, Any

import typer
from rich.text import Text
from typer.core import TyperGroup

from flows import audit
from flows.options import Json, Quiet, answer, command_group, console
from flows.replay import make_again, print_replay
from flows.workspace import find_workspace
from mno.certificate import folder as certificates
from mno.certificate.content import certificate_of
from mno.core.errors import MnoError, first_line
from mno.lineage.audit import Verdict, counts, differs
from mno.lineage.replay import targets_of


class _Commands(TyperGroup):
    """Takes what is no command for the model to certify: `mno certify MODEL`."""

    otherwise = "model"

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command that the arguments begin with (called by click)."""
        given = args if args[0] in self.commands else [self.otherwise, *args]
        return super().resolve_command(ctx, given)


certify_app = command_group(
    "Certify where a registered model comes from: mno certify MODEL --folder FOLDER.", cls=_Commands
)


@certify_app.command("model")
def certify(
    model: audit.Model,
    folder: Annotated[Path, typer.Option(
        help="New folder of a page, and an RO-Crate for programs.", metavar="FOLDER")],
    sign: Annotated[Path | None, typer.Option(
        help="Sign it with this private key.", metavar="KEY.pem")] = None,
    replayed: Annotated[bool, typer.Option(
        "--replay", help="Make the model again and certify that, too.")] = False,
    cache: audit.Caches = None, quiet: Quiet = False, as_json: Json = False,
) -> None:  # fmt: skip
    """Audit a registered model and write a certificate of what was found; MODEL as for mno audit.

    Exit code 3 if the audit found a difference: that is certified, too. A key is made with:
    openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out KEY.pem

    Example: mno certify models:/mno-darcy@champion --folder darcy-certificate --sign KEY.pem
    """
    certificates.check_place(folder, find_workspace())
    key, silent = certificates.read_private(sign) if sign else None, quiet or as_json
    with audit.audited(model, silent, cache or ()) as (evidence, found):
        if not as_json and (not quiet or not found.passed):
            audit.print_audit(found)
        if replayed:
            outcome = make_again(evidence, targets_of(), silent)
            found = replace(found, replay=outcome)
            if not as_json and (not quiet or not outcome.reproduced):
                print_replay(found.model, outcome)
        made = datetime.now(UTC).isoformat(timespec="seconds")
        certificate = certificate_of(evidence, found.findings, made, found.replay)
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    try:
        files = certificates.certificate_files(certificate, key, browser)
    except (MnoError, OSError, SubprocessError) as error:
        typer.echo(f"The dossier is not there as PDF: {first_line(error)}", err=True)
        browser, files = None, certificates.certificate_files(certificate, key)
    try:
        certificates.write_certificate(folder, files, sign)
    except OSError as error:
        raise MnoError(f"{folder} cannot be written: {error.strerror}") from None
    dossier = folder / ("dossier.pdf" if browser else "dossier.html")
    said = f"Certificate: {folder / 'certificate.html'}\nDossier: {dossier}\n"
    said += f"Check it with: mno certify verify {folder}"
    told = {**found.to_dict(), "certificate": {"folder": str(folder), "signed": key is not None}}
    answer(told, as_json, quiet, lambda _: typer.echo(said))
    if not found.passed:
        raise typer.Exit(audit.DIFFERENCE_FOUND)


@certify_app.command("verify")
def verify(
    certificate: Annotated[Path, typer.Argument(
        help="The folder of a certificate, or the page in it.")],
    key: Annotated[Path | None, typer.Option(
        help="The public key that it must be signed with.", metavar="KEY.pem.pub")] = None,
    everything: audit.Everything = False, quiet: Quiet = False, as_json: Json = False,
) -> None:  # fmt: skip
    """Verify a certificate: every byte of it, and its signature.

    Needs neither the workspace nor the network. Without --key a signature shows that nothing was
    changed since, but not who signed. Exit code 3 if anything was changed or is missing.

    Example: mno certify verify darcy-certificate --key KEY.pem.pub
    """
    folder = certificates.certificate_folder(certificate)
    trusted = certificates.read_public(key) if key else None
    model, passed = certificates.summary(folder)
    findings = certificates.verify_certificate(folder, trusted)
    good = not differs(findings)
    told = {"certificate": str(certificate), "model": model, "audit_passed": passed}
    told |= {"passed": good, "findings": [asdict(found) for found in findings]}

    def show(told: dict[str, Any]) -> None:
        console().print(f"Certificate of {model}: {certificate}\n")
        audit.print_findings(findings, everything)
        if not good:
            bad = sum(finding.verdict.is_difference for finding in findings)
            audit.print_verdict(False, f"FAILED: {bad} difference(s); do not rely on what it says")
            return
        verified = counts(findings)[Verdict.VERIFIED]
        audit.print_verdict(True, f"PASSED: it is as it was written, {verified} checks verified")
        if passed:
            console().print("It certifies that the audit found no difference.")
        else:
            said = "It says that the audit FOUND DIFFERENCES; read certificate.html."
            console().print(Text(said, "bold red"))

    answer(told, as_json, quiet and good, show)
    if not good:
        raise typer.Exit(audit.DIFFERENCE_FOUND)
