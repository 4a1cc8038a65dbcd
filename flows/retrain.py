"""Retraining as a Prefect flow: the line is run if there is a reason to, else nothing is."""

import json
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal, NamedTuple
from uuid import UUID

from prefect import flow, get_run_logger
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun, State
from prefect.runtime import deployment, flow_run
from prefect.states import Completed
from prefect.utilities.timeout import timeout
from rich.filesize import decimal

from flows import schedule
from flows.line import run_line
from flows.notify import Event, tell
from flows.options import Say
from flows.params import DriftConfig, Params, load_params
from flows.pipeline import AWAY, end_killed
from flows.stages import read_stages, what_is_gone
from flows.workspace import RUN_LOCK, find_workspace, prepare_environment
from mno.core.config import read_params
from mno.core.errors import InputError, MnoError, first_line
from mno.core.files import LockedError, lock_holder, locked
from mno.lineage.record import entry
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
    """Return what has changed, as DVC and the registry say, and whether that is training's."""
    stages = read_stages(root)
    if busy := [stage["name"] for stage in stages if stage["state"] in ("running", "unknown")]:
        raise MnoError(f"the stage {busy[0]} is at work: a run outside mno? Try again later")
    stale = {stage["name"] for stage in stages if stage["state"] != "current"}
    reasons = _causes(stages, what_is_gone(root).values())
    return reasons, bool(stale & {"generate", "data.dvc", "train"})


def _causes(stages: Sequence[dict[str, Any]], gone: Collection[str]) -> list[Reason]:
    """Return what has changed, each once, and without the results that are stale because of it."""
    causes: dict[str, Reason] = {}
    for stage in stages:
        found: dict[str, Kind] = {t: _kind(stage["name"], t, gone) for t in stage["reasons"]}
        for text, kind in sorted(found.items(), key=lambda item: item[1] == "results"):
            if kind != "results" or not causes:
                causes.setdefault(text, Reason(kind, f"{stage['name']}: {text}"))
    return list(causes.values())


def _kind(stage: str, text: str, gone: Collection[str]) -> Kind:
    """Tell from the words for a change, as DVC's `mno/core/grid.py modified`, what has changed."""
    what, _, how = text.rpartition(" ")
    if text in gone:
        return "results" if text.startswith("reports/") else "registry"
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
    """Return what a workspace's services have counted, by version of a model, as `mno-darcy/3`.

    Of samples `judged` (it is known whether they are like the training data) and `flagged` (they
    are not), `bounded` (those with a finite bound on their error) and `bound`, the sum of these.
    """
    keys = ("judged", "flagged", "bounded", "bound")
    of_model = {name: seen for name, seen in read(root).items() if name.startswith(f"{model}/")}
    return {name: {key: float(seen[key]) for key in keys} for name, seen in of_model.items()}


def drift(before: Counts, counts: Counts, config: DriftConfig) -> Reason | None:
    """Say whether what was served since the last run for drift is unlike the training data."""
    found = []
    for name, now_there in counts.items():
        seen = before.get(name, {})
        fresh = {key: count - seen.get(key, 0.0) for key, count in now_there.items()}
        # Below 0 the counts began anew.
        found += _judge(name, now_there if min(fresh.values()) < 0 else fresh, config)
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


class TooLongError(MnoError, TimeoutError):
    """A run took longer than it may."""


@contextmanager
def at_most(hours: float | None) -> Iterator[None]:
    """Raise an error in the body once it takes too long, past all that catches ordinary errors."""
    try:
        with timeout(hours and hours * 3600.0, timeout_exc_type=TooLongError):
            yield
    except TooLongError:
        raise TooLongError(
            f"stopped after {hours:g} h (--max-hours); what is finished is kept, and the next run "
            "continues"
        ) from None


def _start_of(root: Path, params: Params) -> tuple[list[str], str]:
    """Return the edits of the parameters, as `key=value`, and what they mean, in one line."""
    present, wanted = params.train.warm_start, params.schedule.start
    if wanted is None:
        return [], f"as train.warm_start says: {present or 'from fresh weights'}"
    fresh = ["train.warm_start=null"] if present else []
    from pipelines.training import find_warm_start

    try:
        found: Any = find_warm_start(root, f"models:/mno-{params.model_subject}@champion", pin=True)
    except InputError as error:
        return fresh, f"from fresh weights: {error}"
    theirs, ours = (
        config.model_dump(mode="json", exclude={"dropout"})
        for config in (found.surrogate.description.model, params.model)
    )
    if differing := [f"model.{key}" for key in ours if theirs[key] != ours[key]]:
        return fresh, f"from fresh weights: {found.version} is of another {', '.join(differing)}"
    edits = [] if present == found.pinned else [f"train.warm_start={json.dumps(found.pinned)}"]
    return edits, f"from the champion, {found.version}"


def tidy_up() -> str:
    """Tidy as `retention` in `params.yaml` says, and return what came of it; it fails no run."""
    from flows.tidying import tidy  # takes a second, which a run without it need not

    try:
        plan = tidy(delete=True, retention=True, quiet=True)
    except MnoError as error:
        return f"not tidied: {first_line(error)}"
    return "; ".join([f"tidied: {decimal(plan.size)} freed", *plan.kept])


@flow(name="retrain", validate_parameters=False)
def retrain(
    root: str | None = None, max_hours: float | None = None, missed: str | None = None,
    quiet: bool = True,
) -> State[dict[str, Any]]:  # fmt: skip
    """Look for reasons to retrain; bring the line up to date if there are any.

    A run that takes longer than `max_hours` is stopped, and has failed; `missed` is when the run
    should have begun that this one makes up for.

    Returns what is known of the run (see `flows.schedule.read_schedule`), in a state named by what
    came of it: `Trained`, `Updated`, `Nothing changed`, and `Busy` where another run is active.
    """
    workspace = find_workspace(Path(root) if root else None)
    os.chdir(workspace)
    prepare_environment(workspace)
    log = get_run_logger()
    run: dict[str, Any] = {"id": flow_run.get_id(), "missed": missed, "reasons": [], "said": ""}
    try:
        with locked(workspace / schedule.RETRAIN_LOCK, "a retraining"):
            if who := lock_holder(workspace / RUN_LOCK):
                raise LockedError(
                    f"{who['activity']} is already running, process {who['pid']}, since "
                    f"{who['since']}"
                )
            for killed in end_killed(workspace, "retrain", log.warning, deployment.get_id()):
                tell_of_crash(workspace, killed, log.warning)
            with _noted(workspace, run), at_most(max_hours):
                _retrain(workspace, run, quiet)
    except LockedError as error:
        run |= {"outcome": "busy", "said": f"{error}; this one ends"}
    log.info(run["said"])
    return Completed(name=run["outcome"].capitalize(), message=schedule.why_and_what(run), data=run)


@contextmanager
def _noted(root: Path, run: dict[str, Any]) -> Iterator[None]:
    """Have Prefect know, besides the state, what becomes of a run; tell of failures."""
    began = schedule.now().isoformat(timespec="seconds")
    with suppress(*AWAY), get_client(sync_client=True) as client:
        client.update_flow_run(UUID(run["id"]), tags=[*flow_run.get_tags(), schedule.mark(root)])
    try:
        yield
    except BaseException as error:
        match error:
            case TooLongError():
                run["outcome"] = "too long"
            case LockedError():  # a run began by hand, between the look and this one's begin
                run["outcome"] = "busy"
            case Exception():
                run["outcome"] = "failed"
            case _:  # Ctrl-C, a plain kill, or a person on Prefect's page
                run["outcome"] = "cancelled"
        run["said"] = first_line(error) or type(error).__name__
        raise
    finally:
        _note(run)
        if run["outcome"] in ("failed", "too long"):
            _tell(root, {**run, "began": began}, get_run_logger().warning)


def _note(run: Mapping[str, Any]) -> None:
    with suppress(*AWAY), get_client(sync_client=True) as client:
        client.update_flow_run_labels(UUID(run["id"]), {schedule.LABEL: json.dumps(run)})


def tell_of_crash(root: Path, killed: FlowRun, say: Say) -> None:
    """Tell of a run that was killed."""
    began = killed.start_time and killed.start_time.astimezone().isoformat(timespec="seconds")
    crashed = {"began": began, "outcome": "crashed", "said": schedule.KILLED}
    _tell(root, {**schedule.noted(killed.labels), **crashed}, say)


def _tell(
    root: Path, run: Mapping[str, Any], say: Say, title: str = "", command: str = "mno schedule run"
) -> None:
    title = title or f"Scheduled retraining: {run['outcome']}"
    figures = {"began": run.get("began"), "reasons": "; ".join(run.get("reasons") or [])}
    tell(root, Event("failure", title, run["said"], command, figures, str(root)), say)


def _retrain(root: Path, run: dict[str, Any], quiet: bool) -> None:
    """Look, and run the line if there is a reason; fill in `outcome`, `reasons` and `said`."""
    params, log = load_params(root), get_run_logger()
    counts = served(root, f"mno-{params.model_subject}")
    changed, trains = look(root)
    runs = reversed(schedule.read_schedule(root)["runs"])
    before: Counts = next((run["served"] for run in runs if run.get("served")), {})
    drifted = drift(before, counts, params.schedule.drift)
    run["served"] = before  # until there has been an answer to what was served since
    run["reasons"] = [str(reason) for reason in (*changed, drifted) if reason]
    if not run["reasons"]:
        run |= {"outcome": "nothing changed", "said": "nothing changed: the model is up to date"}
        return
    _note(run)
    present, wanted = read_params(root), params.schedule.drift.set if drifted else {}
    new = {key: value for key, value in wanted.items() if entry(present, *key.split(".")) != value}
    edits, start = [f"{key}={json.dumps(value)}" for key, value in new.items()], ""
    if trains or drifted:
        start_edits, start = _start_of(root, params)
        edits += start_edits
    log.info("reasons: %s", "; ".join(run["reasons"]))
    if drifted and not changed and not edits:
        run |= {"outcome": "nothing changed", "served": counts}
        run["said"] = (
            f"{drifted}; but the data and parameters are those of the model, so that training "
            "would make it again: import new data, or set schedule.drift.set or schedule.start"
        )
        _tell(root, run, log.warning, "The inputs have drifted", "mno import --help")
        return
    result = run_line(assignments=edits, quiet=quiet)
    renewed = [stage["target"] for stage in result["stages"] if stage["action"] != "reused"]
    registered = result["registered"] or {}
    run |= {
        "served": counts if drifted else before,
        "outcome": "trained" if "train" in renewed else "updated",
        "start": start if "train" in renewed else None,
        "model": f"models:/{registered.get('name')}/{registered.get('version')}",
        "alias": registered.get("alias"), "stages": renewed,
        "relative_l2": (result["metrics"] or {}).get("relative_l2"), "seconds": result["seconds"],
    }  # fmt: skip
    run["said"] = (
        f"brought up to date: {', '.join(renewed) or 'nothing'}; {run['model']} "
        f"({run['alias'] or 'no alias'})"
    )
    if params.schedule.tidy:
        run["tidied"] = tidy_up()
        run["said"] += f"; {run['tidied']}"
