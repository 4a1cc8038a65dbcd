"""Windows of consecutive frames: drawn by seed, epoch and sample, whatever interrupts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from reaction_problem import CONFIG, TRAINING, run
from smoothing_problem import weights_of
from test_resume import SignalAt, assert_same

from mno.core.forecast import TaskConfig
from mno.training.batches import Augmentation, TrainingSamples, Windows, turns_of


def test_each_sample_has_its_own_window_whatever_batch_it_is_in():
    frames = 10 * torch.arange(6.0)[:, None] + torch.arange(5.0)
    fields = {"state": frames[..., None], "steady": torch.arange(6.0)[:, None]}
    starts = np.array([0, 3, 1, 2, 0, 3])
    windows = Windows({"state"}, 2, lambda epoch: starts)
    order = np.array([5, 0, 2, 1, 4, 3])
    samples = TrainingSamples(fields, [windows])
    batches = [samples.batch(part, 0) for part in (order[:4], order[4:])]
    found = torch.cat([batch["state"] for batch in batches])[..., 0]
    expected = [[10 * k + starts[k], 10 * k + starts[k] + 1] for k in order]
    assert found.tolist() == expected
    assert torch.cat([batch["steady"] for batch in batches])[:, 0].tolist() == order.tolist()


def test_frames_turn_with_their_sample():
    fields = {name: torch.from_numpy(field) for name, field in TRAINING.fields.items()}
    turns = turns_of(TRAINING.schema)
    choices = np.arange(len(TRAINING)) % len(turns)
    windows = Windows(fields, 3, lambda epoch: np.full(len(TRAINING), 2))
    turned = TrainingSamples(fields, [windows, Augmentation(turns, lambda epoch: choices)])
    batch = turned.batch(np.arange(len(TRAINING)), 0)
    for sample, number in enumerate(choices):
        for name, field in fields.items():
            for frame in range(3):
                alone = turns[number][name](field[sample : sample + 1, 2 + frame][:, None])
                assert torch.equal(batch[name][sample, frame], alone[0, 0])


@pytest.mark.parametrize("pushforward", [False, True])
def test_an_interrupted_training_ends_as_one_that_was_not(tmp_path, pushforward):
    changes = {
        "unroll": 2,
        "pushforward": pushforward,
        "augment": True,
        "input_noise": 0.05,
        "residual_weight": 0.01,
        "ema_decay": 0.9,
        "accumulate": 2,
    }
    config = CONFIG.model_copy(update=changes)

    def train(folder: str, **others):
        return run(tmp_path / folder, TaskConfig(history=2), config=config, **others)

    uninterrupted = train("whole")
    with pytest.raises(KeyboardInterrupt):
        train("broken", observers=[SignalAt(2, epoch=2)])
    assert_same(train("broken"), uninterrupted)


def test_another_unrolling_is_another_training(tmp_path):
    weights = []
    for unroll in (1, 2):
        config = CONFIG.model_copy(update={"unroll": unroll, "epochs": 1})
        surrogate, _ = run(tmp_path / str(unroll), TaskConfig(), config=config)
        weights.append(weights_of(surrogate))
    assert weights[0] != weights[1]
