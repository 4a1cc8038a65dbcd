"""Who becomes champion: by the rule, on the same test samples; or as a person decides.

Whoever decides on a model holds a lock on a file beside MLflow's database; the kernel releases it
when the holder dies. Deciders on other machines, who share a server, do not see it: they are told
apart by the champion that each has seen when it began.

A person's decision goes in this order, so that a kill at any moment leaves either what was or what
was decided: the version is loaded and tried; the decision is announced in a tag of the model; the
aliases move; it is noted on the version and sealed; the announcement goes. The next decider
finishes what the aliases say was done, or forgets what was not.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from mno.core.absent import Absent
from mno.core.errors import InputError, MnoError, first_line
from mno.core.files import locked
from mno.lineage import decision as rule
from mno.lineage.decision import CHALLENGER, CHAMPION
from mno.lineage.questions import RegisteredVersion
from mno.lineage.record import Tag, entry
from mno.registry.catalogue import aliases, find_version_of, registry_of
from mno.registry.config import PromotionConfig
from mno.registry.evidence import own_seal, read_chain, seal_decision
from mno.registry.reading import ERRORS_FILE, EVALUATION_FOLDER, read_errors, try_version
from mno.registry.settings import DATABASE, Workspace

if TYPE_CHECKING:
    from mno.evaluation.config import IntervalConfig
    from mno.evaluation.metrics import Pooled


@dataclass(frozen=True)
class Case:
    """What is judged of a version, and by which rule."""

    relative_l2: float  # on the test split
    errors: tuple[float, ...]  # the same of each test sample; NaN where none is known
    data_md5: str  # DVC's hash of the dataset
    evaluation_sha256: str  # digest of the evaluation's settings
    gates: Mapping[str, str]  # of each indicator that is asked for, whether it is met
    config: PromotionConfig
    intervals: "IntervalConfig"
    score: "Callable[[Any], Pooled]"  # of a loaded champion whose errors here are not recorded


class Ruling(NamedTuple):
    """What is decided on a version now, and on which figures."""

    verdict: str  # `champion`, `challenger`, `waiting` or `refused`
    reason: str
    judged: Mapping[str, Any]  # the figures, who decided and when; see `mno.lineage.decision`

    @property
    def alias(self) -> str | None:
        """The alias that goes with it; one that waits is a challenger."""
        return {rule.CHAMPION: CHAMPION, rule.REFUSED: None}.get(self.verdict, CHALLENGER)


def gates(
    config: PromotionConfig, judged: Mapping[str, Any], physics: Mapping[str, Any] | str | Absent
) -> dict[str, str]:
    """Return whether each indicator that is asked for is met, whatever the champion achieves.

    By name `met`, `missed`, `undecided` (the interval has the target inside) or `unknown`, of the
    content of `reports/decision.json` and `physics` of `reports/metrics.json`, or why it is absent.
    """
    found = {
        ".".join(filter(None, (kpi["name"], kpi.get("field")))): str(kpi["status"])
        for kpi in judged["kpis"]
    }
    if config.worth == "required":
        not_worth = "not_worth_it" in (judged["verdict"], *judged["at_ends"])
        found["worth"] = "missed" if not_worth else "met"
    for name, limit in config.physics.items():
        value = entry(physics, "checks", name, "prediction", "p95")
        known = isinstance(value, int | float) and math.isfinite(value)
        met = "met" if known and value <= limit else "missed"
        found[f"physics.{name}"] = met if known else "unknown"
    return found


def decide(workspace: Workspace, name: str, version: int, case: Case) -> Ruling:
    """Judge a version by the rule, on the same test samples as the champion.

    The champion's recorded errors count only if they were measured on the same data with the same
    settings; otherwise the champion is loaded and measured now.
    """
    champion = registry_of(workspace).find(name, alias=CHAMPION)
    judged: dict[str, Any] = {
        "how": rule.BY_RULE,
        "by": "the rule in params.yaml",
        "at": _now(),
        **case.config.model_dump(include={"rule", "margin", "approval"}),
        "gates": dict(case.gates),
        "relative_l2": case.relative_l2,
    }
    if champion is None:
        return ruled({**judged, "standing": "first"}, "there was no champion")
    if champion.number == version:
        return ruled({**judged, "standing": "already"}, "it is the champion already")
    judged |= {"champion": champion.number}
    try:
        theirs = _errors_of(workspace, champion, case)
    except MnoError as error:
        reason = f"champion {champion.number} cannot be used any more: {error}"
        # On a server it may be out of reach for a while only: nothing takes over for that.
        standing = "unusable" if workspace.embedded else "unreachable"
        return ruled({**judged, "standing": standing}, reason)
    return against(judged, theirs, case)


def against(judged: dict[str, Any], theirs: "Pooled", case: Case) -> Ruling:
    """Judge a version by its errors and the champion's on the same samples."""
    from mno.evaluation.intervals import intervals

    difference = pooled(case.errors).minus(theirs)
    found = intervals({"": difference}, case.intervals)[""]
    error, level = theirs.value(), case.intervals.level
    absent = isinstance(found, Absent)
    judged |= {
        "standing": "against",
        "champion_relative_l2": error,
        "difference": difference.value(),
        "interval": str(found) if absent else [found.low, found.high],
        "level": level,
        "samples": len(case.errors),
    }
    shown = f"{100 * level:g}% interval {found.low:+.3g} to {found.high:+.3g}" if not absent else (
        f"no interval: {found}"
    )  # fmt: skip
    lower = "lower" if not case.config.margin else f"lower by more than {case.config.margin:.3g}"
    lower = f"certainly {lower}" if case.config.rule == "certain" else lower
    return ruled(
        judged,
        f"relative L2 {case.relative_l2:.6g} against {error:.6g} of champion "
        f"{judged['champion']}; difference {difference.value():+.3g}, {shown}: "
        f"{lower if rule.is_better(judged) else f'not {lower}'}",
    )


def ruled(judged: dict[str, Any], reason: str) -> Ruling:
    """Apply the rule to what was judged, and add to the reason what bars a version."""
    verdict, barred = rule.verdict(judged), rule.failing(judged)
    if barred and judged["standing"] != "already":
        missed = [name for name in barred if name != "worth"]
        reason += f"; does not meet {', '.join(missed)}" if missed else ""
        reason += "; judged not worth it" if "worth" in barred else ""
    if verdict == rule.WAITING:
        reason += "; waits for a person's approval"
    return Ruling(verdict, reason, judged)


def pooled(errors: tuple[float, ...]) -> "Pooled":
    """Return the mean of errors by sample, of those that are known."""
    import numpy as np

    from mno.evaluation.metrics import mean_over

    values = np.array(errors, dtype=np.float64)
    return mean_over(values, ~np.isnan(values))


def _errors_of(workspace: Workspace, champion: RegisteredVersion, case: Case) -> "Pooled":
    """Return the champion's errors on the samples of the case; refuse one that has none."""
    from mlflow.exceptions import MlflowException

    from mno.registry.packaging import load_model

    tags = champion.tags
    if (tags.get(Tag.DATA), tags.get(Tag.EVALUATION)) == (case.data_md5, case.evaluation_sha256):
        path, errors = f"{EVALUATION_FOLDER}/{ERRORS_FILE}", ()
        content = champion.run_id and registry_of(workspace).read(champion.run_id, path)
        with suppress(MnoError):
            errors = read_errors(content or b"", path)
        if len(errors) == len(case.errors):
            found = pooled(errors)
            if math.isclose(found.value(), float(tags[Tag.RELATIVE_L2]), rel_tol=1e-9):
                return found
    model = load_model(champion.uri, workspace)
    try:
        found = case.score(model)
    except MlflowException as error:
        message = f"{champion.uri} cannot predict on this data: {first_line(error)}"
        raise MnoError(message) from error
    if not math.isfinite(found.value()):
        raise MnoError(f"{champion.uri} has the test error {found.value()} on this data")
    return found


def carry_out(workspace: Workspace, name: str, version: int, ruling: Ruling) -> None:
    """Set the aliases, then note the decision on the version; doing it again changes nothing.

    In this order, so that a version without a decision is decided on again. Whoever lost against a
    champion of the past loses `challenger`.
    """
    client, alias = workspace.client, ruling.alias
    if alias is not None:
        client.set_registered_model_alias(name, alias, str(version))
    challenger = registry_of(workspace).find(name, alias=CHALLENGER)
    if challenger and alias != CHALLENGER and (alias or challenger.number == version):
        client.delete_registered_model_alias(name, CHALLENGER)
    notes = {
        Tag.RIVAL: ruling.judged.get("champion"),
        Tag.RIVAL_L2: ruling.judged.get("champion_relative_l2"),
        Tag.REASON: ruling.reason,
        Tag.JUDGED: json.dumps(ruling.judged, sort_keys=True),
        Tag.DECISION: ruling.verdict,  # last
    }
    for tag, value in notes.items():
        if value is not None:
            client.set_model_version_tag(name, str(version), tag, str(value))


@contextmanager
def deciding(workspace: Workspace, name: str, patience: float = 30.0) -> Iterator[None]:
    """Be the only one who decides on models of a workspace while the body runs.

    Before that, what a kill has left of a decision on this one is finished, or forgotten.
    """
    with locked(workspace.root / f"{DATABASE}.deciding", f"a decision on {name}", patience):
        _finish_announced(workspace, name, killed=True)
        yield


def champion_of(workspace: Workspace, name: str) -> int | None:
    """Return the version that is champion; none where there is none."""
    return aliases(registry_of(workspace), name).get(CHAMPION)


class Choice(NamedTuple):
    """What a person wants of a registered model."""

    name: str
    champion: int | None  # when the person decided
    by: str
    reason: str


def promote(workspace: Workspace, choice: Choice, version: int) -> dict[str, Any]:
    """Make a version champion; where it waits for approval, that approves it.

    What was decided is returned: `name`, `version`, `decision`, `how`, `by`, `reason`, `at`,
    `champion_then`, `tried` and `aliases`.

    Raises:
        InputError: There is no such version, it is champion already, its files are damaged, or a
            reason is missing.
        MnoError: It does not predict what was recorded, or somebody else decided meanwhile.
    """
    row = _version(workspace, choice.name, version)
    waits = row.tags.get(Tag.DECISION) == rule.WAITING
    if waits and not choice.reason:
        raise InputError(
            f"version {version} of {choice.name} waits for approval, which needs a reason: "
            f"mno promote {version} --reason '…'"
        )
    return _conclude(workspace, choice, row, "approval" if waits else "manual")


def rollback(workspace: Workspace, choice: Choice) -> dict[str, Any]:
    """Make the champion before the present one champion again; returns what `promote` returns."""
    history = read_history(workspace, choice.name)
    there = {version.number for version in registry_of(workspace).versions(choice.name)}
    kept = tuple(reign for reign in history.reigns if reign.version in there)
    if (before := replace(history, reigns=kept).before(choice.champion)) is None:
        raise InputError(
            f"{choice.name} has had no champion before version {choice.champion} that it could go "
            "back to; see: mno promote --history"
        )
    return _conclude(workspace, choice, _version(workspace, choice.name, before), "rollback")


def refuse(workspace: Workspace, choice: Choice, version: int) -> dict[str, Any]:
    """Refuse a version that waits for approval; returns what `promote` returns."""
    row = _version(workspace, choice.name, version)
    if row.tags.get(Tag.DECISION) != rule.WAITING:
        raise InputError(
            f"version {version} of {choice.name} does not wait for approval (it is "
            f"{row.tags.get(Tag.DECISION, 'undecided')}); see who does: mno promote --waiting"
        )
    if not choice.reason:
        raise InputError(f"a refusal needs a reason: mno promote {version} --refuse --reason '…'")
    return _conclude(workspace, choice, row, "refusal")


def read_history(workspace: Workspace, name: str) -> rule.History:
    """Return who was champion of a model, and all decisions on it, from its seals."""
    return rule.history_of(read_chain(registry_of(workspace), name))


def waiting(workspace: Workspace, name: str) -> list[dict[str, Any]]:
    """List the versions that wait for approval, the newest first: `version`, `reason`, `judged`."""
    return [
        {
            "version": version.number,
            "reason": version.tags.get(Tag.REASON, ""),
            "judged": json.loads(version.tags.get(Tag.JUDGED, "null")),
        }
        for version in sorted(registry_of(workspace).versions(name), key=lambda v: -v.number)
        if version.tags.get(Tag.DECISION) == rule.WAITING
    ]


def standing(workspace: Workspace, name: str, version: int) -> dict[str, Any]:
    """Return what has come of a version by now: its `alias`, if any, `decision` and `reason`."""
    row = _version(workspace, name, version)
    alias, of = next(iter(row.aliases), None), row.tags.get
    return {"alias": alias, "decision": of(Tag.DECISION), "reason": of(Tag.REASON)}


def _version(workspace: Workspace, name: str, version: int) -> RegisteredVersion:
    return find_version_of(registry_of(workspace), f"models:/{name}/{version}")


def _finish_announced(workspace: Workspace, name: str, killed: bool) -> None:
    """Finish the decision that is announced; forget one that a kill has interrupted in time."""
    if (text := workspace.client.get_registered_model(name).tags.get(Tag.DECIDING)) is None:
        return
    announced = json.loads(text)
    version, ruling = announced["version"], Ruling(**announced["decision"])
    moved = champion_of(workspace, name) == version or ruling.verdict == rule.REFUSED
    if moved or not killed:
        carry_out(workspace, name, version, ruling)
        seal_decision(workspace, name, version)
    workspace.client.delete_registered_model_tag(name, Tag.DECIDING)


def _conclude(
    workspace: Workspace, choice: Choice, row: RegisteredVersion, how: str
) -> dict[str, Any]:
    """Carry out what a person has decided; nobody else decides on the model meanwhile."""
    name, version = choice.name, row.number
    verdict, tried = rule.BY_PERSON[how], ""
    with deciding(workspace, name):
        if verdict == rule.CHAMPION:
            _expect_champion(workspace, choice)
            if choice.champion == version:
                raise InputError(f"version {version} of {name} is already champion")
            try:
                tried = f"it {try_version(workspace, row)}"
            except MnoError as error:
                message = f"not promoted: {row.uri}: {error}; see: mno audit {row.uri}"
                raise type(error)(message) from None
        own_seal(workspace, name, version)  # says what is wrong before all else
        judged = {"how": how, "by": choice.by, "at": _now(), "champion_then": choice.champion}
        reason = choice.reason or f"{how}, no reason given"
        ruling = Ruling(verdict, reason, {**judged, "tried": tried} if tried else judged)
        if verdict == rule.CHAMPION:
            _expect_champion(workspace, choice)  # on a server, others do not see our lock
        announced = {"version": version, "decision": ruling._asdict()}
        workspace.client.set_registered_model_tag(name, Tag.DECIDING, json.dumps(announced))
        _finish_announced(workspace, name, killed=False)
    decided = {"name": name, "version": version, "decision": verdict, "reason": reason}
    return {**decided, **judged, "tried": tried, "aliases": aliases(registry_of(workspace), name)}


def _expect_champion(workspace: Workspace, choice: Choice) -> None:
    seen, now = choice.champion, champion_of(workspace, choice.name)
    if now != seen:
        before, after = (f"version {v}" if v is not None else "nobody" for v in (seen, now))
        raise MnoError(
            f"{before} was the champion of {choice.name} when you decided, {after} is now: "
            "somebody else has decided meanwhile and nothing was changed; see mno promote "
            "--history, then decide anew"
        )


def _now() -> str:
    return datetime.now().astimezone().isoformat(timespec="seconds")
