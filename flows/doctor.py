"""`mno doctor`: is this workspace fit to run, and if not, what to do."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from rich.console import Console

from flows.graph import read_graph, run_order
from flows.leftovers import leftovers
from flows.params import load_params
from flows.progress import progress_bar
from flows.scheduling.journal import overdue
from flows.scheduling.plan import read_plan
from flows.workspace import RUN_LOCK, find_workspace, prepare_environment
from mno.core.errors import MnoError
from mno.core.files import lock_holder

LEAST_FREE = 2 * 2**30  # bytes
LATEST = 10  # versions that are tried besides those with an alias
_PACKAGES = ("prefect", "dvc", "torch", "mlflow", "zarr", "dask", "numba")


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
        _versions, _pins, _git, _parameters, _graph, _run, _schedule, _leftovers, _disk,
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
    params = load_params(root)
    return Finding("parameters", "good", f"params.yaml is valid, scenario {params.scenario}")


def _graph(root: Path) -> Finding:
    return Finding("dvc", "good", " → ".join(run_order(read_graph(root))))


def _run(root: Path) -> Finding:
    who = lock_holder(root / RUN_LOCK)
    if who:
        detail = f"{who['activity']} runs, process {who['pid']}, since {who['since']}"
        return Finding("run", "note", detail)
    return Finding("run", "good", "no run is active")


def _schedule(root: Path) -> Finding:
    plan = read_plan(root)
    if plan is None:
        return Finding("schedule", "good", "nothing is scheduled")
    missed = overdue(root, plan)
    if missed:
        detail = f"{missed}; start mno schedule serve, which makes up for it"
        return Finding("schedule", "problem", detail)
    return Finding("schedule", "good", f"{plan.words}{', paused' if plan.paused else ''}")


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
    from mno.registry.reading import describe_registry

    versions = describe_registry(root, load_params(root).dataset_name)
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
