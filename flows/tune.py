"""`mno study tune`, at work: trials are made, the winner is confirmed, and kept as a preset.

The words of the command are in `flows.study`.
"""

from __future__ import annotations

import os
import shutil
import statistics
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from optuna.trial import TrialState
from rich.console import Console

from flows.params import check_params, load_params
from flows.workspace import find_workspace
from mno.core.config import IMPORTED, dataset_name, read_params
from mno.core.errors import InputError, MnoError, first_line
from mno.core.files import locked
from mno.core.workers import LostError, Worker, keep_busy
from mno.data.generate.plan import make_plan
from mno.data.imported import source_class, source_parameters
from mno.registry.tracking import SearchLog
from mno.study.operators import count, signature_of
from mno.study.search_report import counted, write_search_report
from mno.study.search_space import (
    SearchSpec,
    at,
    default_params,
    default_point,
    search_digest,
    training_digest,
)
from mno.study.training import Job, Outcome, data_digest, made_from, train_in_worker
from mno.study.trials import (
    DATABASE,
    DEFAULT,
    WINNER,
    Confirmation,
    TrialRecord,
    Trials,
    best_so_far,
    preset_path,
    records_of,
    write_preset,
)

DATA = Path("data")
FOLDER = Path("build/tune")
_CONFIRMED = "confirmed"

Say = Callable[[str], None]


@dataclass(frozen=True)
class Search:
    """A search that can be run: its file, its parameters and its data fit each other."""

    root: Path
    name: str  # that of its file
    spec: SearchSpec
    default: Mapping[str, Any]  # parameters that it starts from, complete
    data: str  # digest of the dataset
    digest: str  # tells it from other searches of that name

    @property
    def key(self) -> str:
        """What the databases know it by."""
        return f"{self.name}--{self.digest[:12]}"

    @property
    def work(self) -> Path:
        """Folder of its trainings."""
        return self.root / FOLDER / self.name / self.digest[:12]

    def problem(self, params: Mapping[str, Any]) -> str:
        """Say why parameters cannot be used; empty if they can."""
        try:
            check_params(params, self.root)
        except InputError as error:
            return str(error).replace("params.yaml: ", "")
        return ""

    def refusal(self, params: Mapping[str, Any]) -> str:
        """Say why parameters are not to be trained; empty if they are."""
        if said := self.problem(params):
            return said
        try:
            parameters = count(params["model"], signature_of(params, self.root))
        except (InputError, ValueError, ImportError) as error:
            return str(error).replace("params.yaml: ", "")
        most = self.spec.limits.parameters
        too_many = most is not None and parameters > most
        return f"{parameters} parameters; at most {most}" if too_many else ""


def load_search(given: str, root: Path | None = None) -> Search:
    """Read a search and check that it fits the workspace; nothing is made.

    Args:
        given: Its file, or its name in `studies/tune/`.
        root: The workspace; the one around the working folder if not given.

    Raises:
        InputError: One line that names what cannot be used.
    """
    root = root or find_workspace()
    file = SearchSpec.find(root, given)
    spec = SearchSpec.read(file)
    checked = load_params(root)
    params = default_params(read_params(root), spec)
    found, expected = made_from(root / DATA), dataset_name(params)
    if found["scenario"] != expected:
        raise InputError(
            f"data/ holds {found['scenario']}, but the scenario of params.yaml is {expected}; "
            "run mno generate"
        )
    if params["scenario"] != IMPORTED:
        own = source_parameters(checked.scenario, checked.scenarios.get(checked.scenario))
        plan = make_plan(source_class(checked.scenario), own, checked.generate, "", root)
        if found != plan.content:
            raise InputError(
                "data/ was made from other parameters than params.yaml says; run mno generate"
            )
    data = data_digest(root / DATA)
    search = Search(root, file.stem, spec, params, data, search_digest(root, params, spec, data))
    if said := search.problem(params):
        raise InputError(f"{file.name}: base: {said}")
    for key, axis in spec.space.items():
        problems = [search.problem(at(params, {key: value})) for value in axis.samples]
        if all(problems):
            raise InputError(f"{file.name}: space.{key}: {problems[0]}")
    return search


def run_search(
    given: str, *, trials: int | None = None, budget: float | None = None, workers: int = 1,
    preset: str | None = None, replace_preset: bool = False, quiet: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """Make what is missing of a search, as far as the budget goes, and write its winner.

    Args:
        given: Its file, or its name.
        trials: Trials of the whole search; as the file says if not given.
        budget: Seconds after which no trial is begun that would end later.
        workers: Trials that are made at a time.
        preset: Name of the preset; `tuned-` and the search's name if not given.
        replace_preset: Whether a preset that the search did not write may be replaced.
        quiet: Print failures only.

    Returns:
        `search`, `trials` by state, `left`, `expected_seconds` of what is left (none where not
        known), `best`, `default`, `said` of the comparison, `preset`, `report`.

    Raises:
        InputError: The search cannot be used; nothing has been made.
        MnoError: It is being run already, no trial was finished, or a database cannot be used.
    """
    start = time.monotonic()
    search = load_search(given)
    if trials is not None:
        search = replace(search, spec=search.spec.model_copy(update={"trials": trials}))
    root, name = search.root, search.name
    path = preset_path(root, preset or f"tuned-{name}", name, replace=replace_preset)
    threads, cores = int(search.default["train"].get("threads", 1)), os.cpu_count() or 1
    if workers > 1 and workers * threads > cores:
        raise InputError(
            f"--workers {workers} with train.threads={threads} is more than the {cores} cores "
            f"here; give --workers {max(1, cores // threads)}, or base: {{train: {{threads: 1}}}} "
            "in the search file"
        )
    minutes = search.spec.budget_minutes
    seconds = budget or (None if minutes is None else 60 * minutes)
    console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)

    def say(line: str) -> None:
        if not quiet or ": failed: " in line:
            console.print(line)

    with locked(root / FOLDER / f"{name}.lock", f"the search {name}"):
        for other in search.work.parent.glob("*"):  # of earlier data or code: it cannot go on
            if other != search.work:
                shutil.rmtree(other, ignore_errors=True)
        kept = Trials(root, search.key, search.spec, workers)
        log = SearchLog(root, name, search.key, search.spec.title)
        end = None if seconds is None else start + seconds
        maker = TrialMaker(search, kept, [Worker() for _ in range(workers)], log, end, say)
        begun = False
        try:
            _announce(search, kept, say)
            begun = True
            maker.make_all()
            best = kept.best
            if best is None:
                reasons = [record.reason for record in records_of(kept) if record.reason]
                why = f"the last one: {reasons[-1]}" if reasons else "give it more time (--budget)"
                raise MnoError(
                    f"no trial was trained to its end, so that there is no winner; {why}"
                )
            is_default = bool(best.user_attrs.get("default"))
            winner = at(search.default, best.params)
            confirmation = Confirmation({}, {}) if is_default else maker.confirm(winner)
            return _written(search, kept, maker, confirmation, path)
        finally:
            for worker in maker.workers:  # what is being trained goes on after its last whole epoch
                worker.end()
            whole, ended = begun and not maker.left, float(len(records_of(kept)))
            log.close(whole=whole, figures={"trials": ended})


def _announce(search: Search, trials: Trials, say: Say) -> None:
    if trials.all:
        again = trials.take_up()
        said = f"; {again} cut short, made again" if again else ""
        say(
            f"{search.name} goes on: {trials.begun} of {search.spec.trials} trials were begun{said}"
        )
    elif (point := default_point(search.default, search.spec)) is not None:
        trials.first(point)
    else:
        say("params.yaml lies outside the space: the default is no trial, but is compared")


@dataclass
class TrialMaker:
    """Makes what is missing of a search."""

    search: Search
    trials: Trials
    workers: list[Worker]  # processes that train, each with the data in its memory
    log: SearchLog  # what MLflow keeps
    end: float | None  # when the time is up, on the monotonic clock; none for never
    say: Say  # is handed lines for the person who watches
    _at_work: dict[int, tuple[Job, Worker]] = field(default_factory=dict)  # by number of the job

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
        self._log_all()
        keep_busy(self._next_trial, self._keep_trial, len(self.workers))

    def confirm(self, winner: Mapping[str, Any]) -> Confirmation:
        """Train the winner and the default with seeds that chose nothing; what is known is kept."""
        first = int(self.search.default["seed"]) + 1
        seeds = range(first, first + self.search.spec.confirm_seeds)
        params = {WINNER: winner, DEFAULT: self.search.default}
        names = {(who, s): training_digest(params[who], s) for s in seeds for who in params}
        known: dict[str, float] = dict(self.trials.study.user_attrs.get(_CONFIRMED, {}))
        missing = [item for item, name in names.items() if name not in known]
        if missing:
            self.say(f"comparing winner and default with {len(seeds)} further seeds")
        waiting = list(enumerate(missing))

        def begin() -> tuple[Job, Future[Outcome]] | None:
            if not waiting:
                return None
            place, (who, seed) = waiting.pop(0)
            return self._train(-1 - place, params[who], seed, watched=False)

        def end(job: Job, future: Future[Outcome]) -> None:
            who, seed = missing[-1 - job.number]
            outcome = self._outcome(job, future)
            if outcome.state != "done" or outcome.error is None:
                self.say(f"{who}, seed {seed}: left out: {outcome.reason}")
                return
            known[names[who, seed]] = outcome.error
            self.trials.study.set_user_attr(_CONFIRMED, known)
            shutil.rmtree(job.work, ignore_errors=True)
            self.say(f"{who}, seed {seed}: validation error {outcome.error:.2%}")

        keep_busy(begin, end, len(self.workers))
        return Confirmation(*(
            {seed: known[names[who, seed]] for seed in seeds if names[who, seed] in known}
            for who in (WINNER, DEFAULT)
        ))  # fmt: skip

    def _in_time(self) -> bool:
        rounds = 1 + 2 * self.search.spec.confirm_seeds / self.trials.workers
        return self.end is None or time.monotonic() + rounds * (self.expected or 0.0) < self.end

    def _next_trial(self) -> tuple[Job, Future[Outcome]] | None:
        while self.left and self._in_time():
            if data_digest(self.search.root / DATA) != self.search.data:
                raise MnoError(
                    "data/ has been replaced while the search went on; what is finished is kept "
                    "with the data it was made from, and running it again begins a search on the "
                    "new data"
                )
            trial = self.trials.ask()
            params = at(self.search.default, trial.params)
            refusal = self.search.refusal(params)
            if not refusal:
                return self._train(trial.number, params, int(params["seed"]))
            self._keep(trial.number, Outcome("refused", reason=refusal))
        return None

    def _train(
        self, number: int, params: Mapping[str, Any], seed: int, *, watched: bool = True
    ) -> tuple[Job, Future[Outcome]]:
        """Have a free process train."""
        search, at_work = self.search, self._at_work.values()
        name = training_digest(params, seed)[:16]
        work = search.work / name  # that of an earlier attempt, too
        if any(job.work == work for job, _ in at_work):  # another trial at the same point
            work = work.with_name(f"{name}-{number}")
        most = search.spec.limits.latency_ms if watched else None
        sections = {key: params[key] for key in ("task", "model", "train")}
        job = Job(number, sections, seed, work, most, watched)
        busy = [worker for _, worker in at_work]
        worker = next(worker for worker in self.workers if worker not in busy)
        self._at_work[number] = job, worker
        return job, worker.submit(
            train_in_worker, job, search.root / DATA, search.root, search.key, search.spec
        )

    def _outcome(self, job: Job, future: Future[Outcome]) -> Outcome:
        """Return what came of a training; one that was lost is `broken`."""
        _, worker = self._at_work.pop(job.number)
        try:
            return future.result()
        except LostError:
            worker.end()
            return Outcome("broken", reason="its process was lost, perhaps for want of memory")
        except MnoError:
            raise
        except Exception as error:  # whatever torch may do
            return Outcome("broken", reason=f"its training broke off: {first_line(error)}")

    def _keep_trial(self, job: Job, future: Future[Outcome]) -> None:
        outcome = self._outcome(job, future)
        if outcome.state != "broken":
            self._keep(job.number, outcome)
            shutil.rmtree(job.work, ignore_errors=True)
            return
        again = self.trials.broke_off(job.number, outcome.reason or "")
        then = "it is made again" if again else "it is given up"
        self.say(f"trial {job.number}: {outcome.reason}; {then}")
        self._log_all()

    def _keep(self, number: int, outcome: Outcome) -> None:
        done = outcome.state == "done"  # the others have shown that they are worse
        state = TrialState.COMPLETE if done else TrialState.PRUNED
        self.trials.finish(number, state, outcome.error if done else None, asdict(outcome))
        record = next(r for r in records_of(self.trials) if r.number == number)
        self._log(record)
        best = self.trials.best
        shown = ", ".join(f"{k.split('.')[-1]} {_plain(v, 3)}" for k, v in record.point.items())
        said = f"{record.state}: {record.reason}"
        if done and best is not None:
            said = (
                f"validation error {record.error:.2%} (best {best.value:.2%}, trial {best.number})"
            )
        self.say(f"{self.trials.begun}/{self.search.spec.trials}  trial {number}: {said}  {shown}")

    def _log_all(self) -> None:
        """Hand MLflow what an earlier run could not."""
        for record in records_of(self.trials):
            self._log(record)

    def _log(self, record: TrialRecord) -> None:
        figures = dict(record.figures)
        if record.error is not None:
            figures["best_validation_relative_l2"] = record.error
        name = f"trial-{record.number:04d}"
        self.log.keep_trial(name, record.state, record.point, figures, record.epochs)


def _written(
    search: Search, trials: Trials, maker: TrialMaker, confirmation: Confirmation, preset: Path
) -> dict[str, Any]:
    """Write report and preset, and return what is known."""
    records = records_of(trials)
    done = [r for r in records if r.state == "done"]
    winner = min(done, key=lambda r: r.error or 0.0)
    default = next((r for r in done if r.is_default), None)
    said = "No trial has a lower validation error than the default: the winner is the default."
    said = said if winner.is_default else confirmation.sentence()
    expected, found = maker.expected, confirmation.comparison
    result: dict[str, Any] = {
        "search": search.name,
        "digest": search.digest,
        "trials": {"all": len(records), **counted(records)},
        "left": maker.left,
        "expected_seconds": None if expected is None else round(maker.left * expected, 1),
        "best": winner.to_dict(),
        "default": default.to_dict() if default else None,
        "said": said,
        "better": bool(found and found.high is not None and found.high < 1),
        "confirmed": {
            who: {str(seed): error for seed, error in errors.items()}
            for who, errors in asdict(confirmation).items()
        },
        "importances": trials.importances(),
        "preset": f"presets/{preset.name}",
        "database": DATABASE,
    }
    numbers = {
        **result, "best_so_far": best_so_far(records), "all": [r.to_dict() for r in records]
    }  # fmt: skip
    try:
        page = write_search_report(search.root, search.name, trials, confirmation, numbers)
    except OSError as error:
        raise MnoError(f"the report cannot be written: {error.strerror}") from None
    lines = [
        f"Trial {winner.number} of {len(records)}; validation error {winner.error:.3%}.",
        said,
        f"Search {search.digest}.",
    ]
    write_preset(preset, search.name, at(search.default, winner.point), lines)
    if not maker.left:
        shutil.rmtree(search.work, ignore_errors=True)
    return {**result, "report": str(page.relative_to(search.root))}


def print_search(result: Mapping[str, Any]) -> None:
    """Print what `run_search` returns for a person."""
    best, counts, name = result["best"], result["trials"], result["search"]
    states = ", ".join(f"{n} {state}" for state, n in counts.items() if n and state != "all")
    print(f"\n{counts['all']} trials: {states}. Winner: trial {best['trial']}, validation error "
          f"{best['error']:.2%}.")  # fmt: skip
    for key, value in best["point"].items():
        print(f"          {key} = {_plain(value, 4)}")
    print(result["said"])
    if result["left"]:
        expected = result["expected_seconds"]
        how_long = "" if expected is None else f", about {expected / 60:.0f} min on one core"
        print(f"Left:     {result['left']} trials{how_long}: mno study tune {name}")
    print(f"Report:   {result['report']}")
    print(f"Preset:   {result['preset']}")
    preset = result["preset"].removeprefix("presets/").removesuffix(".yaml")
    print(f"Next:     mno run --preset {preset}   (its test error is the first look at that split)")


def _plain(value: Any, digits: int) -> str:
    return f"{value:.{digits}g}" if isinstance(value, float) else str(value)
