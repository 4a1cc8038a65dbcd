"""The trials of a search: how one is made, how Optuna's database keeps them, what they say.

Each is trained by the project's own training. The winner becomes a preset.
"""

import io
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.engine import URL
from sqlalchemy.exc import SQLAlchemyError

from mno.core.config import section, yaml_writer
from mno.core.errors import InputError, MnoError, first_line
from mno.core.files import file_sha256, write_text
from mno.core.forecast import TaskConfig
from mno.core.memory import keep_freed_memory
from mno.data.parts import as_seen
from mno.data.reading import open_splits
from mno.nn.config import ModelConfig
from mno.study.search_space import SECTIONS, SearchSpec, distribution_of
from mno.study.statistics import compare
from mno.training.config import TrainConfig
from mno.training.fit import train

DATABASE = "optuna.db"
OUTCOME, DEFAULT_MARK = "outcome", "default"
INTERRUPTED = "the search was ended meanwhile"
STATES = ("done", "pruned", "refused", "failed", "broken")
"""What became of a trial; `broken`: its process was lost."""
WARM_UP = 2  # epochs in which no trial is ended early
optuna.logging.set_verbosity(optuna.logging.ERROR)
warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)


@dataclass
class Outcome:
    """What came of a training: done, pruned (ended early), refused (beyond a limit), or failed."""

    state: str
    error: float | None = None  # lowest validation error of an epoch, relative L2, if there is one
    epochs: list[dict[str, float]] = field(default_factory=list)  # metrics of each
    parameters: int | None = None  # trainable ones; none where it was not trained to the end
    seconds: float = 0.0  # wall time of this attempt
    reason: str | None = None  # why it is not done


@dataclass(frozen=True)
class TrialRecord:
    """One trial that has ended."""

    number: int
    point: Mapping[str, Any]  # values by dotted key
    is_default: bool  # whether it is the parameters that the search started from
    outcome: Outcome

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, of the epochs their number alone."""
        return {
            "trial": self.number, "point": dict(self.point), "is_default": self.is_default,
            **asdict(self.outcome), "epochs": len(self.outcome.epochs),
        }  # fmt: skip


class Trials:
    """The trials of one search, kept in a database beside MLflow's; an MnoError if it is none.

    One process at a time asks and tells; those that train report their epochs. What is chosen next
    depends on the search's seed and on the trials before it alone: with one worker a search that
    was killed and goes on tries what an uninterrupted one tries. The name is that of the search
    with what tells it from earlier ones; `workers` trials are made at a time.
    """

    def __init__(self, root: Path, name: str, spec: SearchSpec, workers: int = 1) -> None:
        self.spec = spec
        self.workers = workers
        self.distributions = {key: distribution_of(axis) for key, axis in spec.space.items()}
        path = root.resolve() / DATABASE
        url = URL.create("sqlite", database=str(path)).render_as_string(hide_password=False)
        pruner = optuna.pruners.MedianPruner(n_warmup_steps=WARM_UP + 1)
        try:
            patience = {"connect_args": {"timeout": 60}}
            storage = optuna.storages.RDBStorage(url, engine_kwargs=patience)
            self.study = optuna.create_study(
                storage=storage, study_name=name, load_if_exists=True, pruner=pruner
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
        """How many points have been tried, without those that a killed search left."""
        tried = (t.user_attrs.get(OUTCOME, {}) for t in self.all if t.state != TrialState.WAITING)
        return sum(outcome.get("reason") != INTERRUPTED for outcome in tried)

    @property
    def records(self) -> list[TrialRecord]:
        """All trials that have ended, by number."""
        return [_record(trial) for trial in self.all if trial.state.is_finished()]

    @property
    def done(self) -> list[TrialRecord]:
        """Those that were trained to their end, the best first, by number among equals."""
        done = (record for record in self.records if record.outcome.state == "done")
        return sorted(done, key=lambda record: record.outcome.error or 0.0)

    def first(self, point: Mapping[str, Any]) -> bool:
        """Let a point be tried before any other; return whether it lies in the space."""
        try:
            waiting = optuna.create_trial(
                state=TrialState.WAITING, params=dict(point), distributions=self.distributions,
                user_attrs={DEFAULT_MARK: True},
            )  # fmt: skip
        except ValueError:
            return False
        self.study.add_trial(waiting)
        return True

    def take_up(self) -> int:
        """Let trials that a killed search left running be made again; return how many."""
        left = [t for t in self.all if t.state == TrialState.RUNNING]
        for trial in left:  # first: a kill between the two makes one too many, not one too few
            self.study.enqueue_trial(trial.params, user_attrs=trial.user_attrs)
            self.finish(trial.number, Outcome("broken", reason=INTERRUPTED))
        return len(left)

    def ask(self) -> Trial:
        """Return the next trial, with values for the whole space."""
        seed = int(np.random.SeedSequence([self.spec.seed, self.begun]).generate_state(1)[0])
        self.study.sampler = optuna.samplers.TPESampler(seed=seed, constant_liar=self.workers > 1)
        return self.study.ask(self.distributions)

    def of(self, number: int) -> Trial:
        """Return a trial that is running, for the process that trains it."""
        return Trial(self.study, self.all[number]._trial_id)

    def finish(self, number: int, outcome: Outcome) -> TrialRecord:
        """Keep what came of a trial; those that are refused or pruned were shown to be worse.

        What is `broken` counts for nothing.
        """
        self.of(number).set_user_attr(OUTCOME, asdict(outcome))
        done, broken = outcome.state == "done", outcome.state == "broken"
        state = TrialState.FAIL if broken else TrialState.COMPLETE if done else TrialState.PRUNED
        self.study.tell(number, outcome.error if done else None, state)
        return _record(self.all[number])


def _record(trial: FrozenTrial) -> TrialRecord:
    marks, params = trial.user_attrs, dict(trial.params)
    outcome = Outcome(**marks[OUTCOME])
    return TrialRecord(trial.number, params, bool(marks.get(DEFAULT_MARK)), outcome)


@cache
def _search_splits(data: Path) -> Any:
    """Return what a trial is trained on, and what it is judged by."""
    return open_splits(data, "train", "validation")


def data_digest(data: Path) -> str:
    """Return the SHA-256 of a dataset's root file, which holds the checksums of all others."""
    try:
        return file_sha256(data / "zarr.json")
    except OSError:
        return ""


@dataclass(frozen=True)
class Job:
    """A training to be made."""

    number: int  # of the trial
    params: Mapping[str, Any]  # sections `task`, `model` and `train`
    seed: int
    work: Path  # folder of its checkpoints, its alone
    watched: bool  # whether it is a trial, which may be ended early


def train_in_worker(job: Job, data: Path, root: Path, search: str, spec: SearchSpec) -> Outcome:
    """Make a training of a search, or continue what an earlier attempt has begun.

    It is called in a process of its own, which keeps the data in its memory. `search` is what the
    database knows the search by.
    """
    keep_freed_memory()
    trial = Trials(root, search, spec).of(job.number) if job.watched else None
    task = section(job.params, "task", TaskConfig)
    splits = as_seen(_search_splits(data), task)
    start, outcome = time.monotonic(), Outcome("done")

    def observe(epoch: int, metrics: Mapping[str, float]) -> None:
        outcome.epochs.append(dict(metrics))
        outcome.error = min(e["validation_relative_l2"] for e in outcome.epochs)
        if trial is not None:
            trial.report(outcome.error, epoch)
            if trial.should_prune():
                raise optuna.TrialPruned

    try:
        surrogate, _ = train(
            *splits, model=section(job.params, "model", ModelConfig),
            config=section(job.params, "train", TrainConfig), seed=job.seed, work=job.work,
            task=task, observers=[observe], quiet=True,
        )  # fmt: skip
        outcome.parameters = surrogate.num_parameters
    except optuna.TrialPruned:
        outcome.state, outcome.reason = "pruned", f"ended after epoch {len(outcome.epochs)}"
    except MnoError as error:
        outcome.state, outcome.reason = "failed", str(error).replace("params.yaml: ", "")
    outcome.seconds = round(time.monotonic() - start, 2)
    return outcome


WINNER, DEFAULT = "the winner", "the default"


@dataclass(frozen=True)
class Confirmation:
    """The winner against the default: validation errors by seed, of seeds that chose nothing."""

    winner: Mapping[int, float]
    default: Mapping[int, float]

    def sentence(self) -> str:
        """Say which of the two is better, or that it does not show."""
        for found in compare({WINNER: self.winner, DEFAULT: self.default}, [(WINNER, DEFAULT)]):
            return f"By seeds that chose nothing, {found.sentence()}."
        return "The winner and the default were not compared."


FOLDER = Path("presets")


def preset_path(root: Path, search: str) -> Path:
    """Return where a winner goes, `presets/tuned-<search>.yaml`; refuse what is another's."""
    path = root / FOLDER / f"tuned-{search}.yaml"
    if path.is_file():
        first = path.read_text(encoding="utf-8", errors="replace").split("\n", 1)[0]
        if first != _mark(search):
            raise InputError(
                f"{FOLDER}/{path.name} was not written by this search; rename that preset, or the "
                "search"
            )
    return path


def write_preset(path: Path, search: str, params: Mapping[str, Any], said: Sequence[str]) -> None:
    """Write the sections of a search as a preset, complete, so that it holds whatever is set.

    Its head has the lines that say what is known of it.
    """
    buffer, yaml = io.StringIO(), yaml_writer()
    yaml.default_flow_style = False
    yaml.dump({section: dict(params[section]) for section in SECTIONS}, buffer)
    write_text(path, "\n".join([_mark(search), *(f"# {line}" for line in said), buffer.getvalue()]))


def _mark(search: str) -> str:
    return f"# The winner of the search {search}, written by `mno study tune {search}`."
