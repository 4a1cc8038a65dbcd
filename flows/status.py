"""The workspace in one screen, and whether it is fit to run: `mno status`, `mno doctor`."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import typer
from rich.console import Console
from rich.table import Table

from flows.options import Json, console, print_json
from flows.workspace import (
    RUN_LOCK,
    find_workspace,
    leftovers,
    prepare_environment,
    progress_bar,
    read_json,
)
from mno.core.errors import MnoError
from mno.core.files import lock_holder

_LEAST_FREE = 2 * 2**30  # bytes
_LATEST = 10  # versions that are looked at besides those with an alias
_SIGNS = {"good": "ok", "note": "note", "problem": "PROBLEM"}
_PACKAGES = ("prefect", "dvc", "torch", "mlflow", "zarr", "dask", "numba")


def status(as_json: Json = False) -> None:
    """Show in one screen what is current, stale, running and registered."""
    found = read_status()
    if as_json:
        print_json(found)
    else:
        print_status(found, console())


def doctor(
    versions: Annotated[
        bool,
        typer.Option(
            "--versions",
            help="Also load every registered version and have it predict, which takes a while.",
        ),
    ] = False,
    notify: Annotated[
        bool,
        typer.Option("--notify", help="Only send a test to everybody whom notify.yaml names."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Check packages, workspace, locks, disk, leftovers and registered models; say what to do.

    The files of registered models with an alias, and of the ten latest, must be those that were
    registered. With --versions all of them are loaded and predict what their evaluation
    predicted: after an upgrade it says which no longer do. Who is told of failures is shown, too,
    and tried with --notify.

    Example: mno doctor --versions
    """
    if notify:
        from flows.notify import try_receivers

        findings = [
            Finding(name, "problem" if why else "good", why or "told of a test")
            for name, why in try_receivers(find_workspace()).items()
        ]
    else:
        findings = _examine(versions, quiet=as_json)
    problems = sum(finding.verdict == "problem" for finding in findings)
    if as_json:
        print_json([finding._asdict() for finding in findings])
    else:
        out, width = console(), max(12, *(len(finding.subject) for finding in findings))
        for subject, verdict, detail in findings:
            out.print(f"{_SIGNS[verdict]:<8} {subject:<{width}} {detail}")
        out.print(f"\n{problems} problem(s) found." if problems else "\nReady: mno run")
    if problems:
        raise typer.Exit(1)


def read_status() -> dict[str, Any]:
    """Return what `mno status --json` prints.

    Keys: `scenario`; `running` (who holds the workspace, or null); `stages`, each with `state`
    (`current`, `stale`, `waiting` for a stale one before it, `running`, or `unknown` where a
    running stage keeps DVC from looking) and `reasons`; `metrics`; `registry` (versions with their
    aliases and errors); `schedule` (`plan` in words, `next`, and `overdue`, one line if a run did
    not begin; or null).
    """
    root = find_workspace()
    prepare_environment(root)
    from flows.params import parse_params
    from flows.schedule import overdue, read_journal, read_plan
    from flows.stages import read_stages
    from mno.registry.reading import describe_registry

    name, plan = parse_params(root).dataset_name, read_plan(root)
    return {
        "scenario": name,
        "running": lock_holder(root / RUN_LOCK),
        "stages": read_stages(root),
        "metrics": read_json(root / "reports/metrics.json") or None,
        "registry": describe_registry(root, name),
        "schedule": plan and {
            "plan": plan.words,
            "next": None if plan.paused else read_journal(root).due,
            "overdue": overdue(root, plan),
        },
    }  # fmt: skip


def print_status(status: dict[str, Any], console: Console) -> None:
    """Draw it as tables."""
    from flows.schedule import local

    running, schedule = status["running"], status["schedule"]
    console.print(f"Scenario  {status['scenario']}")
    console.print(
        f"Running   {running['activity']}, process {running['pid']}, since {running['since']}"
        if running
        else "Running   nothing"
    )
    if schedule:
        due = f"next {local(schedule['next'])}" if schedule["next"] else "paused"
        console.print(f"Schedule  {schedule['plan']}; {schedule['overdue'] or due}")
    stages = Table("Stage", "State", "Why", box=None, pad_edge=False)
    for stage in status["stages"]:
        stages.add_row(stage["name"], stage["state"], "; ".join(stage["reasons"]))
    versions = Table(
        "Model", "Version", "Alias", "Test error", "Registered", box=None, pad_edge=False
    )
    for row in status["registry"]:
        error = "" if row["relative_l2"] is None else f"{row['relative_l2']:.2%}"
        aliases = ", ".join(row["aliases"])
        versions.add_row(row["name"], str(row["version"]), aliases, error, row["created"])
    for part in (stages, versions if status["registry"] else "No model is registered yet."):
        console.print()
        console.print(part)
    console.print()
    if schedule and schedule["overdue"]:
        console.print("Next: mno schedule serve, which makes up for the run that was missed")
    elif not running and any(stage["state"] != "current" for stage in status["stages"]):
        console.print("Next: mno run")
    else:
        console.print("Next: make ui, or mno predict --help")


class Finding(NamedTuple):
    """One thing that `mno doctor` looked at; a note is worth knowing, and nothing to be done."""

    subject: str
    verdict: Literal["good", "note", "problem"]
    detail: str  # what was found and, for a problem, what to do


_Found = tuple[Literal["good", "note", "problem"], str]


def _examine(all_versions: bool, quiet: bool) -> list[Finding]:
    """Look at everything; no check stops another."""
    root = find_workspace()
    prepare_environment(root)
    findings = []
    for subject, check in _CHECKS.items():
        try:
            findings.append(Finding(subject, *check(root)))
        except MnoError as error:
            findings.append(Finding(subject, "problem", str(error)))
    return findings + _models(root, all_versions, quiet)


def _versions(root: Path) -> _Found:
    found = [f"{name} {version(name)}" for name in _PACKAGES]
    return "good", f"python {platform.python_version()}, {', '.join(found)}"


def _pins(root: Path) -> _Found:
    """Compare what is installed with what `constraints.txt` pins: the tested set."""
    different = []
    for line in (root / "constraints.txt").read_text(encoding="utf-8").splitlines():
        name, _, pinned = (part.strip() for part in line.partition("=="))
        try:
            if pinned and version(name) != pinned:
                different.append(f"{name} {version(name)} (tested: {pinned})")
        except PackageNotFoundError:
            continue  # belongs to an extra that is not installed
    if different:
        return "note", f"other than constraints.txt: {', '.join(different[:5])}"
    return "good", "all packages as pinned in constraints.txt"


def _git(root: Path) -> _Found:
    from mno.lineage.snapshot import take_snapshot

    changed = take_snapshot(root).changed
    if changed:
        return "note", f"uncommitted code, which register refuses: {', '.join(changed[:5])}"
    return "good", "the code is committed"


def _parameters(root: Path) -> _Found:
    from flows.params import load_params

    return "good", f"params.yaml is valid, scenario {load_params(root).scenario}"


def _graph(root: Path) -> _Found:
    from flows.stages import read_graph, run_order

    return "good", " → ".join(run_order(read_graph(root)))


def _run(root: Path) -> _Found:
    who = lock_holder(root / RUN_LOCK)
    if who:
        return "note", f"{who['activity']} runs, process {who['pid']}, since {who['since']}"
    return "good", "no run is active"


def _schedule(root: Path) -> _Found:
    from flows.schedule import overdue, read_plan

    plan = read_plan(root)
    if plan is None:
        return "good", "nothing is scheduled"
    if missed := overdue(root, plan):
        return "problem", f"{missed}; start mno schedule serve, which makes up for it"
    return "good", f"{plan.words}{', paused' if plan.paused else ''}"


def _notify(root: Path) -> _Found:
    from flows.notify import read_settings, who_is_told

    return "good", who_is_told(read_settings(root))


def _leftovers(root: Path) -> _Found:
    """Find processes of runs that have died, and unfinished work."""
    orphans = [process.pid for process in leftovers(root)]
    if orphans:
        return "note", f"processes of a killed run, which the next mno run ends: {orphans}"
    if lock_holder(root / RUN_LOCK):
        return "good", "no process; unfinished work belongs to the run"
    unfinished = [
        path.relative_to(root).as_posix()
        for folder in ("build/work", "build/checkpoints")
        for path in sorted((root / folder).glob("*"))
    ]
    if unfinished:
        return "note", f"unfinished work, from which mno run continues: {', '.join(unfinished)}"
    return "good", "none"


def _disk(root: Path) -> _Found:
    free = shutil.disk_usage(root).free / 2**30
    least = _LEAST_FREE / 2**30
    if free < least:
        return "problem", f"{free:.1f} GiB free, at least {least:.0f} wanted; make room"
    return "good", f"{free:.0f} GiB free"


def _registry(root: Path) -> _Found:
    from flows.params import parse_params
    from mno.registry.reading import describe_registry

    versions = describe_registry(root, parse_params(root).dataset_name)
    return "good", f"{len(versions)} version(s) of the scenario's model"


_CHECKS: dict[str, Callable[[Path], _Found]] = {
    "versions": _versions, "pins": _pins, "git": _git, "parameters": _parameters, "dvc": _graph,
    "run": _run, "schedule": _schedule, "notify": _notify, "leftovers": _leftovers,
    "disk": _disk, "registry": _registry,
}  # fmt: skip


def _models(root: Path, all_versions: bool, quiet: bool) -> list[Finding]:
    """Look whether the files of registered versions are whole, or whether all of them predict."""
    from mno.registry.catalogue import registry_of
    from mno.registry.settings import Workspace
    from mno.registry.trial import try_health

    workspace = Workspace(root)
    try:
        versions = registry_of(workspace).versions()
        if all_versions and versions:
            _ = workspace.client
    except MnoError as error:
        return [Finding("models", "problem", str(error))]
    looked_at = [v for n, v in enumerate(versions) if all_versions or v.aliases or n < _LATEST]
    findings = []
    with progress_bar(quiet, "versions") as show:
        for number, one in enumerate(looked_at):
            show("trying versions", number, len(looked_at))
            health = try_health(workspace, one, predict=all_versions)
            findings.append(Finding(one.uri, health.verdict, health.detail))
    if left := len(versions) - len(looked_at):
        detail = f"{left} older version(s) without an alias were not looked at"
        findings.append(Finding("models", "note", f"{detail}: mno doctor --versions"))
    return findings
