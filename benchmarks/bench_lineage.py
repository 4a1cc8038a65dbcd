"""Questions of the lineage on a registry of 10,000 versions, as a person asks them."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.lineage_registry import MODEL, Registry, Size, make_registry
from benchmarks.page import Section, Table, figure

THREADS = 1
ROUNDS = 5
SIZE = Size(versions=10_000, commits=500, snapshots=2_000, data=500, code=150)
ABOUT = f"""{SIZE.versions:,} versions in MLflow's SQLite tables, written in bulk, with
{SIZE.snapshots:,} snapshots in a repository of {SIZE.commits} commits, {SIZE.data} versions of the
data, a record per version on disk and a chain of as many seals. The time is that of the whole
command, from its start to its end, output as JSON; the median of {ROUNDS}, and the first, when
MLflow's database and the files of the runs were just written."""


def run() -> Section:
    with tempfile.TemporaryDirectory() as folder:
        registry = make_registry(Path(folder) / "workspace", SIZE)
        rows = [measure(registry.root, *question) for question in questions(registry)]
    columns = ("question", "first, s", "median, s", "answers with")
    return Section("Lineage", (ABOUT, Table(columns, rows)))


def questions(registry: Registry) -> list[tuple[str, ...]]:
    """Return the words of the command for each question."""
    data = list(registry.data)[SIZE.data // 2]
    return [
        ("models", "--data", data),
        ("affected", "--data", data),
        ("affected", "--commit", registry.commits[SIZE.commits // 2]),
        ("diff", f"models:/{MODEL}/3", f"models:/{MODEL}/9000"),
    ]


def measure(root: Path, *words: str) -> tuple[str, ...]:
    """Ask a question several times, and return its row of the table."""
    command = [sys.executable, "-P", "-m", "flows.cli", "lineage", *words, "--json"]
    times, answer = [], b""
    for _ in range(ROUNDS):
        start = time.perf_counter()
        done = subprocess.run(command, cwd=root, stdout=subprocess.PIPE, check=True)
        times.append(time.perf_counter() - start)
        answer = done.stdout
    named = " ".join(word if len(word) < 32 else word[:8] for word in words)
    versions = answer.count(b'"version":')
    median = statistics.median(times)
    return f"`{named}`", figure(times[0]), figure(median), f"{versions:,} versions"
