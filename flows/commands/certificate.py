"""Certificates of audits: `mno audit verify` and `mno audit keygen`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from flows.commands.app import Json, Quiet, print_json
from flows.commands.lineage import DIFFERENCE_FOUND


def verify(
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
    """Verify the certificate of an audit: every byte of it, and its signature.

    Needs neither the workspace nor the network. Without --key a signature shows that nothing was
    changed since, but not who signed. Exit code 3 if anything was changed or is missing.

    Example: mno audit verify darcy-certificate --key KEY.pem.pub
    """
    from flows.auditing.certificate import print_verification
    from flows.auditing.certificate import verify as verify_now

    found = verify_now(certificate, key)
    if as_json:
        print_json(found.to_dict())
    elif not quiet or not found.passed:
        console = Console(highlight=False, markup=False, soft_wrap=True)
        print_verification(found, console, everything)
    if not found.passed:
        raise typer.Exit(DIFFERENCE_FOUND)


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

    Example: mno audit keygen ~/keys/audit.pem
    """
    from mno.certificate.keys import write_keys

    public, fingerprint = write_keys(file)
    if as_json:
        told = {"private": str(file), "public": str(public), "fingerprint": fingerprint}
        print_json(told)
    elif not quiet:
        typer.echo(f"Private key: {file}\nPublic key:  {public}\nFingerprint: {fingerprint}")
        typer.echo(f"Sign with: mno audit MODEL --certificate FOLDER --sign {file}")
