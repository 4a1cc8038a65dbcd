"""The workspace in one screen, and whether it is fit to run: `mno status`, `mno doctor`."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any, Literal

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

LEAST_FREE = 2 * 2**30  # bytes
LATEST = 10  # versions that are tried besides those with an alias
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
            help="Try every registered version; otherwise those with an alias and the ten latest.",
        ),
    ] = False,
    notify: Annotated[
        bool,
        typer.Option("--notify", help="Only send a test to everybody whom notify.yaml names."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Check packages, workspace, locks, disk, leftovers and registered models; say what to do.

    Registered models are loaded and predict what their evaluation predicted: after an upgrade it
    says which no longer do. Who is told of failures is shown, too, and tried with --notify.

    Example: mno doctor --versions
    """
    findings = try_telling() if notify else examine(versions, quiet=as_json)
    if as_json:
        print_json([vars(finding) for finding in findings])
    else:
        print_findings(findings, console())
    if any(finding.verdict == "problem" for finding in findings):
        raise typer.Exit(1)


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
    from flows.params import parse_params
    from flows.stages import read_stages
    from mno.registry.reading import describe_registry

    params = parse_params(root)
    return {
        "scenario": params.dataset_name,
        "running": lock_holder(root / RUN_LOCK),
        "stages": read_stages(root),
        "metrics": read_json(root / "reports/metrics.json") or None,
        "registry": describe_registry(root, params.dataset_name),
        "schedule": _describe_plan(root),
    }


def print_status(status: dict[str, Any], console: Console) -> None:
    """Draw it as tables."""
    from flows.schedule import local

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


def _describe_plan(root: Path) -> dict[str, Any] | None:
    from flows.schedule import overdue, read_journal, read_plan

    plan = read_plan(root)
    if plan is None:
        return None
    due = None if plan.paused else read_journal(root).due
    return {"plan": plan.words, "next": due, "overdue": overdue(root, plan)}


@dataclass(frozen=True)
class Finding:
    """One thing looked at.

    Attributes:
        subject: What was looked at.
        verdict: `good`, `note` (nothing to do, but worth knowing) or `problem`.
        detail: What was found and, for a problem, what to do.
    """

    subject: str
    verdict: Literal["good", "note", "problem"]
    detail: str


def examine(all_versions: bool = False, quiet: bool = True) -> list[Finding]:
    """Look at everything; no check stops another.

    Args:
        all_versions: Try every registered version, instead of those with an alias and the latest.
        quiet: Draw no progress.

    Raises:
        InputError: There is no workspace here.
    """
    root = find_workspace()
    prepare_environment(root)
    checks: list[Callable[[Path], Finding]] = [
        _versions, _pins, _git, _parameters, _graph, _run, _schedule, _notify, _leftovers, _disk,
        _registry,
    ]  # fmt: skip
    return [*(_look(check, root) for check in checks), *_models(root, all_versions, quiet)]


def print_findings(findings: list[Finding], console: Console) -> None:
    """Print one line each, then whether there is anything to do."""
    signs = {"good": "ok", "note": "note", "problem": "PROBLEM"}
    width = max(12, *(len(finding.subject) for finding in findings))
    for finding in findings:
        console.print(f"{signs[finding.verdict]:<8} {finding.subject:<{width}} {finding.detail}")
    problems = sum(finding.verdict == "problem" for finding in findings)
    console.print(f"\n{problems} problem(s) found." if problems else "\nReady: mno run")


def try_telling() -> list[Finding]:
    """Send a test to everybody whom `notify.yaml` names.

    Raises:
        InputError: It cannot be used, or names nobody.
    """
    from flows.notify import try_receivers

    reached = try_receivers(find_workspace()).items()
    return [
        Finding(name, "problem" if why else "good", why or "told of a test")
        for name, why in reached
    ]


def _look(check: Callable[[Path], Finding], root: Path) -> Finding:
    try:
        return check(root)
    except MnoError as error:
        return Finding(check.__name__.strip("_"), "problem", str(error))


def _versions(root: Path) -> Finding:
    found = [f"{name} {version(name)}" for name in _PACKAGES]
    return Finding("versions", "good", f"python {platform.python_version()}, {', '.join(found)}")


def _pins(root: Path) -> Finding:
    """Compare what is installed with what `constraints.txt` pins: the tested set."""
    different = []
    for line in (root / "constraints.txt").read_text(encoding="utf-8").splitlines():
        name, _, pinned = line.partition("==")
        if not pinned:
            continue
        try:
            if version(name.strip()) != pinned.strip():
                different.append(f"{name} {version(name.strip())} (tested: {pinned.strip()})")
        except PackageNotFoundError:
            continue  # belongs to an extra that is not installed
    if different:
        return Finding("pins", "note", f"other than constraints.txt: {', '.join(different[:5])}")
    return Finding("pins", "good", "all packages as pinned in constraints.txt")


def _git(root: Path) -> Finding:
    from mno.lineage.snapshot import take_snapshot

    changed = take_snapshot(root).changed
    if changed:
        detail = f"uncommitted code, which register refuses: {', '.join(changed[:5])}"
        return Finding("git", "note", detail)
    return Finding("git", "good", "the code is committed")


def _parameters(root: Path) -> Finding:
    from flows.params import load_params

    params = load_params(root)
    return Finding("parameters", "good", f"params.yaml is valid, scenario {params.scenario}")


def _graph(root: Path) -> Finding:
    from flows.stages import read_graph, run_order

    return Finding("dvc", "good", " → ".join(run_order(read_graph(root))))


def _run(root: Path) -> Finding:
    who = lock_holder(root / RUN_LOCK)
    if who:
        detail = f"{who['activity']} runs, process {who['pid']}, since {who['since']}"
        return Finding("run", "note", detail)
    return Finding("run", "good", "no run is active")


def _schedule(root: Path) -> Finding:
    from flows.schedule import overdue, read_plan

    plan = read_plan(root)
    if plan is None:
        return Finding("schedule", "good", "nothing is scheduled")
    missed = overdue(root, plan)
    if missed:
        detail = f"{missed}; start mno schedule serve, which makes up for it"
        return Finding("schedule", "problem", detail)
    return Finding("schedule", "good", f"{plan.words}{', paused' if plan.paused else ''}")


def _notify(root: Path) -> Finding:
    from flows.notify import read_settings, who_is_told

    return Finding("notify", "good", who_is_told(read_settings(root)))


def _leftovers(root: Path) -> Finding:
    """Find processes of runs that have died, and unfinished work."""
    orphans = [process.pid for process in leftovers(root)]
    if orphans:
        detail = f"processes of a killed run, which the next mno run ends: {orphans}"
        return Finding("leftovers", "note", detail)
    if lock_holder(root / RUN_LOCK):
        return Finding("leftovers", "good", "no process; unfinished work belongs to the run")
    unfinished = [
        path.relative_to(root).as_posix()
        for folder in ("build/work", "build/checkpoints")
        for path in sorted((root / folder).glob("*"))
    ]
    if unfinished:
        detail = f"unfinished work, from which mno run continues: {', '.join(unfinished)}"
        return Finding("leftovers", "note", detail)
    return Finding("leftovers", "good", "none")


def _disk(root: Path) -> Finding:
    free = shutil.disk_usage(root).free
    if free < LEAST_FREE:
        detail = f"{free / 2**30:.1f} GiB free, at least {LEAST_FREE / 2**30:.0f} wanted; make room"
        return Finding("disk", "problem", detail)
    return Finding("disk", "good", f"{free / 2**30:.0f} GiB free")


def _registry(root: Path) -> Finding:
    from flows.params import parse_params
    from mno.registry.reading import describe_registry

    versions = describe_registry(root, parse_params(root).dataset_name)
    return Finding("registry", "good", f"{len(versions)} version(s) of the scenario's model")


def _models(root: Path, all_versions: bool, quiet: bool) -> list[Finding]:
    """Load registered versions and let them predict; say which no longer do as recorded."""
    from mno.registry.catalogue import read_catalogue
    from mno.registry.settings import use_workspace
    from mno.registry.trial import try_health

    try:
        catalogue = read_catalogue(root)
        if not catalogue.versions:
            return []
        workspace = use_workspace(root)
    except MnoError as error:
        return [Finding("models", "problem", str(error))]
    tried = [
        version
        for number, version in enumerate(catalogue.versions)
        if all_versions or version.aliases or number < LATEST
    ]
    findings = []
    with progress_bar(quiet, "versions") as show:
        for number, version in enumerate(tried):
            show("trying versions", number, len(tried))
            health = try_health(workspace, version, catalogue.files)
            findings.append(Finding(version.uri, health.verdict, health.detail))
    left = len(catalogue.versions) - len(tried)
    if left:
        detail = f"{left} older version(s) without an alias were not tried: mno doctor --versions"
        findings.append(Finding("models", "note", detail))
    return findings
