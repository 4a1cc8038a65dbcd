"""Scheduled retraining: how long a run takes that finds nothing to do."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.page import Section, Table, figure

ROOT = Path(__file__).parent.parent
REPEATS = 5
THREADS = 2
ABOUT = f"""A clone of this repository in which `mno run --preset quick` has been run, and then
`mno schedule run`, {REPEATS} times each: by itself, which starts a Prefect server of its own, and
with a server that is there already. The time is that of the whole command, from the import of
Python's packages to the last line; at most 20 s are asked for."""


def run() -> Section:
    with tempfile.TemporaryDirectory() as scratch:
        workspace = Path(scratch) / "workspace"
        clone = ["git", "clone", "--quiet", "--no-hardlinks", str(ROOT), str(workspace)]
        subprocess.run(clone, check=True)
        mno(workspace, {}, "run", "--preset", "quick", "--json")
        times = {"a server of its own": nothing_to_do(workspace, {})}
        with subprocess.Popen(
            [sys.executable, "-m", "flows.cli", "ui", "--mlflow-port", "0", "--prefect-port", "0"],
            cwd=workspace, env=environment({}), stdout=subprocess.PIPE, text=True,
        ) as pages:  # fmt: skip
            try:
                address = prefects(pages)
                api = {"PREFECT_API_URL": f"{address}/api"}
                times["a server that is there"] = nothing_to_do(workspace, api)
            finally:
                pages.terminate()
    rows = [
        (name, figure(statistics.median(found)), figure(max(found)))
        for name, found in times.items()
    ]
    table = Table(("Prefect", "median, s", "longest, s"), rows)
    return Section("A scheduled run that finds nothing to do", (ABOUT, table))


def nothing_to_do(workspace: Path, variables: dict[str, str]) -> list[float]:
    """Return the times of some runs, in seconds."""
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        found = mno(workspace, variables, "schedule", "run", "--json")
        times.append(time.perf_counter() - start)
        if found["outcome"] != "nothing changed":
            raise RuntimeError(f"the run did something: {found}")
    return times


def prefects(pages: subprocess.Popen[str]) -> str:
    """Return the address of the Prefect server, once `mno ui` prints it."""
    for line in pages.stdout or ():
        if line.startswith("Prefect"):
            return line.split()[1]
    raise RuntimeError("mno ui ended without an address")


def mno(workspace: Path, variables: dict[str, str], *arguments: str) -> Any:
    """Run a command in the workspace, with its code, and return its answer."""
    done = subprocess.run(
        [sys.executable, "-m", "flows.cli", *arguments], cwd=workspace, check=True,
        env=environment(variables), stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    return json.loads(done.stdout)


def environment(variables: dict[str, str]) -> dict[str, str]:
    """Return ours, without what names another server or workspace."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "MNO_"))}
    return {**kept, **variables}
