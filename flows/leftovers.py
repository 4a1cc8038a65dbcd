"""What a run hands down to all it starts, and the processes that a killed one has left behind.

These are found by the marks that all it starts inherit.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

import psutil

RUN_PID = "MNO_RUN_PID"
WORKSPACE = "MNO_WORKSPACE"


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
        told["MNO_TERMINAL"] = os.ttyname(sys.stderr.fileno())
    return told


def leftovers(root: Path) -> list[psutil.Process]:
    """Return the processes of runs of this workspace that have died."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            environment = process.environ()
            if environment.get(WORKSPACE) != str(root) or process.pid == os.getpid():
                continue
            run = int(environment.get(RUN_PID, 0))
            if run != os.getpid() and not _runs(run, process):
                found.append(process)
    return found


def end_leftovers(root: Path) -> int:
    """End them, and return how many there were; what they had finished is kept."""
    found = leftovers(root)
    for process in found:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    _, stubborn = psutil.wait_procs(found, timeout=3)
    for process in stubborn:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(stubborn, timeout=3)
    return len(found)


def _runs(pid: int, descendant: psutil.Process) -> bool:
    """Whether the run lives; a process younger than what it is said to have started is another."""
    try:
        run = psutil.Process(pid)
        return (
            run.status() != psutil.STATUS_ZOMBIE
            and run.create_time() <= descendant.create_time() + 1
        )
    except psutil.NoSuchProcess:
        return False
