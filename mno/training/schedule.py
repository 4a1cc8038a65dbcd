"""The learning rate over a training: a linear rise, then half a cosine down to zero."""

from __future__ import annotations

import math


def learning_rate_factor(step: int, num_steps: int, warmup_fraction: float) -> float:
    """Return the share of the peak learning rate at an optimiser step.

    `(s + 1) / w` in the `w` steps of the warm-up, then `(1 + cos(π (s − w) / (n − w))) / 2`.

    Args:
        step: `s`, counted from 0.
        num_steps: `n`, steps of the whole training.
        warmup_fraction: `w / n`, before rounding.
    """
    warmup = warmup_steps(num_steps, warmup_fraction)
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / (num_steps - warmup)
    return 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))


def warmup_steps(num_steps: int, warmup_fraction: float) -> int:
    """Return the steps of the warm-up; at least one step is left for the descent."""
    return min(round(warmup_fraction * num_steps), num_steps - 1)
