"""`mno promote`: who is in production, who was, and a person's say in it; pages on a decision."""

from __future__ import annotations

import getpass
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from flows.notify import Event, Kind, tell
from flows.options import Json, Quiet, console, print_json
from flows.workspace import find_workspace, prepare_environment
from mno.core.config import dataset_name, read_params
from mno.core.errors import InputError

if TYPE_CHECKING:
    from mno.registry.settings import Workspace

# A person waits for the answer: MLflow by itself would try a server that is away for minutes.
_IMPATIENT = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "30"}
_URI = re.compile(r"models:/([^/@]+)/(\d+)")


def promote(
    version: Annotated[
        str | None,
        typer.Argument(help="Number of the version, or models:/NAME/VERSION."),
    ] = None,
    reason: Annotated[
        str | None,
        typer.Option(help="Why; needed to approve or refuse what waits.", metavar="TEXT"),
    ] = None,
    rollback: Annotated[
        bool, typer.Option("--rollback", help="Go back to the champion before the present one.")
    ] = False,
    refuse: Annotated[
        bool, typer.Option("--refuse", help="Refuse the version, which waits for approval.")
    ] = False,
    waiting: Annotated[
        bool, typer.Option("--waiting", help="List the versions that wait for approval.")
    ] = False,
    history: Annotated[
        bool,
        typer.Option(
            "--history",
            help="Show what was in production from when to when, who decided, and why.",
        ),
    ] = False,
    model: Annotated[
        str | None,
        typer.Option(help="Registered model; that of the current scenario if not given."),
    ] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Make a version champion by hand, approve or refuse one that waits, or go back.

    The version is loaded and must predict what was recorded before the alias moves to it. What
    the line itself promotes is said by the section promotion of params.yaml.

    Example: mno promote 3 --reason "tried on furnace 2 for a week"
    """
    wishes = {"VERSION": version, "--rollback": rollback, "--waiting": waiting}
    given = [name for name, value in {**wishes, "--history": history}.items() if value]
    if len(given) != 1:
        raise InputError(
            f"{' and '.join(given) or 'nothing'} given; expected one of VERSION, --rollback, "
            "--waiting and --history: mno promote --help"
        )
    if refuse and version is None:
        raise InputError(f"--refuse given with {given[0]}; expected: mno promote VERSION --refuse")
    if (history or waiting) and reason is not None:
        raise InputError(f"--reason given with {given[0]}, which decides nothing; leave it out")
    root = find_workspace()
    if version is not None and not version.isdecimal():
        match = _URI.fullmatch(version)
        if match is None:
            raise InputError(
                f"{version!r}: expected the number of a version, or models:/NAME/VERSION"
            )
        model, version = match.groups()
    number = int(version) if version else None
    name = model or f"mno-{dataset_name(read_params(root))}"
    registry = _registry(root, name)
    if history or waiting:
        found = _history(registry, name) if history else _waiting(registry, name)
        show = _print_history if history else _print_waiting
    else:
        found, show = _decide(root, registry, name, number, reason, refuse), _print_decision
    if as_json:
        print_json(found)
    elif not quiet:  # files and pipes do not say how wide they are
        show(found, console(width=None if sys.stdout.isatty() else 240))


def _decide(
    root: Path, registry: Workspace, name: str, version: int | None, reason: str | None, no: bool
) -> dict[str, Any]:
    """Promote, approve, refuse or, without a version, roll back; tell who is to be told."""
    from mno.registry.decision import Choice, champion_of, promote, refuse, rollback

    seen = champion_of(registry, name)
    choice = Choice(name, seen, _person(root), (reason or "").strip())
    if version is None:
        found = rollback(registry, choice)
    else:
        found = (refuse if no else promote)(registry, choice, version)
    return {**found, "not_told": tell(root, decision_event(root, found))}


def _history(registry: Workspace, name: str) -> dict[str, Any]:
    """Return `name`, `champion` (now), `reigns`, `decisions`; `problem` and `note`, if any."""
    from mno.registry.decision import champion_of, read_history

    history, champion = read_history(registry, name), champion_of(registry, name)
    last = history.reigns[-1] if history.reigns else None
    recorded = last.version if last and last.until is None else None
    note = None
    if champion != recorded:
        note = (
            f"the alias champion names {_named(champion)}, the last recorded decision left it with "
            f"{_named(recorded)}: a decision was interrupted (mno run finishes it) or somebody "
            "moved the alias past the line"
        )
    return {"name": name, "champion": champion, **asdict(history), "note": note}


def _waiting(registry: Workspace, name: str) -> dict[str, Any]:
    from mno.registry.decision import champion_of, waiting

    found = waiting(registry, name)
    return {"name": name, "champion": champion_of(registry, name), "waiting": found}


def _print_decision(found: Mapping[str, Any], console: Console) -> None:
    """Say what was decided, and what to do next."""
    name, version, before = found["name"], found["version"], found["champion_then"]
    if found["decision"] == "champion":
        over = f", in place of version {before}" if before else ""
        console.print(f"{name} version {version} is champion now{over} ({found['tried']}).")
    else:
        console.print(f"{name} version {version} is refused; {_named(before)} stays champion.")
    console.print(f"Decided by {found['by']}: {found['reason']}")
    for problem in found["not_told"]:
        console.print(f"warning: nobody was told: {problem}")
    again = "mno promote --rollback" if found["decision"] == "champion" else "mno promote --waiting"
    console.print(f"Next: mno promote --history;  {again}")


def _print_history(found: Mapping[str, Any], console: Console) -> None:
    """Draw who was in production as a table, the latest first."""
    if not found["reigns"]:
        console.print(f"{found['name']} has had no champion.")
    else:
        columns = ("Version", "In production from", "until", "Decided by", "Why")
        table = Table(*columns, box=None, pad_edge=False)
        for reign in reversed(found["reigns"]):
            until = _minute(reign["until"]) if reign["until"] else "now"
            how = "" if reign["how"] in ("rule", "unknown") else f" ({reign['how']})"
            number, since, by = str(reign["version"]), _minute(reign["since"]), reign["by"]
            table.add_row(number, since, until, by + how, reign["reason"])
        console.print(table)
    latest = {decided["version"]: decided for decided in found["decisions"]}
    others = [decided for decided in latest.values() if decided["decision"] != "champion"]
    if others:
        console.print("\nNot promoted:")
    for decided in reversed(others):
        console.print(
            f"  version {decided['version']}, {_minute(decided['at'])}, {decided['decision']} "
            f"by {decided['by']}: {decided['reason']}"
        )
    for line in filter(None, (found["problem"], found["note"])):
        console.print(f"warning: {line}")
    console.print("\nNext: mno promote VERSION --reason '…';  mno promote --rollback")


def _print_waiting(found: Mapping[str, Any], console: Console) -> None:
    """List what waits for approval, and how to give it."""
    if not found["waiting"]:
        console.print(f"No version of {found['name']} waits for approval.")
        return
    console.print(f"{found['name']}: {_named(found['champion'])} is champion. Waiting:")
    for version in found["waiting"]:
        console.print(f"  version {version['version']}: {version['reason']}")
    approve, refuse = _answers(found["waiting"][0]["version"])
    console.print(f"Next: {approve};  {refuse}")


def _answers(version: int) -> tuple[str, str]:
    """Return the commands that approve and refuse a version."""
    command = f"mno promote {version}"
    return f"{command} --reason '…'", f"{command} --refuse --reason '…'"


def decision_event(root: Path, found: Mapping[str, Any]) -> Event:
    """Return what somebody is told of a decision, the line's (`judged`) or a person's (`by`)."""
    version, judged = found["version"], found.get("judged") or {}
    by = found.get("by") or judged.get("by", "the rule")
    kept = ("relative_l2", "champion_relative_l2", "difference", "interval", "gates", "beside")
    figures = {key: judged[key] for key in kept if judged.get(key) not in (None, {})}
    approve, refuse = _answers(version)
    told: dict[str, tuple[Kind, str, str]] = {
        "champion": ("promotion", "is champion", "mno promote --history"),
        "waiting": ("waiting", "waits for approval", f"{approve}   or: {refuse}"),
    }
    otherwise: tuple[Kind, str, str]
    otherwise = ("refusal", "is not promoted", f"{approve}   to promote it all the same")
    kind, what, command = told.get(found["decision"], otherwise)
    text = f"{found['reason']}\nDecided by {by}."
    title = f"{found['name']} version {version} {what}"
    return Event(kind, title, text, command, figures, str(root))


def _registry(root: Path, name: str) -> Workspace:
    """Return the registry; refuse a model that is not in it."""
    prepare_environment(root)
    for setting, value in _IMPATIENT.items():
        os.environ.setdefault(setting, value)
    from mno.registry.catalogue import existing_workspace, registry_of

    workspace = existing_workspace(root)
    if not registry_of(workspace).versions(name):
        raise InputError(f"{name} is not in the registry; see what is with: mno status")
    return workspace


def _person(root: Path) -> str:
    """Return who is at the keyboard: as git knows them, else by the name of the account."""
    name, address = (
        subprocess.run(
            ["git", "config", key], cwd=root, capture_output=True, text=True, check=False
        ).stdout.strip()
        for key in ("user.name", "user.email")
    )
    if name and address:
        return f"{name} <{address}>"
    return name or address or getpass.getuser()


def _named(version: int | None) -> str:
    return "nobody" if version is None else f"version {version}"


def _minute(time: str) -> str:
    return time[:16].replace("T", " ")


def decision_page(registered: Mapping[str, Any]) -> str:
    """Return the page on a decision, of the content of `reports/registered.json`."""
    version, judged = registered["version"], registered.get("judged") or {}
    rows = {"relative L2 on the test split": f"{registered['relative_l2']:.6g}"}
    if "difference" in judged:
        found = judged["interval"]
        whose = f"of champion {judged['champion']}, on the same {judged['samples']} samples"
        rows |= {
            whose: f"{judged['champion_relative_l2']:.6g}",
            "difference": f"{judged['difference']:+.3g}",
            f"{judged['level']:.0%} interval of the difference": (
                found if isinstance(found, str) else f"{found[0]:+.3g} to {found[1]:+.3g}"
            ),
        }
    beside = judged.get("beside")
    if isinstance(beside, Mapping):
        rows |= {f"{key}, side by side with the champion": _two(x) for key, x in beside.items()}
    elif beside:
        rows["side by side with the champion"] = beside
    lines = [
        f"# {registered['name']} version {version}: {registered['decision']}",
        "",
        f"{registered['reason']}.",
        "",
        "| figure | value |",
        "| --- | --- |",
        *(f"| {key} | {value} |" for key, value in (rows | judged.get("gates", {})).items()),
        "",
        f"Decided by {judged.get('by', 'the rule')}.",
        "",
    ]
    if registered["decision"] == "waiting":
        answers = [f"    {command}" for command in _answers(version)]
        lines += ["Waits for a person:", "", *answers, ""]
    return "\n".join(lines)


def _two(sides: Mapping[str, float] | str) -> str:
    """Say what a version and its champion take, measured side by side."""
    if isinstance(sides, str):
        return sides
    own, champion = sides["own"], sides["champion"]
    times = f", {own / champion:.2f} times" if champion else ""
    return f"{own:.4g} against {champion:.4g}{times}"
