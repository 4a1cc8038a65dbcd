"""Makes the trials of a search, and the trainings that confirm its winner."""

from __future__ import annotations

import shutil
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from optuna.trial import Trial, TrialState

from flows.tuning.pool import Pool
from flows.tuning.search import DATA, Search
from mno.core.errors import MnoError
from mno.registry.tracking import SearchLog
from mno.study.tuning.findings import DEFAULT, WINNER, Confirmation, TrialRecord, records_of
from mno.study.tuning.space import at, training_digest
from mno.study.tuning.storage import Trials
from mno.study.tuning.training import Job, Outcome, data_digest

_CONFIRMED = "confirmed"
_STATES = {"done": TrialState.COMPLETE}  # the others have shown that they are worse


@dataclass
class TrialMaker:
    """Makes what is missing of a search.

    Attributes:
        search: The search.
        trials: Its trials.
        pool: Who trains.
        log: What MLflow keeps.
        end: When the time is up, on the monotonic clock; none for never.
        say: Is handed lines for the person who watches.
    """

    search: Search
    trials: Trials
    pool: Pool
    log: SearchLog
    end: float | None
    say: Callable[[str], None]
    _running: dict[int, Trial] = field(default_factory=dict)
    _folders: dict[int, Path] = field(default_factory=dict)

    @property
    def left(self) -> int:
        """How many trials are still to be begun."""
        return max(0, self.search.spec.trials - self.trials.begun) + self.trials.repeated

    @property
    def expected(self) -> float | None:
        """Seconds that a trial takes, as far as is known."""
        seconds = [r.figures.get("seconds", 0.0) for r in records_of(self.trials) if r.epochs]
        return statistics.median(seconds) if seconds else None

    def make_all(self) -> None:
        """Make trials until there are as many as are asked for, or the time is up.

        Raises:
            MnoError: The data are others now, or MLflow cannot be used.
        """
        self._keep_all()
        while True:
            while self.pool.free and self.left and self._in_time():
                self._begin()
            if not self.pool.busy:
                return
            job, outcome = self.pool.next_outcome(self._on_epoch)
            self._end(job, outcome)

    def confirm(self, winner: Mapping[str, Any]) -> Confirmation:
        """Train the winner and the default with seeds that chose nothing; what is known is kept.

        Args:
            winner: Its parameters, complete.
        """
        first = int(self.search.default["seed"]) + 1
        seeds = range(first, first + self.search.spec.confirm_seeds)
        params = {WINNER: winner, DEFAULT: self.search.default}
        wanted = [(who, seed) for seed in seeds for who in params]
        known: dict[str, float] = dict(self.trials.study.user_attrs.get(_CONFIRMED, {}))
        names = {(w, s): training_digest(params[w], s) for w, s in wanted}
        missing = [item for item in wanted if names[item] not in known]
        if missing:
            self.say(f"comparing winner and default with {len(seeds)} further seeds")
        jobs = {
            -1 - place: self._job(-1 - place, params[who], seed, watched=False)
            for place, (who, seed) in enumerate(missing)
        }
        waiting = list(jobs.values())
        while waiting or self.pool.busy:
            while waiting and self.pool.free:
                self.pool.give(waiting.pop(0))
            job, outcome = self.pool.next_outcome(lambda *_: True)
            who, seed = missing[-1 - job.number]
            if outcome is None or outcome.state != "done" or outcome.error is None:
                why = "its process was lost" if outcome is None else outcome.reason
                self.say(f"{who}, seed {seed}: left out: {why}")
                continue
            known[names[who, seed]] = outcome.error
            self.trials.study.set_user_attr(_CONFIRMED, known)
            shutil.rmtree(job.work, ignore_errors=True)
            self.say(f"{who}, seed {seed}: validation error {outcome.error:.2%}")

        def errors(who: str) -> dict[int, float]:
            return {seed: known[names[who, seed]] for seed in seeds if names[who, seed] in known}

        return Confirmation(errors(WINNER), errors(DEFAULT))

    def _in_time(self) -> bool:
        if self.end is None:
            return True
        expected = self.expected or 0.0
        rounds = 1 + 2 * self.search.spec.confirm_seeds / self.trials.workers
        return time.monotonic() + rounds * expected < self.end

    def _begin(self) -> None:
        if data_digest(self.search.root / DATA) != self.search.data:
            raise MnoError(
                "data/ has been replaced while the search went on; what is finished is kept with "
                "the data it was made from, and running it again begins a search on the new data"
            )
        trial = self.trials.ask()
        params = at(self.search.default, trial.params)
        refusal = self.search.refusal(params)
        if refusal:
            self._keep(trial.number, Outcome("refused", reason=refusal))
            return
        job = self._job(trial.number, params, int(params["seed"]))
        self._running[trial.number], self._folders[trial.number] = trial, job.work
        self.pool.give(job)

    def _job(
        self, number: int, params: Mapping[str, Any], seed: int, *, watched: bool = True
    ) -> Job:
        name = training_digest(params, seed)[:16]
        most = self.search.spec.limits.latency_ms if watched else None
        sections = {key: params[key] for key in ("task", "model", "train")}
        work = self.search.work / name  # that of an earlier attempt, too
        if work in self._folders.values():  # another trial at the same point, at the same time
            work = work.with_name(f"{name}-{number}")
        return Job(number, sections, seed, work, most, watched)

    def _on_epoch(self, job: Job, epoch: int, error: float) -> bool:
        trial = self._running[job.number]
        trial.report(error, epoch)
        return not trial.should_prune()

    def _end(self, job: Job, outcome: Outcome | None) -> None:
        del self._running[job.number], self._folders[job.number]
        if outcome is not None:
            self._keep(job.number, outcome)
            shutil.rmtree(job.work, ignore_errors=True)
            return
        again = self.trials.broke_off(
            job.number, "its process was lost, perhaps for want of memory"
        )
        then = "it is made again" if again else "it is given up"
        self.say(f"trial {job.number}: its process was lost; {then}")
        self._keep_all()

    def _keep(self, number: int, outcome: Outcome) -> None:
        state = _STATES.get(outcome.state, TrialState.PRUNED)
        value = outcome.error if state == TrialState.COMPLETE else None
        self.trials.finish(number, state, value, asdict(outcome))
        record = next(r for r in records_of(self.trials) if r.number == number)
        self._log(record)
        self._tell(record)

    def _keep_all(self) -> None:
        """Hand MLflow what an earlier run could not."""
        for record in records_of(self.trials):
            self._log(record)

    def _log(self, record: TrialRecord) -> None:
        figures = dict(record.figures)
        if record.error is not None:
            figures["best_validation_relative_l2"] = record.error
        name = f"trial-{record.number:04d}"
        self.log.keep_trial(name, record.state, record.point, figures, record.epochs)

    def _tell(self, record: TrialRecord) -> None:
        best = self.trials.best
        shown = ", ".join(
            f"{key.split('.')[-1]} {value:.3g}" if isinstance(value, float)
            else f"{key.split('.')[-1]} {value}"
            for key, value in record.point.items()
        )  # fmt: skip
        if record.state == "done" and record.error is not None and best is not None:
            said = (
                f"validation error {record.error:.2%} (best {best.value:.2%}, trial {best.number})"
            )
        else:
            said = f"{record.state}: {record.reason}"
        self.say(
            f"{self.trials.begun}/{self.search.spec.trials}  trial {record.number}: {said}  {shown}"
        )
