"""What tests of scenarios measure."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from scipy.sparse import csr_array, lil_array


def assert_orders(errors, low, high):
    """Errors fall with orders between two from one halving to the next."""
    orders = np.log2(np.divide(errors[:-1], errors[1:]))
    assert np.all((orders > low) & (orders < high)), orders


def changes(levels, size=np.linalg.norm):
    """How large the changes from one level of refinement to the next are."""
    return [float(size(b - a)) for a, b in zip(levels, levels[1:], strict=False)]


def relative(found, expected):
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def block_means(field, n):
    """Means over blocks of cells, so that n are left along either of the last two axes."""
    m = field.shape[-1] // n
    return field.astype(np.float64).reshape(*field.shape[:-2], n, m, n, m).mean(axis=(-3, -1))


def five_points(values, outer):
    """What flows out of each cell of a square, written cell by cell as one would on paper.

    Harmonic means between cells; `outer` says what passes the wall, given the cell's value.
    """
    n = len(values)
    matrix = lil_array((n * n, n * n))
    for i, j in np.ndindex(n, n):
        here = values[i, j]
        for k, m in ((i - 1, j), (i + 1, j), (i, j - 1), (i, j + 1)):
            inside = 0 <= k < n and 0 <= m < n
            passed = 2.0 / (1.0 / here + 1.0 / values[k, m]) if inside else outer(here)
            matrix[i * n + j, i * n + j] += passed
            if inside:
                matrix[i * n + j, k * n + m] = -passed
    return csr_array(matrix)


def draws(scenario, name, number):
    return np.stack([scenario.sample(np.random.default_rng(k))[name] for k in range(number)])


def assert_threads_give_the_bits_of_one(bits, cases):
    alone = [bits(case) for case in cases]
    assert len(set(alone)) == len(cases)
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(bits, [*cases] * 4)) == alone * 4
