"""`mno study run`: the study as a Prefect flow, one task per cell, the most informative first."""

from __future__ import annotations

import os
import queue
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx
from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.task_runners import ThreadPoolTaskRunner
from rich.console import Console

from flows.leftovers import end_leftovers, marks
from flows.server import start_temporary_server
from flows.study import Study, counts, load_study, refuse_uncommitted
from flows.studying.cells import CellMaker
from flows.studying.copies import FOLDER, Copies, Copy
from flows.workspace import find_workspace
from mno.core.errors import MnoError, first_line
from mno.core.files import locked
from mno.registry.tracking import study_log
from mno.study.matching import count, signature_of
from mno.study.planning import Plan, expected_seconds, make_plan
from mno.study.results import Code, Found, scaling_name, scaling_record
from mno.study.scaling import measure_scaling

_LOOK = 0.2  # seconds between two looks at what is running


@dataclass(frozen=True)
class StudyOptions:
    """What a person may say of a run of a study.

    Attributes:
        study: Its file, or its name.
        budget: Seconds after which no cell is begun that would end later; none makes all.
        workers: Cells that are made at a time.
        new_data: Whether data that differ from those of finished cells are accepted.
        quiet: Print failures only.
    """

    study: str
    budget: float | None = None
    workers: int = 1
    new_data: bool = False
    quiet: bool = False


def run_study(options: StudyOptions) -> dict[str, Any]:
    """Make what is missing, stale or failed of a study, as far as the budget goes.

    `flows.workspace.prepare_environment` must have been called before this module is imported.

    Returns:
        The numbers of cells by state; `made` and `not_made` in this run, `left`, and
        `expected_seconds` of what is left (none where not known).

    Raises:
        InputError: The study cannot be used; nothing has been made.
        MnoError: The study is being run already, or the workspace cannot be used.
    """
    root = find_workspace()
    study = load_study(options.study, root)
    refuse_uncommitted(root)
    console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)

    def say(line: str) -> None:
        if not options.quiet or ": failed: " in line:
            console.print(line)

    with locked(root / FOLDER / f"{study.name}.lock", f"the study {study.name}"):
        end_leftovers(root)
        os.environ.update(marks(root))
        try:
            start_temporary_server()
            runner: Any = ThreadPoolTaskRunner(max_workers=options.workers)
            parent = study_log(root, study.name, study.spec.title)
            made = {"made": 0, "not_made": 0}
            try:
                with Copies(root, options.workers) as copies:
                    maker = CellMaker(study, parent, options.workers, options.new_data, say)

                    @flow(
                        name="study", flow_run_name=study.name, validate_parameters=False,
                        task_runner=runner,
                        persist_result=False,
                    )  # fmt: skip
                    def make_all() -> None:
                        _make_all(study, options, maker, copies, made)

                    make_all()
            finally:
                found = study.found()
                whole = all(item.state == "fresh" for item in found)
                parent.close(whole=whole)
        except httpx.TransportError as error:
            raise MnoError(
                f"Prefect's server does not answer any more ({first_line(error)}); run again: "
                "what is finished is kept"
            ) from None
    plan = make_plan(found)
    expected = plan.expected(options.workers)
    return {
        "study": study.name, **counts(found), **made, "left": len(plan.order),
        "expected_seconds": expected,
    }  # fmt: skip


def _make_all(
    study: Study, options: StudyOptions, maker: CellMaker, copies: list[Copy], made: dict[str, int]
) -> None:
    end = None if options.budget is None else time.monotonic() + options.budget
    try:
        code = Code(copies[0].root)  # what makes the cells, whatever is edited meanwhile
        for item in _unverified(study.found(code)):
            maker.make_dataset(item, copies[0])
        _announce(study, options, make_plan(study.found(code)), maker.say)
        _make_cells(study, code, maker, copies, end, made)
        _measure_scaling(study, code, end, maker.say)
    except BaseException:
        maker.stop()
        raise


def _unverified(found: list[Found]) -> list[Found]:
    """Return a cell of each dataset whose version has to be known to tell what is stale."""
    first = {i.identity.dataset: i for i in reversed(found) if i.identity.data is None and i.record}
    return list(first.values())


def _announce(study: Study, options: StudyOptions, plan: Plan, say: Callable[[str], None]) -> None:
    kept = len(study.cells) - len(plan.order)
    expected = plan.expected(options.workers)
    time_said = "" if expected is None else f", about {said_time(expected)}"
    say(f"{study.name}: {kept} of {len(study.cells)} cells are there; {len(plan.order)} to make"
        f"{time_said}")  # fmt: skip
    if options.budget is not None and plan.order:
        say(f"within the budget: {plan.within(options.budget, options.workers)} of them, "
            "as far as can be told")  # fmt: skip


def _make_cells(
    study: Study, code: Code, maker: CellMaker, copies: list[Copy], end: float | None,
    made: dict[str, int],
) -> None:  # fmt: skip
    free: queue.SimpleQueue[Copy] = queue.SimpleQueue()
    for copy in copies:
        free.put(copy)
    begun: set[str] = set()
    running: list[Any] = []  # futures of Prefect's thread pool
    at_end = False
    while running or not at_end:
        while len(running) < len(copies) and not at_end:
            item = _next(study.found(code), begun, end)
            if item is None:
                at_end = True
            else:
                begun.add(item.cell.name)
                running.append(_submit(maker, item, free))
        time.sleep(_LOOK)
        for future in [future for future in running if future.wrapped_future.done()]:
            running.remove(future)
            made["made" if future.result() else "not_made"] += 1


def _next(found: list[Found], begun: set[str], end: float | None) -> Found | None:
    """Return the most informative cell that has not been tried and ends before the time is up."""
    for item in make_plan(found).order:
        if item.cell.name in begun:
            continue
        if end is not None:
            left = end - time.monotonic()
            if left <= 0 or (expected_seconds(item, found) or 0.0) > left:
                return None
        return item
    return None


def _submit(maker: CellMaker, item: Found, free: queue.SimpleQueue[Copy]) -> Any:
    name = item.cell.name

    @task(name="cell", task_run_name=name, cache_policy=NO_CACHE, persist_result=False)
    def cell() -> bool:
        copy = free.get()
        try:
            return maker.make(item, copy)
        finally:
            free.put(copy)

    return cell.submit()


def _measure_scaling(
    study: Study, code: Code, end: float | None, say: Callable[[str], None]
) -> None:
    scaling = study.spec.scaling
    if scaling is None:
        return
    for item in study.scaling(code):
        if item.state == "fresh":
            continue
        if end is not None and time.monotonic() > end:
            return
        cell = item.cell
        say(f"{scaling_name(cell)}: time and memory at {', '.join(map(str, scaling.resolutions))}")
        try:
            points = measure_scaling(cell.params, scaling.resolutions, scaling.seconds, study.root)
        except MnoError as error:
            say(f"{scaling_name(cell)}: failed: {error}")
            continue
        parameters = count(cell.params["model"], signature_of(cell.params, study.root))
        study.results.write(
            scaling_name(cell), scaling_record(cell, item.identity, parameters, points)
        )


def said_time(seconds: float) -> str:
    """Return a time in words, for example `2 h 05 min`."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"
