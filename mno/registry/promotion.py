"""Who becomes champion: the first version, and whoever errs less on the same test data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mno.config import first_line
from mno.errors import MnoError
from mno.registry import names
from mno.registry.packaging import load_model
from mno.registry.reading import find_alias

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

# Measures a loaded model on the current test split; returns its relative L2 error.
Score = Callable[[Any], float]


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
class Decision:
    """What was decided on a version, and on which figures.

    Attributes:
        alias: `champion` or `challenger`.
        reason: One sentence.
        champion: Version that it was compared with, if any.
        champion_relative_l2: That version's error on the same data.
    """

    alias: str
    reason: str
    champion: int | None = None
    champion_relative_l2: float | None = None


def decide(
    client: MlflowClient, name: str, version: int, measured: Measured, score: Score
) -> Decision:
    """Compare a version with the champion.

    The champion's recorded error counts only if it was measured on the same data with the same
    settings; otherwise the champion is loaded and measured now.
    """
    champion = find_alias(client, name, names.CHAMPION)
    if champion is None:
        return Decision(names.CHAMPION, "there was no champion")
    number = int(champion.version)
    if number == version:
        return Decision(names.CHAMPION, "it is the champion already")
    ours = measured.relative_l2
    try:
        theirs = _recorded(champion, measured)
        if theirs is None:
            theirs = _measure(f"models:/{name}/{number}", score)
    except MnoError as error:
        reason = f"champion {number} cannot be used any more: {error}"
        return Decision(names.CHAMPION, reason, number)
    figures = f"relative L2 {ours:.6g} against {theirs:.6g} of champion {number}"
    alias = names.CHAMPION if ours < theirs else names.CHALLENGER
    return Decision(alias, figures, number, theirs)


def apply(client: MlflowClient, name: str, version: int, decision: Decision) -> None:
    """Set the alias, then note the decision on the version.

    In this order, so that a version without a decision is decided on again.
    """
    client.set_registered_model_alias(name, decision.alias, str(version))
    if decision.alias == names.CHAMPION and find_alias(client, name, names.CHALLENGER):
        # It had lost against a champion that was worse than this one.
        client.delete_registered_model_alias(name, names.CHALLENGER)
    notes = {
        names.RIVAL: decision.champion,
        names.RIVAL_L2: decision.champion_relative_l2,
        names.REASON: decision.reason,
        names.DECISION: decision.alias,
    }
    for tag, value in notes.items():
        if value is not None:
            client.set_model_version_tag(name, str(version), tag, str(value))


def _recorded(champion: ModelVersion, measured: Measured) -> float | None:
    same = measured.data_md5 is not None and all(
        champion.tags.get(tag) == measured.tags()[tag] for tag in (names.DATA, names.EVALUATION)
    )
    try:
        return float(champion.tags[names.RELATIVE_L2]) if same else None
    except (KeyError, ValueError):
        return None  # written by another hand


def _measure(uri: str, score: Score) -> float:
    from mlflow.exceptions import MlflowException

    model = load_model(uri)
    try:
        return score(model)
    except MlflowException as error:
        raise MnoError(f"{uri} cannot predict on this data: {first_line(error)}") from error
