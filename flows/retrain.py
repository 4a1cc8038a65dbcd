"""Retraining as a Prefect flow: the line is run if there is a reason to, else nothing is."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple
from uuid import uuid4

import httpx
from prefect import flow, get_run_logger
from prefect.artifacts import create_markdown_artifact
from prefect.client.schemas.objects import State
from prefect.runtime import deployment, flow_run
from prefect.states import Completed
from rich.filesize import decimal

from flows.line import RunOptions, run_line
from flows.params import DriftConfig, Params, get_param, load_params
from flows.pipeline import set_crashed, set_silent_crashed
from flows.schedule import (
    RETRAIN_LOCK,
    begin,
    end,
    end_crashed,
    failure,
    local,
    now,
    read_journal,
    read_plan,
    tell_of,
    tell_of_failure,
)
from flows.schedule_service import next_date
from flows.stages import REGISTERED, read_stages
from flows.workspace import RUN_LOCK, find_workspace, prepare_environment, read_json
from mno.core.config import read_params
from mno.core.errors import InputError, MnoError, first_line
from mno.core.files import LockedError, lock_holder, locked
from mno.lineage.record import candidate_digest
from mno.serving.counts import read

Kind = Literal["data", "parameters", "code", "results", "registry", "drift"]


class Reason(NamedTuple):
    """One reason to run the line.

    `data` is another dataset, or other parameters of it; `results`, what a stage made is missing or
    altered; `registry`, the registered version cannot be used.
    """

    kind: Kind
    text: str  # what was found, in one line

    def __str__(self) -> str:
        return f"{self.kind}: {self.text}"


def look(root: Path) -> tuple[list[Reason], bool]:
    """Return what has changed, as DVC and the registry say, and whether that is training's.

    A stage at work is in the way, and an error.
    """
    stages = read_stages(root)
    busy = [stage["name"] for stage in stages if stage["state"] in ("running", "unknown")]
    if busy:
        raise MnoError(f"the stage {busy[0]} is at work: a run outside mno? Try again later")
    reasons = _causes(stages)
    stale = {stage["name"] for stage in stages if stage["state"] != "current"}
    if not reasons:
        from mno.registry.reading import why_version_is_unusable

        registered = read_json(root / REGISTERED)
        problem = "the record of the registration cannot be read"
        if problem := why_version_is_unusable(root, registered) if registered else problem:
            reasons.append(Reason("registry", problem))
    return reasons, bool(stale & {"generate", "data.dvc", "train"})


def _causes(stages: Sequence[dict[str, Any]]) -> list[Reason]:
    """Return what has changed, each once, and without the results that are stale because of it."""
    causes: dict[str, Reason] = {}
    for stage in stages:
        found: dict[str, Kind] = {text: _kind(stage["name"], text) for text in stage["reasons"]}
        for text, kind in sorted(found.items(), key=lambda item: item[1] == "results"):
            if kind != "results" or not causes:
                causes.setdefault(text, Reason(kind, f"{stage['name']}: {text}"))
    return list(causes.values())


def _kind(stage: str, text: str) -> Kind:
    """Tell from DVC's words for a change, as `mno/core/grid.py modified`, what has changed."""
    what, _, how = text.rpartition(" ")
    if how == "missing":
        return "results"
    if text == "changed command" or what.startswith(("mno/", "pipelines/")):
        return "code"
    of_data = what in ("data", "build/dataset", "generate", "scenario")
    if stage == "data.dvc" or of_data or what.startswith("scenarios."):
        return "data"
    return "results" if what.startswith(("build/", "models/", "reports/")) else "parameters"


Counts = dict[str, dict[str, float]]


def served(root: Path, model: str) -> Counts:
    """Return what the services of a workspace have counted, by version of one model.

    Returns:
        For each version, as `mno-darcy/3`: `judged` (samples of which it is known whether they are
        like the training data), `flagged` (those that are not), `bounded` (those with a finite
        bound on their error) and `bound`, the sum of these bounds.
    """
    return {
        name: {
            **{key: float(seen[key]) for key in ("judged", "flagged", "bounded")},
            "bound": (seen["mean_bound"] or 0.0) * seen["bounded"],
        }
        for name, seen in read(root).items()
        if name.startswith(f"{model}/")
    }


def drift(root: Path, model: str, config: DriftConfig) -> Reason | None:
    """Say whether what was served since the last run for drift is unlike the training data."""
    runs = reversed(read_journal(root).runs)
    before: Counts = next((run["served"] for run in runs if run.get("served")), {})
    found = []
    for name, counts in served(root, model).items():
        seen = before.get(name, {})
        fresh = {key: count - seen.get(key, 0.0) for key, count in counts.items()}
        # Below 0 the counts began anew.
        found += _judge(name, counts if min(fresh.values()) < 0 else fresh, config)
    return Reason("drift", "; ".join(found)) if found else None


def _judge(name: str, counts: Mapping[str, float], config: DriftConfig) -> Iterator[str]:
    samples = counts["judged"]
    if samples < config.least_samples:
        return
    share = counts["flagged"] / samples
    if config.flagged_share is not None and share > config.flagged_share:
        yield (
            f"{share:.0%} of {samples:.0f} inputs served by {name} are unlike its training data "
            f"(above {config.flagged_share:.0%})"
        )
    mean = counts["bound"] / max(counts["bounded"], 1.0)
    if config.mean_bound is not None and mean > config.mean_bound:
        yield (
            f"the mean bound on the error of {counts['bounded']:.0f} predictions by {name} is "
            f"{mean:.2%} (above {config.mean_bound:.2%})"
        )


class _Stopped(BaseException):
    """Raised where the run is, past all that catches ordinary errors and gives them other names."""


class TooLongError(MnoError):
    """A run took longer than it may."""


@contextmanager
def at_most(hours: float | None) -> Iterator[None]:
    """Raise an error in the body once it has taken too long; in the main thread only.

    A stage at work is stopped with all of its processes by whoever started it, as the error passes.
    """
    main = threading.main_thread()
    if hours is None or threading.current_thread() is not main:
        yield
        return
    fired = threading.Event()

    def stop(*_: object) -> None:
        fired.set()
        raise _Stopped

    before = signal.signal(signal.SIGUSR1, stop)
    timer = threading.Timer(hours * 3600.0, signal.pthread_kill, (main.ident, signal.SIGUSR1))
    timer.daemon = True
    timer.start()
    try:
        yield
    except BaseException as error:
        if not fired.is_set():
            raise
        raise TooLongError(
            f"stopped after {hours:g} h (--max-hours); what is finished is kept, and the next run "
            "continues"
        ) from error
    finally:
        timer.cancel()
        signal.signal(signal.SIGUSR1, before)


def _start_of(root: Path, params: Params) -> tuple[list[str], str]:
    """Return the edits of the parameters, as `key=value`, and what they mean, in one line."""
    now, wanted = params.train.warm_start, params.schedule.start
    if wanted is None:
        return [], f"as train.warm_start says: {now or 'from fresh weights'}"
    fresh = ["train.warm_start=null"] if now else []
    if wanted == "nothing":
        return fresh, "from fresh weights"
    from mno.registry.reading import whole_version
    from mno.surrogate.surrogate import Surrogate

    try:
        version, folder = whole_version(root, f"models:/mno-{params.dataset_name}@champion")
    except InputError:
        return fresh, "from fresh weights: no champion yet"
    pinned = f"{version}#{candidate_digest(folder)[:16]}"  # what `train.warm_start` asks for
    theirs, ours = (
        config.model_dump(mode="json", exclude={"dropout"})
        for config in (Surrogate.load(folder).description.model, params.model)
    )
    differing = [f"model.{key}" for key in ours if theirs[key] != ours[key]]
    if differing:
        return fresh, f"from fresh weights: {version} is of another {', '.join(differing)}"
    edits = [] if now == pinned else [f"train.warm_start={json.dumps(pinned)}"]
    return edits, f"from the champion, {version}"


def tidy_up() -> str:
    """Remove what nothing needs, as `retention` in `params.yaml` says; return what came of it.

    A run that has trained a model has not failed because the tidying did.
    """
    from flows.tidying import tidy  # takes a second, which a run without it need not

    try:
        plan = tidy(delete=True, retention=True, quiet=True)
    except MnoError as error:
        return f"not tidied: {first_line(error)}"
    said = f"tidied: {decimal(plan.size)} freed, {decimal(plan.total - plan.size)} in use"
    return "; ".join([said, *plan.kept])


@flow(name="retrain", validate_parameters=False)
def retrain(
    root: str | None = None,
    max_hours: float | None = None,
    missed: str | None = None,
    quiet: bool = True,
) -> State[dict[str, Any]]:
    """Look for reasons to retrain; bring the line up to date if there are any.

    Args:
        root: The workspace; the one around the working folder if not given.
        max_hours: A run that takes longer is stopped, and has failed.
        missed: When it should have run, if this run makes up for one that did not.
        quiet: Print nothing but failures.

    Returns:
        The entry of the journal (see `flows.schedule.Journal`): completed, under the name
        `Nothing changed` where there was nothing to do, and `Busy` where another run is active.
    """
    workspace = find_workspace(Path(root) if root else None)
    os.chdir(workspace)
    prepare_environment(workspace)
    log = get_run_logger()

    def busy(said: str) -> State[dict[str, Any]]:
        return Completed(name="Busy", message=said, data={"outcome": "busy", "said": said})

    try:
        with locked(workspace / RETRAIN_LOCK, "a retraining"):
            if who := lock_holder(workspace / RUN_LOCK):
                return busy(
                    f"{who['activity']} is already running, process {who['pid']}, since "
                    f"{who['since']}: this one ends"
                )
            with _journalled(workspace, missed) as run, at_most(max_hours):
                _retrain(workspace, run, quiet)
    except LockedError as error:
        log.warning(f"{error}; this one ends")
        return busy(f"{error}; this one ends")
    log.info(run["said"])
    name = "Nothing changed" if run["outcome"] == "nothing changed" else "Retrained"
    return Completed(name=name, message=run["said"], data=run)


@contextmanager
def _journalled(root: Path, missed: str | None) -> Iterator[dict[str, Any]]:
    """Keep in the journal, and on the run's page, what becomes of a run; tell of failures."""
    warn = get_run_logger().warning
    for crashed in end_crashed(root):
        tell_of_failure(root, crashed, warn)
        set_crashed(crashed["id"], crashed["said"], warn)
    set_silent_crashed(deployment.get_id(), flow_run.get_id(), warn)
    run: dict[str, Any] = {"id": str(flow_run.get_id() or uuid4()), "missed": missed}
    scheduled = (flow_run.get_scheduled_start_time() or now()).astimezone()
    due = next_date(read_plan(root), max(scheduled, now()))
    begin(root, {**run, "scheduled": scheduled.isoformat()}, due)
    run |= {"outcome": "failed", "reasons": [], "said": ""}
    try:
        yield run
    except BaseException as error:
        run["outcome"] = _outcome(error)
        run["said"] = first_line(error) or type(error).__name__
        raise
    finally:
        whole = end(root, run)
        if run["outcome"] in ("failed", "too long"):
            tell_of_failure(root, whole, warn)
        if run["outcome"] != "cancelled":
            with contextlib.suppress(httpx.HTTPError):  # the server is gone; the journal has it all
                create_markdown_artifact(_page(run), "retrain", run["said"])


def _outcome(error: BaseException) -> str:
    """Return what a run has come to that ended with an error."""
    match error:
        case TooLongError():
            return "too long"
        case LockedError():  # a run began by hand, between the look and this one's begin
            return "busy"
        case Exception():
            return "failed"
        case _:  # Ctrl-C, a plain kill, or a person on Prefect's page
            return "cancelled"


def _retrain(root: Path, run: dict[str, Any], quiet: bool) -> None:
    """Look, and run the line if there is a reason; fill in `outcome`, `reasons` and `said`."""
    params, log = load_params(root), get_run_logger()
    model = f"mno-{params.dataset_name}"
    changed, trains = look(root)
    drifted = drift(root, model, params.schedule.drift)
    run["reasons"] = [str(reason) for reason in (*changed, drifted) if reason]
    if not run["reasons"]:
        run |= {"outcome": "nothing changed", "said": "nothing changed: the model is up to date"}
        return
    present, wanted = read_params(root), params.schedule.drift.set if drifted else {}
    new = {key: value for key, value in wanted.items() if get_param(present, key) != value}
    edits, start = [f"{key}={json.dumps(value)}" for key, value in new.items()], ""
    if trains or drifted:
        start_edits, start = _start_of(root, params)
        edits += start_edits
    log.info("reasons: %s", "; ".join(run["reasons"]))
    if drifted:
        run["served"] = served(root, model)
    if drifted and not changed and not edits:
        run["outcome"] = "nothing changed"
        run["said"] = (
            f"{drifted}; but the data and parameters are those of the model, so that training "
            "would make it again: import new data, or set schedule.drift.set or schedule.start"
        )
        title, command = "The inputs have drifted", "mno import --help"
        tell_of(root, failure(root, run, title, command), log.warning)
        return
    result = run_line(RunOptions(None, None, edits, quiet))
    renewed = [stage["target"] for stage in result["stages"] if stage["action"] != "reused"]
    registered = result["registered"] or {}
    run |= {
        "outcome": "trained" if "train" in renewed else "updated",
        "start": start if "train" in renewed else None,
        "model": f"models:/{registered.get('name')}/{registered.get('version')}",
        "alias": registered.get("alias"),
        "stages": renewed,
        "relative_l2": (result["metrics"] or {}).get("relative_l2"),
        "seconds": result["seconds"],
    }
    run["said"] = (
        f"brought up to date: {', '.join(renewed) or 'nothing'}; {run['model']} "
        f"({run['alias'] or 'no alias'})"
    )
    if params.schedule.tidy:
        run["tidied"] = tidy_up()
        run["said"] += f"; {run['tidied']}"


def _page(run: dict[str, Any]) -> str:
    """Return what the run's page in Prefect shows."""
    lines = [f"# {run['outcome'].capitalize()}", run["said"]]
    if run["missed"]:
        lines.append(f"It makes up for the run of {local(run['missed'])}, which did not begin.")
    if run["reasons"]:
        lines += ["## Why", *(f"- {reason}" for reason in run["reasons"])]
    if run.get("start"):
        lines.append(f"Training started {run['start']}.")
    if run.get("relative_l2") is not None:
        lines.append(f"Test error (relative L2): {run['relative_l2']:.2%}.")
    return "\n\n".join(lines)
