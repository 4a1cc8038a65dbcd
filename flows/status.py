"""The workspace in one screen, and whether it is fit to run: `mno status`, `mno doctor`."""

import os
import platform
import shutil
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import typer

from flows import workspace
from flows.line import VERDICTS
from flows.options import Json, answer, print_json
from mno.core.errors import InputError, MnoError
from mno.core.files import lock_holder

_LEAST_FREE = 2  # GiB
_LATEST = 10  # versions that are looked at besides those with an alias
_SIGNS = {"good": "ok", "note": "note", "problem": "PROBLEM"}
_MADE = "build data models reports mlartifacts mlflow.db params.yaml dvc.lock .git .dvc .prefect"
_PACKAGES = ("prefect", "dvc", "torch", "mlflow", "zarr", "dask", "numba")


def status(as_json: Json = False) -> None:
    """Show in one screen what is current, stale, running and registered."""
    answer(read_status(), as_json, False, print_status)


def doctor(
    versions: Annotated[bool, typer.Option(
        "--versions", help="Also have every registered version predict.")] = False,
    notify: Annotated[bool, typer.Option(
        "--notify", help="Only send a test to all whom notify.yaml names.")] = False,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Check packages, workspace, locks, disk, leftovers and registered models; say what to do.

    The files of registered models with an alias, and of the ten latest, must be those that were
    registered. With --versions all of them are loaded and predict what their evaluation
    predicted: after an upgrade it says which no longer do. Who is told of failures is shown, too.

    Example: mno doctor --versions
    """
    if notify:
        from flows.notify import try_receivers

        findings = [
            Finding(name, "problem" if why else "good", why or "told of a test")
            for name, why in try_receivers(workspace.find_workspace()).items()
        ]
    else:
        findings = _examine(versions, quiet=as_json)
    problems = sum(finding.verdict == "problem" for finding in findings)
    if as_json:
        print_json([finding._asdict() for finding in findings])
    else:
        width = max(12, *(len(finding.subject) for finding in findings))
        for subject, verdict, detail in findings:
            print(f"{_SIGNS[verdict]:<8} {subject:<{width}} {detail}")
        print(f"\n{problems} problem(s) found." if problems else "\nReady: mno run")
    if problems:
        raise typer.Exit(1)


def read_status() -> dict[str, Any]:
    """Return what `mno status --json` prints.

    Keys: `scenario`; `running` (who holds the workspace, or null); `stages` (see `read_stages`);
    `metrics`; `registry` (versions with their aliases and errors); `schedule` (`plan` in words,
    `next`, `overdue`, one line if a run did not begin or Prefect cannot be asked, and `last`, what
    became of the last run; or null).
    """
    root = workspace.find_workspace()
    workspace.prepare_environment(root)
    from flows.params import parse_params
    from flows.schedule import read_schedule
    from flows.stages import read_stages
    from mno.registry.reading import describe_registry

    params, schedule = parse_params(root), None
    try:
        found = read_schedule(root)
        if found["plan"] or found["runs"]:
            plan = found["plan"]["words"] if found["plan"] else "none"
            last = found["runs"][-1]["outcome"] if found["runs"] else None
            schedule = {"plan": plan, "next": found["next"], "overdue": found["overdue"]}
            schedule["last"] = last
    except MnoError as error:
        schedule = {"plan": "not known", "next": None, "overdue": str(error), "last": None}
    return {
        "scenario": params.dataset_name, "running": lock_holder(root / workspace.RUN_LOCK),
        "stages": read_stages(root),
        "metrics": workspace.read_json(root / "reports/metrics.json") or None,
        "registry": describe_registry(root, params.model_subject), "schedule": schedule,
    }  # fmt: skip


def print_status(status: dict[str, Any]) -> None:
    """Draw it as tables."""
    from flows.schedule import local

    running, schedule = status["running"], status["schedule"]
    print(f"Scenario  {status['scenario']}")
    who = "{activity}, process {pid}, since {since}".format(**running) if running else "nothing"
    print(f"Running   {who}")
    if schedule:
        due = f"next {local(schedule['next'])}" if schedule["next"] else "no run is due"
        last = f"; last run: {schedule['last']}" if schedule["last"] else ""
        print(f"Schedule  {schedule['plan']}; {schedule['overdue'] or due}{last}")
    stages = [(s["name"], s["state"], "; ".join(s["reasons"])) for s in status["stages"]]
    versions = []
    for row in status["registry"]:
        error = "" if row["relative_l2"] is None else f"{row['relative_l2']:.2%}"
        aliases = ", ".join(row["aliases"])
        verdict = VERDICTS[row["verdict"] or ""]
        versions.append((row["name"], str(row["version"]), aliases, error, row["created"], verdict))
    print(f"\n{workspace.aligned(('Stage', 'State', 'Why'), stages)}\n")
    table = workspace.aligned((*workspace.VERSION_HEAD, "Verdict"), versions)
    print(table if versions else "No model is registered yet.", end="\n\n")
    if schedule and schedule["overdue"] and schedule["next"]:
        print("Next: mno schedule serve, which makes up for the run that was missed")
    elif not running and any(stage["state"] != "current" for stage in status["stages"]):
        print("Next: mno run")
    else:
        print("Next: make ui, or mno predict --help")


class Finding(NamedTuple):
    """One thing that `mno doctor` looked at; a note is worth knowing, and nothing to be done."""

    subject: str
    verdict: Literal["good", "note", "problem"]
    detail: str  # what was found and, for a problem, what to do


_Found = tuple[Literal["good", "note", "problem"], str]


def _examine(all_versions: bool, quiet: bool) -> list[Finding]:
    """Look at everything; no check stops another."""
    root, findings = workspace.find_workspace(), []
    workspace.prepare_environment(root)
    for subject, check in _CHECKS.items():
        try:
            findings.append(Finding(subject, *check(root)))
        except (MnoError, OSError) as error:
            findings.append(Finding(subject, "problem", str(error)))
    return findings + _models(root, all_versions, quiet)


def _versions(root: Path) -> _Found:
    found = [f"{name} {version(name)}" for name in _PACKAGES]
    return "good", f"python {platform.python_version()}, {', '.join(found)}"


def _git(root: Path) -> _Found:
    from mno.lineage.snapshot import take_snapshot

    if changed := take_snapshot(root).changed:
        return "note", f"uncommitted code, which register refuses: {', '.join(changed[:5])}"
    return "good", "the code is committed"


def _parameters(root: Path) -> _Found:
    from flows.params import load_params

    return "good", f"params.yaml is valid, scenario {load_params(root).scenario}"


def _run(root: Path) -> _Found:
    if who := lock_holder(root / workspace.RUN_LOCK):
        return "note", f"{who['activity']} runs, process {who['pid']}, since {who['since']}"
    return "good", "no run is active"


def _schedule(root: Path) -> _Found:
    from flows.schedule import read_schedule

    found = read_schedule(root)
    if (plan := found["plan"]) is None:
        return "good", "nothing is scheduled"
    if missed := found["overdue"]:
        return "problem", f"{missed}; start mno schedule serve, which makes up for it"
    return "good", f"{plan['words']}{', paused' if plan['paused'] else ''}"


def _notify(root: Path) -> _Found:
    from flows.notify import read_settings, who_is_told

    return "good", who_is_told(read_settings(root))


def _leftovers(root: Path) -> _Found:
    if orphans := [process.pid for process in workspace.leftovers(root)]:
        return "note", f"processes of a killed run, which the next mno run ends: {orphans}"
    return "good", "no process of a killed run"


def _permission(root: Path) -> _Found:
    made = [root, *(root / name for name in _MADE.split())]
    if locked := [str(p) for p in made if os.path.lexists(p) and not os.access(p, os.W_OK)]:
        return "problem", f"not yours to write: {', '.join(locked)}; let the owner allow it"
    return "good", "the workspace can be written to"


def _disk(root: Path) -> _Found:
    free = shutil.disk_usage(root).free / 2**30
    if free < _LEAST_FREE:
        return "problem", f"{free:.1f} GiB free, at least {_LEAST_FREE} wanted; make room"
    return "good", f"{free:.0f} GiB free"


_CHECKS: dict[str, Callable[[Path], _Found]] = {
    "versions": _versions, "git": _git, "parameters": _parameters,
    "run": _run, "schedule": _schedule, "notify": _notify, "leftovers": _leftovers,
    "permission": _permission, "disk": _disk,
}  # fmt: skip


def _models(root: Path, all_versions: bool, quiet: bool) -> list[Finding]:
    from mno.registry.catalogue import registry_of
    from mno.registry.reading import try_version
    from mno.registry.settings import Workspace

    registered = Workspace(root)
    try:
        versions = registry_of(registered).versions()
        if all_versions and versions:
            _ = registered.client
    except (MnoError, OSError) as error:
        return [Finding("models", "problem", str(error))]
    looked_at = [v for n, v in enumerate(versions) if all_versions or v.aliases or n < _LATEST]
    findings = []
    with workspace.progress_bar(quiet, "versions") as show:
        for number, one in enumerate(looked_at):
            show("trying versions", number, len(looked_at))
            try:
                finding = Finding(one.uri, "good", try_version(registered, one, all_versions))
            except MnoError as error:
                see = f"; see: mno audit {one.uri}" if isinstance(error, InputError) else ""
                finding = Finding(one.uri, "problem", f"{error}{see}")
            findings.append(finding)
    if left := len(versions) - len(looked_at):
        detail = f"{left} older version(s) without an alias were not looked at"
        findings.append(Finding("models", "note", f"{detail}: mno doctor --versions"))
    return findings
