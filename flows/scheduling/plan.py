"""What is scheduled in a workspace: one plan, in a file that commands read without Prefect."""

from __future__ import annotations

import json
import os
import re
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from pydantic import Field, ValidationError

from mno.core.config import Config
from mno.core.errors import InputError
from mno.core.files import write_json

FOLDER = Path("build/schedule")
PLAN = FOLDER / "schedule.json"
_UNITS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}


class Plan(Config):
    """When a workspace retrains.

    Attributes:
        cron: As in cron, `0 3 * * *`; none if an interval is given.
        interval: Seconds between two runs; none if `cron` is given.
        timezone: Name in the IANA database, in which `cron` is read.
        max_hours: A run that takes longer is stopped; none: no limit.
        since: When it was made, or resumed last; ISO 8601. An interval counts from here.
        paused: Whether it is at rest.
        deployment: Prefect's id of it.
    """

    cron: str | None = Field(default=None)
    interval: float | None = Field(default=None)
    timezone: str = Field(default="UTC")
    max_hours: float | None = Field(default=None)
    since: str = Field(default="")
    paused: bool = Field(default=False)
    deployment: str = Field(default="")

    @property
    def words(self) -> str:
        """The plan in words."""
        if self.interval is not None:
            return f"every {said_seconds(self.interval)}"
        return f"cron {self.cron} in {self.timezone}"


def read_plan(root: Path) -> Plan | None:
    """Return what is scheduled in a workspace; none if nothing is, or the file cannot be read."""
    try:
        return Plan.model_validate_json((root / PLAN).read_bytes())
    except (OSError, ValidationError):
        return None


def write_plan(root: Path, plan: Plan) -> None:
    """Keep what is scheduled."""
    write_json(root / PLAN, plan.model_dump())


def need_plan(root: Path) -> Plan:
    """Return what is scheduled.

    Raises:
        InputError: Nothing is.
    """
    plan = read_plan(root)
    if plan is None:
        raise InputError(
            'nothing is scheduled in this workspace; begin with: mno schedule --cron "0 3 * * *"'
        )
    return plan


def parse_interval(text: str) -> float:
    """Return the seconds that `30m`, `1h` or `2d` stands for.

    Raises:
        InputError: It is no time, or shorter than a second.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(s|m|min|h|d)", text.strip())
    seconds = float(found[1]) * _UNITS[found[2]] if found else 0.0
    if not 1.0 <= seconds <= 366 * 86400:
        raise InputError(f"--interval {text}: expected a time of 1s to 366d, as 30m, 1h or 2d")
    return seconds


def parse_timezone(name: str | None) -> str:
    """Return the name of a time zone that exists; that of this machine if none is given.

    Raises:
        InputError: There is none of this name.
    """
    if name is None:
        return _local_timezone()
    if not _is_timezone(name):
        raise InputError(
            f"--timezone {name}: there is no such time zone; expected a name like Asia/Tokyo, "
            "Europe/Berlin or UTC"
        )
    return name


def _local_timezone() -> str:
    """Return this machine's, by the ways in which systems name it; UTC if they do not."""
    link = os.path.realpath("/etc/localtime").partition("/zoneinfo/")[2]
    for name in (os.environ.get("TZ", "").lstrip(":"), link):
        if name and _is_timezone(name):
            return name
    return "UTC"


def _is_timezone(name: str) -> bool:
    try:
        ZoneInfo(name)
    except (ValueError, OSError):  # ZoneInfoNotFoundError is a KeyError on some systems
        return False
    except KeyError:
        return False
    return True


def said_seconds(seconds: float) -> str:
    """Return a time as a person writes it, as `1h`."""
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= length and seconds % length == 0:
            return f"{seconds / length:g}{unit}"
    return f"{seconds:g}s"


def local(time: str | datetime) -> str:
    """Return a moment for a person, in this machine's time, as `2026-11-26 03:00`."""
    moment = datetime.fromisoformat(time) if isinstance(time, str) else time
    near = abs(datetime.now().astimezone() - moment) < timedelta(minutes=10)
    return moment.astimezone().strftime("%Y-%m-%d %H:%M:%S" if near else "%Y-%m-%d %H:%M")


def read_json(path: Path) -> dict[str, Any]:
    """Return a file's content; nothing if it is not there or cannot be read."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
