"""`mno promote`: who is in production, who was, and a person's say in it."""

import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.notify import Event, Kind, tell
from flows.options import Json, Quiet, answer
from flows.schedule import local
from flows.workspace import aligned, find_workspace, prepare_environment
from mno.core.config import model_subject, read_params
from mno.core.errors import InputError, MnoError
from mno.lineage.snapshot import git

if TYPE_CHECKING:
    from mno.registry.settings import Workspace

# A person waits for the answer: MLflow by itself would try a server that is away for minutes.
_IMPATIENT = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "30"}
_VERSION = re.compile(r"(?:models:/([^/@]+)/)?(\d+)")


def promote(
    version: Annotated[str | None, typer.Argument(
        help="Number of the version, or models:/NAME/VERSION.")] = None,
    reason: Annotated[str | None, typer.Option(
        help="Why; needed to approve or refuse what waits.", metavar="TEXT")] = None,
    rollback: Annotated[bool, typer.Option(
        "--rollback", help="Go back to the champion before the present one.")] = False,
    refuse: Annotated[bool, typer.Option(
        "--refuse", help="Refuse the version, which waits for approval.")] = False,
    waiting: Annotated[bool, typer.Option(
        "--waiting", help="List the versions that wait for approval.")] = False,
    history: Annotated[bool, typer.Option(
        "--history", help="Show what was in production when, and why.")] = False,
    model: Annotated[str | None, typer.Option(
        help="Registered model; the current scenario's if not given.")] = None,
    quiet: Quiet = False, as_json: Json = False,
) -> None:  # fmt: skip
    """Make a version champion by hand, approve or refuse one that waits, or go back.

    The version is loaded and must predict what was recorded before the alias moves to it. A note
    in reports/changes/ says what changed and who decided. What the line itself promotes is said by
    the section promotion of params.yaml.

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
    match = _VERSION.fullmatch(version) if version else None
    if version and match is None:
        raise InputError(f"{version!r}: expected the number of a version, or models:/NAME/VERSION")
    name = (match and match[1]) or model or f"mno-{model_subject(read_params(root))}"
    registry = _registry(root, name)
    from mno.registry import decision

    champion = decision.champion_of(registry, name)
    if history:
        found, show = _history(registry, name, champion), _print_history
    elif waiting:
        found = {"name": name, "champion": champion, "waiting": decision.waiting(registry, name)}
        show = _print_waiting
    else:
        choice = decision.Choice(name, champion, _person(root), (reason or "").strip())
        if match is None:
            found = decision.rollback(registry, choice)
        else:
            decide = decision.refuse if refuse else decision.promote
            found = decide(registry, choice, int(match[2]))
        if found["decision"] == "champion":
            from flows.lineage import write_change_note

            try:
                found["note"] = str(write_change_note(found))
            except (MnoError, OSError) as error:  # it is decided all the same
                found["note"] = f"not written: {error}"
        found = {**found, "not_told": tell(root, decision_event(root, found))}
        show = _print_decision
    answer(found, as_json, quiet, show)


def _history(registry: "Workspace", name: str, champion: int | None) -> dict[str, Any]:
    """Return `name`, `champion` (now), `reigns`, `decisions`; `problem` and `note`, if any."""
    from mno.registry.decision import read_history

    history = read_history(registry, name)
    last = history.reigns[-1] if history.reigns else None
    recorded = last.version if last and last.until is None else None
    note = None
    if champion != recorded:
        note = (
            f"the alias champion names {_named(champion)}, the last recorded decision left it with "
            f"{_named(recorded)}: a decision was interrupted (the next finishes it) or somebody "
            "moved the alias past the line"
        )
    return {"name": name, "champion": champion, **asdict(history), "note": note}


def _print_decision(found: Mapping[str, Any]) -> None:
    name, version, before = found["name"], found["version"], found["champion_then"]
    if found["decision"] == "champion":
        over = f", in place of version {before}" if before else ""
        print(f"{name} version {version} is champion now{over} ({found['tried']}).")
    else:
        print(f"{name} version {version} is refused; {_named(before)} stays champion.")
    print(f"Decided by {found['by']}: {found['reason']}")
    if "note" in found:
        print(f"What changed: {found['note']}")
    for problem in found["not_told"]:
        print(f"warning: not everybody was told of it: {problem}")
    again = "mno promote --rollback" if found["decision"] == "champion" else "mno promote --waiting"
    print(f"Next: mno promote --history;  {again}")


def _print_history(found: Mapping[str, Any]) -> None:
    if not found["reigns"]:
        print(f"{found['name']} has had no champion.")
    else:
        head, rows = ("Version", "In production from", "until", "Decided by", "Why"), []
        for reign in reversed(found["reigns"]):
            until = local(reign["until"]) if reign["until"] else "now"
            how = "" if reign["how"] in ("rule", "unknown") else f" ({reign['how']})"
            number, since, by = str(reign["version"]), local(reign["since"]), reign["by"]
            rows.append((number, since, until, by + how, reign["reason"]))
        print(aligned(head, rows))
    for line in filter(None, (found["problem"], found["note"])):
        print(f"warning: {line}")
    print("\nNext: mno promote VERSION --reason '…';  mno promote --rollback")


def _print_waiting(found: Mapping[str, Any]) -> None:
    if not found["waiting"]:
        print(f"No version of {found['name']} waits for approval.")
        return
    print(f"{found['name']}: {_named(found['champion'])} is champion. Waiting:")
    for version in found["waiting"]:
        print(f"  version {version['version']}: {version['reason']}")
    approve, refuse = _answers(found["waiting"][0]["version"])
    print(f"Next: {approve};  {refuse}")


def _answers(version: int) -> tuple[str, str]:
    """Return the commands that approve and refuse a version."""
    command = f"mno promote {version}"
    return f"{command} --reason '…'", f"{command} --refuse --reason '…'"


def decision_event(root: Path, found: Mapping[str, Any]) -> Event:
    """Return what somebody is told of a decision, the line's (`judged`) or a person's (`by`)."""
    version, judged = found["version"], found.get("judged") or {}
    by = found.get("by") or judged.get("by", "the rule")
    kept = ("relative_l2", "champion_relative_l2", "difference", "interval", "gates")
    figures = {key: judged[key] for key in kept if judged.get(key) not in (None, {})}
    approve, refuse = _answers(version)
    told: dict[str, tuple[Kind, str, str]] = {
        "champion": ("promotion", "is champion", "mno promote --history"),
        "waiting": ("waiting", "waits for approval", f"{approve}   or: {refuse}"),
        "": ("refusal", "is not promoted", f"{approve}   to promote it all the same"),
    }
    kind, what, command = told.get(found["decision"], told[""])
    title = f"{found['name']} version {version} {what}"
    text = f"{found['reason']}\nDecided by {by}."
    return Event(kind, title, text, command, figures, str(root))


def _registry(root: Path, name: str) -> "Workspace":
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
    from mno.registry.tracking import account

    known = []
    for key, form in (("user.name", "{}"), ("user.email", "<{}>")):
        with suppress(MnoError):  # it is not set
            known.append(form.format(git(root, "config", key).decode().strip()))
    return " ".join(known) or account()


def _named(version: int | None) -> str:
    return "nobody" if version is None else f"version {version}"
