"""Searches: `mno study tune`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from flows.commands.app import Json, Quiet, print_json
from flows.commands.study import seconds_of, study_app


def _names(incomplete: str) -> list[str]:
    from flows.workspace import find_workspace
    from mno.study.tuning.space import tune_names

    return [name for name in tune_names(find_workspace()) if name.startswith(incomplete)]


@study_app.command("tune")
def study_tune(
    search: Annotated[
        str,
        typer.Argument(
            help="A search file, or the name of one in studies/tune/.",
            metavar="SEARCH", autocompletion=_names,
        ),
    ],
    trials: Annotated[
        int | None,
        typer.Option(
            min=1, max=10_000, help="Trials of the whole search; as the file says if not given."
        ),
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(
            help="Begin no trial that would end later than this, as 30min or 2h; the comparison "
            "with the default is counted in.",
            metavar="TIME",
        ),
    ] = None,
    workers: Annotated[
        int,
        typer.Option(
            min=1, max=64,
            help="Trials made at a time; with 1 the same search tries the same points.",
        ),
    ] = 1,
    preset: Annotated[
        str | None,
        typer.Option(help="Name of the preset; tuned-SEARCH if not given.", metavar="NAME"),
    ] = None,
    replace: Annotated[
        bool,
        typer.Option("--replace", help="Replace a preset that this search did not write."),
    ] = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Search parameters on the validation split, and keep the winner as a preset; resumable.

    Example: mno study tune darcy --budget 30min; then: mno run --preset tuned-darcy
    """
    seconds = None if budget is None else seconds_of(budget)
    from flows.workspace import find_workspace, prepare_environment

    prepare_environment(find_workspace())
    from flows.tuning.run import TuneOptions, run_search

    options = TuneOptions(search, trials, seconds, workers, preset, replace, quiet)
    try:
        result = run_search(options)
    except KeyboardInterrupt:
        typer.echo("\ninterrupted; finished trials are kept, run again to continue", err=True)
        raise typer.Exit(130) from None
    if as_json:
        print_json(result)
    elif not quiet:
        _print(result)


def _print(result: dict[str, Any]) -> None:
    best, counts, name = result["best"], result["trials"], result["search"]
    states = ", ".join(f"{n} {state}" for state, n in counts.items() if n and state != "all")
    print(f"\n{counts['all']} trials: {states}. Winner: trial {best['trial']}, validation error "
          f"{best['error']:.2%}.")  # fmt: skip
    for key, value in best["point"].items():
        print(f"          {key} = {value:.4g}" if isinstance(value, float)
              else f"          {key} = {value}")  # fmt: skip
    print(result["said"])
    if result["left"]:
        expected = result["expected_seconds"]
        how_long = "" if expected is None else f", about {expected / 60:.0f} min on one core"
        print(f"Left:     {result['left']} trials{how_long}: mno study tune {name}")
    print(f"Report:   {result['report']}")
    print(f"Preset:   {result['preset']}")
    preset = result["preset"].removeprefix("presets/").removesuffix(".yaml")
    print(f"Next:     mno run --preset {preset}   (its test error is the first look at that split)")
