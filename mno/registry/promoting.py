"""What a person decides on a registered version: promotion, approval, refusal, rolling back.

In this order, so that a kill at any moment leaves either what was or what was decided:
the version is loaded and tried; the decision is announced; the aliases move; the decision is noted
on the version and sealed; the announcement goes.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mno.core.errors import InputError, MnoError
from mno.lineage import rule
from mno.lineage.history import decisions_of, history_of
from mno.registry import names
from mno.registry.deciding import champion_of, deciding, expect_champion
from mno.registry.facts import aliases
from mno.registry.promotion import Decision, note, now, set_aliases
from mno.registry.reading import find_version_of
from mno.registry.recorded import recorded_predictions
from mno.registry.sealing import own_seal, read_chain, seal_decision
from mno.registry.settings import Workspace
from mno.registry.trying import try_version

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

ANNOUNCED = "mno.deciding"
_ALREADY = "already champion"


@dataclass(frozen=True)
class Choice:
    """What a person wants.

    Attributes:
        name: The registered model.
        champion: The version that was champion when the person decided; none if there was none.
        by: The person.
        reason: Why.
    """

    name: str
    champion: int | None
    by: str
    reason: str


def promote(workspace: Workspace, choice: Choice, version: int) -> dict[str, Any]:
    """Make a version champion; where it waits for approval, that approves it.

    Returns:
        What was decided: `name`, `version`, `decision`, `how`, `by`, `reason`, `at`, `champion`
        (whom it took over from) and `tried`.

    Raises:
        InputError: There is no such version, it is champion already, its files are damaged, or a
            reason is missing.
        MnoError: It does not predict what was recorded, or somebody else decided meanwhile.
    """
    row = find_version_of(workspace, f"models:/{choice.name}/{version}")
    waits = row.tags.get(names.DECISION) == rule.WAITING
    if waits and not choice.reason:
        raise InputError(
            f"version {version} of {choice.name} waits for approval, which needs a reason: "
            f"mno promote {version} --reason '…'"
        )
    return _make_champion(workspace, choice, row, "approval" if waits else "manual")


def rollback(workspace: Workspace, choice: Choice) -> dict[str, Any]:
    """Make the champion before the present one champion again; returns what `promote` returns.

    Raises:
        InputError: There was none.
        MnoError: As `promote`.
    """
    with tempfile.TemporaryDirectory(prefix="mno-history-") as scratch:
        chain = list(read_chain(workspace, choice.name, Path(scratch)))
    before = history_of(decisions_of(chain)).before(choice.champion)
    if before is None:
        raise InputError(
            f"{choice.name} has had no champion before version {choice.champion} that it could go "
            "back to; see: mno promote --history"
        )
    row = find_version_of(workspace, f"models:/{choice.name}/{before}")
    return _make_champion(workspace, choice, row, "rollback")


def refuse(workspace: Workspace, choice: Choice, version: int) -> dict[str, Any]:
    """Refuse a version that waits for approval; returns what `promote` returns.

    Raises:
        InputError: It does not wait, or a reason is missing.
    """
    row = find_version_of(workspace, f"models:/{choice.name}/{version}")
    if row.tags.get(names.DECISION) != rule.WAITING:
        raise InputError(
            f"version {version} of {choice.name} does not wait for approval (it is "
            f"{row.tags.get(names.DECISION, 'undecided')}); see who does: mno promote --waiting"
        )
    if not choice.reason:
        raise InputError(f"a refusal needs a reason: mno promote {version} --refuse --reason '…'")
    with deciding(workspace, choice.name):
        finish_announced(workspace, choice.name)
        return _conclude(workspace, choice, version, "refusal", "")


def waiting(workspace: Workspace, name: str) -> list[dict[str, Any]]:
    """List the versions that wait for approval, the newest first: `version`, `reason`, `judged`."""
    found = workspace.client.search_model_versions(f"name = '{name}'", max_results=1000)
    return [
        {
            "version": int(row.version),
            "reason": row.tags.get(names.REASON, ""),
            "judged": json.loads(row.tags.get(rule.PROMOTION, "null")),
        }
        for row in sorted(found, key=lambda row: -int(row.version))
        if row.tags.get(names.DECISION) == rule.WAITING
    ]


def standing(workspace: Workspace, name: str, version: int) -> dict[str, Any]:
    """Return what has come of a version by now: its `alias`, if any, `decision` and `reason`.

    Raises:
        InputError: There is no such version.
    """
    row = find_version_of(workspace, f"models:/{name}/{version}")
    return {
        "alias": next(iter(sorted(row.aliases)), None),
        "decision": row.tags.get(names.DECISION),
        "reason": row.tags.get(names.REASON),
    }


def finish_announced(workspace: Workspace, name: str) -> str | None:
    """Finish, or forget, a decision that a kill has interrupted; call it while deciding.

    Returns:
        What was done; none if there was nothing to do.
    """
    client = workspace.client
    text = client.get_registered_model(name).tags.get(ANNOUNCED)
    if text is None:
        return None
    announced = json.loads(text)
    version, decision = announced["version"], Decision(**announced["decision"])
    moved = champion_of(workspace, name) == version or decision.verdict == rule.REFUSED
    if moved:
        _carry_out(workspace, name, version, decision)
    client.delete_registered_model_tag(name, ANNOUNCED)
    end = "finished" if moved else "forgotten: the alias had not moved"
    return f"a decision on version {version} was interrupted and is {end}"


def _make_champion(
    workspace: Workspace, choice: Choice, row: ModelVersion, how: str
) -> dict[str, Any]:
    version = int(row.version)
    with deciding(workspace, choice.name):
        finish_announced(workspace, choice.name)
        expect_champion(workspace, choice.name, choice.champion)
        if choice.champion == version:
            raise InputError(f"version {version} of {choice.name} is {_ALREADY}")
        return _conclude(workspace, choice, version, how, _tried(workspace, row))


def _tried(workspace: Workspace, row: ModelVersion) -> str:
    """Try a version, and return in a few words how."""
    package = row.tags.get(names.PACKAGE)
    version = int(row.version)
    try:
        trial = try_version(
            workspace, row.name, version, package, lambda: recorded_predictions(workspace, row)
        )
    except InputError as error:
        raise InputError(f"not promoted: {error}; choose another: mno promote --history") from None
    except MnoError as error:
        uri = f"models:/{row.name}/{version}"
        raise MnoError(f"not promoted: {uri}: {error}; see: mno audit {uri}") from None
    if trial.how == "loaded":
        raise MnoError(f"not promoted: version {version} {trial.what}; register it again")
    return f"it {trial.what}"


def _conclude(
    workspace: Workspace, choice: Choice, version: int, how: str, tried: str
) -> dict[str, Any]:
    client, name = workspace.client, choice.name
    with tempfile.TemporaryDirectory(prefix="mno-seal-") as scratch:
        own_seal(workspace, name, version, Path(scratch))  # says what is wrong before all else
    verdict = rule.BY_PERSON[how]
    judged = {"how": how, "by": choice.by, "at": now(), "champion_then": choice.champion}
    reason = choice.reason or f"{how}, no reason given"
    decision = Decision(verdict, reason, {**judged, "tried": tried} if tried else judged)
    if verdict == rule.CHAMPION:
        expect_champion(workspace, name, choice.champion)  # on a server, others do not see our lock
    announced = {"version": version, "decision": vars(decision)}
    client.set_registered_model_tag(name, ANNOUNCED, json.dumps(announced))
    _carry_out(workspace, name, version, decision)
    client.delete_registered_model_tag(name, ANNOUNCED)
    return {
        "name": name,
        "version": version,
        "decision": verdict,
        "reason": reason,
        **judged,
        "tried": tried,
        "aliases": aliases(workspace, name),
    }


def _carry_out(workspace: Workspace, name: str, version: int, decision: Decision) -> None:
    """Move the aliases, note the decision and seal it; doing it again changes nothing."""
    set_aliases(workspace.client, name, version, decision.alias)
    note(workspace.client, name, version, decision)
    seal_decision(workspace, name, version)
