"""The workspace a command works in, and the environment of what it starts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from mno.core.errors import InputError

RUN_LOCK = Path("build/locks/run")
_MARKS = ("params.yaml", "dvc.yaml", "data.dvc")


def find_workspace(start: Path | None = None) -> Path:
    """Return the workspace that holds a folder: the nearest parent with a production line.

    Raises:
        InputError: There is none.
    """
    start = (start or Path.cwd()).resolve()
    for folder in (start, *start.parents):
        if all((folder / mark).is_file() for mark in _MARKS):
            return folder
    raise InputError(
        f"{start} is not inside an MNO workspace (no {', '.join(_MARKS)}); "
        "change to a checkout of the project"
    )


def prepare_environment(root: Path) -> None:
    """Set what Prefect, MLflow and DVC read, for this process and all it starts.

    Everything stays in the workspace, and nothing reports to anybody. What the user has set
    (a server's address, say) is kept. Call it before importing any of them.
    """
    defaults = {
        "PREFECT_HOME": str(root / ".prefect"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        # The run's log goes to Prefect's pages; the console has our own lines.
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        "DO_NOT_TRACK": "1",
        "DVC_NO_ANALYTICS": "1",
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
    """Return the folder of a workspace's DVC cache, which may be anywhere.

    Raises:
        InputError: DVC cannot say.
    """
    done = subprocess.run(
        [program("dvc"), "cache", "dir"], cwd=root, capture_output=True, text=True, check=False
    )
    if done.returncode:
        reason = done.stderr.strip().splitlines() or ["dvc cache dir failed"]
        raise InputError(f"{root}: {reason[-1].removeprefix('ERROR: ')}")
    return root / done.stdout.strip()
