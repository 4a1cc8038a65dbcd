"""`mno promote`: who is in production, who was, and a person's say in it; pages on a decision."""

from __future__ import annotations

import getpass
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from flows.notify import Event, tell
from flows.options import Json, Quiet, print_json
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
    width = None if sys.stdout.isatty() else 240  # for files and pipes, which do not say theirs
    console = Console(highlight=False, markup=False, soft_wrap=True, width=width)
    wishes = {"VERSION": version, "--rollback": rollback, "--waiting": waiting}
    given = [name for name, value in {**wishes, "--history": history}.items() if value]
    if len(given) != 1:
        raise InputError(
            f"{' and '.join(given) or 'nothing'} given; expected one of VERSION, --rollback, "
            "--waiting and --history: mno promote --help"
        )
    if refuse and version is None:
        raise InputError(f"--refuse given with {given[0]}; expected: mno promote VERSION --refuse")
    if history or waiting:
        if reason is not None:
            raise InputError(f"--reason given with {given[0]}, which decides nothing; leave it out")
        found = read_history(model) if history else read_waiting(model)
        show = print_history if history else print_waiting
    else:
        options = PromoteOptions(version, reason, model, refuse, rollback)
        found, show = decide(options), print_decision
    if as_json:
        print_json(found)
    elif not quiet:
        show(found, console)


@dataclass(frozen=True)
class PromoteOptions:
    """What a person may say of a promotion.

    Attributes:
        version: A number, or `models:/NAME/VERSION`.
        reason: Why.
        model: Name of the registered model; that of the current scenario if none.
        refuse: Refuse the version instead.
        rollback: Go back to the champion before.
    """

    version: str | None = None
    reason: str | None = None
    model: str | None = None
    refuse: bool = False
    rollback: bool = False


def decide(options: PromoteOptions) -> dict[str, Any]:
    """Promote, approve, refuse or roll back; tell who is to be told.

    Returns:
        What `mno.registry.decision.promote` returns, and `not_told`: who could not be reached.

    Raises:
        InputError: The wish cannot be met.
        MnoError: MLflow cannot be used, or somebody else decided meanwhile.
    """
    root = find_workspace()
    name, version = _wanted(root, options)
    workspace = _registry(root, name)
    from mno.registry.decision import Choice, champion_of, promote, refuse, rollback

    reason = (options.reason or "").strip()
    seen = champion_of(workspace, name)
    choice = Choice(name, seen, _person(root), reason)
    if options.rollback:
        found = rollback(workspace, choice)
    elif version is None:
        raise InputError(
            "no version given; expected mno promote VERSION, or --rollback, --history, --waiting"
        )
    elif options.refuse:
        found = refuse(workspace, choice, version)
    else:
        found = promote(workspace, choice, version)
    return {**found, "not_told": tell(root, decision_event(root, found))}


def read_history(model: str | None) -> dict[str, Any]:
    """Return what `mno promote --history --json` prints.

    Keys: `name`; `champion` (now); `reigns`; `decisions`; `problem` and `note` (none if all is
    well).

    Raises:
        InputError: There is no such model.
        MnoError: MLflow cannot be used.
    """
    root = find_workspace()
    name = _name(root, model)
    workspace = _registry(root, name)
    from mno.registry import decision

    history, champion = (
        decision.read_history(workspace, name),
        decision.champion_of(workspace, name),
    )
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


def read_waiting(model: str | None) -> dict[str, Any]:
    """Return what `mno promote --waiting --json` prints: `name`, `champion`, `waiting`.

    Raises:
        InputError: There is no such model.
        MnoError: MLflow cannot be used.
    """
    root = find_workspace()
    name = _name(root, model)
    workspace = _registry(root, name)
    from mno.registry.decision import champion_of, waiting

    found = waiting(workspace, name)
    return {"name": name, "champion": champion_of(workspace, name), "waiting": found}


def print_decision(found: Mapping[str, Any], console: Console) -> None:
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


def print_history(found: Mapping[str, Any], console: Console) -> None:
    """Draw who was in production as a table, the latest first."""
    if not found["reigns"]:
        console.print(f"{found['name']} has had no champion.")
    else:
        table = Table(
            "Version", "In production from", "until", "Decided by", "Why", box=None, pad_edge=False
        )
        for reign in reversed(found["reigns"]):
            until = _minute(reign["until"]) if reign["until"] else "now"
            by = reign["by"] if reign["how"] in ("rule", "unknown") else (
                f"{reign['by']} ({reign['how']})"
            )  # fmt: skip
            table.add_row(
                str(reign["version"]), _minute(reign["since"]), until, by, reign["reason"]
            )
        console.print(table)
    latest = {decided["version"]: decided for decided in found["decisions"]}
    others = [decided for decided in latest.values() if decided["decision"] != "champion"]
    if others:
        console.print()
        console.print("Not promoted:")
        for decided in reversed(others):
            console.print(
                f"  version {decided['version']}, {_minute(decided['at'])}, {decided['decision']} "
                f"by {decided['by']}: {decided['reason']}"
            )
    for line in (found["problem"], found["note"]):
        if line:
            console.print(f"warning: {line}")
    console.print("\nNext: mno promote VERSION --reason '…';  mno promote --rollback")


def print_waiting(found: Mapping[str, Any], console: Console) -> None:
    """List what waits for approval, and how to give it."""
    if not found["waiting"]:
        console.print(f"No version of {found['name']} waits for approval.")
        return
    console.print(f"{found['name']}: {_named(found['champion'])} is champion. Waiting:")
    for version in found["waiting"]:
        console.print(f"  version {version['version']}: {version['reason']}")
    number = found["waiting"][0]["version"]
    console.print(
        f"Next: mno promote {number} --reason '…';  mno promote {number} --refuse --reason '…'"
    )


def decision_event(root: Path, found: Mapping[str, Any]) -> Event:
    """Return what somebody is told of a decision, the line's or a person's.

    Args:
        root: The workspace.
        found: `name`, `version`, `decision`, `reason`; `judged`, or `by`.
    """
    name, version, decision = found["name"], found["version"], found["decision"]
    judged = found.get("judged") or {}
    by = found.get("by") or judged.get("by", "the rule")
    kept = ("relative_l2", "champion_relative_l2", "difference", "interval", "gates", "beside")
    figures = {key: judged[key] for key in kept if judged.get(key) not in (None, {})}
    if decision == "champion":
        kind, title = "promotion", f"{name} version {version} is champion"
        command = "mno promote --history"
    elif decision == "waiting":
        kind, title = "waiting", f"{name} version {version} waits for approval"
        command = (
            f"mno promote {version} --reason '…'   or: mno promote {version} --refuse --reason '…'"
        )
    else:
        kind, title = "refusal", f"{name} version {version} is not promoted"
        command = f"mno promote {version} --reason '…'   to promote it all the same"
    text = f"{found['reason']}\nDecided by {by}."
    return Event(kind, title, text, command, figures, str(root))


def _wanted(root: Path, options: PromoteOptions) -> tuple[str, int | None]:
    text = options.version
    if text is None or text.isdecimal():
        return _name(root, options.model), int(text) if text else None
    match = _URI.fullmatch(text)
    if match is None:
        raise InputError(f"{text!r}: expected the number of a version, or models:/NAME/VERSION")
    return match[1], int(match[2])


def _name(root: Path, model: str | None) -> str:
    return model or f"mno-{dataset_name(read_params(root))}"


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
    known = [
        subprocess.run(
            ["git", "config", key], cwd=root, capture_output=True, text=True, check=False
        ).stdout.strip()
        for key in ("user.name", "user.email")
    ]
    if known[0]:
        return f"{known[0]} <{known[1]}>" if known[1] else known[0]
    return known[1] or getpass.getuser()


def _named(version: int | None) -> str:
    return "nobody" if version is None else f"version {version}"


def _minute(time: str) -> str:
    return time[:16].replace("T", " ")


def decision_page(registered: Mapping[str, Any]) -> str:
    """Return the page.

    Args:
        registered: The content of `reports/registered.json`.
    """
    name, version = registered["name"], registered["version"]
    judged = registered.get("judged") or {}
    lines = [
        f"# {name} version {version}: {registered['decision']}",
        "",
        f"{registered['reason']}.",
        "",
        "| figure | value |",
        "| --- | --- |",
        f"| relative L2 on the test split | {registered['relative_l2']:.6g} |",
    ]
    if "difference" in judged:
        found = judged["interval"]
        shown = found if isinstance(found, str) else f"{found[0]:+.3g} to {found[1]:+.3g}"
        lines += [
            f"| of champion {judged['champion']}, on the same {judged['samples']} samples "
            f"| {judged['champion_relative_l2']:.6g} |",
            f"| difference | {judged['difference']:+.3g} |",
            f"| {judged['level']:.0%} interval of the difference | {shown} |",
        ]
    lines += _beside(judged.get("beside"))
    lines += [f"| {gate} | {status} |" for gate, status in judged.get("gates", {}).items()]
    lines += ["", f"Decided by {judged.get('by', 'the rule')}.", ""]
    if registered["decision"] == "waiting":
        lines += [
            "Waits for a person:",
            "",
            f"    mno promote {version} --reason '…'",
            f"    mno promote {version} --refuse --reason '…'",
            "",
        ]
    return "\n".join(lines)


def _beside(found: Mapping[str, Any] | str | None) -> list[str]:
    """Return the rows of what was measured side by side with the champion."""
    if not isinstance(found, Mapping):
        return [f"| side by side with the champion | {found} |"] if found else []
    rows = []
    for name, sides in found.items():
        shown = sides if isinstance(sides, str) else _two(sides["own"], sides["champion"])
        rows.append(f"| {name}, side by side with the champion | {shown} |")
    return rows


def _two(own: float, champion: float) -> str:
    times = f", {own / champion:.2f} times" if champion else ""
    return f"{own:.4g} against {champion:.4g}{times}"
