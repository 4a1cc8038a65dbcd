"""Make the dataset of `conftest.make_plan` in a process of its own.

Arguments: folder, samples, steps, workers, address of a scheduler or `-`.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    from conftest import make, make_plan

    from mno.core.errors import MnoError
    from mno.data.config import ExecutionConfig

    folder, samples, steps, workers, scheduler = sys.argv[1:]
    execution = ExecutionConfig(
        workers=int(workers), scheduler=None if scheduler == "-" else scheduler
    )
    try:
        make(Path(folder), make_plan(samples=int(samples), steps=int(steps)), execution)
    except MnoError as error:
        sys.exit(str(error))
