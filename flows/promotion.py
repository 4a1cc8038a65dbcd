"""`mno promote`: who is in production, who was, and a person's say in it."""

from __future__ import annotations

import getpass
import os
import re
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from flows.notify import Event
from flows.telling import tell
from flows.workspace import find_workspace, prepare_environment
from mno.core.config import dataset_name, read_params
from mno.core.errors import InputError

if TYPE_CHECKING:
    from mno.registry.settings import Workspace

# A person waits for the answer: MLflow by itself would try a server that is away for minutes.
_IMPATIENT = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "30"}
_URI = re.compile(r"models:/([^/@]+)/(\d+)")


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
        What `mno.registry.promoting.promote` returns, and `not_told`: who could not be reached.

    Raises:
        InputError: The wish cannot be met.
        MnoError: MLflow cannot be used, or somebody else decided meanwhile.
    """
    root = find_workspace()
    name, version = _wanted(root, options)
    workspace = _registry(root, name)
    from mno.registry import promoting
    from mno.registry.deciding import champion_of

    reason = (options.reason or "").strip()
    seen = champion_of(workspace, name)
    choice = promoting.Choice(name, seen, _person(root), reason)
    if options.rollback:
        found = promoting.rollback(workspace, choice)
    elif version is None:
        raise InputError(
            "no version given; expected mno promote VERSION, or --rollback, --history, --waiting"
        )
    elif options.refuse:
        found = promoting.refuse(workspace, choice, version)
    else:
        found = promoting.promote(workspace, choice, version)
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
    from mno.lineage.history import decisions_of, history_of
    from mno.registry.deciding import champion_of
    from mno.registry.sealing import read_chain

    with tempfile.TemporaryDirectory(prefix="mno-history-") as scratch:
        history = history_of(decisions_of(read_chain(workspace, name, Path(scratch))))
    champion = champion_of(workspace, name)
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
    from mno.registry.deciding import champion_of
    from mno.registry.promoting import waiting

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
    by = found.get("by") or judged.get("by", "the rule of the time")
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
    from mno.registry.evidence import existing_workspace

    workspace = existing_workspace(root)
    if not workspace.client.search_registered_models(f"name = '{name}'"):
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
