"""Memory for results, handed out again when a result is no longer needed.

Memory that is new to a process is dear, a third of a scan's time where it was measured: the system
clears it page by page as it is touched, and the C library returns what is large to the system when
it is freed. So blocks are kept here, up to a limit, and larger ones are made of large pages where
the system has them. As of `torch.empty`, nothing may be assumed about what a block holds.
"""

import math
import mmap
import weakref
from collections import deque
from contextlib import suppress
from threading import RLock
from typing import Any

import numpy as np
import torch
from torch import Tensor

MOST_KEPT = 256 * 2**20
_LARGEST_KEPT = MOST_KEPT // 4  # so that one large result does not drive out all others
_SMALLEST = 2**18  # the C library keeps what is smaller
_GRAIN = 2**16
_LARGE = _LARGE_GRAIN = 2 * 2**20
# Said each time, since torch's defaults are the user's to change.
FLOATS: dict[str, Any] = {"dtype": torch.float32, "device": "cpu"}


def _mapped(size: int) -> mmap.mmap:
    block = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if size >= _LARGE and hasattr(mmap, "MADV_HUGEPAGE"):
        with suppress(OSError):  # on a system without large pages, small ones do
            block.madvise(mmap.MADV_HUGEPAGE)
    return block


class _Kept:
    """The blocks that nobody uses, the oldest first."""

    def __init__(self) -> None:
        self.blocks: deque[mmap.mmap] = deque()
        self.size = 0
        # A tensor may be collected, and give its block back, in the middle of any of these lines.
        self.lock = RLock()

    def take(self, size: int) -> mmap.mmap:
        """Take the block of this size that was given back last, or a new one."""
        with self.lock:
            for block in reversed(self.blocks):
                if len(block) == size:
                    self.blocks.remove(block)
                    self.size -= size
                    return block
        return _mapped(size)

    def give_back(self, block: mmap.mmap) -> None:
        """Keep a block, in place of the oldest ones where there are too many."""
        with self.lock:
            if len(block) <= _LARGEST_KEPT:
                self.blocks.append(block)
                self.size += len(block)
            while self.size > MOST_KEPT:
                self.size -= len(self.blocks.popleft())


_kept = _Kept()


def empty(*shape: int) -> Tensor:
    """Return a contiguous float32 tensor that holds anything, as `torch.empty` does."""
    count = math.prod(shape)
    size = 4 * count
    if size < _SMALLEST:
        return torch.empty(shape, **FLOATS)
    grain = _GRAIN if size < _LARGE else _LARGE_GRAIN
    size = -(-size // grain) * grain
    block = _kept.take(size)
    array = np.frombuffer(block, np.float32, count)
    weakref.finalize(array, _kept.give_back, block).atexit = False
    return torch.from_numpy(array).view(shape)
