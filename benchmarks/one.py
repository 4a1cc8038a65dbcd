"""Run one benchmark in this process and print its section: `python -m benchmarks.one scan`."""

from __future__ import annotations

import sys
from importlib import import_module

from benchmarks.timing import use_threads


def main(name: str) -> None:
    """Run a benchmark on the threads that it asks for."""
    benchmark = import_module(f"benchmarks.bench_{name}")
    use_threads(benchmark.THREADS)
    print(benchmark.run().markdown(name, benchmark.THREADS))


if __name__ == "__main__":
    main(sys.argv[1])
