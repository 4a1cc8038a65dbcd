"""`mno status`: the workspace in one screen."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from flows.graph import read_graph, run_order
from flows.params import load_params
from flows.scheduling.journal import overdue, read_journal
from flows.scheduling.plan import local, read_plan
from flows.workspace import RUN_LOCK, find_workspace, prepare_environment, program
from mno.core.errors import MnoError
from mno.core.files import lock_holder


def read_status() -> dict[str, Any]:
    """Return what `mno status --json` prints.

    Keys: `scenario`; `running` (who holds the workspace, or null); `stages`, each with `state`
    (`current`, `stale`, `waiting` for a stale one before it, `running`, or `unknown` where a
    running stage keeps DVC from looking) and `reasons`; `metrics`; `registry` (versions with their
    aliases and errors); `schedule` (`plan` in words, `next`, and `overdue`, one line if a run did
    not begin; or null).

    Raises:
        InputError: The parameters or the workspace cannot be used.
    """
    root = find_workspace()
    prepare_environment(root)
    params = load_params(root)
    from mno.registry.reading import describe_registry

    return {
        "scenario": params.dataset_name,
        "running": lock_holder(root / RUN_LOCK),
        "stages": read_stages(root),
        "metrics": _read(root / "reports/metrics.json"),
        "registry": describe_registry(root, params.dataset_name),
        "schedule": _schedule(root),
    }


def print_status(status: dict[str, Any], console: Console) -> None:
    """Draw it as tables."""
    running = status["running"]
    console.print(f"Scenario  {status['scenario']}")
    console.print(
        f"Running   {running['activity']}, process {running['pid']}, since {running['since']}"
        if running
        else "Running   nothing"
    )
    if status["schedule"]:
        plan, due, missed = (status["schedule"][key] for key in ("plan", "next", "overdue"))
        then = missed or (f"next {local(due)}" if due else "paused")
        console.print(f"Schedule  {plan}; {then}")
    stages = Table("Stage", "State", "Why", box=None, pad_edge=False)
    for stage in status["stages"]:
        stages.add_row(stage["name"], stage["state"], "; ".join(stage["reasons"]))
    console.print()
    console.print(stages)
    console.print()
    versions = status["registry"]
    if versions:
        table = Table(
            "Model", "Version", "Alias", "Test error", "Registered", box=None, pad_edge=False
        )
        for version in versions:
            error = version["relative_l2"]
            table.add_row(
                version["name"], str(version["version"]), ", ".join(version["aliases"]),
                "" if error is None else f"{error:.2%}", version["created"],
            )  # fmt: skip
        console.print(table)
    else:
        console.print("No model is registered yet.")
    stale = any(stage["state"] != "current" for stage in status["stages"])
    console.print()
    if status["schedule"] and status["schedule"]["overdue"]:
        console.print("Next: mno schedule serve, which makes up for the run that was missed")
        return
    console.print(
        "Next: mno run" if stale and not running else "Next: make ui, or mno predict --help"
    )


def read_stages(root: Path) -> list[dict[str, Any]]:
    """Return, for each stage in the order of the line, `name`, `state` and `reasons`.

    Raises:
        MnoError: DVC cannot tell.
    """
    graph = read_graph(root)
    running = {name for name in graph if lock_holder(root / "build/locks" / name)}
    changes = _changes(root)
    stages: list[dict[str, Any]] = []
    stale: set[str] = set()
    for name in run_order(graph):
        if changes is None or name in running:
            state = "running" if name in running else "unknown"
            stages.append({"name": name, "state": state, "reasons": []})
            continue
        reasons = _reasons(changes.get(name, []))
        state = "waiting" if graph[name] & stale else "stale" if reasons else "current"
        if state != "current":
            stale.add(name)
        stages.append({"name": name, "state": state, "reasons": reasons})
    return stages


def _schedule(root: Path) -> dict[str, Any] | None:
    plan = read_plan(root)
    if plan is None:
        return None
    return {
        "plan": plan.words,
        "next": None if plan.paused else read_journal(root).due,
        "overdue": overdue(root, plan),
    }


def _changes(root: Path) -> dict[str, Any] | None:
    """Return what DVC says has changed; None where a stage at work keeps it from looking."""
    done = subprocess.run(
        [program("dvc"), "status", "--json"], cwd=root, capture_output=True, text=True, check=False
    )
    try:
        return json.loads(done.stdout)
    except ValueError:
        if " is busy, " in done.stderr:
            return None
        reason = done.stderr.strip().splitlines() or ["dvc status failed"]
        raise MnoError(reason[0].removeprefix("ERROR: ")) from None


def _reasons(changes: list[Any]) -> list[str]:
    """Turn DVC's account of a stage's changes into words."""
    reasons = []
    for change in changes:
        if isinstance(change, str):
            reasons.append(change)
            continue
        for kind, paths in change.items():
            for path, what in paths.items():
                if isinstance(what, dict):  # parameters: {"params.yaml": {"train": "modified"}}
                    reasons += [f"{key} {how}" for key, how in what.items()]
                else:
                    verb = "missing" if what == "deleted" and kind == "changed outs" else what
                    reasons.append(f"{path} {verb}")
    return reasons


def _read(path: Path) -> dict[str, Any] | None:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
