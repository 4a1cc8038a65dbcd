"""`mno study tune`: make the trials of a search, confirm the winner, keep it as a preset."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from flows.tuning.pool import open_pool
from flows.tuning.search import DATA, FOLDER, Search, load_search
from flows.tuning.trials import TrialMaker
from mno.core.errors import InputError, MnoError
from mno.core.files import locked
from mno.registry.tracking import SearchLog
from mno.study.tuning.findings import (
    Confirmation,
    TrialRecord,
    best_so_far,
    importances,
    preset_path,
    records_of,
    write_preset,
)
from mno.study.tuning.report import write_search_report
from mno.study.tuning.space import at
from mno.study.tuning.storage import DATABASE, Trials


@dataclass(frozen=True)
class TuneOptions:
    """What a person may say of a search.

    Attributes:
        search: Its file, or its name.
        trials: Trials of the whole search; as the file says if not given.
        budget: Seconds after which no trial is begun that would end later.
        workers: Trials that are made at a time.
        preset: Name of the preset; `tuned-` and the search's name if not given.
        replace: Whether a preset that the search did not write may be replaced.
        quiet: Print failures only.
    """

    search: str
    trials: int | None = None
    budget: float | None = None
    workers: int = 1
    preset: str | None = None
    replace: bool = False
    quiet: bool = False


def run_search(options: TuneOptions) -> dict[str, Any]:
    """Make what is missing of a search, as far as the budget goes, and write its winner.

    Returns:
        `search`, `trials` by state, `left`, `expected_seconds` of what is left (none where not
        known), `best`, `default`, `said` of the comparison, `preset`, `report`.

    Raises:
        InputError: The search cannot be used; nothing has been made.
        MnoError: It is being run already, no trial was finished, or a database cannot be used.
    """
    start = time.monotonic()
    search = load_search(options.search)
    if options.trials is not None:
        search = replace(search, spec=search.spec.model_copy(update={"trials": options.trials}))
    preset = preset_path(
        search.root, options.preset or f"tuned-{search.name}", search.name, replace=options.replace
    )
    _check_workers(search, options.workers)
    console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)

    def say(line: str) -> None:
        if not options.quiet or ": failed: " in line:
            console.print(line)

    with locked(search.root / FOLDER / f"{search.name}.lock", f"the search {search.name}"):
        _sweep(search)
        trials = Trials(search.root, search.key, search.spec, options.workers)
        log = SearchLog(search.root, search.name, search.key, search.spec.title)
        maker = None
        try:
            _announce(search, trials, say)
            with open_pool(search.root / DATA, options.workers) as pool:
                maker = TrialMaker(search, trials, pool, log, _end(search, options, start), say)
                maker.make_all()
                best = trials.best
                if best is None:
                    raise MnoError(_nothing(records_of(trials)))
                winner = at(search.default, best.params)
                is_default = bool(best.user_attrs.get("default"))
                confirmation = Confirmation({}, {}) if is_default else maker.confirm(winner)
            return _written(search, trials, maker, confirmation, preset)
        finally:
            log.close(
                whole=maker is not None and not maker.left,
                figures={"trials": float(len(records_of(trials)))},
            )


def _end(search: Search, options: TuneOptions, start: float) -> float | None:
    minutes = search.spec.budget_minutes
    seconds = options.budget or (None if minutes is None else 60 * minutes)
    return None if seconds is None else start + seconds


def _check_workers(search: Search, workers: int) -> None:
    threads, cores = int(search.default["train"].get("threads", 1)), os.cpu_count() or 1
    if workers > 1 and workers * threads > cores:
        raise InputError(
            f"--workers {workers} with train.threads={threads} is more than the {cores} cores "
            f"here; give --workers {max(1, cores // threads)}, or base: {{train: {{threads: 1}}}} "
            "in the search file"
        )


def _sweep(search: Search) -> None:
    """Remove what earlier searches of that name have left: they cannot go on any more."""
    for other in search.work.parent.glob("*"):
        if other != search.work:
            shutil.rmtree(other, ignore_errors=True)


def _announce(search: Search, trials: Trials, say: Callable[[str], None]) -> None:
    if not trials.all:
        if search.start is not None:
            trials.first(search.start)
        else:
            say("params.yaml lies outside the space: the default is no trial, but is compared")
        return
    again = trials.take_up()
    said = f"; {again} cut short, made again" if again else ""
    say(f"{search.name} goes on: {trials.begun} of {search.spec.trials} trials were begun{said}")


def _nothing(records: list[TrialRecord]) -> str:
    reasons = [r.reason for r in records if r.reason]
    why = f"; the last one: {reasons[-1]}" if reasons else "; give it more time (--budget)"
    return f"no trial was trained to its end, so that there is no winner{why}"


def _written(
    search: Search, trials: Trials, maker: TrialMaker, confirmation: Confirmation, preset: Path
) -> dict[str, Any]:
    """Write report and preset, and return what is known."""
    records = records_of(trials)
    done = [r for r in records if r.state == "done"]
    winner = min(done, key=lambda r: r.error or 0.0)
    default = next((r for r in done if r.is_default), None)
    said = (
        "No trial has a lower validation error than the default: the winner is the default."
        if winner.is_default
        else confirmation.sentence()
    )
    shares = importances(trials)
    expected = maker.expected
    result: dict[str, Any] = {
        "search": search.name,
        "digest": search.digest,
        "trials": _counts(records),
        "left": maker.left,
        "expected_seconds": None if expected is None else round(maker.left * expected, 1),
        "best": winner.to_dict(),
        "default": default.to_dict() if default else None,
        "said": said,
        "better": bool(
            (found := confirmation.comparison) and found.high is not None and found.high < 1
        ),
        "confirmed": {
            "winner": {str(k): v for k, v in confirmation.winner.items()},
            "default": {str(k): v for k, v in confirmation.default.items()},
        },
        "importances": shares,
        "preset": f"presets/{preset.name}",
        "database": DATABASE,
    }
    numbers = {
        **result, "best_so_far": best_so_far(records), "all": [r.to_dict() for r in records]
    }  # fmt: skip
    try:
        page = write_search_report(
            search.root, search.name, search.spec, records, shares, confirmation, numbers
        )
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


def _counts(records: list[TrialRecord]) -> dict[str, int]:
    states = ("done", "pruned", "refused", "failed", "broken")
    return {"all": len(records), **{s: sum(r.state == s for r in records) for s in states}}
