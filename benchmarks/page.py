"""What a benchmark returns, and how it is written down."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

PACKAGES = (
    "numpy",
    "scipy",
    "numba",
    "torch",
    "zarr",
    "h5py",
    "mambapy",
    "llama-cpp-python",
    "neuraloperator",
    "clawpack",
    "fipy",
)
RESULTS = Path(__file__).parent / "results"
WRITTEN = "Written by `python -m benchmarks {}`; [how it is measured](../README.md)."


@dataclass(frozen=True)
class Table:
    """A table, each row with one cell per column."""

    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]

    def markdown(self) -> str:
        """Return the table in Markdown."""
        lines = [self.columns, ("---",) * len(self.columns), *self.rows]
        return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


@dataclass(frozen=True)
class Section:
    """The results of one benchmark: paragraphs and tables in the order in which they are read."""

    title: str
    parts: Sequence[str | Table]

    def markdown(self, name: str, threads: int) -> str:
        """Return the section of the benchmark `name`, and this machine, in Markdown."""
        used = "One thread" if threads == 1 else f"{threads} threads"
        parts = [part.markdown() if isinstance(part, Table) else part for part in self.parts]
        head = f"# {self.title}", WRITTEN.format(name), f"{used} on every side."
        return "\n\n".join((*head, *parts, "## Machine", _machine())) + "\n"


def figure(value: float) -> str:
    """Write a number with three figures."""
    return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"


def _machine() -> str:
    facts = [
        f"processor: {processor()}, vector instructions {torch.backends.cpu.get_cpu_capability()}",
        f"cores: {os.cpu_count()}",
        f"system: {platform.system()}, {platform.machine()}",
        f"Python: {platform.python_version()}",
        *(f"{package}: {_version(package)}" for package in PACKAGES),
    ]
    return "\n".join(f"- {fact}" for fact in facts)


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or "unknown"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
