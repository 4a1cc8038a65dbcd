"""The production line: `mno run` and one command for each of its stages.

A run edits and checks the parameters and asks DVC and the registry what has changed. Where nothing
has, it ends there; otherwise the flow `flows.pipeline` brings the line up to date.
"""

from __future__ import annotations

import math
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import typer
from rich.console import Console

from flows.options import (
    Assignments,
    Json,
    Preset,
    Quiet,
    Scheduler,
    console,
    interrupted,
    print_json,
)
from flows.workspace import (
    RUN_LOCK,
    end_leftovers,
    find_workspace,
    marks,
    prepare_environment,
    read_json,
)
from mno.core.errors import InputError, MnoError, first_line

# What takes a moment to import is imported where it is used: every command starts here.


class RunOptions(NamedTuple):
    """What a person may say of a run."""

    target: str | None = None  # a stage's name or `data.dvc`; the whole line if none
    preset: str | None = None  # a group of parameters to take first
    assignments: Sequence[str] = ()  # `key=value` edits of the parameters
    quiet: bool = False  # print no progress
    repair: bool = False  # first remove copies of the dataset whose bytes are damaged
    language: str = "en"  # of the report that is named at the end


_UNITS = {"ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0}
_DURATION = re.compile(r"\s*([0-9.]+(?:[eE][+-]?[0-9]+)?)\s*([a-zA-Z]*)\s*")


def own_figures(
    solver_cost: str | None,
    queries_per_day: float | None = None,
    hourly_rate: float | None = None,
    currency: str | None = None,
) -> list[str]:
    """Return the user's own figures as `key=value` edits; none keeps what `params.yaml` says."""
    values = {
        "solver_seconds": None if solver_cost is None else parse_seconds(solver_cost),
        "queries_per_day": queries_per_day,
        "hourly_rate": hourly_rate,
        "currency": None if currency is None else f'"{currency}"',
    }
    given = {name: value for name, value in values.items() if value is not None}
    return [f"evaluate.economics.{name}={value}" for name, value in given.items()]


def parse_seconds(text: str) -> float:
    """Return a time such as `40ms`, `3.5s`, `2min` or `1h` in seconds."""
    found = _DURATION.fullmatch(text)
    try:
        seconds = float(found[1]) * _UNITS[found[2]] if found else math.nan
    except (ValueError, KeyError):
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise InputError(
            f"--solver-cost {text!r} is no time above 0; expected a number and its unit, "
            f"{', '.join(_UNITS)}: for example 3.5s"
        )
    return seconds


Repair = Annotated[
    bool,
    typer.Option(
        "--repair",
        help="First read every byte of the dataset and of DVC's copies of it, and remove what is "
        "damaged, so that it is made again.",
    ),
]


def run(
    preset: Preset = None,
    assignments: Assignments = None,
    dask_scheduler: Scheduler = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Bring the whole line up to date: generate, train, evaluate, register.

    Example: mno run --preset quick --set train.epochs=10
    """
    edits = _edits(assignments, dask_scheduler)
    _bring_up_to_date(RunOptions(None, preset, edits, quiet), as_json)


def generate(
    preset: Preset = None,
    assignments: Assignments = None,
    dask_scheduler: Scheduler = None,
    repair: Repair = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Solve the dataset and release it as data/.

    Example: mno generate --set generate.samples=2000 --dask-scheduler tcp://10.0.0.5:8786
    """
    edits = _edits(assignments, dask_scheduler)
    _bring_up_to_date(RunOptions("data.dvc", preset, edits, quiet, repair), as_json)


def train(
    preset: Preset = None,
    assignments: Assignments = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Train the operator, after generating what it needs.

    Example: mno train --set train.epochs=40 --set model.width=64
    """
    _bring_up_to_date(RunOptions("train", preset, assignments or (), quiet), as_json)


def evaluate(
    preset: Preset = None,
    assignments: Assignments = None,
    solver_cost: Annotated[
        str | None,
        typer.Option(
            help="Time of one solve by your own solver, with its unit (ms, s, min, h); the "
            "scenario's own is measured if not given. Sets evaluate.economics.solver_seconds.",
            metavar="TIME",
        ),
    ] = None,
    queries_per_day: Annotated[
        float | None,
        typer.Option(help="Solutions you need in a day; sets evaluate.economics.queries_per_day."),
    ] = None,
    hourly_rate: Annotated[
        float | None,
        typer.Option(
            help="Price of one hour of computing, of one core; sets evaluate.economics.hourly_rate."
        ),
    ] = None,
    currency: Annotated[
        str | None,
        typer.Option(help="Of that price, as EUR; sets evaluate.economics.currency."),
    ] = None,
    lang: Annotated[
        Literal["en", "ja"],
        typer.Option(help="Language of the report that is named at the end; both are written."),
    ] = "en",
    learning_curve: Annotated[
        bool,
        typer.Option(
            "--learning-curve",
            help="Train on an eighth, a quarter and half of the training samples as well, to see "
            "what more of them would bring; from then on, until learning_curve.shares is [].",
        ),
    ] = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Evaluate on the test split, after training; write reports/report.html.

    Is it worth it: mno evaluate --solver-cost 3.5s --queries-per-day 2000 --hourly-rate 1.2
    """
    figures = own_figures(solver_cost, queries_per_day, hourly_rate, currency)
    chosen = ["learning_curve.shares=[0.125, 0.25, 0.5]"] if learning_curve else []
    edits = [*chosen, *(assignments or []), *figures]
    _bring_up_to_date(RunOptions("evaluate", preset, edits, quiet, language=lang), as_json)


def register(
    preset: Preset = None,
    assignments: Assignments = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Register the model in MLflow, after evaluating it; the better one becomes champion."""
    _bring_up_to_date(RunOptions("register", preset, assignments or (), quiet), as_json)


def _edits(assignments: list[str] | None, scheduler: str | None) -> list[str]:
    given = [] if scheduler is None else [f"execution.scheduler={scheduler}"]
    return [*(assignments or []), *given]


def _bring_up_to_date(options: RunOptions, as_json: bool) -> None:
    try:
        result = run_line(options)
    except KeyboardInterrupt:
        raise interrupted() from None
    if as_json:
        print_json(result)
    elif not options.quiet:
        print_summary(result, console(), options.language)


_RESULTS = ("metrics", "decision", "registered")  # reports that a run returns


def run_line(options: RunOptions) -> dict[str, Any]:
    """Edit and check the parameters, then bring the line up to date.

    Returns:
        `stages` (what each did), `seconds`, and, where they exist, the content of
        `reports/metrics.json`, `reports/decision.json` and `reports/registered.json`.

    Raises:
        InputError: The parameters or the workspace cannot be used; nothing has been changed.
        MnoError: Another run is active, or a stage failed.
    """
    start = time.monotonic()
    root = find_workspace()
    prepare_environment(root)
    console = Console(stderr=True, quiet=options.quiet, highlight=False, markup=False)
    from mno.core.files import locked
    from mno.registry.settings import registry_uri, require_answer

    with locked(root / RUN_LOCK, "a run of mno"):
        require_answer(registry_uri(root), patience=5.0)  # before hours of work for nothing
        if ended := end_leftovers(root):
            console.print(f"ended {ended} process(es) left behind by a run that was killed")
        os.environ.update(marks(root))
        params, current, order = _look(root, options, console)
        if set(order) <= set(current):
            from flows.stages import StageResult

            reused = [StageResult(name, "reused", 0.0) for name in order]
            stages = [result.to_dict() for result in reused]
            for result in reused:
                console.print(str(result))
        else:
            if not params.registry.allow_uncommitted and "register" in order:
                _warn_of_uncommitted_code(root, console)
            stages = _run_flow(root, options, params.scenario, current, console)
        from mno.lineage.tidying import RESUMABLE  # what stages would have continued from

        for stage in stages:
            if stage["target"] in RESUMABLE:
                shutil.rmtree(root / RESUMABLE[stage["target"]], ignore_errors=True)
    results: dict[str, Any] = {n: read_json(root / f"reports/{n}.json") or None for n in _RESULTS}
    registered = results["registered"]
    if any(stage["target"] == "register" and stage["action"] == "ran" for stage in stages):
        if registered and registered.get("decided_now"):
            from flows.promotion import decision_event

            _tell(root, decision_event(root, registered), console)
    elif registered and registered["version"] and "register" in order:
        from mno.registry.catalogue import existing_workspace
        from mno.registry.decision import standing  # a person may have decided since

        now = standing(existing_workspace(root), registered["name"], registered["version"])
        results["registered"] = {**registered, **now}
    return {"stages": stages, "seconds": round(time.monotonic() - start, 1), **results}


def _look(root: Path, options: RunOptions, console: Console) -> tuple[Any, list[str], list[str]]:
    """Edit and check the parameters, and ask what is to be done.

    DVC is asked meanwhile, where neither edits nor repairs come before the answer.

    Returns:
        The parameters, the targets that are current, and all that are wanted, in order.
    """
    from flows.params import edit_params
    from flows.stages import current_targets, read_changes, read_graph, run_order

    at_once = not (options.preset or options.assignments or options.repair)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(read_changes, root) if at_once else None
        params = edit_params(root, options.preset, options.assignments)
        if options.repair:
            from flows.repair import remove_damage

            if not remove_damage(root, console.print):
                console.print("repair     every byte of the dataset is as it was released")
        changes = asked or pool.submit(read_changes, root)
        graph = read_graph(root)
        order = run_order(graph, options.target)
        current = current_targets(root, graph, changes.result(), console.print)
    return params, [name for name in order if name in current], order


def _run_flow(
    root: Path, options: RunOptions, scenario: str, current: list[str], console: Console
) -> list[dict[str, Any]]:
    """Have Prefect run what is not current, and tell whoever wants to know if that fails."""
    import httpx

    from flows.notify import failure_event

    warm_up = _warm_up(root, scenario)
    try:
        with console.status("starting Prefect"):
            from flows.pipeline import pipeline, start_temporary_server

            start_temporary_server()
        return pipeline(str(root), options.target, options.quiet, current)
    except Exception as error:
        reason = first_line(error)
        if lost := isinstance(error, httpx.TransportError):
            reason = (
                f"Prefect's server does not answer any more ({reason}); run again: what is "
                "finished is kept"
            )
        _tell(root, failure_event(root, reason), console)
        if lost:
            raise MnoError(reason) from None
        raise
    finally:
        if warm_up is not None:
            warm_up.kill()
            warm_up.wait()


_VERDICTS = {
    "worth_it": "worth it",
    "worth_it_if": "worth it under conditions, which the report names",
    "not_worth_it": "not worth it; the report says why",
}


def print_summary(result: dict[str, Any], console: Console, language: str = "en") -> None:
    """Say what came of `run_line` and what to do next; the report of that language is named."""
    metrics, registered = result["metrics"], result["registered"]
    targets = {stage["target"] for stage in result["stages"]}
    renewed = [stage["target"] for stage in result["stages"] if stage["action"] != "reused"]
    work = f"brought up to date: {', '.join(renewed)}" if renewed else "all was up to date"
    console.print(f"\nDone in {result['seconds']:.0f} s; {work}.")
    if "evaluate" in targets and metrics:
        error, baseline = metrics["relative_l2"], metrics["baseline_relative_l2"]
        found = f"Test error (relative L2): {error:.2%}; predicting the mean field: {baseline:.2%}"
        if "persistence_relative_l2" in metrics:
            found += f"; keeping the last given frame: {metrics['persistence_relative_l2']:.2%}"
        console.print(f"{found}.")
        if result["decision"]:
            console.print(f"Verdict:  {_VERDICTS[result['decision']['verdict']]}")
        console.print(f"Report:   reports/report{'' if language == 'en' else '.ja'}.html")
    if "register" in targets and registered and registered["version"]:
        name, version, alias = (registered[key] for key in ("name", "version", "alias"))
        if registered["decision"] == "waiting":
            promote = f"mno promote {version}"
            console.print(
                f"Model:    {name} version {version} waits for approval\n"
                f"Why:      {registered['reason']}\n"
                f"Next:     {promote} --reason '…';  {promote} --refuse --reason '…'"
            )
        else:
            console.print(
                f"Model:    {name} version {version} ({alias or 'no alias'})\n"
                f"Next:     mno predict models:/{name}/{version} data predictions.zarr;  make ui;  "
                "mno run --set train.epochs=16"
            )


def _tell(root: Path, event: Any, console: Console) -> None:
    from flows.notify import tell

    for problem in tell(root, event):
        console.print(f"warning: not everybody was told of it: {problem}")


def _warn_of_uncommitted_code(root: Path, console: Console) -> None:
    from mno.lineage.snapshot import take_snapshot

    changed = take_snapshot(root).changed
    if changed:
        console.print(
            f"warning: uncommitted changes in {', '.join(changed[:3])}"
            f"{' and more' if len(changed) > 3 else ''}: the model will be trained and evaluated "
            "but not registered; commit first, or --set registry.allow_uncommitted=true"
        )


def _warm_up(root: Path, scenario: str) -> subprocess.Popen[bytes] | None:
    """Begin what a first run would wait for (compiling, MLflow's tables) while Prefect starts."""
    if (root / "mlflow.db").exists():
        return None
    from mno.core.config import IMPORTED

    compiling = (
        "from mno.scenarios.base import make_scenario; "
        "make_scenario(sys.argv[2], 16, {}).compile(); "
    )
    code = (
        "import sys; from pathlib import Path; from mno.registry.settings import prepare; "
        f"{compiling if scenario != IMPORTED else ''}prepare(Path(sys.argv[1]))"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code, str(root), scenario], cwd=root, stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
