"""Studies: `mno study run`, `report`, `list` and `show`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from flows.commands.app import Json, Quiet, print_json
from mno.core.errors import InputError

study_app = typer.Typer(
    help="Ask a question of many trained models: scenarios × backbones × mixers × seeds.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)

_UNITS = {"s": 1, "min": 60, "m": 60, "h": 3600, "d": 86400}


def _names(incomplete: str) -> list[str]:
    from flows.workspace import find_workspace
    from mno.study.design import study_names

    return [name for name in study_names(find_workspace()) if name.startswith(incomplete)]


StudyArgument = Annotated[
    str,
    typer.Argument(
        help="A study file, or the name of one in studies/.", metavar="STUDY", autocompletion=_names
    ),
]


@study_app.command("run")
def study_run(
    study: StudyArgument,
    budget: Annotated[
        str | None,
        typer.Option(
            help="Begin no cell that would end later than this, as 45min or 2h; the most "
            "informative cells come first.",
            metavar="TIME",
        ),
    ] = None,
    workers: Annotated[
        int,
        typer.Option(
            min=1, max=64,
            help="Cells made at a time; measured times are cleanest with 1.",
        ),
    ] = 1,
    new_data: Annotated[
        bool,
        typer.Option(
            "--new-data",
            help="Accept that this machine makes other bytes of a dataset than the finished cells "
            "were trained on; those cells are made again.",
        ),
    ] = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Make what is missing of a study; finished cells are kept, whatever stops it.

    Example: mno study run who_wins --budget 2h
    """
    seconds = None if budget is None else seconds_of(budget)
    from flows.workspace import find_workspace, prepare_environment

    prepare_environment(find_workspace())  # before Prefect is imported, which reads it
    from flows.studying.run import StudyOptions, run_study, said_time

    options = StudyOptions(study, seconds, workers, new_data, quiet)
    try:
        result = run_study(options)
    except KeyboardInterrupt:
        typer.echo("\ninterrupted; finished cells are kept, run again to continue", err=True)
        raise typer.Exit(130) from None
    if as_json:
        print_json(result)
    elif not quiet:
        name, left = result["study"], result["left"]
        print(f"\n{result['made']} cells made, {result['not_made']} failed; "
              f"{result['fresh']} of {result['cells']} are there.")  # fmt: skip
        if left:
            expected = result["expected_seconds"]
            how_long = "not known" if expected is None else f"about {said_time(expected)}"
            print(f"Left:     {left} cells, {how_long}: mno study run {study}")
        print(f"Kept:     studies/results/{name}/ (commit it: a study continues anywhere)")
        print(f"Next:     mno study report {study}")
    if result["not_made"]:
        raise typer.Exit(1)


@study_app.command("report")
def study_report(
    study: StudyArgument,
    output: Annotated[
        Path | None,
        typer.Option(
            help="Where to write it; reports/studies/NAME/ if not given.", metavar="FOLDER"
        ),
    ] = None,
    allow_stale: Annotated[
        bool,
        typer.Option(
            "--allow-stale",
            help="Use cells of older code, data or parameters, too, marked as such.",
        ),
    ] = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Write tables, figures and verdicts from the kept cells alone: HTML, Markdown and PNG.

    Example: mno study report who_wins
    """
    from flows.studying.report import report_study

    result = report_study(study, output, allow_stale=allow_stale)
    if as_json:
        print_json(result)
    elif not quiet:
        for scenario, said in result["verdicts"].items():
            print(f"{scenario}: {said}")
        print(f"\nReport:   {result['page']}   (and {Path(result['markdown']).name} beside it)")
        if result["missing"]:
            print(f"Missing:  {result['missing']} cells; mno study run {study}")


@study_app.command("page")
def study_page(
    template: Annotated[
        Path, typer.Argument(help="Markdown with questions in it, NAME.md.j2.", metavar="TEMPLATE")
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="The page; the template's name without .j2, in docs/, if not given.",
            metavar="FILE",
        ),
    ] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Write a page of your own whose every number comes from the cells of studies.

    Example: mno study page studies/pages/who-wins.md.j2
    """
    from flows.studying.pages import write_page

    result = write_page(template, output)
    if as_json:
        print_json(result)
    elif not quiet:
        print(f"Page:     {result['page']}   ({len(result['figures'])} figures in assets/)")


@study_app.command("list")
def study_list(as_json: Json = False) -> None:
    """List the studies of this workspace, and how far each has come."""
    from flows.study import overview
    from flows.workspace import find_workspace

    lines = overview(find_workspace())
    if as_json:
        print_json(lines)
        return
    for line in lines:
        if "error" in line:
            print(f"{line['name']:<12} cannot be used: {line['error']}")
            continue
        states = ", ".join(f"{line[s]} {s}" for s in ("fresh", "stale", "failed", "missing"))
        print(f"{line['name']:<12} {line['cells']:>4} cells: {states}   {line['title']}")
    print("\nNext:     mno study show NAME;  mno study run NAME --budget 1h")


@study_app.command("show")
def study_show(study: StudyArgument, as_json: Json = False) -> None:
    """Show every cell of a study: its state, why it is stale or failed, and when its turn comes."""
    from flows.study import details, load_study

    shown = details(load_study(study))
    if as_json:
        print_json(shown)
        return
    _print_details(shown, study)


def _print_details(shown: dict[str, Any], given: str) -> None:
    console = Console(highlight=False, markup=False, soft_wrap=True)
    console.print(f"{shown['title']}\n{shown['question']}\n")
    for cell in shown["states"]:
        error = cell["relative_l2"]
        what = f"test error {error:.2%}" if error is not None else ""
        turn = f"number {cell['next']} to be made" if cell["next"] else ""
        said = "; ".join(filter(None, (what, cell["reason"], turn)))
        console.print(f"{cell['state']:<8} {cell['cell']:<48} width {cell['width']:<5} {said}")
    states = ", ".join(f"{shown[s]} {s}" for s in ("fresh", "stale", "failed", "missing"))
    console.print(f"\n{shown['cells']} cells: {states}")
    for name in shown["strays"]:
        console.print(f"{name} is kept but no longer in the study; git rm it if it is not wanted")
    console.print(f"Next:     mno study run {given};  mno study report {given}")


def seconds_of(text: str) -> float:
    """Return the seconds that a --budget says, as in 45min or 2h."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z]+)", text.strip())
    if not found or found[2] not in _UNITS or float(found[1]) <= 0:
        raise InputError(
            f"--budget {text!r} must be a number above 0 with a unit (s, min, h, d), as 45min or 2h"
        )
    return float(found[1]) * _UNITS[found[2]]
