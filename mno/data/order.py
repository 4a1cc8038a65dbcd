"""The order in which samples are seen: a function of the seed and the epoch, of nothing else."""

from __future__ import annotations

import numpy as np


def epoch_order(num_samples: int, seed: int, epoch: int) -> np.ndarray:
    """Return the permutation of samples in an epoch.

    Args:
        num_samples: Samples in the training split.
        seed: The run's seed, not negative.
        epoch: Counted from 0.
    """
    sequence = np.random.SeedSequence(seed, spawn_key=(epoch, 0))
    return np.random.default_rng(sequence).permutation(num_samples)
