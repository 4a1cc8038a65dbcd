"""`mno certify`: the certificate of an audit, its verification, and keys to sign with."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, NamedTuple

import typer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from rich.text import Text
from typer.core import TyperGroup

from flows.audit import (
    DIFFERENCE_FOUND,
    Caches,
    Model,
    Places,
    Remote,
    audited,
    print_audit,
    styled,
)
from flows.options import Json, Quiet, console, print_json
from flows.workspace import find_workspace, prepare_environment
from mno.certificate.content import Certificate, certificate_of
from mno.certificate.folder import (
    certificate_files,
    check_place,
    read_private,
    read_public,
    write_certificate,
    write_keys,
)
from mno.certificate.verify import (
    certificate_folder,
    log_certificate,
    logged_certificate,
    summary,
    verify_certificate,
)
from mno.core.errors import InputError, MnoError
from mno.lineage.audit import Finding, Verdict, counts, differs


class _Commands(TyperGroup):
    """Takes what is no command for the model to certify: `mno certify MODEL`."""

    otherwise = "model"

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command that the arguments begin with (called by click)."""
        given = args if args[0] in self.commands else [self.otherwise, *args]
        return super().resolve_command(ctx, given)


certify_app = typer.Typer(
    cls=_Commands,
    help="Certify where a registered model comes from: mno certify MODEL --folder FOLDER.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)


@certify_app.command("model")
def certify(
    model: Model,
    folder: Annotated[
        Path | None,
        typer.Option(
            help="Write the certificate to this new folder: a page to read and print, and an "
            "RO-Crate for programs.",
            metavar="FOLDER",
        ),
    ] = None,
    sign: Annotated[
        Path | None,
        typer.Option(
            help="Sign it with this private Ed25519 key; make one with: mno certify keygen KEY.pem",
            metavar="KEY.pem",
        ),
    ] = None,
    log: Annotated[
        bool, typer.Option("--log", help="Keep it with the version in the registry, too.")
    ] = False,
    replayed: Annotated[
        bool, typer.Option("--replay", help="Make the model again and certify that, too.")
    ] = False,
    cache: Caches = None,
    remote: Remote = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Audit a registered model and write a certificate of what was found; MODEL as for mno audit.

    Exit code 3 if the audit found a difference: that is certified, too.

    Example: mno certify models:/mno-darcy@champion --folder darcy-certificate --sign KEY.pem
    """
    key, silent = checked(folder, sign, log), quiet or as_json
    with audited(model, Places(cache or (), (), remote), silent) as (evidence, found):
        if not as_json and (not quiet or not found.passed):
            print_audit(found)
        if replayed:
            from flows.replay import make_again, print_replay
            from mno.lineage.replay import ReplayOptions

            outcome = make_again(evidence, ReplayOptions(quiet=silent))
            found = replace(found, replay=outcome)
            if not as_json and (not quiet or not outcome.reproduced):
                print_replay(found.model, outcome)
        made = datetime.now(UTC).isoformat(timespec="seconds")
        certificate = certificate_of(evidence, found.findings, made, found.replay)
    delivered = deliver(certificate, folder, key, log)
    if as_json:
        print_json({**found.to_dict(), "certificate": delivered})
    elif not quiet:
        if folder is not None:
            typer.echo(f"Certificate: {folder / 'certificate.html'}")
            typer.echo(f"Check it with: mno certify verify {folder}")
        if delivered["logged"]:
            typer.echo(f"Kept with the version: {delivered['logged']}")
    if not found.passed:
        raise typer.Exit(DIFFERENCE_FOUND)


def checked(folder: Path | None, key: Path | None, log: bool) -> Ed25519PrivateKey | None:
    """Return the key to sign with, after what is asked was checked, before the work is done.

    Raises:
        InputError: The certificate would go nowhere, its folder cannot be written, or the key
            cannot be used.
    """
    if folder is None and not log:
        raise InputError("the certificate would go nowhere: add --folder FOLDER, or --log")
    if folder is not None:
        check_place(folder, find_workspace())
    return read_private(key) if key else None


def deliver(
    certificate: Certificate, folder: Path | None, key: Ed25519PrivateKey | None, log: bool
) -> dict[str, Any]:
    """Write a certificate and keep it in the registry, as ordered; return where it is."""
    from mno.registry.catalogue import existing_workspace

    files, logged = certificate_files(certificate, key), None
    if folder is not None:
        try:
            write_certificate(folder, files)
        except OSError as error:
            raise MnoError(f"{folder} cannot be written: {error.strerror}") from None
    if log:
        logged = log_certificate(existing_workspace(find_workspace()), certificate.model, files)
    shown = str(folder) if folder else None
    return {"folder": shown, "signed": key is not None, "logged": logged}


class Verification(NamedTuple):
    """What verifying a certificate has found."""

    certificate: str  # what was verified
    model: str  # the version that it says it is of
    audit_passed: bool | None  # what it says the audit came to; none where it does not say
    findings: Sequence[Finding]

    @property
    def passed(self) -> bool:
        """Whether the certificate is as it was written."""
        return not differs(self.findings)


@certify_app.command("verify")
def verify_command(
    certificate: Annotated[
        str,
        typer.Argument(
            help="The folder of a certificate, the page in it, or the registered version that one "
            "is kept with, as models:/NAME/VERSION."
        ),
    ],
    key: Annotated[
        Path | None,
        typer.Option(
            help="The public Ed25519 key that it must be signed with.", metavar="KEY.pem.pub"
        ),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Show what was verified, too, file by file.")
    ] = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Verify a certificate: every byte of it, and its signature.

    Needs neither the workspace nor the network. Without --key a signature shows that nothing was
    changed since, but not who signed. Exit code 3 if anything was changed or is missing.

    Example: mno certify verify darcy-certificate --key KEY.pem.pub
    """
    found = verify(certificate, key)
    if as_json:
        told = found._asdict()
        findings = [asdict(finding) for finding in told.pop("findings")]
        print_json({**told, "passed": found.passed, "findings": findings})
    elif not quiet or not found.passed:
        _print_verification(found, everything)
    if not found.passed:
        raise typer.Exit(DIFFERENCE_FOUND)


def verify(target: str, key: Path | None) -> Verification:
    """Verify a certificate: its folder, the page in it, or that of a registered version.

    Raises:
        InputError: There is no such certificate, or no such public key that it must be signed with.
    """
    trusted = read_public(key) if key else None
    with ExitStack() as stack:
        if target.startswith(("models:", "runs:")):
            from mno.registry.catalogue import existing_workspace, registry_of
            from mno.registry.evidence import find_model

            root = find_workspace()
            prepare_environment(root)
            registry = registry_of(existing_workspace(root))
            scratch = stack.enter_context(TemporaryDirectory(prefix="mno-certificate-"))
            version = find_model(registry, target)
            folder, findings = logged_certificate(registry, version, Path(scratch))
        else:
            folder, findings = certificate_folder(Path(target)), []
        found = [*findings, *verify_certificate(folder, trusted)]
        return Verification(target, *summary(folder), found)


def _print_verification(found: Verification, everything: bool) -> None:
    """Say what differs, who signed, and what the certificate says."""
    out = console()
    out.print(f"Certificate of {found.model}: {found.certificate}\n")
    for finding in found.findings:
        if everything or finding.verdict is not Verdict.VERIFIED or finding.link == "signature":
            of = f"{finding.link:<11}{finding.subject}"
            out.print(Text.assemble(styled(finding.verdict), of))
            said = {"expected": finding.expected, "found": finding.found, "do": finding.advice}
            for name, text in said.items():
                if text:
                    out.print(f"{'':<16}{name:<11}{text}")
    out.print()
    bad = sum(finding.verdict.is_difference for finding in found.findings)
    if bad:
        plural = "differences" if bad > 1 else "difference"
        said = f"FAILED: {bad} {plural}; do not rely on what it says"
        out.print(Text(said, style="bold red"))
        return
    good = counts(found.findings)[Verdict.VERIFIED]
    said = f"PASSED: it is as it was written, {good} checks verified"
    out.print(Text(said, style="bold green"))
    if found.audit_passed:
        out.print("It certifies that the audit found no difference.")
    else:
        said = "It says that the audit FOUND DIFFERENCES; read certificate.html."
        out.print(Text(said, "bold red"))


@certify_app.command("keygen")
def keygen(
    file: Annotated[
        Path, typer.Argument(help="Where the private key goes; the public one goes to FILE.pub.")
    ],
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Make a key to sign certificates with (Ed25519, in PEM, as OpenSSL has them).

    The private key is readable by you alone and has no password; keep it out of the repository.
    Hand the public key to whoever is to verify. An existing file is never overwritten.

    Example: mno certify keygen ~/keys/audit.pem
    """
    public, fingerprint = write_keys(file)
    if as_json:
        print_json({"private": str(file), "public": str(public), "fingerprint": fingerprint})
    elif not quiet:
        typer.echo(f"Private key: {file}\nPublic key:  {public}\nFingerprint: {fingerprint}")
        typer.echo(f"Sign with: mno certify MODEL --folder FOLDER --sign {file}")
