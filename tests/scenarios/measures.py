"""What tests of scenarios measure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from mno.scenarios.base import Scenario


def orders(errors: Sequence[float]) -> np.ndarray:
    """The orders that errors fall with from one halving to the next."""
    return np.log2(np.divide(errors[:-1], errors[1:]))


def changes(levels: Sequence[np.ndarray], size: Callable = np.linalg.norm) -> list[float]:
    """How large the changes from one level of refinement to the next are."""
    return [float(size(b - a)) for a, b in zip(levels, levels[1:], strict=False)]


def relative(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def block_means(field: np.ndarray, n: int) -> np.ndarray:
    """Means over blocks of cells, so that n are left along either of the last two axes."""
    m = field.shape[-1] // n
    return field.astype(np.float64).reshape(*field.shape[:-2], n, m, n, m).mean(axis=(-3, -1))


def draws(scenario: Scenario, name: str, number: int) -> np.ndarray:
    """What as many streams draw of a field."""
    return np.stack([scenario.sample(np.random.default_rng(k))[name] for k in range(number)])


def assert_threads_give_the_bits_of_one(bits: Callable[[Any], bytes], cases: Sequence[Any]) -> None:
    alone = [bits(case) for case in cases]
    assert len(set(alone)) == len(cases)
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(bits, [*cases] * 4)) == alone * 4
