"""`mno run` and its stages: one run per workspace, from checked parameters to a summary."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console

from flows.leftovers import end_leftovers, marks
from flows.notify import Event
from flows.options import RunOptions
from flows.params import edit_params
from flows.promotion import decision_event
from flows.repair import remove_damage
from flows.server import start_temporary_server
from flows.telling import failure_event, tell
from flows.workspace import RUN_LOCK, find_workspace, prepare_environment
from mno.core.config import IMPORTED
from mno.core.errors import MnoError, first_line
from mno.core.files import locked
from mno.lineage.snapshot import take_snapshot
from mno.lineage.tidying import RESUMABLE
from mno.registry.settings import registry_uri, require_answer

_REPORTS = {"en": "report.html", "ja": "report.ja.html"}
_VERDICTS = {
    "worth_it": "worth it",
    "worth_it_if": "worth it under conditions, which the report names",
    "not_worth_it": "not worth it; the report says why",
}
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
    with locked(root / RUN_LOCK, "a run of mno"):
        require_answer(registry_uri(root), patience=5.0)  # before hours of work for nothing
        params = edit_params(root, options.preset, options.assignments)
        ended = end_leftovers(root)
        if ended:
            console.print(f"ended {ended} process(es) left behind by a run that was killed")
        os.environ.update(marks(root))
        if options.repair and not remove_damage(root, console.print):
            console.print("repair     every byte of the dataset is as it was released")
        if not params.registry.allow_uncommitted and options.target in (None, "register"):
            _warn_of_uncommitted_code(root, console)
        warm_up = _warm_up(root, params.scenario)
        from flows.pipeline import pipeline  # importing Prefect takes a second or two

        try:
            with console.status("starting Prefect"):
                start_temporary_server()
            stages = pipeline(str(root), options.target, options.quiet)
        except httpx.TransportError as error:
            reason = (
                f"Prefect's server does not answer any more ({first_line(error)}); run again: "
                "what is finished is kept"
            )
            _tell(root, failure_event(root, reason), console)
            raise MnoError(reason) from None
        except Exception as error:
            _tell(root, failure_event(root, first_line(error)), console)
            raise
        finally:
            if warm_up is not None:
                warm_up.kill()
                warm_up.wait()
        for stage in stages:
            if stage["target"] in RESUMABLE:
                shutil.rmtree(root / RESUMABLE[stage["target"]], ignore_errors=True)
    results = {name: _read(root / f"reports/{name}.json") for name in _RESULTS}
    registered = results["registered"]
    if _ran(stages, "register") and registered and registered.get("decided_now"):
        _tell(root, decision_event(root, registered), console)
    elif registered and registered["version"] and options.target in (None, "register"):
        # A person may have decided since it was registered.
        results["registered"] = {**registered, **_standing(root, registered)}
    return {
        "stages": stages,
        "seconds": round(time.monotonic() - start, 1),
        **results,
    }


def print_summary(result: dict[str, Any], console: Console, language: str = "en") -> None:
    """Say what a run brought and what to do next, in a few lines.

    Args:
        result: What `run_line` returned.
        console: Where to.
        language: Of the report that is named.
    """
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
        console.print(f"Report:   reports/{_REPORTS[language]}")
    if "register" in targets and registered and registered["version"]:
        name, version, alias = (registered[key] for key in ("name", "version", "alias"))
        if registered["decision"] == "waiting":
            console.print(f"Model:    {name} version {version} waits for approval")
            console.print(f"Why:      {registered['reason']}")
            console.print(
                f"Next:     mno promote {version} --reason '…';  "
                f"mno promote {version} --refuse --reason '…'"
            )
            return
        console.print(f"Model:    {name} version {version} ({alias or 'no alias'})")
        console.print(
            f"Next:     mno predict models:/{name}/{version} data predictions.zarr;  make ui;  "
            "mno run --set train.epochs=16"
        )


def _ran(stages: list[dict[str, Any]], target: str) -> bool:
    return any(stage["target"] == target and stage["action"] == "ran" for stage in stages)


def _standing(root: Path, registered: dict[str, Any]) -> dict[str, Any]:
    from mno.registry.decision import standing
    from mno.registry.settings import use_workspace

    return standing(use_workspace(root), registered["name"], registered["version"])


def _tell(root: Path, event: Event, console: Console) -> None:
    for problem in tell(root, event):
        console.print(f"warning: not everybody was told of it: {problem}")


def _warn_of_uncommitted_code(root: Path, console: Console) -> None:
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


def _read(path: Path) -> dict[str, Any] | None:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
