"""Retraining as a Prefect flow: the line is run if there is a reason to, else nothing is."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Literal
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
    local,
    now,
    read_journal,
    read_plan,
    tell_of_drift,
    tell_of_failure,
)
from flows.schedule_service import next_dates
from flows.stages import REGISTERED, read_stages
from flows.workspace import RUN_LOCK, find_workspace, prepare_environment, read_json
from mno.core.config import read_params
from mno.core.errors import InputError, MnoError, first_line
from mno.core.files import LockedError, lock_holder, locked
from mno.lineage.record import candidate_digest
from mno.nn.config import ModelConfig
from mno.serving.counts import read

Kind = Literal["data", "parameters", "code", "results", "registry", "drift"]
_DATA = ("data", "build/dataset", "generate", "scenario")
_CODE = ("mno/", "pipelines/")
_RESULTS = ("build/", "models/", "reports/")
_TRAINING = ("generate", "data.dvc", "train")


@dataclass(frozen=True)
class Reason:
    """One reason to run the line.

    Attributes:
        kind: `data` (another dataset, or other parameters of it), `parameters`, `code`, `results`
            (what a stage made is missing or altered), `registry` (the registered version cannot be
            used) or `drift`.
        text: What was found, in one line.
    """

    kind: Kind
    text: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.text}"


@dataclass(frozen=True)
class Findings:
    """What was looked at.

    Attributes:
        reasons: All there are; empty if nothing is to be done.
        trains: Whether the stage `train` has something to do by itself.
    """

    reasons: Sequence[Reason]
    trains: bool


def look(root: Path) -> Findings:
    """Ask DVC and the registry what has changed since the last run.

    Raises:
        MnoError: A stage is at work, or DVC cannot tell.
    """
    stages = read_stages(root)
    busy = [stage["name"] for stage in stages if stage["state"] in ("running", "unknown")]
    if busy:
        raise MnoError(f"the stage {busy[0]} is at work: a run outside mno? Try again later")
    reasons = _causes(stages)
    stale = {stage["name"] for stage in stages if stage["state"] != "current"}
    if not reasons and (problem := _registry(root)):
        reasons.append(Reason("registry", problem))
    return Findings(reasons, bool(stale.intersection(_TRAINING)))


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
    if text == "changed command" or what.startswith(_CODE):
        return "code"
    if stage == "data.dvc" or what in _DATA or what.startswith("scenarios."):
        return "data"
    return "results" if what.startswith(_RESULTS) else "parameters"


def _registry(root: Path) -> str | None:
    """Say why the version that the last run registered cannot be used; none if it can."""
    from mno.registry.reading import why_version_is_unusable

    registered = read_json(root / REGISTERED)
    if not registered:
        return "the record of the registration cannot be read"
    return why_version_is_unusable(root, registered)


Counts = dict[str, dict[str, float]]


def served(root: Path, model: str) -> Counts:
    """Return what the services of a workspace have counted, by version of one model.

    Args:
        root: The workspace.
        model: Its registered name, as `mno-darcy`.

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
    """Say whether what was served since the last run for drift is unlike the training data.

    Args:
        root: The workspace.
        model: Registered name of the model.
        config: Thresholds.
    """
    before: Counts = next(
        (run["served"] for run in reversed(read_journal(root).runs) if run.get("served")), {}
    )
    found = []
    for name, counts in served(root, model).items():
        fresh = {key: counts[key] - before.get(name, {}).get(key, 0.0) for key in _KEYS}
        if min(fresh.values()) < 0:  # the counts began anew
            fresh = counts
        found += _judge(name, fresh, config)
    return Reason("drift", "; ".join(found)) if found else None


_KEYS = ("judged", "flagged", "bounded", "bound")


def _judge(name: str, counts: Mapping[str, float], config: DriftConfig) -> list[str]:
    samples = counts["judged"]
    if samples < config.least_samples:
        return []
    found = []
    share = counts["flagged"] / samples
    if config.flagged_share is not None and share > config.flagged_share:
        found.append(
            f"{share:.0%} of {samples:.0f} inputs served by {name} are unlike its training data "
            f"(above {config.flagged_share:.0%})"
        )
    mean = counts["bound"] / max(counts["bounded"], 1.0)
    if config.mean_bound is not None and mean > config.mean_bound:
        found.append(
            f"the mean bound on the error of {counts['bounded']:.0f} predictions by {name} is "
            f"{mean:.2%} (above {config.mean_bound:.2%})"
        )
    return found


_SIGNAL = signal.SIGUSR1


class _Stopped(BaseException):
    """Raised where the run is, past all that catches ordinary errors and gives them other names."""


class TooLongError(MnoError):
    """A run took longer than it may."""


@contextmanager
def at_most(hours: float | None) -> Iterator[None]:
    """Raise an error in the body once it has taken too long; in the main thread only.

    A stage at work is stopped with all of its processes by whoever started it, as the error passes.

    Args:
        hours: How long it may take; none: any time.

    Raises:
        TooLongError: It took longer.
    """
    if hours is None or threading.current_thread() is not threading.main_thread():
        yield
        return

    fired = threading.Event()

    def stop(_: int, __: FrameType | None) -> None:
        fired.set()
        raise _Stopped

    before = signal.signal(_SIGNAL, stop)
    timer = threading.Timer(
        hours * 3600.0, signal.pthread_kill, (threading.main_thread().ident, _SIGNAL)
    )
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
        signal.signal(_SIGNAL, before)


_SHOWN = 16  # digits of a digest: what `train.warm_start` asks for, and more


def start_of(root: Path, params: Params) -> tuple[list[str], str]:
    """Return the edits of the parameters, as `key=value`, and what they mean, in one line.

    Raises:
        MnoError: MLflow cannot be used.
    """
    now = params.train.warm_start
    if params.schedule.start is None:
        return [], f"as train.warm_start says: {now or 'from fresh weights'}"
    if params.schedule.start == "nothing":
        return (["train.warm_start=null"] if now else []), "from fresh weights"
    champion = f"models:/mno-{params.dataset_name}@champion"
    from mno.registry.reading import whole_version

    try:
        version, folder = whole_version(root, champion)
        pinned = f"{version}#{candidate_digest(folder)[:_SHOWN]}"
    except InputError:
        return (["train.warm_start=null"] if now else []), "from fresh weights: no champion yet"
    differing = _differing(folder, params.model)
    if differing:
        said = f"from fresh weights: {version} is of another {', '.join(differing)}"
        return (["train.warm_start=null"] if now else []), said
    edits = [] if now == pinned else [f"train.warm_start={json.dumps(pinned)}"]
    return edits, f"from the champion, {version}"


def _differing(folder: Path, model: ModelConfig) -> list[str]:
    """Return the parameters of the operator in which a saved one differs."""
    from mno.surrogate.surrogate import Surrogate

    theirs, ours = (
        config.model_dump(mode="json", exclude={"dropout"})
        for config in (Surrogate.load(folder).description.model, model)
    )
    return [f"model.{key}" for key in ours if theirs[key] != ours[key]]


def tidy_up() -> str:
    """Remove what nothing needs; the latest runs stay, as `retention` in `params.yaml` says.

    A run that has trained a model has not failed because the tidying did.

    Returns:
        What came of it, in a few words.
    """
    from flows.tidying import tidy  # takes a second, which a run without it need not

    try:
        plan = tidy(delete=True, retention=True, quiet=True)
    except MnoError as error:
        return f"not tidied: {first_line(error)}"
    said = f"tidied: {decimal(plan.size)} freed, {decimal(plan.total - plan.size)} in use"
    return "; ".join([said, *plan.kept])


ARTIFACT = "retrain"


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

    Raises:
        MnoError: The line failed, or took too long.
    """
    workspace = find_workspace(Path(root) if root else None)
    os.chdir(workspace)
    prepare_environment(workspace)
    log = get_run_logger()
    try:
        with locked(workspace / RETRAIN_LOCK, "a retraining"):
            if busy := lock_holder(workspace / RUN_LOCK):
                said = (
                    f"{busy['activity']} is already running, process {busy['pid']}, since "
                    f"{busy['since']}: this one ends"
                )
                return Completed(name="Busy", message=said, data={"outcome": "busy", "said": said})
            with _journalled(workspace, missed) as run, at_most(max_hours):
                _retrain(workspace, run, quiet)
    except LockedError as error:
        said = f"{error}; this one ends"
        log.warning(said)
        return Completed(name="Busy", message=said, data={"outcome": "busy", "said": said})
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
    scheduled = flow_run.get_scheduled_start_time() or now()
    moment = max(scheduled.astimezone(), now())
    plan = read_plan(root)
    due = next(iter(next_dates(plan, moment)), None) if plan and not plan.paused else None
    begin(root, {**run, "scheduled": scheduled.astimezone().isoformat()}, due)
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
                create_markdown_artifact(_page(run), ARTIFACT, run["said"])


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
    params = load_params(root)
    model = f"mno-{params.dataset_name}"
    findings = look(root)
    drifted = drift(root, model, params.schedule.drift)
    reasons = [*findings.reasons, *([drifted] if drifted else [])]
    run["reasons"] = [str(reason) for reason in reasons]
    if not reasons:
        run |= {"outcome": "nothing changed", "said": "nothing changed: the model is up to date"}
        return
    edits, start = _edits(root, params, findings.trains, drifted)
    log = get_run_logger()
    log.info("reasons: %s", "; ".join(run["reasons"]))
    if drifted:
        run["served"] = served(root, model)
    if drifted and not findings.reasons and not edits:
        run["outcome"] = "nothing changed"
        run["said"] = (
            f"{drifted}; but the data and parameters are those of the model, so that training "
            "would make it again: import new data, or set schedule.drift.set or schedule.start"
        )
        tell_of_drift(root, run, log.warning)
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


def _edits(
    root: Path, params: Params, trains: bool, drifted: Reason | None
) -> tuple[list[str], str]:
    """Return the edits of the parameters that this run makes, and what training starts from."""
    present = read_params(root)
    wanted = params.schedule.drift.set if drifted else {}
    edits = [
        f"{key}={json.dumps(value)}"
        for key, value in wanted.items()
        if get_param(present, key) != value
    ]
    if not (trains or drifted):
        return edits, ""
    start, words = start_of(root, params)
    return [*edits, *start], words


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
