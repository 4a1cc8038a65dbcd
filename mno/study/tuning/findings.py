"""What a search has found: its trials as plain values, the best so far, and what mattered."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState
from ruamel.yaml import YAML

from mno.core.errors import InputError, MnoError
from mno.study.statistics import LEVEL, Comparison, Mean, compare, mean_with_interval
from mno.study.tuning.space import SECTIONS
from mno.study.tuning.storage import DETAILS, REASON, Trials

WINNER, DEFAULT = "the winner", "the default"
FEWEST = 4
"""Finished trials below which nothing is said of what mattered."""


@dataclass(frozen=True)
class TrialRecord:
    """One trial.

    Attributes:
        number: Of the trial.
        state: `done`, `pruned`, `refused`, `failed` or `broken`: its process was lost.
        error: Lowest validation error, relative L2; of a pruned one as far as it came.
        point: Its values by dotted key.
        epochs: Metrics of each epoch.
        figures: `parameters`, `latency_ms` and `seconds`, where they are known.
        reason: Why it is not done.
        is_default: Whether it is the parameters that the search started from.
    """

    number: int
    state: str
    error: float | None
    point: Mapping[str, Any]
    epochs: Sequence[Mapping[str, float]]
    figures: Mapping[str, float]
    reason: str | None = None
    is_default: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, without the epochs."""
        return {
            "trial": self.number, "state": self.state, "error": self.error,
            "point": dict(self.point), "epochs": len(self.epochs), **self.figures,
            "reason": self.reason, "is_default": self.is_default,
        }  # fmt: skip


def records_of(trials: Trials) -> list[TrialRecord]:
    """Return all trials that have ended, by number."""
    ended = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
    return [_record(trial) for trial in trials.all if trial.state in ended]


def best_so_far(records: Sequence[TrialRecord]) -> list[tuple[int, float]]:
    """Return the lowest error of a finished trial after each finished trial, by number."""
    curve: list[tuple[int, float]] = []
    for record in records:
        if record.state == "done" and record.error is not None:
            curve.append((record.number, min([record.error, *(e for _, e in curve[-1:])])))
    return curve


def importances(trials: Trials) -> dict[str, float]:
    """Return each parameter's share in what the error varied by; none where trials are too few.

    By PED-ANOVA (Watanabe et al. 2023, doi:10.24963/ijcai.2023/488): how far the best trials gather
    on each axis.
    """
    values = [trial.value for trial in trials.done]
    if len(values) < FEWEST or len(set(values)) < 2:
        return {}
    evaluator = optuna.importance.PedAnovaImportanceEvaluator()
    try:
        found = optuna.importance.get_param_importances(trials.study, evaluator=evaluator)
    except (ValueError, RuntimeError):  # all at one point, for example
        return {}
    return {name: float(share) for name, share in found.items()}


@dataclass(frozen=True)
class Confirmation:
    """The winner against the default, with seeds that chose nothing.

    Attributes:
        winner: Validation error of the winner by seed.
        default: That of the default.
    """

    winner: Mapping[int, float]
    default: Mapping[int, float]

    @property
    def comparison(self) -> Comparison | None:
        """The paired comparison; none without a seed that both have."""
        errors = {WINNER: self.winner, DEFAULT: self.default}
        return next(iter(compare(errors, [(WINNER, DEFAULT)])), None)

    def mean(self, errors: Mapping[int, float]) -> Mean | None:
        """Return the mean over seeds of one of the two."""
        return mean_with_interval(list(errors.values())) if errors else None

    def sentence(self) -> str:
        """Say which of the two is better, or that it does not show."""
        found = self.comparison
        if found is None:
            return "Winner and default were not compared."
        seeds = f"{found.seeds} further seed{'s' if found.seeds > 1 else ''}"
        if found.low is None or found.high is None:
            return (
                f"With {seeds} the winner has {found.ratio:.3f} times the default's validation "
                "error; one seed shows no more than that."
            )
        interval = f"({LEVEL:.0%} interval {found.low:.3f} to {found.high:.3f})"
        how = f"has {found.ratio:.3f} times the default's validation error {interval}"
        if found.high < 1:
            return f"The winner is better than the default: with {seeds} it {how}."
        if found.low > 1:
            return f"The winner is worse than the default: with {seeds} it {how}."
        return f"The winner is not shown to be better than the default: with {seeds} it {how}."


def _record(trial: FrozenTrial) -> TrialRecord:
    # What a lost attempt left of it counts for nothing.
    details = {} if trial.state == TrialState.FAIL else trial.user_attrs.get(DETAILS, {})
    figures = {k: details[k] for k in ("parameters", "latency_ms", "seconds") if details.get(k)}
    return TrialRecord(
        number=trial.number,
        state=details.get("state", "broken"),
        error=details.get("error"),
        point=dict(trial.params),
        epochs=details.get("epochs", []),
        figures=figures,
        reason=details.get("reason") or trial.user_attrs.get(REASON),
        is_default=bool(trial.user_attrs.get("default")),
    )


FOLDER = Path("presets")
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")


def preset_path(root: Path, preset: str, search: str, *, replace: bool) -> Path:
    """Return where the winner goes.

    Args:
        root: The workspace.
        preset: Name of the preset.
        search: Name of the search.
        replace: Whether a file that this search did not write may be replaced.

    Raises:
        InputError: The name cannot be used, or belongs to another's file.
    """
    if not _NAME.fullmatch(preset):
        raise InputError(
            f"--preset {preset!r} must consist of small letters, digits, _ and -, as in tuned-darcy"
        )
    path = root / FOLDER / f"{preset}.yaml"
    if path.is_file() and not replace:
        first = path.read_text(encoding="utf-8", errors="replace").split("\n", 1)[0]
        if first != _mark(search):
            raise InputError(
                f"{FOLDER}/{path.name} was not written by this search; give the preset another "
                "name with --preset, or --replace it"
            )
    return path


def write_preset(path: Path, search: str, params: Mapping[str, Any], said: Sequence[str]) -> None:
    """Write the sections of a search as a preset, complete, so that it holds whatever is set.

    Args:
        path: What `preset_path` returned.
        search: Name of the search.
        params: The winner's.
        said: Lines that say what is known of it.

    Raises:
        MnoError: The file cannot be written.
    """
    buffer = io.StringIO()
    yaml = YAML()
    yaml.default_flow_style = False
    yaml.representer.add_representer(
        type(None), lambda writer, _: writer.represent_scalar("tag:yaml.org,2002:null", "null")
    )
    content = {section: dict(params[section]) for section in SECTIONS}
    yaml.dump(content, buffer)
    text = "\n".join([_mark(search), *(f"# {line}" for line in said), buffer.getvalue()])
    if YAML(typ="safe").load(text) != content:
        raise MnoError(f"{path.name}: a value cannot be written as YAML; nothing was written")
    beside = path.with_name(path.name + ".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_text(text, encoding="utf-8")
        os.replace(beside, path)
    except OSError as error:
        raise MnoError(f"{path} cannot be written: {error.strerror}") from None


def _mark(search: str) -> str:
    return f"# The winner of the search {search}, written by `mno study tune {search}`."
