"""The time of exponentials alone: the floor of a scan, which needs one per state and step."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import torch
from numba import njit
from numpy.polynomial import Chebyshev, Polynomial, chebyshev

BLOCK = 4096
"""Arguments of a block, which stays in the innermost cache."""


def exponential_loops(count: int, threads: int) -> dict[str, Callable[[], object]]:
    """Return functions that evaluate `count` exponentials, by what computes them.

    Both work on blocks in cache, the arguments at hand and the results written over each other.
    """
    repeats = -(-count // (BLOCK * threads))
    pool = ThreadPoolExecutor(threads)
    return {
        name: partial(_in_threads, pool, function, repeats, threads)
        for name, function in {
            "a polynomial compiled by numba": _compiled,
            "`torch.exp2`": _by_torch,
        }.items()
    }


def _in_threads(
    pool: ThreadPoolExecutor, function: Callable[[int], None], repeats: int, threads: int
) -> None:
    list(pool.map(function, [repeats] * threads))


def _by_torch(repeats: int) -> None:
    x = torch.linspace(-20, 0, BLOCK)
    out = torch.empty_like(x)
    for _ in range(repeats):
        torch.exp2(x, out=out)


def _compiled(repeats: int) -> None:
    x = np.linspace(-20, 0, BLOCK, dtype=np.float32)
    exp2_repeatedly(x, np.empty_like(x), repeats)


def _coefficients() -> tuple[np.float32, ...]:
    """Fit (2^r - 1) / r on [-1/2, 1/2], so that 2^r is exact at 0 and 3e-7 accurate elsewhere."""
    r = np.cos(np.pi * (np.arange(400) + 0.5) / 400) / 2
    fitted: Any = Chebyshev(chebyshev.chebfit(2 * r, np.expm1(r * np.log(2)) / r, 4), [-0.5, 0.5])
    return tuple(np.float32(c) for c in fitted.convert(kind=Polynomial).coef)


C0, C1, C2, C3, C4 = _coefficients()
ONE = np.float32(1)


@njit(nogil=True, fastmath={"contract", "nsz"}, error_model="numpy", boundscheck=False)
def exp2_repeatedly(x: np.ndarray, out: np.ndarray, repeats: int) -> None:
    """Write 2^x into `out`, `repeats` times over; x from -126 to 126."""
    for _ in range(repeats):
        for i in range(x.size):
            k = np.rint(x[i])
            r = x[i] - k
            power = ((((C4 * r + C3) * r + C2) * r + C1) * r + C0) * r + ONE
            scale = np.int32((np.int32(k) + np.int32(127)) << np.int32(23))
            out[i] = power * scale.view(np.float32)
