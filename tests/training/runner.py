"""Training on the small problems of this folder."""

import numpy as np

from mno.data.normalise import Normaliser
from mno.training.batches import TrainingSamples
from mno.training.config import TrainConfig
from mno.training.fit import train

CONFIG = TrainConfig(epochs=4, batch_size=4, learning_rate=1e-2, threads=1)


def runner(make_split, samples, model, config=CONFIG, quiet=True):
    """Return splits for training and validation, and what trains a small model on them.

    Options of `TrainConfig` are given by name, those of `train` likewise.
    """
    training, validation = make_split("train", samples, seed=1), make_split("validation", 5, seed=2)
    usual = {"training": training, "validation": validation, "model": model, "seed": 0}
    usual |= {"config": config, "quiet": quiet}

    def run(work, task=None, **others):
        given = usual | {k: v for k, v in others.items() if k not in TrainConfig.model_fields}
        changes = {k: v for k, v in others.items() if k in TrainConfig.model_fields}
        given["config"] = given["config"].model_copy(update=changes)
        return train(**given, work=work, task=task)

    return training, validation, run


def weights_of(surrogate):
    state = surrogate.operator.state_dict()
    return {name: tensor.numpy().tobytes() for name, tensor in state.items()}


def encoded(description, split):
    return TrainingSamples(split, description.normaliser).batch(np.arange(len(split)), 0)


def as_they_are(split, *changes):
    """Return the samples of a split without a normaliser that alters them."""
    zeros, ones = (dict.fromkeys(split.fields, value) for value in (0.0, 1.0))
    return TrainingSamples(split, Normaliser(zeros, ones), changes)
