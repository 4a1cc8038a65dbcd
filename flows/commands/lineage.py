"""Where a model comes from: `mno audit`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from flows.commands.app import Json, Quiet, app, print_json

DIFFERENCE_FOUND = 3


def _models(incomplete: str) -> list[str]:
    from flows.workspace import find_workspace
    from mno.registry.completion import known_models

    return [uri for uri in known_models(find_workspace()) if uri.startswith(incomplete)]


@app.command()
def audit(
    model: Annotated[
        str,
        typer.Argument(
            help="models:/NAME@ALIAS, models:/NAME/VERSION, runs:/ID, a model's folder or its file "
            "of weights.",
            autocompletion=_models,
        ),
    ],
    cache: Annotated[
        list[Path] | None,
        typer.Option(
            help="Look for data in this DVC cache, too; may be repeated.", metavar="FOLDER"
        ),
    ] = None,
    remote: Annotated[
        str | None,
        typer.Option(
            help="Audit the copy of the data in this DVC remote instead of the one in the cache.",
            metavar="NAME",
        ),
    ] = None,
    originals: Annotated[
        list[Path] | None,
        typer.Option(
            help="Look here for the files that data were imported from; may be repeated.",
            metavar="FOLDER",
        ),
    ] = None,
    certificate: Annotated[
        Path | None,
        typer.Option(
            help="Write a certificate to this new folder: a page to read and print, and an "
            "RO-Crate for programs.",
            metavar="FOLDER",
        ),
    ] = None,
    sign: Annotated[
        Path | None,
        typer.Option(
            help="Sign the certificate with this private Ed25519 key; make one with: "
            "mno audit keygen KEY.pem",
            metavar="KEY.pem",
        ),
    ] = None,
    log: Annotated[
        bool,
        typer.Option("--log", help="Keep the certificate with the version in the registry, too."),
    ] = False,
    everything: Annotated[
        bool, typer.Option("--all", help="Show what was verified, too, check by check.")
    ] = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Verify where a registered model comes from: every link by its content, not by its label.

    Weights, training run, record, dataset, imported files, code, parameters, environment, snapshot
    and the decision to promote it; each is verified, changed, missing, or cannot be known. Nothing
    that is looked at is written to. Exit code 3 if anything was changed or is missing.

    Examples: mno audit models:/mno-darcy@champion

    mno audit models:/mno-darcy@champion --certificate darcy-certificate --sign KEY.pem
    """
    from flows.audit import Places, audit_model, print_audit
    from flows.certificate import Order

    order = Order.given(certificate, sign, log)
    places = Places(cache or (), originals or (), remote)
    found = audit_model(model, places, quiet or as_json, certify=order.wanted)
    delivered = order.deliver(found.certificate)
    if as_json:
        print_json({**found.to_dict(), **({"certificate": delivered} if delivered else {})})
    elif not quiet or not found.passed:
        console = Console(highlight=False, markup=False, soft_wrap=True)
        print_audit(found, console, everything)
        for line in order.remarks(delivered):
            console.print(line)
    if not found.passed:
        raise typer.Exit(DIFFERENCE_FOUND)
