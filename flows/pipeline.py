"""The production line as a Prefect flow: one task per target of DVC's graph."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run
from rich.console import Console

from flows.graph import read_graph, run_order
from flows.leftovers import handed_down
from flows.promotion import decision_page
from flows.stages import StageResult, run_target
from flows.unfinished import at_work
from flows.workspace import find_workspace
from mno.lineage.dvcfiles import read_data_version

REGISTERED = Path("reports/registered.json")


@flow(name="pipeline", validate_parameters=False)
def pipeline(
    root: str | None = None, target: str | None = None, quiet: bool = False
) -> list[dict[str, Any]]:
    """Bring the line, or one target of it and what that needs, up to date.

    Args:
        root: The workspace; the one around the working folder if not given.
        target: A stage's name, or `data.dvc`; everything if not given.
        quiet: Print nothing but failures.

    Returns:
        The result of each target, in the order in which they ran.

    Raises:
        StageFailedError: A stage failed.
    """
    workspace = find_workspace(Path(root) if root else None)
    console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    log = get_run_logger()

    def say(line: str) -> None:
        if not quiet or line.lower().startswith("error"):
            console.print(line)
        log.info(line)

    results: dict[str, StageResult] = {}
    with at_work(workspace, flow_run.get_id(), say):
        graph = read_graph(workspace)
        for name in run_order(graph, target):
            if name == "register":
                forget_missing_version(workspace, say)
            before = read_data_version(workspace / name).md5 if name.endswith(".dvc") else None
            stage = task(name=name, task_run_name=name, cache_policy=NO_CACHE)(run_target)
            result = stage(workspace, name, environment(workspace, quiet), say)
            if before is not None and all(results[n].action != "ran" for n in graph[name]):
                result = _told_if_restored(result, before, workspace / name)
            results[name] = result
            if name == "register" and result.action == "ran":
                show_decision(workspace)
            say(_describe(result))
    return [
        {"target": r.target, "action": r.action, "seconds": round(r.seconds, 2)}
        for r in results.values()
    ]


def environment(root: Path, quiet: bool) -> dict[str, str]:
    """Return what a stage is told by its environment (see `pipelines.stage.StageEnvironment`)."""
    told = handed_down(root, quiet)
    run_id = flow_run.get_id()
    if run_id:
        told["MNO_FLOW_RUN_ID"] = str(run_id)
    return told


def forget_missing_version(root: Path, say: Callable[[str], None]) -> None:
    """Remove the record of a registration whose version is gone, so that DVC registers again."""
    path = root / REGISTERED
    if not path.exists():
        return
    from mno.registry.reading import why_version_is_unusable

    registered = {}
    try:
        registered = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        reason = "the record is not readable"
    else:
        reason = why_version_is_unusable(root, registered)
    if reason and not _has_no_champion_by_decision(registered, reason):
        say(f"register: {REGISTERED} is out of date ({reason}); registering again")
        path.unlink()


def _has_no_champion_by_decision(registered: dict[str, Any], reason: str) -> bool:
    """Tell whether a model has no champion because no version was let through so far."""
    decision = registered.get("decision", "champion")
    return reason == f"{registered.get('name')} has no champion" and decision != "champion"


def show_decision(root: Path) -> None:
    """Keep the decision on a version with the flow run, as an artifact of Prefect's."""
    try:
        registered = json.loads((root / REGISTERED).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return
    if registered["version"] is None:
        return
    create_markdown_artifact(
        decision_page(registered), key="promotion", description="The decision on a version"
    )


def _told_if_restored(result: StageResult, before: str, file: Path) -> StageResult:
    """An import that ran for nothing upstream, to the same version, has mended its folder."""
    if result.action == "ran" and read_data_version(file).md5 == before:
        return replace(result, action="restored")
    return result


def _describe(result: StageResult) -> str:
    said = {
        "ran": "done",
        "reused": "reused, nothing it depends on has changed",
        "restored": "restored: it was missing or altered, and was put back as recorded",
    }
    return f"{result.target:<10} {said[result.action]} ({result.seconds:.1f} s)"
