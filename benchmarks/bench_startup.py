"""How long commands take that find nothing to do, in times of what DVC alone takes."""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.page import Section, Table, figure

ROOT = Path(__file__).parent.parent
BINARIES = Path(sys.executable).parent
REPEATS = 5
THREADS = 2  # of the run that is prepared; commands use what they use
MNO = (sys.executable, "-m", "flows.cli")
DVC = (str(BINARIES / "dvc"),)
SERVER = (
    sys.executable, "-c",
    "from flows.workspace import find_workspace, prepare_environment as p; p(find_workspace())\n"
    "from flows.pipeline import start_temporary_server; start_temporary_server()",
)  # fmt: skip
PAIRS = {  # a command, what it is measured by, and how many times of that are allowed
    "mno run, nothing changed": ((*MNO, "run"), (*DVC, "repro"), 3.0),
    "mno status": ((*MNO, "status"), (*DVC, "status"), 3.0),
    "mno doctor": ((*MNO, "doctor"), (*MNO, "status"), 2.0),
    "mno --help": ((*MNO, "--help"), (*DVC, "--help"), None),
}
ABOUT = f"""A clone of this repository in which `mno run --preset quick` has been run. Each command
and what it is measured by take turns, {REPEATS} times; the ratio is the median of those of the
turns. The first stage: a parameter of `evaluate` is changed, and the time is that until the stage
is said to have started; beside it stands twice `dvc repro` where nothing changed, plus the start of
Prefect's server with the import of its client."""


def run() -> Section:
    with tempfile.TemporaryDirectory() as scratch:
        workspace = Path(scratch) / "workspace"
        clone = ["git", "clone", "--quiet", "--no-hardlinks", str(ROOT), str(workspace)]
        subprocess.run(clone, check=True)
        seconds(workspace, (*MNO, "run", "--preset", "quick"))
        rows = measured(workspace)
    head = ("command", "s", "measured by, s", "ratio", "at most")
    return Section("Starting", (ABOUT, Table(head, rows)))


def measured(workspace: Path) -> list[tuple[str, ...]]:
    """Measure everything in a workspace in which there is nothing to do."""
    rows = []
    for name, (command, peer, most) in PAIRS.items():
        turns = [(seconds(workspace, command), seconds(workspace, peer)) for _ in range(REPEATS)]
        rows.append(row(name, turns, most))
    turns = []
    for number in range(REPEATS):
        allowed = 2 * seconds(workspace, (*DVC, "repro")) + seconds(workspace, SERVER)
        turns.append((first_stage(workspace, number), allowed))
    return [*rows, row("the first stage, if one is to run", turns, 1.0)]


def row(name: str, turns: list[tuple[float, float]], most: float | None) -> tuple[str, ...]:
    """Return medians of a command, of its peer, and of their ratio."""
    own, peer, ratio = (
        statistics.median(values)
        for values in ([a for a, _ in turns], [b for _, b in turns], [a / b for a, b in turns])
    )
    return name, figure(own), figure(peer), figure(ratio), "" if most is None else figure(most)


def seconds(workspace: Path, command: tuple[str, ...]) -> float:
    """Run a command to its end; returns how long that took."""
    start = time.perf_counter()
    subprocess.run(
        command, cwd=workspace, env=environment(), check=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    return time.perf_counter() - start


def first_stage(workspace: Path, number: int) -> float:
    """Return how long it takes until a stage has started; then undo the change."""
    params = workspace / "params.yaml"
    before = params.read_bytes()
    try:
        return until_started(workspace, f"evaluate.batch_size={8 + number}")
    finally:
        params.write_bytes(before)  # so that what this is measured by has nothing to do


def until_started(workspace: Path, change: str) -> float:
    """Change a parameter of `evaluate`; return how long it takes until that stage has started."""
    start = time.perf_counter()
    command = (*MNO, "run", "--set", change)
    with subprocess.Popen(
        command, cwd=workspace, env=environment(), text=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    ) as run:  # fmt: skip
        for line in run.stderr or ():
            if line.startswith("evaluate ") and "started" in line:
                taken = time.perf_counter() - start
                run.send_signal(signal.SIGINT)
                return taken
    raise RuntimeError("mno run ended without a stage")


def environment() -> dict[str, str]:
    """Return ours, without what names another server or workspace."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "MNO_"))}
    return {**kept, "PATH": f"{BINARIES}{os.pathsep}{os.environ['PATH']}", "DVC_NO_ANALYTICS": "1"}
