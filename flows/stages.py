"""Runs one target of the line: `dvc repro <target>` in a process group of its own."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil

from flows.workspace import program
from mno.core.errors import MnoError

GRACE = 15.0  # seconds between asking a stage to stop and killing it
_STARTED = re.compile(r"Running stage '(.+)':")
_DVC_CHATTER = (
    "Running stage '", "> ", "Stage '", "'data.dvc' didn't", "Importing ", "Updating lock file",
    "Generating lock file", "Data and pipelines are up to date", "To track the changes with git",
    "\tgit add", "To enable auto staging", "\tdvc config", "Use `dvc push`",
)  # fmt: skip

Action = Literal["ran", "reused", "restored"]


@dataclass(frozen=True)
class StageResult:
    """What became of one target.

    Attributes:
        target: A stage's name, or `data.dvc`.
        action: `ran`; `reused` (nothing it depends on changed); `restored` (its result was not
            there, or not as recorded, and was put back from what had been kept).
        seconds: How long that took.
    """

    target: str
    action: Action
    seconds: float


class StageFailedError(MnoError):
    """A stage failed; what it printed says why.

    Args:
        reason: The same in one line.
        exit_code: What the stage ended with.
    """

    def __init__(self, reason: str, exit_code: int) -> None:
        super().__init__(reason)
        self.exit_code = exit_code


def run_target(
    root: Path, target: str, environment: Mapping[str, str], say: Callable[[str], None]
) -> StageResult:
    """Bring one target up to date.

    Args:
        root: The workspace.
        target: A stage's name, or `data.dvc`.
        environment: Additions to this process's environment, for the stage.
        say: Is handed each line the stage prints.

    Raises:
        StageFailedError: The stage, or DVC, failed; their lines have been handed on.
        KeyboardInterrupt: Passed on after the stage has been stopped.
    """
    return run_dvc([program("dvc"), "repro", target], root, {**os.environ, **environment}, say)


def run_dvc(
    command: Sequence[str], root: Path, environment: Mapping[str, str], say: Callable[[str], None]
) -> StageResult:
    """Run a `dvc repro` in a process group of its own.

    Args:
        command: Its words; the last is the target.
        root: The workspace.
        environment: All variables that it is to have.
        say: As for `run_target`.

    Raises:
        StageFailedError: As for `run_target`.
        KeyboardInterrupt: As for `run_target`.
    """
    start, target = time.monotonic(), command[-1]
    with tempfile.TemporaryDirectory(prefix="mno-") as folder:
        failure_file = Path(folder) / "failure.json"
        process = subprocess.Popen(
            command,
            cwd=root,
            env={**environment, "MNO_FAILURE_FILE": str(failure_file)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        try:
            lines = _forward(process, say, failure_file)
            code = process.wait()
        finally:
            stop_group(process.pid)
        if code != 0:
            raise _failure(target, failure_file)
    return StageResult(target, _action(target, lines), time.monotonic() - start)


def stop_group(group: int) -> None:
    """Ask a process group to stop as Ctrl-C would, and kill it after a while."""
    for number, seconds in ((signal.SIGINT, GRACE), (signal.SIGKILL, GRACE)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, number)
        deadline = time.monotonic() + seconds
        while _group_lives(group):
            if time.monotonic() > deadline:
                break
            time.sleep(0.05)
        else:
            return


def _group_lives(group: int) -> bool:
    for process in psutil.process_iter(["status"]):
        if process.info["status"] == psutil.STATUS_ZOMBIE:
            continue
        with contextlib.suppress(ProcessLookupError):
            if os.getpgid(process.pid) == group:
                return True
    return False


def _forward(
    process: subprocess.Popen[str], say: Callable[[str], None], failure_file: Path
) -> list[str]:
    lines = []
    assert process.stdout is not None  # noqa: S101  (Popen was given a pipe)
    for line in process.stdout:
        text = line.rstrip()
        lines.append(text)
        if started := _STARTED.match(text):
            say(f"{started[1]:<10} started")
        # Where the stage has said in one line why it failed, DVC's account of it adds nothing.
        explained = text.startswith("ERROR: failed to reproduce") and failure_file.exists()
        if text and not line.startswith(_DVC_CHATTER) and not explained:
            say(text)
    return lines


def _action(target: str, lines: list[str]) -> Action:
    started = ("Running stage '", "Importing ")
    if any(line.startswith(started) for line in lines):
        return "ran"
    cached = (f"Stage '{target}' is cached", f"'{target}' is cached")
    return "restored" if any(line.startswith(cached) for line in lines) else "reused"


def _failure(target: str, failure_file: Path) -> StageFailedError:
    """Return what a stage has left word of; killed ones leave none."""
    try:
        failure = json.loads(failure_file.read_text(encoding="utf-8"))
        return StageFailedError(f"{failure['stage']}: {failure['message']}", failure["exit_code"])
    except (OSError, ValueError, KeyError):
        return StageFailedError(f"{target}: dvc repro failed", 1)
