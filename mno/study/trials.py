"""The trials of a search: in Optuna's database, as plain values, and what they say together.

The winner becomes a preset.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FrozenTrial, Trial, TrialState
from ruamel.yaml import YAML
from sqlalchemy.engine import URL
from sqlalchemy.exc import SQLAlchemyError

from mno.core.config import yaml_writer
from mno.core.errors import InputError, MnoError, first_line
from mno.core.files import write_text
from mno.study.search_space import SECTIONS, Axis, ChoiceAxis, IntAxis, SearchSpec
from mno.study.statistics import LEVEL, Comparison, compare

DATABASE = "optuna.db"
ATTEMPT, REASON, DETAILS = "attempt", "reason", "details"
ATTEMPTS = 2
"""Times that a trial is begun at most, where what made it was killed."""
STATES = ("done", "pruned", "refused", "failed", "broken")
"""What became of a trial; `broken`: its process was lost."""
FEWEST = 4
"""Finished trials below which nothing is said of what mattered."""
IMPORTANCE = optuna.importance.PedAnovaImportanceEvaluator
"""PED-ANOVA (Watanabe et al. 2023, doi:10.24963/ijcai.2023/488): how far the best trials gather."""

optuna.logging.set_verbosity(optuna.logging.ERROR)
warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)


class Trials:
    """The trials of one search, kept in a database beside MLflow's.

    One process at a time asks and tells; those that train report their epochs. What is chosen next
    depends on the search's seed and on the trials before it alone: with one worker a search that
    was killed and goes on tries what an uninterrupted one tries.

    Args:
        root: The workspace.
        name: Of the search, with what tells it from earlier ones.
        spec: The search.
        workers: Trials that are made at a time.

    Raises:
        MnoError: The database cannot be used.
    """

    def __init__(self, root: Path, name: str, spec: SearchSpec, workers: int = 1) -> None:
        self.spec = spec
        self.workers = workers
        self.distributions = {key: _distribution(axis) for key, axis in spec.space.items()}
        path = root.resolve() / DATABASE
        url = URL.create("sqlite", database=str(path)).render_as_string(hide_password=False)
        try:
            storage = optuna.storages.RDBStorage(
                url, engine_kwargs={"connect_args": {"timeout": 60}}
            )
            self.study = optuna.create_study(
                storage=storage, study_name=name, load_if_exists=True, pruner=_pruner(spec)
            )
        except (SQLAlchemyError, RuntimeError, OSError) as error:
            raise MnoError(
                f"{path} is not a database of searches that can be used "
                f"({first_line(error)[:200]}); move it away, and searches begin anew"
            ) from None

    @property
    def all(self) -> list[FrozenTrial]:
        """All trials, by number; those that wait are among them."""
        return self.study.get_trials(deepcopy=False)

    @property
    def begun(self) -> int:
        """How many points have been tried, each counted once however often it was begun."""
        return sum(_attempt(t) == 1 for t in self.all if t.state != TrialState.WAITING)

    @property
    def repeated(self) -> int:
        """How many trials wait to be made again, since an earlier attempt was lost."""
        return sum(_attempt(t) > 1 for t in self.all if t.state == TrialState.WAITING)

    @property
    def done(self) -> list[FrozenTrial]:
        """The trials that were trained to their end, by number."""
        return [t for t in self.all if t.state == TrialState.COMPLETE]

    @property
    def best(self) -> FrozenTrial | None:
        """The trial of the lowest validation error, the first of equals; none yet."""
        return min(self.done, key=lambda trial: trial.value or 0.0, default=None)

    def first(self, point: Mapping[str, Any]) -> None:
        """Let a point be tried before any other, unless a trial has been begun."""
        if not self.all:
            self.study.enqueue_trial(dict(point), user_attrs={"default": True})

    def take_up(self) -> int:
        """Let trials that a killed search left running be made again; return how many."""
        left = [t for t in self.all if t.state == TrialState.RUNNING]
        return sum(self.broke_off(t.number, "the search was ended meanwhile") for t in left)

    def ask(self) -> Trial:
        """Return the next trial, with values for the whole space."""
        seed = int(np.random.SeedSequence([self.spec.seed, self.begun]).generate_state(1)[0])
        if self.spec.sampler == "random":
            self.study.sampler = optuna.samplers.RandomSampler(seed=seed)
        else:
            self.study.sampler = optuna.samplers.TPESampler(
                seed=seed, constant_liar=self.workers > 1
            )
        return self.study.ask(self.distributions)

    def of(self, number: int) -> Trial:
        """Return a trial that is running, for the process that trains it."""
        return Trial(self.study, self.all[number]._trial_id)

    def finish(
        self, number: int, state: TrialState, value: float | None, details: Mapping[str, Any]
    ) -> None:
        """Keep what came of a trial."""
        self._note(number, DETAILS, dict(details))
        self.study.tell(number, value, state)

    def broke_off(self, number: int, reason: str) -> bool:
        """Keep that a trial's process was lost; return whether the trial is to be made again."""
        trial = self.all[number]
        self._note(number, REASON, reason)
        attempt = _attempt(trial)
        again = attempt < ATTEMPTS and len(trial.params) == len(self.distributions)
        if again:  # first: a kill between the two makes one trial too many, not one too few
            kept = {k: v for k, v in trial.user_attrs.items() if k == "default"}
            self.study.enqueue_trial(trial.params, user_attrs={**kept, ATTEMPT: attempt + 1})
        self.study.tell(number, state=TrialState.FAIL)
        return again

    def importances(self) -> dict[str, float]:
        """Return each parameter's share in what the error varied by; none of too few trials."""
        values = [trial.value for trial in self.done]
        if len(values) < FEWEST or len(set(values)) < 2:
            return {}
        try:
            return optuna.importance.get_param_importances(self.study, evaluator=IMPORTANCE())
        except (ValueError, RuntimeError):  # all at one point, for example
            return {}

    def _note(self, number: int, key: str, value: Any) -> None:
        storage = self.study._storage
        storage.set_trial_user_attr(self.all[number]._trial_id, key, value)


def _attempt(trial: FrozenTrial) -> int:
    return int(trial.user_attrs.get(ATTEMPT, 1))


def _pruner(spec: SearchSpec) -> optuna.pruners.BasePruner:
    match spec.pruner:
        case "median":
            return optuna.pruners.MedianPruner(n_warmup_steps=spec.warmup_epochs + 1)
        case "hyperband":
            return optuna.pruners.HyperbandPruner()
        case _:
            return optuna.pruners.NopPruner()


def _distribution(axis: Axis) -> BaseDistribution:
    if isinstance(axis, ChoiceAxis):
        return CategoricalDistribution(axis.values)
    if isinstance(axis, IntAxis):
        return IntDistribution(axis.low, axis.high, step=axis.step)
    return FloatDistribution(axis.low, axis.high, log=axis.type == "log")


@dataclass(frozen=True)
class TrialRecord:
    """One trial that has ended."""

    number: int
    state: str  # one of `STATES`
    error: float | None  # lowest validation error, relative L2; of a pruned one as far as it came
    point: Mapping[str, Any]  # values by dotted key
    epochs: Sequence[Mapping[str, float]]  # metrics of each
    figures: Mapping[str, float]  # `parameters`, `latency_ms` and `seconds`, where known
    reason: str | None  # why it is not done
    is_default: bool  # whether it is the parameters that the search started from

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


def _record(trial: FrozenTrial) -> TrialRecord:
    # What a lost attempt left of it counts for nothing.
    details = {} if trial.state == TrialState.FAIL else trial.user_attrs.get(DETAILS, {})
    return TrialRecord(
        number=trial.number,
        state=details.get("state", "broken"),
        error=details.get("error"),
        point=dict(trial.params),
        epochs=details.get("epochs", []),
        figures={k: details[k] for k in ("parameters", "latency_ms", "seconds") if details.get(k)},
        reason=details.get("reason") or trial.user_attrs.get(REASON),
        is_default=bool(trial.user_attrs.get("default")),
    )


def best_so_far(records: Sequence[TrialRecord]) -> list[tuple[int, float]]:
    """Return the lowest error of a finished trial after each finished trial, by number."""
    curve: list[tuple[int, float]] = []
    for record in records:
        if record.state == "done" and record.error is not None:
            curve.append((record.number, min([record.error, *(e for _, e in curve[-1:])])))
    return curve


WINNER, DEFAULT = "the winner", "the default"


@dataclass(frozen=True)
class Confirmation:
    """The winner against the default: validation errors by seed, of seeds that chose nothing."""

    winner: Mapping[int, float]
    default: Mapping[int, float]

    @property
    def comparison(self) -> Comparison | None:
        """The paired comparison; none without a seed that both have."""
        errors = {WINNER: self.winner, DEFAULT: self.default}
        return next(iter(compare(errors, [(WINNER, DEFAULT)])), None)

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
        better = "is better than" if found.high < 1 else "is not shown to be better than"
        return (
            f"The winner {'is worse than' if found.low > 1 else better} the default: with {seeds} "
            f"it has {found.ratio:.3f} times the default's validation error ({LEVEL:.0%} interval "
            f"{found.low:.3f} to {found.high:.3f})."
        )


FOLDER = Path("presets")
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")


def preset_path(root: Path, preset: str, search: str, *, replace: bool) -> Path:
    """Return where the winner of a search goes.

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
    yaml = yaml_writer()
    yaml.default_flow_style = False
    content = {section: dict(params[section]) for section in SECTIONS}
    yaml.dump(content, buffer)
    text = "\n".join([_mark(search), *(f"# {line}" for line in said), buffer.getvalue()])
    if YAML(typ="safe").load(text) != content:
        raise MnoError(f"{path.name}: a value cannot be written as YAML; nothing was written")
    try:
        write_text(path, text)
    except OSError as error:
        raise MnoError(f"{path} cannot be written: {error.strerror}") from None


def _mark(search: str) -> str:
    return f"# The winner of the search {search}, written by `mno study tune {search}`."
