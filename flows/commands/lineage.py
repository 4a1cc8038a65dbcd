"""Where a model comes from: `mno audit`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from flows.commands.app import Json, Quiet, print_json
from mno.core.errors import InputError
from mno.lineage.replay.options import DataFrom, EnvironmentOf, ReplayOptions

DIFFERENCE_FOUND = 3


def _models(incomplete: str) -> list[str]:
    from flows.workspace import find_workspace
    from mno.registry.completion import known_models

    return [uri for uri in known_models(find_workspace()) if uri.startswith(incomplete)]


def audit(
    model: Annotated[
        str,
        typer.Argument(
            help="models:/NAME@ALIAS, models:/NAME/VERSION, runs:/ID, a model's folder or its file "
            "of weights, or the address of a served one, as http://127.0.0.1:5001.",
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
    replayed: Annotated[
        bool,
        typer.Option(
            "--replay",
            help="Make the model again from its record, in build/replay/, and compare data, "
            "weights and figures. Nothing of workspace, registry and cache is written to. When it "
            "is killed, the same command continues.",
        ),
    ] = False,
    data: Annotated[
        DataFrom | None,
        typer.Option(
            help="The data of a replay: regenerate them (as without --stage), pull them from DVC's "
            "cache or --remote (as with it), or both: make them again and compare, and train on "
            "those pulled.",
        ),
    ] = None,
    stage: Annotated[
        str | None,
        typer.Option(
            help="Replay this stage alone, on what was recorded: generate, train or evaluate.",
            metavar="NAME",
        ),
    ] = None,
    environment: Annotated[
        EnvironmentOf,
        typer.Option(
            help="Replay with the packages that are present, and name those that differ; or build "
            "an environment of the recorded ones for it (minutes, gigabytes).",
        ),
    ] = EnvironmentOf.PRESENT,
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep the folder of a replay that has ended well.")
    ] = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Verify where a registered model comes from: every link by its content, not by its label.

    Weights, training run, record, dataset, imported files, code, parameters, environment, snapshot
    and the decision to promote it; each is verified, changed, missing, or cannot be known. Nothing
    that is looked at is written to. With --replay the model is also made again, and compared to the
    last bit. Exit code 3 if anything was changed or is missing, or came out differently.

    Examples: mno audit models:/mno-darcy@champion

    mno audit models:/mno-darcy@champion --certificate darcy-certificate --sign KEY.pem

    Make it again: mno audit models:/mno-darcy/2 --replay
    """
    from flows.audit import Audit, Places, audit_model, print_audit
    from flows.auditing.certificate import Order
    from flows.auditing.replay_report import print_replay

    asked = {"--data": data, "--stage": stage, "--keep": keep}
    asked["--environment"] = environment is EnvironmentOf.BUILD
    alone = [name for name, value in asked.items() if value]
    if alone and not replayed:
        raise InputError(f"{alone[0]} says how to replay; add --replay, or leave it out")
    options = ReplayOptions(data, stage, environment, keep, quiet or as_json) if replayed else None
    order = Order.given(certificate, sign, log)
    places = Places(cache or (), originals or (), remote)
    console = Console(highlight=False, markup=False, soft_wrap=True)

    def told(audit: Audit) -> None:
        if not as_json and (not quiet or not audit.passed):
            print_audit(audit, console, everything)

    found = audit_model(model, places, quiet or as_json, options, told, certify=order.wanted)
    delivered = order.deliver(found.certificate)
    if as_json:
        print_json({**found.to_dict(), **({"certificate": delivered} if delivered else {})})
    else:
        if found.replay is not None and (not quiet or not found.replay.reproduced):
            print_replay(found.model, found.replay, console)
        if not quiet:
            for line in order.remarks(delivered):
                console.print(line)
    if not found.passed:
        raise typer.Exit(DIFFERENCE_FOUND)
