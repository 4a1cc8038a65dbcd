"""`mno study`: studies of many trained models, and searches of parameters.

Nothing that takes long to import is imported before a command needs it.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from flows.options import Json, Quiet, print_json
from flows.workspace import find_workspace, prepare_environment
from mno.core.errors import InputError, MnoError
from mno.core.files import write_bytes

if TYPE_CHECKING:
    from mno.study.answers import Reported
    from mno.study.results import Study

study_app = typer.Typer(
    help="Ask a question of many trained models: scenarios × backbones × mixers × seeds.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)

PAGES, FIGURES = Path("docs"), "assets"
REPORTS = Path("reports/studies")
_UNITS = {"s": 1, "min": 60, "m": 60, "h": 3600, "d": 86400}
_NAMED = 5  # stale cells that the refusal names


def _study_names(incomplete: str) -> list[str]:
    from mno.study.design import StudySpec

    return [name for name in StudySpec.names(find_workspace()) if name.startswith(incomplete)]


def _search_names(incomplete: str) -> list[str]:
    from mno.study.search_space import SearchSpec

    return [name for name in SearchSpec.names(find_workspace()) if name.startswith(incomplete)]


StudyName = Annotated[
    str,
    typer.Argument(
        help="A study file, or the name of one in studies/.",
        metavar="STUDY", autocompletion=_study_names,
    ),
]  # fmt: skip


@study_app.command("run")
def study_run(
    study: StudyName,
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
    prepare_environment(find_workspace())  # before Prefect is imported, which reads it
    from flows.study_run import run_study, said_time

    try:
        result = run_study(study, budget=seconds, workers=workers, new_data=new_data, quiet=quiet)
    except KeyboardInterrupt:
        raise _interrupted("cells") from None
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
    study: StudyName,
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
    root = find_workspace()
    if output is None:
        if template.suffix != ".j2":
            raise InputError(f"{template.name} does not end in .j2; give --output FILE")
        output = root / PAGES / template.stem
    text, figures = fill_page(template, root)
    contents = {output.parent / FIGURES / name: png for name, png in figures.items()}
    try:
        for path, content in (*contents.items(), (output, text.encode())):
            write_bytes(path, content)
    except OSError as error:
        raise InputError(f"{output} cannot be written: {error.strerror}") from None
    if as_json:
        print_json({"page": str(output), "figures": [str(path) for path in contents]})
    elif not quiet:
        print(f"Page:     {output}   ({len(contents)} figures in assets/)")


@study_app.command("list")
def study_list(as_json: Json = False) -> None:
    """List the studies of this workspace, and how far each has come."""
    from mno.study.design import StudySpec
    from mno.study.results import STATES, counts

    root, lines = find_workspace(), []
    for name in StudySpec.names(root):
        try:
            study = load_study(name, root)
            lines.append({"name": name, "title": study.spec.title, **counts(study.found())})
        except MnoError as error:
            lines.append({"name": name, "error": str(error)})
    if as_json:
        print_json(lines)
        return
    for line in lines:
        if "error" in line:
            print(f"{line['name']:<12} cannot be used: {line['error']}")
            continue
        states = ", ".join(f"{line[state]} {state}" for state in STATES)
        print(f"{line['name']:<12} {line['cells']:>4} cells: {states}   {line['title']}")
    print("\nNext:     mno study show NAME;  mno study run NAME --budget 1h")


@study_app.command("show")
def study_show(study: StudyName, as_json: Json = False) -> None:
    """Show every cell of a study: its state, why it is stale or failed, and when its turn comes."""
    from mno.study.planning import details
    from mno.study.results import STATES

    shown = details(load_study(study))
    if as_json:
        print_json(shown)
        return
    console = Console(highlight=False, markup=False, soft_wrap=True)
    console.print(f"{shown['title']}\n{shown['question']}\n")
    for cell in shown["states"]:
        error = cell["relative_l2"]
        what = f"test error {error:.2%}" if error is not None else ""
        turn = f"number {cell['next']} to be made" if cell["next"] else ""
        said = "; ".join(filter(None, (what, cell["reason"], turn)))
        console.print(f"{cell['state']:<8} {cell['cell']:<48} width {cell['width']:<5} {said}")
    states = ", ".join(f"{shown[state]} {state}" for state in STATES)
    console.print(f"\n{shown['cells']} cells: {states}")
    for name in shown["strays"]:
        console.print(f"{name} is kept but no longer in the study; git rm it if it is not wanted")
    console.print(f"Next:     mno study run {study};  mno study report {study}")


@study_app.command("tune")
def study_tune(
    search: Annotated[
        str,
        typer.Argument(
            help="A search file, or the name of one in studies/tune/.",
            metavar="SEARCH", autocompletion=_search_names,
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
    prepare_environment(find_workspace())
    from flows.tune import print_search, run_search

    try:
        result = run_search(
            search, trials=trials, budget=seconds, workers=workers, preset=preset,
            replace_preset=replace, quiet=quiet,
        )  # fmt: skip
    except KeyboardInterrupt:
        raise _interrupted("trials") from None
    if as_json:
        print_json(result)
    elif not quiet:
        print_search(result)


def _interrupted(what: str) -> typer.Exit:
    typer.echo(f"\ninterrupted; finished {what} are kept, run again to continue", err=True)
    return typer.Exit(130)


def seconds_of(text: str) -> float:
    """Return the seconds that a --budget says, as in 45min or 2h."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z]+)", text.strip())
    if not found or found[2] not in _UNITS or float(found[1]) <= 0:
        raise InputError(
            f"--budget {text!r} must be a number above 0 with a unit (s, min, h, d), as 45min or 2h"
        )
    return float(found[1]) * _UNITS[found[2]]


def load_study(given: str, root: Path | None = None) -> Study:
    """Read a study, by its file or its name in `studies/`, and check that each cell can be made.

    Raises:
        InputError: One line that names what cannot be used.
    """
    from flows.params import check_params
    from mno.study.design import StudySpec, cells_of
    from mno.study.operators import matched
    from mno.study.results import Results, Study

    root = root or find_workspace()
    file = StudySpec.find(root, given)
    spec = StudySpec.read(file)
    try:
        cells = matched(cells_of(file.stem, spec), spec.parameters, root)
        kinds = {(cell.scenario, cell.model.name): cell for cell in reversed(cells)}
        for (scenario, model), cell in reversed(kinds.items()):
            try:
                check_params(cell.params, root)
            except InputError as error:
                raise InputError(f"{scenario}, {model}: {error}") from None
    except InputError as error:
        raise InputError(f"{file.name}: {str(error).replace('params.yaml: ', '')}") from None
    return Study(root, file.stem, file, spec, cells, Results(root, file.stem))


def report_study(given: str, output: Path | None, *, allow_stale: bool) -> dict[str, Any]:
    """Write the report of a study into `output`, or `reports/studies/<name>/` of the workspace.

    Returns:
        `page`, `markdown`, `verdicts` by scenario, and the numbers of cells by state.

    Raises:
        InputError: No cell is there, or some are stale and that was not allowed.
    """
    from mno.study.report import MARKDOWN, write_study_report
    from mno.study.results import counts

    study = load_study(given)
    found, grids = study.found(), study.scaling()
    stale = [item for item in (*found, *grids) if item.state == "stale"]
    if stale and not allow_stale:
        named = "; ".join(f"{item.cell.name}: {item.reason}" for item in stale[:_NAMED])
        more = f"; and {len(stale) - _NAMED} more" if len(stale) > _NAMED else ""
        raise InputError(
            f"{len(stale)} results of {study.name} are stale and are not mixed with others "
            f"({named}{more}); run mno study run {given}, or give --allow-stale to see them marked"
        )
    folder = output or study.root / REPORTS / study.name
    try:
        page, verdicts = write_study_report(folder, study, found, grids)
    except OSError as error:
        raise InputError(f"{folder} cannot be written to: {error.strerror}") from None
    return {
        "page": str(page),
        "markdown": str(page.with_name(MARKDOWN)),
        "verdicts": verdicts,
        **counts(found),
    }


def fill_page(template: Path, root: Path) -> tuple[str, dict[str, bytes]]:
    """Fill a page from the studies of a workspace; return it and its figures, by file name.

    Raises:
        InputError: The template cannot be read or filled.
    """
    from mno.study.answers import fill, reported

    @cache
    def study(name: str) -> Reported:
        return reported(load_study(name, root))

    try:
        text = template.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{template} cannot be read: {error}") from None
    try:
        return fill(text, study, FIGURES)
    except InputError as error:
        raise InputError(f"{template.name}: {error}") from None
