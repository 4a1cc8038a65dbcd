"""Optuna's database of a workspace: which trials there are, and what the next one tries."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
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
from sqlalchemy.engine import URL
from sqlalchemy.exc import SQLAlchemyError

from mno.core.errors import MnoError, first_line
from mno.study.tuning.space import Axis, ChoiceAxis, IntAxis, TuneSpec

DATABASE = "optuna.db"
ATTEMPT, REASON, DETAILS = "attempt", "reason", "details"
ATTEMPTS = 2
"""Times that a trial is begun at most, where what made it was killed."""

optuna.logging.set_verbosity(optuna.logging.ERROR)
warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)


class Trials:
    """The trials of one search, kept in a database beside MLflow's.

    One process at a time asks and tells. What is chosen next depends on the search's seed and on
    the trials before it alone: with one worker a search that was killed and goes on tries what an
    uninterrupted one tries.

    Args:
        root: The workspace.
        name: Of the search, with what tells it from earlier ones.
        spec: The search.
        workers: Trials that are made at a time.

    Raises:
        MnoError: The database cannot be used.
    """

    def __init__(self, root: Path, name: str, spec: TuneSpec, workers: int = 1) -> None:
        self.spec = spec
        self.workers = workers
        self.distributions = {key: _distribution(axis) for key, axis in spec.space.items()}
        self.study = _open(root, name, _pruner(spec))

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
        seed = np.random.SeedSequence([self.spec.seed, self.begun]).generate_state(1)[0]
        if self.spec.sampler == "random":
            self.study.sampler = optuna.samplers.RandomSampler(seed=int(seed))
        else:
            self.study.sampler = optuna.samplers.TPESampler(
                seed=int(seed), constant_liar=self.workers > 1
            )
        return self.study.ask(self.distributions)

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

    def _note(self, number: int, key: str, value: Any) -> None:
        storage = self.study._storage
        storage.set_trial_user_attr(self.all[number]._trial_id, key, value)


def _attempt(trial: FrozenTrial) -> int:
    return int(trial.user_attrs.get(ATTEMPT, 1))


def _open(root: Path, name: str, pruner: optuna.pruners.BasePruner) -> optuna.Study:
    path = root.resolve() / DATABASE
    url = URL.create("sqlite", database=str(path)).render_as_string(hide_password=False)
    try:
        storage = optuna.storages.RDBStorage(url, engine_kwargs={"connect_args": {"timeout": 60}})
        return optuna.create_study(
            storage=storage, study_name=name, load_if_exists=True, pruner=pruner
        )
    except (SQLAlchemyError, RuntimeError, OSError) as error:
        raise MnoError(
            f"{path} is not a database of searches that can be used ({first_line(error)[:200]}); "
            "move it away, and searches begin anew"
        ) from None


def _pruner(spec: TuneSpec) -> optuna.pruners.BasePruner:
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
