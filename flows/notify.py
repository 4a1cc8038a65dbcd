"""Being told: what happened on the line, to a file, a web address or a mailbox.

    settings = read_settings(root)
    problems = notify(settings, Event("failure", "The run failed", reason, "mno run"))

Nothing here raises because a receiver is away or slow: telling must never break what is told of.
Who is told is said by `notify.yaml` of a workspace, which git ignores, since it may hold secrets.
It is apart from `params.yaml` because that is part of every snapshot and every lineage record: an
address or a password does not belong there, and a model is no other model for it.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from threading import Thread
from typing import Annotated, Any, Literal, get_args
from urllib.parse import parse_qsl, urlsplit

from pydantic import Field, field_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from mno.core.config import PARAMS_FILE, Config, validate
from mno.core.errors import InputError, first_line

Kind = Literal["failure", "promotion", "refusal", "waiting", "missed", "test"]
KINDS: tuple[str, ...] = get_args(Kind)


def _now() -> str:
    return datetime.now().astimezone().isoformat(timespec="seconds")


@dataclass(frozen=True)
class Event:
    """Something that happened.

    Attributes:
        kind: `failure` of a run, `promotion`, `refusal` (a version did not become champion),
            `waiting` (for a person's approval), `missed` (a scheduled run did not happen), `test`.
        title: What happened, a few words.
        text: The same with its reason, one or more lines.
        next_command: What to type next.
        figures: What it was decided by, plain values.
        workspace: The folder it happened in.
        time: When, ISO 8601 with the offset from UTC.
    """

    kind: Kind
    title: str
    text: str
    next_command: str
    figures: Mapping[str, Any] = field(default_factory=dict)
    workspace: str = ""
    time: str = field(default_factory=_now)

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON takes it."""
        return {**vars(self), "figures": dict(self.figures)}

    def to_text(self) -> str:
        """Return it as a person reads it, in lines."""
        figures = [f"{name}: {value}" for name, value in self.figures.items()]
        where = [f"Workspace: {self.workspace}"] if self.workspace else []
        parts = [self.text, *figures, f"Next: {self.next_command}", *where, f"Time: {self.time}"]
        return "\n".join(parts) + "\n"


SETTINGS_FILE = "notify.yaml"
HOW = (
    f"Write there, for example, `file: build/told.jsonl` ({SETTINGS_FILE}, in the workspace); all "
    "of it: docs/how-to/be-told.md"
)
_LONGEST = 300  # signs of a reason
Seconds = Annotated[float, Field(gt=0, le=300, allow_inf_nan=False)]


class WebhookConfig(Config):
    """A web address that is sent every event as JSON, by POST."""

    url: str = Field(description="http:// or https://")
    headers: dict[str, str] = Field(default_factory=dict, description="to send along")

    @field_validator("url")
    @classmethod
    def _is_address(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{value!r} is no web address; give http://… or https://…")
        return value


class EmailConfig(Config):
    """Mail through an SMTP server."""

    host: str = Field(min_length=1, description="the server")
    port: int = Field(default=587, gt=0, lt=65536, description="its port")
    security: Literal["starttls", "tls", "none"] = Field(
        default="starttls", description="how the connection is encrypted"
    )
    username: str | None = Field(default=None, description="to log in with; none: no login")
    password: str | None = Field(default=None, description="the password of that user")
    sender: str = Field(min_length=3, description="address that the mail comes from")
    recipients: list[str] = Field(min_length=1, description="addresses that it goes to")

    @field_validator("sender", "recipients")
    @classmethod
    def _are_addresses(cls, value: str | list[str]) -> str | list[str]:
        for address in [value] if isinstance(value, str) else value:
            if address.count("@") != 1 or any(sign in address for sign in "\r\n,;"):
                raise ValueError(f"{address!r} is no mail address; give name@host")
        return value


class NotifyConfig(Config):
    """Who is told of what; nobody, where nothing is given."""

    events: list[Kind] | None = Field(default=None, description="kinds to tell of; none: all")
    timeout: Seconds = Field(default=10.0, description="longest time that telling takes, s")
    file: str | None = Field(
        default=None, description="file that gets a line of JSON for each event"
    )
    webhook: WebhookConfig | None = Field(default=None, description="a web address")
    email: EmailConfig | None = Field(default=None, description="mail")

    @property
    def receivers(self) -> tuple[str, ...]:
        """Names of the receivers that are set."""
        return tuple(name for name in ("file", "webhook", "email") if getattr(self, name))


def read_settings(root: Path) -> NotifyConfig:
    """Read `notify.yaml`; without one, nobody is told.

    Args:
        root: The workspace; the path in `file` is taken from there.

    Raises:
        InputError: It cannot be read, or something in it cannot be used; one line says what.
    """
    path = root / SETTINGS_FILE
    try:
        content: Any = YAML(typ="safe").load(path)
    except FileNotFoundError:
        return NotifyConfig()
    except (OSError, YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as YAML: {first_line(error)}") from None
    if not isinstance(content, dict):
        raise InputError(
            f"{path} holds {type(content).__name__}; expected a mapping with file, webhook or email"
        )
    try:
        config = validate(NotifyConfig, content)
    except InputError as error:
        problem = str(error).removeprefix(f"{PARAMS_FILE}: ")
        raise InputError(f"{SETTINGS_FILE}: {problem}") from None
    if config.file is None:
        return config
    return config.model_copy(update={"file": str(root / Path(config.file).expanduser())})


def notify(settings: NotifyConfig, event: Event) -> list[str]:
    """Tell every receiver of an event; never raise, and never take longer than the time limit.

    Args:
        settings: Who is told, and of what; see `read_settings`.
        event: What happened.

    Returns:
        For each receiver that was not reached, one line that says so and why.
    """
    if settings.events is not None and event.kind not in (*settings.events, "test"):
        return []
    problems = dict.fromkeys(settings.receivers, f"no answer within {settings.timeout:g} s")

    def reach(name: str) -> None:
        try:
            problems[name] = _RECEIVERS[name](settings, event)[:_LONGEST]
        except Exception as error:  # whatever a receiver does, the run goes on
            problems[name] = (first_line(error) or type(error).__name__)[:_LONGEST]

    # Daemons: a receiver that never answers must not keep the command from ending either.
    threads = [Thread(target=reach, args=(name,), daemon=True) for name in settings.receivers]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + settings.timeout
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return [f"{name}: {problem}" for name, problem in dict(problems).items() if problem]


def _append(settings: NotifyConfig, event: Event) -> str:
    """Append an event to a file as one line of JSON; several processes may do so at once."""
    path = Path(str(settings.file))
    path.parent.mkdir(parents=True, exist_ok=True)
    line = json.dumps(event.to_dict(), ensure_ascii=False) + "\n"
    with path.open("ab", buffering=0) as file:  # at once: appended lines do not mix
        file.write(line.encode())
        os.fsync(file.fileno())
    return ""


def _post(settings: NotifyConfig, event: Event) -> str:
    """Send an event to a web address as JSON, besides its keys `text`: all of it, for chats."""
    webhook, dropped = settings.webhook, dict.fromkeys(("version", "attachments", "type"), "")
    assert webhook is not None  # noqa: S101  (it is among the receivers)
    parts = urlsplit(webhook.url)
    own = {key: value for key, value in event.to_dict().items() if key not in ("title", "text")}
    return _send(
        {
            "schema": "jsons" if parts.scheme == "https" else "json",
            "secure": parts.scheme == "https",
            "host": parts.hostname, "port": parts.port, "fullpath": parts.path,
            "user": parts.username, "password": parts.password,
            "params": dict(parse_qsl(parts.query)), "headers": webhook.headers,
            "payload": {**own, **dropped, "message": "text"},
        },
        event.title, f"{event.title}\n{event.to_text()}", settings.timeout,
    )  # fmt: skip


def _mail(settings: NotifyConfig, event: Event) -> str:
    """Send an event as plain text to each recipient."""
    email = settings.email
    assert email is not None  # noqa: S101  (it is among the receivers)
    modes = {"tls": "ssl", "starttls": "starttls", "none": "insecure"}
    return _send(
        {
            "schema": "mailto", "host": email.host, "smtp_host": email.host, "port": email.port,
            "secure_mode": modes[email.security], "user": email.username,
            "password": email.password, "from_addr": email.sender, "targets": email.recipients,
            "format": "text",
        },
        f"[mno] {' '.join(event.title.split())}", event.to_text(), settings.timeout,
    )  # fmt: skip


_RECEIVERS = {"file": _append, "webhook": _post, "email": _mail}


def _send(receiver: dict[str, Any], title: str, text: str, timeout: float) -> str:
    """Hand a message to Apprise; returns why it did not arrive, which Apprise tells its log."""
    import apprise

    said = _Said()
    apprise.logger.addHandler(said)
    apprise.logger.setLevel(logging.DEBUG)
    apprise.logger.propagate = False
    try:
        times = {"cto": timeout, "rto": timeout}
        made: Any = apprise.Apprise.instantiate({**receiver, **times}, suppress_exceptions=False)
        return "" if made.notify(text, title=title) else said.reason()
    finally:
        apprise.logger.removeHandler(said)


class _Said(logging.Handler):
    """Keeps what is logged in this thread."""

    def __init__(self) -> None:
        super().__init__()
        self.thread, self.lines = threading.get_ident(), []

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self.thread and record.levelno != logging.INFO:
            self.lines.append(record)

    def reason(self) -> str:
        """Return what went wrong: warnings, and what a socket said, which is but traced."""
        said = [r.getMessage() for r in self.lines]
        warned = [r.getMessage() for r in self.lines if r.levelno >= logging.WARNING]
        traced = [line.partition(": ")[2] for line in said if line.startswith("Socket Exception")]
        return " ".join("; ".join([*warned, *traced]).split()) or "not sent"


def tell(root: Path, event: Event) -> list[str]:
    """Tell of an event; what goes wrong with that is returned in lines and breaks nothing.

    Args:
        root: The workspace, with its `notify.yaml`.
        event: What happened.
    """
    try:
        return notify(read_settings(root), event)
    except InputError as error:
        return [str(error)]


def failure_event(root: Path, reason: str) -> Event:
    """Return what somebody is told of a run that failed.

    Args:
        root: The workspace.
        reason: One line.
    """
    stage, colon, _ = reason.partition(": ")
    title = f"The run failed at {stage}" if colon and " " not in stage else "The run failed"
    return Event("failure", title, reason, "mno status   then: mno run", {}, str(root))


def who_is_told(settings: NotifyConfig) -> str:
    """Return in one line who is told of what."""
    if not settings.receivers:
        return f"nobody is told: there is no receiver in {SETTINGS_FILE}. {HOW}"
    events = settings.events or [kind for kind in KINDS if kind != "test"]
    return f"told: {', '.join(settings.receivers)}; of: {', '.join(events)}"


def try_receivers(root: Path) -> dict[str, str]:
    """Tell everybody something; returns by receiver why it was not reached, empty if it was.

    Raises:
        InputError: `notify.yaml` cannot be used, or names nobody.
    """
    settings = read_settings(root)
    if not settings.receivers:
        raise InputError(f"nobody can be told: {root / SETTINGS_FILE} names no receiver. {HOW}")
    text = "If you can read this, you will be told."
    event = Event("test", "A test", text, "mno status", {}, str(root))
    problems = dict(problem.split(": ", 1) for problem in notify(settings, event))
    return {name: problems.get(name, "") for name in settings.receivers}
