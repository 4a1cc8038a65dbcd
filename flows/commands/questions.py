"""Questions about all registered versions: `mno lineage …`."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from flows.commands.app import Json, print_json

lineage_app = typer.Typer(
    help="Ask which models came from what, what changed between two, and what is in production.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)

_DATA = "A version of the data: DVC's md5 of data/, or six or more digits of it."
_SHARD = "A file of a dataset: the file itself, or its MD5 or SHA-256."
_FILE = "A file that data were imported from: the file itself, or its SHA-256."

Data = Annotated[str | None, typer.Option(help=_DATA, metavar="MD5")]
Shard = Annotated[str | None, typer.Option(help=_SHARD, metavar="FILE")]
File = Annotated[str | None, typer.Option(help=_FILE, metavar="FILE")]


@lineage_app.command()
def models(
    data: Data = None, shard: Shard = None, file: File = None, as_json: Json = False
) -> None:
    """Show which registered versions came from a version of the data, a shard or an imported file.

    Example: mno lineage models --data b52ee53b    or: mno lineage models --shard data/x/c/0
    """
    from flows.lineage import Answers, Asked
    from flows.lineage_tables import print_origin

    found = Answers().models(Asked(data, shard, file))
    if as_json:
        print_json(found.to_dict())
    else:
        print_origin(found, _console())


@lineage_app.command()
def diff(
    before: Annotated[
        str, typer.Argument(help="Number of a version, models:/NAME/VERSION or models:/NAME@ALIAS.")
    ],
    after: Annotated[str, typer.Argument(help="The version to compare it with.")],
    as_json: Json = False,
) -> None:
    """Show what changed between two versions: parameters, data, code, metrics, environment.

    Example: mno lineage diff 3 5
    """
    from flows.lineage import Answers
    from flows.lineage_tables import difference_dict, print_difference

    one, other, parts = Answers().difference(before, after)
    if as_json:
        print_json(difference_dict(one, other, parts))
    else:
        print_difference(one, other, parts, _console())


@lineage_app.command()
def affected(
    commit: Annotated[
        str | None,
        typer.Option(help="A commit, branch or tag, or a snapshot of a model.", metavar="SHA"),
    ] = None,
    data: Data = None,
    shard: Shard = None,
    file: File = None,
    as_json: Json = False,
) -> None:
    """Show which versions are affected if a commit or data were bad, and what is in production.

    Of a commit, a version's own code is compared with what the commit changed. Versions whose
    training began from an affected one are affected, too.

    Example: mno lineage affected --commit 4f2a91c
    """
    from flows.lineage import Answers, Asked
    from flows.lineage_tables import print_verdict

    found = Answers().affected(Asked(data, shard, file, commit))
    if as_json:
        print_json(found.to_dict())
    else:
        print_verdict(found, _console())


@lineage_app.command()
def production(
    model: Annotated[
        str | None, typer.Argument(help="Registered model, as mno-darcy; all of them if not given.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show what is in production, since when, and what was before it.

    Example: mno lineage production mno-darcy
    """
    from flows.lineage import Answers
    from flows.lineage_tables import print_production

    found, problems = Answers().production(model)
    if as_json:
        told = [period.to_dict() for period in found]
        print_json({"periods": told, "cannot_be_known": problems})
    else:
        print_production(found, problems, _console())


def _console() -> Console:
    return Console(highlight=False, markup=False, soft_wrap=True)
