from __future__ import annotations

import pytest

from mno.core.config import section
from mno.core.errors import InputError
from mno.training.config import TrainConfig


def test_whole_numbers_are_taken_where_real_numbers_are_expected():
    config = section({"train": {"learning_rate": 1, "weight_decay": 0}}, "train", TrainConfig)
    assert (config.learning_rate, config.weight_decay) == (1.0, 0.0)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("epochs", 0),
        ("epochs", 1.5),
        ("epochs", True),
        ("epochs", "10"),
        ("batch_size", -1),
        ("learning_rate", 0),
        ("learning_rate", "1e-3"),
        ("learning_rate", True),
        ("learning_rate", float("nan")),
        ("weight_decay", -0.1),
        ("warmup_fraction", 1.0),
        ("gradient_clip", 0.0),
        ("gradient_clip", float("inf")),
        ("patience", 0),
        ("threads", 0),
        ("loss", "l1"),
        ("residual_weight", -1.0),
        ("augment", 1),
        ("input_noise", float("inf")),
        ("input_mask", 1.0),
        ("ema_decay", 1.0),
        ("accumulate", 0),
        ("precision", 16),
        ("precision", "32"),
        ("warm_start", 3),
        ("momentum", 0.9),
    ],
)
def test_a_value_that_does_not_fit_is_named_in_one_line(key, value):
    with pytest.raises(InputError) as caught:
        section({"train": {key: value}}, "train", TrainConfig)
    assert f"train.{key}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_parameter_is_described():
    assert all(field.description for field in TrainConfig.model_fields.values())
