"""Run every benchmark, print the results and write them to docs/benchmarks.md.

`python -m benchmarks` runs them all, `python -m benchmarks darcy` only prints some. Each runs in a
process of its own, so that none meets the threads, the memory or the caches of another.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from benchmarks.page import write_page

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "benchmarks.md"


def main(names: list[str]) -> None:
    """Run the named benchmarks, or all of them."""
    known = sorted(path.stem.removeprefix("bench_") for path in HERE.glob("bench_*.py"))
    unknown = [name for name in names if name not in known]
    if unknown:
        sys.exit(f"no benchmark is called {', '.join(unknown)}; choose from {', '.join(known)}")
    sections = []
    for name in names or known:
        command = [sys.executable, "-m", "benchmarks.one", name]
        result = subprocess.run(command, cwd=HERE.parent, stdout=subprocess.PIPE, text=True)
        if result.returncode:
            sys.exit(f"benchmark {name} failed, see above; nothing is written")
        sections.append(result.stdout.strip())
        print(f"{sections[-1]}\n", flush=True)
    if not names:
        write_page(PAGE, sections)


if __name__ == "__main__":
    main(sys.argv[1:])
