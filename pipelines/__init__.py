"""How each stage of `dvc.yaml` reads and writes: one module per stage, run by DVC."""

import os
import time

from mno.core.memory import keep_freed_memory

# Waiting threads of torch's OpenMP spin briefly, then sleep. Spinning on, the default, makes a step
# of training many times slower on a busy machine; sleeping at once makes it slower on an idle one.
# The library reads this once, when it is loaded.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

keep_freed_memory()  # every layer makes and frees tensors of some megabytes

BEGUN = time.monotonic()
"""When this process began, as nearly as it can tell: what runs it imports this package first."""
