"""Who is told of what: `notify.yaml` of a workspace, which git ignores, since it may hold secrets.

It is apart from `params.yaml` because that is part of every snapshot and every lineage record: an
address or a password does not belong there, and a model is no other model for it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from flows.notify.event import Kind
from mno.core.config import PARAMS_FILE, Config, validate
from mno.core.errors import InputError, first_line

SETTINGS_FILE = "notify.yaml"
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
