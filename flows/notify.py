"""Being told: what happened on the line, to a file or to an address of Apprise's.

Nothing here raises because a receiver is away or slow: telling must never break what is told of.
Who is told is said by `notify.yaml` of a workspace. It is apart from `params.yaml`, a part of every
snapshot and lineage record, since it may hold secrets; git ignores it.
"""

import json
import logging
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from threading import Thread, get_ident
from typing import Any, Literal

from pydantic import Field

from mno.core.config import Config, read_file
from mno.core.errors import InputError, first_line

Kind = Literal["failure", "promotion", "refusal", "waiting", "missed", "test"]
SETTINGS_FILE = "notify.yaml"
_HOW = (
    f"Write there, for example, `file: build/told.jsonl` ({SETTINGS_FILE}, in the workspace); all "
    "of it: docs/how-to/keep-a-model-up-to-date.md"
)
_LONGEST = 300  # signs of a reason


@dataclass(frozen=True)
class Event:
    """Something that happened.

    Kinds are `failure` of a run, `promotion`, `refusal` (a version did not become champion),
    `waiting` (for a person's approval), `missed` (a scheduled run did not happen), `test`.
    """

    kind: Kind
    title: str  # a few words
    text: str  # the same with its reason, one or more lines
    next_command: str  # what to type next
    figures: Mapping[str, Any] = field(default_factory=dict)  # it was decided by; plain values
    workspace: str = ""  # the folder it happened in
    time: str = field(
        default_factory=lambda: datetime.now().astimezone().isoformat(timespec="seconds")
    )

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON takes it."""
        return {**vars(self), "figures": dict(self.figures)}

    def to_text(self) -> str:
        """Return it as a person reads it, in lines."""
        figures = [f"{name}: {value}" for name, value in self.figures.items()]
        where = [f"Workspace: {self.workspace}"] if self.workspace else []
        parts = [self.text, *figures, f"Next: {self.next_command}", *where, f"Time: {self.time}"]
        return "\n".join(parts) + "\n"


class NotifyConfig(Config):
    """Who is told; nobody, where nothing is given."""

    timeout: float = Field(default=10.0, gt=0, le=300, allow_inf_nan=False)
    """longest time of telling, s"""
    file: str | None = None
    """file that gets a line of JSON for each event"""
    urls: dict[str, str] = Field(default_factory=dict)
    """addresses of Apprise's, by names of your choice"""

    @property
    def receivers(self) -> tuple[str, ...]:
        """Names of the receivers that are set."""
        return (*(("file",) if self.file else ()), *self.urls)


def read_settings(root: Path) -> NotifyConfig:
    """Read `notify.yaml`; without one, nobody is told. One that cannot be used is refused."""
    path = root / SETTINGS_FILE
    config = read_file(NotifyConfig, path) if path.exists() else NotifyConfig()
    if config.file is None:
        return config
    return config.model_copy(update={"file": str(root / Path(config.file).expanduser())})


def notify(settings: NotifyConfig, event: Event) -> dict[str, str]:
    """Tell every receiver within the time limit; return the names of those not reached, and why."""
    problems = dict.fromkeys(settings.receivers, f"no answer within {settings.timeout:g} s")

    def reach(name: str) -> None:
        try:
            url = settings.urls.get(name)
            problems[name] = _send(url, event) if url else _append(str(settings.file), event)
        except Exception as error:  # whatever a receiver does, the run goes on
            problems[name] = first_line(error) or type(error).__name__

    # Daemons: a receiver that never answers must not keep the command from ending either.
    threads = [Thread(target=reach, args=(name,), daemon=True) for name in settings.receivers]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + settings.timeout
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    told = dict(problems).items()
    return {name: problem[:_LONGEST] for name, problem in told if problem}


def _append(file: str, event: Event) -> str:
    """Append an event to a file as one line of JSON; several processes may do so at once."""
    path = Path(file)
    path.parent.mkdir(parents=True, exist_ok=True)
    line = json.dumps(event.to_dict(), ensure_ascii=False) + "\n"
    with path.open("ab", buffering=0) as opened:  # at once: appended lines do not mix
        opened.write(line.encode())
        os.fsync(opened.fileno())
    return ""


def _send(url: str, event: Event) -> str:
    """Hand an event to Apprise; returns why it did not arrive, which Apprise tells its log."""
    from logging.handlers import BufferingHandler

    import apprise

    said, me = BufferingHandler(sys.maxsize), get_ident()  # of this thread alone
    said.addFilter(lambda record: record.thread == me and record.levelno != logging.INFO)
    apprise.logger.addHandler(said)
    apprise.logger.setLevel(logging.DEBUG)
    apprise.logger.propagate = False
    try:
        receiver: Any = apprise.Apprise.instantiate(url)
        if receiver is None:
            return "Apprise knows no such address"
        receiver.notify_format = apprise.NotifyFormat.TEXT
        title = f"[mno] {' '.join(event.title.split())}"
        return "" if receiver.notify(event.to_text(), title=title) else _reason(said.buffer)
    finally:
        apprise.logger.removeHandler(said)


def _reason(logged: Sequence[logging.LogRecord]) -> str:
    """Return what went wrong: warnings, and what a socket said, which is but traced."""
    warned = [r.getMessage() for r in logged if r.levelno >= logging.WARNING]
    said = [r.getMessage() for r in logged]
    traced = [line.partition(": ")[2] for line in said if line.startswith("Socket Exception")]
    return " ".join("; ".join([*warned, *traced]).split()) or "not sent"


def tell(root: Path, event: Event, say: Callable[[str], Any] = str) -> list[str]:
    """Tell those whom a workspace names; what goes wrong breaks nothing, is said and returned."""
    try:
        missed = notify(read_settings(root), event)
        problems = [f"{name}: {problem}" for name, problem in missed.items()]
    except InputError as error:
        problems = [str(error)]
    for problem in problems:
        say(f"warning: not everybody was told of it: {problem}")
    return problems


def failure_event(root: Path, reason: str) -> Event:
    """Return what somebody is told of a run that failed, for a reason in one line."""
    stage, colon, _ = reason.partition(": ")
    title = f"The run failed at {stage}" if colon and " " not in stage else "The run failed"
    return Event("failure", title, reason, "mno status   then: mno run", {}, str(root))


def who_is_told(settings: NotifyConfig) -> str:
    """Return in one line who is told."""
    if not settings.receivers:
        return f"nobody is told: there is no receiver in {SETTINGS_FILE}. {_HOW}"
    return f"told: {', '.join(settings.receivers)}"


def try_receivers(root: Path) -> dict[str, str]:
    """Tell everybody something, if there is anybody; returns why each was not reached, or empty."""
    settings = read_settings(root)
    if not settings.receivers:
        raise InputError(f"nobody can be told: {root / SETTINGS_FILE} names no receiver. {_HOW}")
    text = "If you can read this, you will be told."
    event = Event("test", "A test", text, "mno status", {}, str(root))
    problems = notify(settings, event)
    return {name: problems.get(name, "") for name in settings.receivers}
