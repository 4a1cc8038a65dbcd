"""Run every benchmark, print the table and write it to docs/benchmarks.md.

`python -m benchmarks` runs them all, `python -m benchmarks darcy` only prints some.
"""

from __future__ import annotations

import os
import platform
import sys
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks import Row

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "benchmarks.md"
PACKAGES = ("numpy", "scipy", "numba", "torch")
HEADER = """# Benchmarks

Written by `make bench` (`python -m benchmarks`); run it for the figures of your machine. Each row
compares two codes in one process, called in turn; times are medians, and a ratio above one means
that ours is faster.
"""


def main(names: list[str]) -> None:
    """Run the named benchmarks, or all of them."""
    # One thread for both sides, unless asked otherwise; read when numpy is first imported.
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(variable, "1")
    known = sorted(path.stem.removeprefix("bench_") for path in HERE.glob("bench_*.py"))
    unknown = [name for name in names if name not in known]
    if unknown:
        sys.exit(f"no benchmark is called {', '.join(unknown)}; choose from {', '.join(known)}")
    rows: list[Row] = []
    for name in names or known:
        rows += import_module(f"benchmarks.bench_{name}").run()
    table = _table(rows)
    print(table)
    if not names:
        page = f"{HEADER}\n{table}\n\n## Machine\n\n{_machine()}\n"
        partial = PAGE.with_suffix(".md.partial")
        PAGE.parent.mkdir(exist_ok=True)
        partial.write_text(page, encoding="utf-8")
        os.replace(partial, PAGE)


def _table(rows: list[Row]) -> str:
    lines = [
        "| what | ours | peer | ratio | peer is | note |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        lines.append(
            f"| {row.what} | {row.ours:.3g} {row.unit} | {row.peer:.3g} {row.unit} "
            f"| {row.ratio:.1f} | {row.peer_name} | {row.note} |"
        )
    return "\n".join(lines)


def _machine() -> str:
    facts = [
        f"processor: {_processor()}",
        f"cores: {os.cpu_count()}",
        f"threads used by each side: {os.environ['OMP_NUM_THREADS']}",
        f"system: {platform.system()}, {platform.machine()}",
        f"Python: {platform.python_version()}",
        *(f"{package}: {_version(package)}" for package in PACKAGES),
    ]
    return "\n".join(f"- {fact}" for fact in facts)


def _processor() -> str:
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


if __name__ == "__main__":
    main(sys.argv[1:])
