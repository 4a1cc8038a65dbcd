"""Accumulation of gradients: several batches that make one optimiser step.

The batches of a step count by their samples, also where the last of an epoch is shorter or the last
step has fewer batches: a step is what it would be with all its samples in one batch.
"""

from __future__ import annotations

from mno.training.config import TrainConfig


def steps_per_epoch(num_samples: int, config: TrainConfig) -> int:
    """Return the optimiser steps of a pass over the training split."""
    return -(-num_samples // (config.batch_size * config.accumulate))


def samples_of_batch(batch: int, num_samples: int, config: TrainConfig) -> int:
    """Return how many samples a batch has; the arguments are those of `samples_of_step`."""
    return min(config.batch_size, num_samples - batch * config.batch_size)


def samples_of_step(batch: int, num_samples: int, config: TrainConfig) -> int:
    """Return how many samples the optimiser step has that a batch belongs to.

    Args:
        batch: Number of the batch in its epoch, counted from 0.
        num_samples: Samples in the training split.
        config: Size of a batch, and batches per step.
    """
    size = config.batch_size * config.accumulate
    start = batch // config.accumulate * size
    return min(size, num_samples - start)
