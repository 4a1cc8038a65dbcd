"""`mno study`: studies of many trained models, and searches of parameters."""

from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows import options
from flows.options import Json, Quiet, answer, command_group, interruptible, print_json
from flows.workspace import find_workspace, prepare_environment
from mno.core.errors import InputError, MnoError
from mno.core.files import write_bytes

if TYPE_CHECKING:
    from mno.study.answers import Reported
    from mno.study.results import Study

study_app = command_group(
    "Ask a question of many trained models: scenarios × backbones × mixers × seeds."
)

PAGES, FIGURES = Path("docs"), "assets"
REPORTS = Path("reports/studies")

StudyName = Annotated[str, typer.Argument(
    help="A study file, or the name of one in studies/.", metavar="STUDY")]  # fmt: skip
Budget = Annotated[str | None, typer.Option(
    help="Begin nothing that would end later than this, as 45min or 2h.", metavar="TIME"
)]  # fmt: skip
Workers = Annotated[int, typer.Option(min=1, max=64, help="Trainings made at a time.")]


@study_app.command("run")
def study_run(
    study: StudyName, budget: Budget = None, workers: Workers = 1, device: options.Device = None,
    quiet: Quiet = False, as_json: Json = False,
) -> None:  # fmt: skip
    """Make what is missing of a study; finished cells are kept, whatever stops it.

    Example: mno study run at_equal_parameters --budget 2h
    """
    seconds = None if budget is None else options.seconds_of("--budget", budget)
    from mno.study.design import StudySpec

    root = find_workspace()
    prepare_environment(root)  # before Prefect is imported, which reads it
    StudySpec.find(root, study)
    from flows.study_run import run_study

    with interruptible():
        result = run_study(study, budget=seconds, workers=workers, quiet=quiet)
    answer(result, as_json, quiet, _print_run)
    if result["not_made"]:
        raise typer.Exit(1)


def _print_run(result: Mapping[str, Any]) -> None:
    study, expected = result["study"], result["expected_seconds"]
    print(f"\n{result['made']} cells made, {result['not_made']} failed; "
          f"{result['fresh']} of {result['cells']} are there.")  # fmt: skip
    if result["left"]:
        about = "" if expected is None else f", about {expected / 60:.0f} min"
        print(f"Left:     {result['left']} cells{about}: mno study run {study}")
    print(f"Kept:     studies/results/{study}/ (commit it: a study continues anywhere)")
    print(f"Next:     mno study report {study}")


@study_app.command("report")
def study_report(study: StudyName, quiet: Quiet = False, as_json: Json = False) -> None:
    """Write tables, figures and verdicts from the kept cells alone, in English and Japanese.

    Example: mno study report at_equal_parameters
    """
    result = report_study(study)
    if as_json:
        print_json(result)
    elif not quiet:
        for scenario, said in result["verdicts"].items():
            print(f"{scenario}: {said}")
        print(f"\nReport:   {result['page']}")
        if result["missing"]:
            print(f"Missing:  {result['missing']} cells; mno study run {study}")


@study_app.command("page")
def study_page(
    template: Annotated[Path, typer.Argument(
        help="Markdown with questions in it, NAME.md.j2.", metavar="TEMPLATE")],
    quiet: Quiet = False, as_json: Json = False,
) -> None:  # fmt: skip
    """Write a page of your own, in docs/, whose every number comes from the cells of studies.

    Example: mno study page studies/pages/who-wins.md.j2
    """
    root = find_workspace()
    if template.suffix != ".j2":
        raise InputError(
            f"{template.name} does not end in .j2, without which it is the page's name"
        )
    output = root / PAGES / template.stem
    text, figures = fill_page(template, root)
    contents = {output.parent / FIGURES / name: png for name, png in figures.items()}
    with options.writing_to(output):
        for path, content in (*contents.items(), (output, text.encode())):
            write_bytes(path, content)
    told = {"page": str(output), "figures": [str(path) for path in contents]}
    said = f"Page:     {output}   ({len(figures)} figures in assets/)"
    answer(told, as_json, quiet, lambda _: print(said))


@study_app.command("list")
def study_list(as_json: Json = False) -> None:
    """List the studies of this workspace, and how far each has come."""
    from mno.study.design import StudySpec
    from mno.study.results import counts

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
        wrong = f"cannot be used: {line['error']}" if "error" in line else ""
        print(f"{line['name']:<20}", wrong or f"{_states(line)}   {line['title']}")
    print("\nNext:     mno study show NAME;  mno study run NAME --budget 1h")


@study_app.command("show")
def study_show(study: StudyName, as_json: Json = False) -> None:
    """Show every cell of a study: its state, why it is stale or failed, and when its turn comes."""
    from mno.study.results import counts, expected_seconds, to_make

    read = load_study(study)
    found = read.found()
    order = to_make(found)
    turns = {item.cell.name: number for number, item in enumerate(order, 1)}
    cells = [
        {
            "cell": item.cell.name,
            "state": item.state,
            "reason": item.reason,
            "width": item.cell.params["model"]["width"],
            "next": turns.get(item.cell.name),
            "relative_l2": item.record.get("metrics", {}).get("relative_l2"),
        }
        for item in found
    ]
    about = {key: getattr(read.spec, key) for key in ("title", "question")}
    seconds = expected_seconds(order, found)
    if as_json:
        known = {"name": read.name, **about, **counts(found), "expected_seconds": seconds}
        print_json({**known, "states": cells})
        return
    print(*about.values(), "", sep="\n")
    for cell in cells:
        error = cell["relative_l2"]
        what = "" if error is None else f"test error {error:.2%}"
        turn = f"number {cell['next']} to be made" if cell["next"] else ""
        said = "; ".join(filter(None, (what, cell["reason"], turn)))
        print(f"{cell['state']:<8} {cell['cell']:<48} width {cell['width']:<5} {said}")
    print(f"\n{_states(counts(found))}")
    print(f"Next:     mno study run {study};  mno study report {study}")


def _states(known: Mapping[str, Any]) -> str:
    from mno.study.results import STATES

    return f"{known['cells']} cells: {', '.join(f'{known[state]} {state}' for state in STATES)}"


@study_app.command("tune")
def study_tune(
    search: Annotated[str, typer.Argument(
        help="A file, or the name of one in studies/tune/.", metavar="SEARCH")],
    budget: Budget = None, workers: Workers = 1, device: options.Device = None,
    quiet: Quiet = False, as_json: Json = False,
) -> None:  # fmt: skip
    """Search parameters on the validation split, and keep the winner as a preset; resumable.

    With --workers 1 a search can be repeated exactly.

    Example: mno study tune darcy --budget 30min; then: mno run --preset tuned-darcy
    """
    seconds = None if budget is None else options.seconds_of("--budget", budget)
    from mno.study.search_space import SearchSpec

    root = find_workspace()
    prepare_environment(root)
    SearchSpec.find(root, search)
    from flows.tune import print_search, run_search

    with interruptible():
        result = run_search(search, budget=seconds, workers=workers, quiet=quiet)
    answer(result, as_json, quiet, print_search)


def load_study(given: str, root: Path | None = None, to_make: bool = False) -> "Study":
    """Read a study, by its file or its name in `studies/`, and check that each cell can be made.

    Of one that nobody is `to_make`, cells whose package is not installed are as they are kept.
    """
    from mno.study.design import StudySpec, cells_of
    from mno.study.results import Results, Study

    root = root or find_workspace()
    file = StudySpec.find(root, given)
    from flows.params import check_params
    from mno.study.operators import matched

    spec, results = StudySpec.read(file), Results(root, file.stem)
    try:
        cells = cells_of(file.stem, spec)
        lacking = not to_make and find_spec("neuralop") is None
        kept = results.widths([c for c in cells if lacking and c.model.backbone == "fno"])
        cells = matched(cells, spec.parameters, root, kept)
        for cell in {(cell.scenario, cell.model.name): cell for cell in cells}.values():
            try:
                if (cell.scenario, cell.model.name) not in kept:
                    check_params(cell.params, root)
            except InputError as error:
                raise InputError(f"{cell.scenario}, {cell.model.name}: {error}") from None
    except InputError as error:
        raise InputError(f"{file.name}: {str(error).replace('params.yaml: ', '')}") from None
    return Study(root, file.stem, spec, results.planned(cells, spec.tuning), results)


def report_study(given: str, folder: Path | None = None) -> dict[str, Any]:
    """Write the report of a study; return `page`, `verdicts` by scenario, and cells by state."""
    study = load_study(given)
    from mno.study.answers import reported
    from mno.study.report import write_study_report
    from mno.study.results import counts

    found = study.found()
    told = reported(study, found)
    findings, folder = told.answers.findings, folder or study.root / REPORTS / study.name
    with options.writing_to(folder):
        page = write_study_report(folder, study, found, findings, told.sections)
    verdicts = {name: part.verdict for name, part in findings.items()}
    return {"page": str(page), "verdicts": verdicts, **counts(found)}


def fill_page(template: Path, root: Path) -> tuple[str, dict[str, bytes]]:
    """Fill a page from the studies of a workspace; return it and its figures, by file name."""
    from mno.study.answers import fill, reported

    @cache
    def study(name: str) -> "Reported":
        return reported(load_study(name, root))

    try:
        text = template.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{template} cannot be read: {error}") from None
    try:
        return fill(text, study, FIGURES)
    except InputError as error:
        raise InputError(f"{template.name}: {error}") from None
