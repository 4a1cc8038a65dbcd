"""Who becomes champion by itself: the rule, applied to errors on the same test samples."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mno.core.errors import MnoError, first_line
from mno.evaluation.config import IntervalConfig
from mno.evaluation.intervals import intervals
from mno.evaluation.metrics import mean_over
from mno.evaluation.pooling import Pooled
from mno.lineage import rule
from mno.registry import names
from mno.registry.config import PromotionConfig
from mno.registry.gates import beside_gates
from mno.registry.packaging import load_model
from mno.registry.reading import candidate_folder, find_alias
from mno.registry.recorded import recorded_errors
from mno.registry.settings import Workspace

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

# Measures a loaded model on the current test split; returns its relative L2 error.
Score = Callable[[Any], Pooled]
# Measures the candidate beside the champion in a folder: see `mno.evaluation.beside`.
Compare = Callable[[Path], Mapping[str, Any]]


@dataclass(frozen=True)
class Measured:
    """A model's error, and what it was measured on.

    Attributes:
        relative_l2: Relative L2 error on the test split.
        data_md5: DVC's hash of the dataset; none where it is not known.
        evaluation_sha256: Digest of the evaluation's settings.
    """

    relative_l2: float
    data_md5: str | None
    evaluation_sha256: str

    def tags(self) -> dict[str, str]:
        """Return it as tags of a version."""
        return {
            names.RELATIVE_L2: repr(self.relative_l2),
            names.DATA: self.data_md5 or "unknown",
            names.EVALUATION: self.evaluation_sha256,
        }


@dataclass(frozen=True)
class Case:
    """What is judged of a version, and by which rule.

    Attributes:
        measured: Its error, and what it was measured on.
        errors: The same of each test sample; NaN where none is known.
        gates: Of each indicator that is asked for, whether it is met.
        config: The rule.
        intervals: How the interval of a difference is found.
        score: Measures the champion where its errors on these samples are not recorded.
        compare: Measures it beside the champion in a folder; none: it is not.
    """

    measured: Measured
    errors: tuple[float, ...]
    gates: Mapping[str, str]
    config: PromotionConfig
    intervals: IntervalConfig
    score: Score
    compare: Compare | None = None


@dataclass(frozen=True)
class Decision:
    """What was decided on a version, and on which figures.

    Attributes:
        verdict: `champion`, `challenger`, `waiting` or `refused`.
        reason: One sentence.
        judged: The figures, who decided and when; see `mno.lineage.rule`.
    """

    verdict: str
    reason: str
    judged: Mapping[str, Any]

    @property
    def alias(self) -> str | None:
        """The alias that goes with it; one that waits is a challenger."""
        own = {rule.CHAMPION: names.CHAMPION, rule.REFUSED: None}
        return own.get(self.verdict, names.CHALLENGER)


def decide(workspace: Workspace, name: str, version: int, case: Case) -> Decision:
    """Judge a version by the rule, on the same test samples as the champion.

    The champion's recorded errors count only if they were measured on the same data with the same
    settings; otherwise the champion is loaded and measured now.
    """
    champion = find_alias(workspace.client, name, names.CHAMPION)
    judged: dict[str, Any] = {
        "how": rule.BY_RULE,
        "by": "the rule in params.yaml",
        "at": now(),
        **case.config.model_dump(include={"rule", "margin", "approval"}),
        "gates": dict(case.gates),
        "relative_l2": case.measured.relative_l2,
    }
    if champion is None:
        return _decided({**judged, "standing": "first"}, "there was no champion")
    number = int(champion.version)
    if number == version:
        return _decided({**judged, "standing": "already"}, "it is the champion already")
    judged |= {"champion": number}
    try:
        theirs = _errors_of(workspace, champion, case)
    except MnoError as error:
        reason = f"champion {number} cannot be used any more: {error}"
        # On a server it may be out of reach for a while only: nothing takes over for that.
        standing = "unusable" if workspace.embedded else "unreachable"
        return _decided({**judged, "standing": standing}, reason)
    found = _beside(f"models:/{name}/{number}", case)
    judged |= {"beside": found, "gates": {**case.gates, **beside_gates(case.config.beside, found)}}
    return _compared(judged, theirs, case)


def _beside(champion: str, case: Case) -> Mapping[str, Any] | str:
    """Return what was measured of the version beside the champion; or, in one line, why not."""
    if case.compare is None:
        return "not measured"
    try:
        return case.compare(candidate_folder(champion))
    except Exception as error:  # whatever a model of another time cannot do
        return f"not measured: {first_line(error)}"


def _compared(judged: dict[str, Any], theirs: Pooled, case: Case) -> Decision:
    difference = pooled(case.errors).minus(theirs)
    found = intervals({"": difference}, case.intervals)[""]
    error, level = theirs.value(), case.intervals.level
    judged |= {
        "standing": "against",
        "champion_relative_l2": error,
        "difference": difference.value(),
        "interval": found if isinstance(found, str) else [found.low, found.high],
        "level": level,
        "samples": len(case.errors),
    }
    if isinstance(found, str):
        shown = f"no interval: {found}"
    else:
        shown = f"{level:.0%} interval {found.low:+.3g} to {found.high:+.3g}"
    lower = "lower" if not case.config.margin else f"lower by more than {case.config.margin:.3g}"
    lower = f"certainly {lower}" if case.config.rule == "certain" else lower
    return _decided(
        judged,
        f"relative L2 {case.measured.relative_l2:.6g} against {error:.6g} of champion "
        f"{judged['champion']}; difference {difference.value():+.3g}, {shown}: "
        f"{lower if rule.is_better(judged) else f'not {lower}'}",
    )


def _decided(judged: dict[str, Any], reason: str) -> Decision:
    verdict, barred = rule.verdict(judged), rule.failing(judged)
    if barred and judged["standing"] != "already":
        shown = (f"{gate}{_times(judged, gate.removeprefix('beside.'))}" for gate in barred)
        reason += f"; does not meet {', '.join(shown)}"
    if verdict == rule.WAITING:
        reason += "; waits for a person's approval"
    return Decision(verdict, reason, judged)


def _times(judged: Mapping[str, Any], name: str) -> str:
    """Return how many times the champion's a figure is, in brackets, where it is known."""
    beside = judged.get("beside")
    sides = beside.get(name) if isinstance(beside, Mapping) else None
    if not isinstance(sides, Mapping) or not sides["champion"]:
        return ""
    return f" ({sides['own'] / sides['champion']:.2f} times the champion's)"


def apply(client: MlflowClient, name: str, version: int, decision: Decision) -> None:
    """Set the aliases, then note the decision on the version.

    In this order, so that a version without a decision is decided on again.
    """
    set_aliases(client, name, version, decision.alias)
    note(client, name, version, decision)


def set_aliases(client: MlflowClient, name: str, version: int, alias: str | None) -> None:
    """Give a version its alias; whoever lost against a champion of the past loses `challenger`."""
    if alias is not None:
        client.set_registered_model_alias(name, alias, str(version))
    challenger = find_alias(client, name, names.CHALLENGER)
    if challenger is None or alias == names.CHALLENGER:
        return
    if alias == names.CHAMPION or int(challenger.version) == version:
        client.delete_registered_model_alias(name, names.CHALLENGER)


def note(client: MlflowClient, name: str, version: int, decision: Decision) -> None:
    """Note a decision on its version; last, what it is."""
    notes = {
        names.RIVAL: decision.judged.get("champion"),
        names.RIVAL_L2: decision.judged.get("champion_relative_l2"),
        names.REASON: decision.reason,
        rule.PROMOTION: json.dumps(decision.judged, sort_keys=True),
        names.DECISION: decision.verdict,
    }
    for tag, value in notes.items():
        if value is not None:
            client.set_model_version_tag(name, str(version), tag, str(value))


def now() -> str:
    """Return the time, ISO 8601 with the offset from UTC."""
    return datetime.now().astimezone().isoformat(timespec="seconds")


def pooled(errors: tuple[float, ...]) -> Pooled:
    """Return the mean of errors by sample, of those that are known."""
    values = np.array(errors, dtype=np.float64)
    return mean_over(values, ~np.isnan(values))


def _errors_of(workspace: Workspace, champion: ModelVersion, case: Case) -> Pooled:
    """Return the champion's errors on the samples of the case.

    Raises:
        MnoError: It does not load, or cannot predict on this data.
    """
    tags, own = champion.tags, case.measured.tags()
    same = case.measured.data_md5 is not None and all(
        tags.get(tag) == own[tag] for tag in (names.DATA, names.EVALUATION)
    )
    errors = recorded_errors(workspace, champion) if same else None
    if errors is not None and len(errors) == len(case.errors):
        found = pooled(errors)
        if math.isclose(found.value(), float(tags[names.RELATIVE_L2]), rel_tol=1e-9):
            return found
    uri = f"models:/{champion.name}/{champion.version}"
    found = _measure(uri, case.score)
    if not math.isfinite(found.value()):
        raise MnoError(f"{uri} has the test error {found.value()} on this data")
    return found


def _measure(uri: str, score: Score) -> Pooled:
    from mlflow.exceptions import MlflowException

    model = load_model(uri)
    try:
        return score(model)
    except MlflowException as error:
        raise MnoError(f"{uri} cannot predict on this data: {first_line(error)}") from error
