"""`mno study tune`, at work: trials are made, the winner is confirmed, and kept as a preset."""

import shutil
import statistics
import time
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from flows.options import Say, teller
from flows.params import check_params, load_params
from flows.workspace import find_workspace
from mno.core.config import IMPORTED, dataset_name, flat, read_params
from mno.core.errors import InputError, MnoError, first_line
from mno.core.files import locked
from mno.core.workers import LostError, Worker, keep_busy
from mno.data.generate.plan import make_plan
from mno.data.imported import source_class, source_parameters
from mno.data.reading import read_root
from mno.study import trials as making
from mno.study.operators import count, model_of, signature_of
from mno.study.search_report import counted, plain, write_search_report
from mno.study.search_space import SearchSpec, at, default_params, search_digest, training_digest
from mno.study.trials import DEFAULT, WINNER, Confirmation, Job, Outcome, Trials

DATA = Path("data")
FOLDER = Path("build/tune")
_CONFIRMED = "confirmed"


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

    def refusal(self, params: Mapping[str, Any], *, counted: bool = True) -> str:
        """Say why parameters are not to be trained, or cannot be (not `counted`); or nothing."""
        try:
            check_params(params, self.root)
            signature = signature_of(params, self.root)
            parameters = count(model_of(params, self.root), signature) if counted else 0
        except (InputError, ValueError, ImportError) as error:
            return str(error).replace("params.yaml: ", "")
        most = self.spec.limits.parameters or parameters
        return f"{parameters} parameters; at most {most}" if parameters > most else ""


def load_search(given: str, root: Path) -> Search:
    """Read a search, by its file or its name, and check that it fits the workspace."""
    file = SearchSpec.find(root, given)
    spec = SearchSpec.read(file)
    checked = load_params(root)
    params = default_params(read_params(root), spec)
    expected: Mapping[str, Any] = {"scenario": dataset_name(params)}
    if params["scenario"] != IMPORTED:
        own = source_parameters(checked.scenario, checked.scenarios.get(checked.scenario))
        plan = make_plan(source_class(checked.scenario), own, checked.generate, "", root)
        expected = plan.content
    found = read_root(root / DATA)["attributes"]
    if any(found.get(key) != value for key, value in expected.items()):
        raise InputError(
            f"data/ holds {found.get('scenario')}, made from other parameters than params.yaml "
            "says; run mno generate"
        )
    data = making.data_digest(root / DATA)
    search = Search(root, file.stem, spec, params, data, search_digest(root, params, spec, data))
    if said := search.refusal(params, counted=False):
        raise InputError(f"{file.name}: base: {said}")
    for key, axis in spec.space.items():
        values = axis.values if axis.type == "choice" else (axis.low, axis.high)
        made = (at(params, {key: value}) for value in values)
        problems = [search.refusal(one, counted=False) for one in made]
        if all(problems):
            raise InputError(f"{file.name}: space.{key}: {problems[0]}")
    return search


def run_search(
    given: str, *, budget: float | None = None, workers: int = 1, quiet: bool = False
) -> dict[str, Any]:
    """Make what is missing of a search, and write its winner; see `run_study`.

    Returns `search`, `trials` by state, `left`, `expected_seconds` of what is left (none where not
    known), `best`, `default`, `said` of the comparison, `preset`, `report`.
    """
    end = None if budget is None else time.monotonic() + budget
    root = find_workspace()
    search = load_search(given, root)
    name, path = search.name, making.preset_path(root, search.name)
    say = teller(quiet)
    with locked(root / FOLDER / f"{name}.lock", f"the search {name}"):
        for other in search.work.parent.glob("*"):  # of earlier data or code: it cannot go on
            if other != search.work:
                shutil.rmtree(other, ignore_errors=True)
        trials = Trials(root, search.key, search.spec, workers)
        maker = TrialMaker(search, trials, [Worker() for _ in range(workers)], end, say)
        try:
            if trials.all:
                again = trials.take_up()
                made_again = f"; {again} cut short, made again" if again else ""
                begun = f"{trials.begun} of {search.spec.trials} trials were begun"
                say(f"{search.name} goes on: {begun}{made_again}")
            else:
                known = flat(search.default)
                if not trials.first({key: known.get(key) for key in search.spec.space}):
                    say("params.yaml lies outside the space: it is compared, but is no trial")
            keep_busy(maker.begin, maker.end_trial, workers)
            if not trials.done:
                reasons = [r.outcome.reason for r in trials.records if r.outcome.reason]
                why = f"the last one: {reasons[-1]}" if reasons else "give it more time (--budget)"
                raise MnoError(f"no trial was trained to its end, so there is no winner; {why}")
            return _written(maker, maker.confirm(), path)
        finally:
            for worker in maker.workers:  # what is being trained goes on after its last whole epoch
                worker.end()


@dataclass
class TrialMaker:
    """Makes what is missing of a search."""

    search: Search
    trials: Trials
    workers: list[Worker]  # processes that train, each with the data in its memory
    end: float | None  # when the time is up, on the monotonic clock; none for never
    say: Say  # is handed lines for the person who watches
    _at_work: dict[int, tuple[Job, Worker]] = field(default_factory=dict)  # by number of the job

    @property
    def left(self) -> int:
        """How many trials are still to be begun."""
        return max(0, self.search.spec.trials - self.trials.begun)

    @property
    def expected(self) -> float | None:
        """Seconds that a trial takes, as far as is known."""
        made = [record.outcome for record in self.trials.records]
        return statistics.median([o.seconds for o in made if o.epochs] or [0.0]) or None

    def confirm(self) -> Confirmation:
        """Train winner and default, if they are two, with seeds that chose nothing."""
        best, default = self.trials.done[0], self.search.default
        first, number = int(default["seed"]) + 1, self.search.spec.confirm_seeds
        seeds = range(first, first if best.is_default else first + number)
        params = {WINNER: at(default, best.point), DEFAULT: default}
        names = {(who, s): training_digest(params[who], s) for s in seeds for who in params}
        known: dict[str, float] = dict(self.trials.study.user_attrs.get(_CONFIRMED, {}))
        if waiting := [item for item, name in names.items() if name not in known]:
            self.say(f"comparing winner and default with {len(seeds)} further seeds")

        def begin() -> tuple[tuple[str, Job], Future[Outcome]] | None:
            if not waiting:
                return None
            who, seed = waiting.pop(0)
            job, future = self._train(-1 - len(waiting), params[who], seed, watched=False)
            return (who, job), future

        def end(item: tuple[str, Job], future: Future[Outcome]) -> None:
            who, job = item
            outcome = self._outcome(job, future)
            said = f"left out: {outcome.reason}"
            if outcome.state == "done" and outcome.error is not None:
                known[names[who, job.seed]] = outcome.error
                self.trials.study.set_user_attr(_CONFIRMED, known)
                shutil.rmtree(job.work, ignore_errors=True)
                said = f"validation error {outcome.error:.2%}"
            self.say(f"{who}, seed {job.seed}: {said}")

        keep_busy(begin, end, len(self.workers))
        return Confirmation(*(
            {seed: known[names[who, seed]] for seed in seeds if names[who, seed] in known}
            for who in (WINNER, DEFAULT)
        ))  # fmt: skip

    def begin(self) -> tuple[Job, Future[Outcome]] | None:
        """Begin the next trial; none where there are as many as asked for, or the time is up."""
        rounds = 1 + 2 * self.search.spec.confirm_seeds / len(self.workers)
        ahead = rounds * (self.expected or 0.0)
        while self.left and (self.end is None or time.monotonic() + ahead < self.end):
            if making.data_digest(self.search.root / DATA) != self.search.data:
                raise MnoError(
                    "data/ has been replaced while the search went on; what is finished is kept "
                    "with the data it was made from, and running it again begins a search on the "
                    "new data"
                )
            trial = self.trials.ask()
            params = at(self.search.default, trial.params)
            if not (refusal := self.search.refusal(params)):
                return self._train(trial.number, params, int(params["seed"]))
            self._keep(trial.number, Outcome("refused", reason=refusal))
        return None

    def end_trial(self, job: Job, future: Future[Outcome]) -> None:
        """Keep what came of a trial."""
        self._keep(job.number, self._outcome(job, future))
        shutil.rmtree(job.work, ignore_errors=True)

    def _train(
        self, number: int, params: Mapping[str, Any], seed: int, *, watched: bool = True
    ) -> tuple[Job, Future[Outcome]]:
        search, at_work = self.search, self._at_work.values()
        name = training_digest(params, seed)[:16]
        work = search.work / name  # that of an earlier attempt, too
        if any(job.work == work for job, _ in at_work):  # another trial at the same point
            work = work.with_name(f"{name}-{number}")
        sections = {key: params[key] for key in ("task", "model", "train")}
        job = Job(number, sections, seed, work, watched)
        busy = [worker for _, worker in at_work]
        worker = next(worker for worker in self.workers if worker not in busy)
        self._at_work[number] = job, worker
        return job, worker.submit(
            making.train_in_worker, job, search.root / DATA, search.root, search.key, search.spec
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

    def _keep(self, number: int, outcome: Outcome) -> None:
        record = self.trials.finish(number, outcome)
        said = f"{outcome.state}: {outcome.reason}"
        if outcome.state == "done":
            best = self.trials.done[0]
            said = f"validation error {outcome.error:.2%} "
            said += f"(best {best.outcome.error:.2%}, trial {best.number})"
        shown = ", ".join(f"{k.split('.')[-1]} {plain(v, 3)}" for k, v in record.point.items())
        self.say(f"{self.trials.begun}/{self.search.spec.trials}  trial {number}: {said}  {shown}")


def _written(maker: TrialMaker, confirmation: Confirmation, preset: Path) -> dict[str, Any]:
    search, records, winner = maker.search, maker.trials.records, maker.trials.done[0]
    default = next((record for record in maker.trials.done if record.is_default), None)
    said = "No trial has a lower validation error than the default: it is the winner."
    said = said if winner.is_default else confirmation.sentence()
    expected = maker.expected
    result: dict[str, Any] = {
        "search": search.name, "digest": search.digest, "preset": f"presets/{preset.name}",
        "trials": {"all": len(records), **counted(records)}, "left": maker.left,
        "expected_seconds": None if expected is None else round(maker.left * expected, 1),
        "best": winner.to_dict(), "default": default.to_dict() if default else None, "said": said,
        "confirmed": {
            who: {str(seed): error for seed, error in errors.items()}
            for who, errors in asdict(confirmation).items()
        },
    }  # fmt: skip
    lines = [
        f"Trial {winner.number} of {len(records)}; validation error {winner.outcome.error:.3%}.",
        said,
        f"Search {search.digest}.",
    ]
    numbers = {**result, "all": [record.to_dict() for record in records]}
    try:
        page = write_search_report(search.root, search.name, maker.trials, numbers)
        making.write_preset(preset, search.name, at(search.default, winner.point), lines)
    except OSError as error:
        raise MnoError(f"{error.filename} cannot be written: {error.strerror}") from None
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
        print(f"          {key} = {plain(value)}")
    print(result["said"])
    if result["left"]:
        print(f"Left:     {result['left']} trials: mno study tune {name}")
    print(f"Report:   {result['report']}")
    print(f"Preset:   {result['preset']}")
    print(f"Next:     mno run --preset tuned-{name}   (the first look at the test split)")
