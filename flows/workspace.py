"""The workspace a command works in, the environment of what it starts, and what it prints."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from mno.core.errors import InputError, first_line

RUN_LOCK = Path("build/locks/run")
RUN_PID = "MNO_RUN_PID"
WORKSPACE = "MNO_WORKSPACE"
QUIET_SECONDS = 2.0  # before progress is drawn
_MARKS = ("params.yaml", "dvc.yaml", "data.dvc")
UNWATCHED = {
    "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "DO_NOT_TRACK": "1", "DVC_NO_ANALYTICS": "1",
}  # fmt: skip
"""By these variables nothing is reported to anybody, and no pickle is read."""


def find_workspace(start: Path | None = None) -> Path:
    """Return the nearest parent of a folder that has a production line; refuse one without."""
    start = (start or Path.cwd()).resolve()
    for folder in (start, *start.parents):
        if all((folder / mark).is_file() for mark in _MARKS):
            return folder
    raise InputError(
        f"{start} is not inside an MNO workspace (no {', '.join(_MARKS)}); "
        "change to a checkout of the project"
    )


def prepare_environment(root: Path) -> None:
    """Set what Prefect, MLflow and DVC read, before any is imported, for all that is started.

    Everything stays in the workspace, and nothing reports to anybody. What the user set is kept.
    """
    defaults = {
        "PREFECT_HOME": str(root / ".prefect"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        # The run's log goes to Prefect's pages; the console has our own lines.
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
        **UNWATCHED,
    }
    if "PREFECT_API_URL" not in os.environ:
        # The temporary server is on this machine: where it does not answer, it is gone.
        defaults["PREFECT_CLIENT_MAX_RETRIES"] = "1"
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
    binaries = str(Path(sys.executable).parent)
    os.environ["PATH"] = os.pathsep.join([binaries, os.environ.get("PATH", os.defpath)])


def program(name: str) -> str:
    """Return the path of a program of this Python environment, for example `dvc`."""
    return str(Path(sys.executable).parent / name)


def cache_folder(root: Path) -> Path:
    """Return the folder of a workspace's DVC cache, which may be anywhere."""
    done = subprocess.run(
        [program("dvc"), "cache", "dir"], cwd=root, capture_output=True, text=True, check=False
    )
    if done.returncode:
        reason = done.stderr.strip().splitlines() or ["dvc cache dir failed"]
        raise InputError(f"{root}: {reason[-1].removeprefix('ERROR: ')}")
    return root / done.stdout.strip()


def marks(root: Path) -> dict[str, str]:
    """Return the environment variables by which what this process starts can be recognised."""
    return {RUN_PID: str(os.getpid()), WORKSPACE: str(root)}


def handed_down(root: Path, quiet: bool) -> dict[str, str]:
    """Return what a stage is told by its environment (see `pipelines.stage.StageEnvironment`)."""
    told = marks(root)
    if quiet:
        told["MNO_QUIET"] = "1"
    elif sys.stderr.isatty():
        # DVC runs a stage without a terminal; the stage draws its progress on ours by name.
        with suppress(OSError):  # a container may have no name for it
            told["MNO_TERMINAL"] = os.ttyname(sys.stderr.fileno())
    return told


def leftovers(root: Path) -> list[psutil.Process]:
    """Return the processes of runs of this workspace that have died."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            environment = process.environ()
            if environment.get(WORKSPACE) != str(root) or process.pid == os.getpid():
                continue
            run = int(environment.get(RUN_PID, 0))
            if run != os.getpid() and not _runs(run, process):
                found.append(process)
    return found


def end_leftovers(root: Path) -> int:
    """End them, and return how many there were; what they had finished is kept."""
    found = alive = leftovers(root)
    for end in (psutil.Process.terminate, psutil.Process.kill):
        for process in alive:
            with suppress(psutil.NoSuchProcess):
                end(process)
        _, alive = psutil.wait_procs(alive, timeout=3)
    return len(found)


def _runs(pid: int, descendant: psutil.Process) -> bool:
    """Whether the run lives; a process younger than what it is said to have started is another."""
    with suppress(psutil.NoSuchProcess):
        run = psutil.Process(pid)
        if run.status() != psutil.STATUS_ZOMBIE:
            return run.create_time() <= descendant.create_time() + 1
    return False


@contextmanager
def progress_bar(quiet: bool, unit: str = "samples") -> Iterator[Callable[[str, int, int], None]]:
    """Yield what draws how far something is: what is being done, how much is done, of how much."""
    from rich import progress  # which commands that draw nothing need not wait for
    from rich.console import Console

    console = Console(stderr=True, quiet=quiet)
    begun = time.monotonic()
    bar = progress.Progress(
        progress.TextColumn("{task.description}"), progress.BarColumn(),
        progress.MofNCompleteColumn(), progress.TextColumn(unit), progress.TimeRemainingColumn(),
        console=console, transient=True, disable=not console.is_terminal,
    )  # fmt: skip
    task = bar.add_task("")

    def show(what: str, done: int, total: int) -> None:
        if what != bar.tasks[0].description:
            bar.reset(task, description=what)
        bar.update(task, completed=done, total=total)
        if time.monotonic() - begun > QUIET_SECONDS:
            bar.start()

    try:
        yield show
    finally:
        bar.stop()


VERSION_HEAD = ("Model", "Version", "Alias", "Test error", "Registered")


def aligned(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table: its head, then a line per row, with two spaces between columns."""
    lines = [head, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def server_is_gone(error: BaseException) -> str:
    """Return what is said where Prefect's server goes away while something runs."""
    return (
        f"Prefect's server does not answer any more ({first_line(error)}); run again: what is "
        "finished is kept"
    )


# Commands look at paths before they import what takes seconds.


def require(path: Path | None, expected: str, folder: bool = False) -> None:
    """Refuse a path that is given and not there."""
    if path is not None and not (path.is_dir() if folder else path.exists()):
        what = "is not a folder" if path.exists() else "does not exist"
        raise InputError(f"{path} {what}; expected {expected}: correct the path")


def require_new(path: Path) -> None:
    """Refuse the path of something to write that is there already."""
    if path.exists():
        raise InputError(f"{path} exists already; choose another name or remove it")


def read_json(path: Path) -> dict[str, Any]:
    """Return a file's content; nothing if it is not there or cannot be read."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
