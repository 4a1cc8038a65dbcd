"""The production line: `mno run` and one command for each of its stages."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from flows import options, workspace
from flows.options import Assignments, Json, Preset, Quiet, Say, answer, console, interruptible
from mno.core.errors import InputError, MnoError, first_line

# What takes a moment to import is imported where it is used: every command starts here.

_DATASET = "build/dataset"


def own_figures(
    solver_cost: str | None, queries_per_day: float | None = None, hourly_rate: float | None = None,
    questions: float | None = None,
) -> list[str]:  # fmt: skip
    """Return the user's own figures as `key=value` edits; none keeps what `params.yaml` says."""
    solver = None if solver_cost is None else options.seconds_of("--solver-cost", solver_cost)
    values = {
        "solver_seconds": solver, "queries_per_day": queries_per_day, "hourly_rate": hourly_rate,
        "questions": questions,
    }  # fmt: skip
    return [f"evaluate.economics.{name}={v}" for name, v in values.items() if v is not None]


def run(
    preset: Preset = None, scenario: options.Scenario = None, edits: Assignments = None,
    device: options.Device = None, quiet: Quiet = False, as_json: Json = False,
) -> None:  # fmt: skip
    """Bring the whole line up to date: generate, train, evaluate, register.

    Example: mno run --preset quick --set train.epochs=10
    """
    _bring_up_to_date(None, preset, scenario, edits or (), quiet, as_json)


def generate(
    preset: Preset = None, scenario: options.Scenario = None, assignments: Assignments = None,
    repair: Annotated[bool, typer.Option(
        "--repair", help="First read every byte, and remove what is damaged.")] = False,
    quiet: Quiet = False, as_json: Json = False,
) -> None:  # fmt: skip
    """Solve the dataset and release it as data/.

    Example: mno generate --set generate.samples=2000
    """
    _bring_up_to_date("data.dvc", preset, scenario, assignments or (), quiet, as_json, repair)


def train(
    preset: Preset = None, scenario: options.Scenario = None, edits: Assignments = None,
    device: options.Device = None, quiet: Quiet = False, as_json: Json = False,
) -> None:  # fmt: skip
    """Train the operator, after generating what it needs.

    Example: mno train --set train.epochs=40 --set model.width=64
    """
    _bring_up_to_date("train", preset, scenario, edits or (), quiet, as_json)


def evaluate(
    preset: Preset = None, scenario: options.Scenario = None, assignments: Assignments = None,
    solver_cost: Annotated[str | None, typer.Option(
        help="Time of one solve by your own solver, as 3.5s; the scenario's own is measured if not "
        "given.", metavar="TIME")] = None,
    queries_per_day: Annotated[float | None, typer.Option(
        help="Solutions you need in a day.")] = None,
    questions: Annotated[float | None, typer.Option(
        help="Solutions you need in all, as 3000 for an optimisation.")] = None,
    hourly_rate: Annotated[float | None, typer.Option(
        help="Price of one hour of computing, of one core.")] = None,
    learning_curve: Annotated[bool, typer.Option(
        "--learning-curve",
        help="Train on shares of the training samples as well, to see what more of them would "
        "bring; from then on, until learning_curve.shares is [].")] = False, quiet: Quiet = False,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Evaluate on the test split, after training; write reports/report.html.

    Your own figures are kept in the parameters evaluate.economics.

    Is it worth it: mno evaluate --solver-cost 3.5s --queries-per-day 2000 --hourly-rate 1.2
    """
    figures = own_figures(solver_cost, queries_per_day, hourly_rate, questions)
    chosen = ["learning_curve.shares=[0.125, 0.25, 0.5]"] if learning_curve else []
    edits = [*chosen, *(assignments or ()), *figures]
    _bring_up_to_date("report", preset, scenario, edits, quiet, as_json)


def register(
    preset: Preset = None, scenario: options.Scenario = None, edits: Assignments = None,
    quiet: Quiet = False, as_json: Json = False,
) -> None:  # fmt: skip
    """Register the model in MLflow, after evaluating it; the better one becomes champion."""
    _bring_up_to_date("register", preset, scenario, edits or (), quiet, as_json)


def _bring_up_to_date(
    target: str | None, preset: str | None, scenario: str | None, assignments: Sequence[str],
    quiet: bool, as_json: bool, repair: bool = False,
) -> None:  # fmt: skip
    edits = [*([f"scenario={scenario}"] if scenario else []), *assignments]
    with interruptible():
        result = run_line(target, preset, edits, quiet, repair)
    answer(result, as_json, quiet, print_summary)


def run_line(
    target: str | None = None, preset: str | None = None, assignments: Sequence[str] = (),
    quiet: bool = False, repair: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """Edit and check the parameters, then bring the line, or one target of it, up to date.

    With `repair` copies of the dataset whose bytes are damaged are removed first.

    Returns `stages` (what each did), `seconds`, and the content of `reports/metrics.json`,
    `reports/decision.json` and `reports/registered.json`, where it is what these stages made. Where
    parameters or workspace are refused, nothing has been changed.
    """
    start = time.monotonic()
    root = workspace.find_workspace()
    workspace.prepare_environment(root)
    out = console(stderr=True, quiet=quiet)
    from mno.core.files import locked
    from mno.registry.settings import registry_uri, require_answer

    with locked(root / workspace.RUN_LOCK, "a run of mno"):
        require_answer(registry_uri(root), patience=5.0)  # before hours of work for nothing
        if ended := workspace.end_leftovers(root):
            out.print(f"ended {ended} process(es) left behind by a run that was killed")
        os.environ.update(workspace.marks(root))
        params, current, order = _look(root, target, preset, assignments, repair, out.print)
        if set(order) <= set(current):
            from flows.stages import StageResult

            reused = [StageResult(name, "reused", 0.0) for name in order]
            stages = [result.to_dict() for result in reused]
            out.print(*map(str, reused), sep="\n")
        else:
            if not params.registry.allow_uncommitted and "register" in order:
                _warn_of_uncommitted_code(root, out)
            stages = _run_flow(root, target, params.scenario, current, out)
        from mno.lineage.tidying import RESUMABLE  # what stages would have continued from

        for stage in stages:
            if stage["target"] in RESUMABLE:
                shutil.rmtree(root / RESUMABLE[stage["target"]], ignore_errors=True)
    from mno.registry.reading import registered_now

    results: dict[str, Any] = {
        name: (stage in order and workspace.read_json(root / f"reports/{name}.json")) or None
        for name, stage in (("metrics", "evaluate"), ("decision", "report"))
    }
    registered = results["registered"] = registered_now(root)
    if any(stage["target"] == "report" and stage["action"] == "ran" for stage in stages):
        if registered and registered.get("decided_now"):
            from flows.notify import tell
            from flows.promotion import decision_event

            tell(root, decision_event(root, registered), out.print)
    elif registered and "register" in order:
        from mno.registry.catalogue import existing_workspace
        from mno.registry.decision import standing  # a person may have decided since

        now = standing(existing_workspace(root), registered["name"], registered["version"])
        results["registered"] = {**registered, **now}
    return {"stages": stages, "seconds": round(time.monotonic() - start, 1), **results}


def _look(
    root: Path, target: str | None, preset: str | None, edits: Sequence[str], repair: bool, say: Say
) -> tuple[Any, list[str], list[str]]:
    """Edit and check the parameters; return them, the targets that are current, and all, in order.

    DVC is asked meanwhile, where neither edits nor repairs come before the answer.
    """
    from flows.params import edit_params
    from flows.stages import current_targets, read_changes, read_graph, run_order

    at_once = not (preset or edits or repair)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(read_changes, root) if at_once else None
        params = edit_params(root, preset, edits)
        if repair and not _remove_damage(root, say):
            say("repair     every byte of the dataset is as it was released")
        changes = asked or pool.submit(read_changes, root)
        graph = read_graph(root)
        order = run_order(graph, target)
        current = current_targets(root, graph, changes.result(), say)
    return params, [name for name in order if name in current], order


def _remove_damage(root: Path, say: Say) -> bool:
    """Remove damaged copies of the dataset, here and in DVC's cache; return whether any was.

    DVC trusts sizes, times and its own cache. Here every byte is read; what is removed is then made
    again by DVC, from what is still good or from the solver.
    """
    from mno.data.reading import verify
    from mno.lineage.dvcfiles import DATA_FILE, locked_out, read_data_version

    found = False
    for name in (_DATASET, "data"):
        folder = root / name
        if not folder.exists():
            continue
        try:
            problems = verify(folder)
        except InputError as error:
            problems = [str(error)]
        if problems:
            found = True
            for problem in problems:
                say(f"repair     {name}/{problem}")
            shutil.rmtree(folder)
    cache = workspace.cache_folder(root)
    recorded = {read_data_version(root / DATA_FILE).md5, locked_out(root, "generate", _DATASET)}
    for md5 in sorted(filter(None, recorded)):
        for path in _damaged_objects(cache, md5):
            found = True
            say(f"repair     {path} does not hold what its name promises")
            path.unlink()
    return found


def _damaged_objects(cache: Path, directory: str) -> Iterator[Path]:
    from mno.core.files import file_md5
    from mno.lineage.audit.objects import find_object

    if (listing := find_object([cache], directory)) is None:
        return
    if file_md5(listing) != directory.removesuffix(".dir"):
        yield listing
        return
    for md5 in sorted({entry["md5"] for entry in json.loads(listing.read_bytes())}):
        path = find_object([cache], md5)
        if path is not None and file_md5(path) != md5:
            yield path


def _run_flow(
    root: Path, target: str | None, scenario: str, current: list[str], console: Console
) -> list[dict[str, Any]]:
    import httpx

    from flows.notify import failure_event, tell
    from flows.schedule import mark

    warm_up = _warm_up(root, scenario)
    try:
        with console.status("starting Prefect"):
            from prefect import tags

            from flows.pipeline import pipeline, start_temporary_server

            start_temporary_server()
        with tags(mark(root)):
            return pipeline(str(root), target, console.quiet, current)
    except Exception as error:
        from prefect.runtime import flow_run

        reason = first_line(error)
        if lost := isinstance(error, httpx.TransportError):
            reason = workspace.server_is_gone(error)
        if flow_run.get_id() is None:  # else that of a scheduled run, which tells by itself
            tell(root, failure_event(root, reason), console.print)
        if lost:
            raise MnoError(reason) from None
        raise
    finally:
        if warm_up is not None:
            warm_up.kill()
            warm_up.wait()


VERDICTS = {
    "": "", "worth_it": "worth it", "worth_it_if": "worth it under conditions",
    "not_worth_it": "not worth it",
}  # fmt: skip
_MORE = {"worth_it_if": ", which the report names", "not_worth_it": "; the report says why"}


def print_summary(result: dict[str, Any]) -> None:
    """Say what came of `run_line` and what to do next."""
    metrics, registered, decision = (result[k] for k in ("metrics", "registered", "decision"))
    verdict, ends = (decision["verdict"], decision["at_ends"]) if decision else ("", [])
    targets = {stage["target"] for stage in result["stages"]}
    renewed = [stage["target"] for stage in result["stages"] if stage["action"] != "reused"]
    work = f"brought up to date: {', '.join(renewed)}" if renewed else "all was up to date"
    print(f"\nDone in {result['seconds']:.0f} s; {work}.")
    if "report" in targets and metrics:
        error, baseline = metrics["relative_l2"], metrics["baseline_relative_l2"]
        found = f"Test error (relative L2): {error:.2%}; predicting the mean field: {baseline:.2%}"
        if "persistence_relative_l2" in metrics:
            found += f"; keeping the last given frame: {metrics['persistence_relative_l2']:.2%}"
        print(f"{found}.")
        others = [end for end in ends if end != verdict]
        close = f" (as times vary: {VERDICTS[others[0]]})" if others else ""
        print(f"Verdict:  {VERDICTS[verdict]}{_MORE.get(verdict, '')}{close}")
        print("Report:   reports/report.html")
    if "register" in targets and registered:
        name, version, alias = (registered[key] for key in ("name", "version", "alias"))
        promote = f"mno promote {version}"
        print(f"Model:    {name} version {version} ({alias or 'no alias'}): {registered['reason']}")
        if registered["decision"] == "waiting":
            print(f"Next:     {promote} --reason '…';  {promote} --refuse --reason '…'")
        elif "not_worth_it" in ends and alias != "champion":
            print(f"Next:     read what would change it;  {promote} --reason '…' takes it anyway")
        else:
            uri = f"models:/{name}/{version}"
            follows = name.endswith("-readings-observer")  # others have no log to follow
            predict, watch = f"predict {uri} data predictions.zarr", f"watch {uri} --describe"
            print(f"Next:     mno {watch if follows else predict};  make ui")


def _warn_of_uncommitted_code(root: Path, console: Console) -> None:
    from mno.lineage.snapshot import take_snapshot

    if changed := take_snapshot(root).changed:
        console.print(
            f"warning: uncommitted changes in {', '.join(changed[:3])}: the model will be trained "
            "but not registered; commit first, or --set registry.allow_uncommitted=true"
        )


def _warm_up(root: Path, scenario: str) -> subprocess.Popen[bytes] | None:
    """Begin what a first run would wait for (compiling, MLflow's tables) while Prefect starts."""
    if (root / "mlflow.db").exists():
        return None
    from mno.core.config import EXTERNAL, IMPORTED

    compiling = (
        "from mno.scenarios.base import make_scenario; "
        "make_scenario(sys.argv[2], 16, {}).compile(); "
    )
    code = (
        "import sys; from pathlib import Path; from mno.registry.settings import prepare; "
        f"{compiling if scenario not in (IMPORTED, EXTERNAL) else ''}prepare(Path(sys.argv[1]))"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code, str(root), scenario], cwd=root, stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
