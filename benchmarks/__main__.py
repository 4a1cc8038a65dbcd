"""Run every benchmark, print the results and write each to benchmarks/results/NAME.md.

`python -m benchmarks` runs them all, `python -m benchmarks darcy` some. Each runs in a process of
its own, so that none meets the threads, the memory or the caches of another. The table and the
chart of docs/benchmarks.md follow from what has been written.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from benchmarks import headlines
from benchmarks.page import RESULTS
from mno.core.files import write_text

HERE = Path(__file__).parent


def main(names: list[str]) -> None:
    """Run the named benchmarks, or all of them."""
    known = sorted(path.stem.removeprefix("bench_") for path in HERE.glob("bench_*.py"))
    unknown = [name for name in names if name not in known]
    if unknown:
        sys.exit(f"no benchmark is called {', '.join(unknown)}; choose from {', '.join(known)}")
    for name in names or known:
        command = [sys.executable, "-m", "benchmarks.one", name]
        result = subprocess.run(command, cwd=HERE.parent, stdout=subprocess.PIPE, text=True)
        if result.returncode:
            sys.exit(f"benchmark {name} failed, see above; its results stay as they were")
        write_text(RESULTS / f"{name}.md", result.stdout)
        print(result.stdout.partition("\n## Machine")[0] + "\n", flush=True)
    headlines.main()


if __name__ == "__main__":
    main(sys.argv[1:])
