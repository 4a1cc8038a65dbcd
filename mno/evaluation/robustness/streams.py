"""Random streams of trials: one for each thing that is drawn of each sample."""

from __future__ import annotations

import numpy as np

_USES = ("noise", "missing", "block", "solved", "drawn")


def stream(seed: int, use: str, number: int) -> np.random.Generator:
    """Return the random stream of one sample for one use.

    Its key has three numbers more than the keys that datasets are made with, so that it is none of
    theirs, whatever the seed.

    Args:
        seed: `evaluate.robustness.seed`.
        use: What is drawn.
        number: Of the sample.
    """
    key = (0, 0, 0, _USES.index(use), number)
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))
