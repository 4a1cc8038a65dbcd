"""How each stage of `dvc.yaml` reads and writes: one module per stage, run by DVC."""

import ctypes
import os
from contextlib import suppress

# Waiting threads of torch's OpenMP spin briefly, then sleep. Spinning on, the default, makes a step
# of training many times slower on a busy machine; sleeping at once makes it slower on an idle one.
# The library reads this once, when it is loaded.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

# Every layer makes and frees tensors of some megabytes. By default glibc hands these back to the
# system at once, and the pages of the next ones must be cleared again: up to 40 % of a step.
_MMAP_THRESHOLD, _TRIM_THRESHOLD, _TOP_PAD = -3, -1, -2  # of mallopt, in malloc.h
with suppress(AttributeError, OSError, TypeError):  # Other C libraries have no mallopt.
    _libc = ctypes.CDLL(None)
    _libc.mallopt(_MMAP_THRESHOLD, 1 << 30)
    _libc.mallopt(_TRIM_THRESHOLD, (1 << 31) - 1)
    _libc.mallopt(_TOP_PAD, 1 << 26)
