"""Whatever is drawn, averaged or accumulated: an interrupted training ends with the same bits."""

from __future__ import annotations

import dataclasses

import pytest
from smoothing_problem import CONFIG, MODEL, TRAINING, run
from test_resume import CONTEXT, SignalAt, assert_same

from mno.scenarios.base import SQUARE
from mno.training.checkpoint import checkpoints

SYMMETRIC = dataclasses.replace(
    TRAINING, schema=dataclasses.replace(TRAINING.schema, symmetries=SQUARE)
)
DROPPING = MODEL.model_copy(update={"dropout": 0.2})
EVERYTHING = {
    "loss": "h1",
    "augment": True,
    "input_noise": 0.1,
    "input_mask": 0.1,
    "ema_decay": 0.9,
    "accumulate": 2,
}


def train(work, options: dict, model=MODEL, **others):
    config = CONFIG.model_copy(update={"epochs": 4, **options})
    return run(work, config=config, model=model, training=SYMMETRIC, **others)


@pytest.mark.parametrize(
    ("options", "model"),
    [
        ({}, DROPPING),
        ({"augment": True}, MODEL),
        ({"input_noise": 0.1}, MODEL),
        ({"input_mask": 0.3}, MODEL),
        ({"ema_decay": 0.9}, MODEL),
        ({"accumulate": 3, "batch_size": 2}, MODEL),
        ({"precision": "bf16"}, MODEL),
    ],
    ids=["dropout", "augment", "noise", "mask", "ema", "accumulate", "bf16"],
)
def test_an_interrupted_training_ends_as_one_that_was_not(tmp_path, options, model):
    uninterrupted = train(tmp_path / "whole", options, model)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "broken", options, model, observers=[SignalAt(2, epoch=2)])
    assert_same(train(tmp_path / "broken", options, model), uninterrupted)


def train_everything(work) -> None:
    train(work, EVERYTHING, DROPPING, observers=[SignalAt(9, epoch=2)])


def test_a_killed_training_with_everything_on_ends_as_one_that_was_not(tmp_path):
    process = CONTEXT.Process(target=train_everything, args=(tmp_path / "killed",))
    process.start()
    process.join()
    assert process.exitcode == -9
    assert checkpoints(tmp_path / "killed")[0].name.startswith("epoch-00002")
    uninterrupted = train(tmp_path / "whole", EVERYTHING, DROPPING)
    assert_same(train(tmp_path / "killed", EVERYTHING, DROPPING), uninterrupted)
