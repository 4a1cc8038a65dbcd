"""Options of training: refused where they do not fit, and what follows from them."""

from __future__ import annotations

import numpy as np
import pytest
from smoothing_problem import TRAINING

from mno.core.config import section
from mno.core.errors import InputError
from mno.core.fields import Axis, Field
from mno.core.forecast import Forecast, TaskConfig, forecast_of
from mno.training.config import TrainConfig, nested_samples, with_as_many_steps


def test_whole_numbers_are_taken_where_real_numbers_are_expected():
    config = section({"train": {"learning_rate": 1, "weight_decay": 0}}, "train", TrainConfig)
    assert (config.learning_rate, config.weight_decay) == (1.0, 0.0)


REFUSED = {
    "epochs": [0, 1.5, True, "10"],
    "batch_size": [-1],
    "learning_rate": [0, "1e-3", True, float("nan")],
    "weight_decay": [-0.1],
    "warmup_fraction": [1.0],
    "gradient_clip": [0.0, float("inf")],
    "patience": [0],
    "threads": [0],
    "loss": ["l1"],
    "residual_weight": [-1.0],
    "augment": [1],
    "input_noise": [float("inf")],
    "input_mask": [1.0],
    "ema_decay": [1.0],
    "accumulate": [0],
    "precision": [16, "32"],
    "warm_start": [3],
    "momentum": [0.9],
}


@pytest.mark.parametrize(
    ("key", "value"), [(key, value) for key, values in REFUSED.items() for value in values]
)
def test_a_value_that_does_not_fit_is_named_in_one_line(key, value):
    with pytest.raises(InputError) as caught:
        section({"train": {key: value}}, "train", TrainConfig)
    assert f"train.{key}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_parameter_is_described():
    assert all(field.description for field in TrainConfig.model_fields.values())


def test_a_larger_share_holds_the_smaller_ones() -> None:
    chosen = [set(nested_samples(100, share, 0)) for share in (0.1, 0.25, 0.8)]
    assert [len(samples) for samples in chosen] == [10, 25, 80]
    assert chosen[0] < chosen[1] < chosen[2]


def test_the_seed_draws_the_samples_and_none_twice() -> None:
    first, again, other = (nested_samples(100, 0.5, seed) for seed in (0, 0, 1))
    assert first.tolist() == again.tolist() == sorted(set(first.tolist()))
    assert first.tolist() != other.tolist()
    assert first.dtype == np.int64


@pytest.mark.parametrize(("samples", "share"), [(40, 0.01), (40, 0.99), (1, 0.5)])
def test_a_share_of_none_or_all_is_refused(samples: int, share: float) -> None:
    with pytest.raises(InputError, match="learning_curve.shares"):
        nested_samples(samples, share, 0)


@pytest.mark.parametrize(
    ("samples", "chosen", "epochs", "patience"),
    # 200 steps of an epoch are 8 times 25; 5 of 40 samples are one step, 40 are three.
    [(3200, 400, 40, 80), (3200, 1600, 10, 20), (40, 5, 15, 30)],
)
def test_a_share_takes_as_many_steps(samples: int, chosen: int, epochs: int, patience: int) -> None:
    config = TrainConfig(epochs=5, batch_size=16, patience=10)
    scaled = with_as_many_steps(config, samples, chosen)
    assert (scaled.epochs, scaled.patience) == (epochs, patience)
    assert scaled.model_copy(update={"epochs": 5, "patience": 10}) == config


def test_a_step_of_several_batches_counts_once() -> None:
    config = TrainConfig(epochs=6, batch_size=4, accumulate=2)  # 10 batches: 5 steps; 3 batches: 2
    assert with_as_many_steps(config, 40, 12).epochs == 15


def test_the_samples_of_a_share_are_those_of_the_split() -> None:
    taken = TRAINING.take(np.array([1, 4]))
    assert taken.indices.tolist() == TRAINING.indices[[1, 4]].tolist()
    for name, field in taken.fields.items():
        np.testing.assert_array_equal(field, TRAINING.fields[name][[1, 4]])


STATE = Field("heat", "K", "heat", "state", ("time", "x"))


def forecast(times: np.ndarray) -> Forecast:
    points = np.asarray(times, dtype=np.float64)
    axis = Axis("time", "s", "time", points, (points[0], points[-1]))
    found = forecast_of(TaskConfig(), (STATE,), (axis,))
    assert found is not None
    return found


@pytest.mark.parametrize(("start", "end", "frames"), [(0, 5, 101), (0, 2, 101), (90, 100, 1001)])
def test_times_that_were_rounded_to_float32_are_at_equal_distances(
    start: float, end: float, frames: int
):
    times = np.linspace(start, end, frames, dtype=np.float32)
    step = (end - start) / (frames - 1)
    assert forecast(times).interval == pytest.approx(step, rel=1e-12)


def test_the_distance_of_exact_times_is_that_of_the_first():
    times = np.linspace(0, 0.7, 8)
    assert forecast(times).interval == times[1] - times[0]


@pytest.mark.parametrize("change", [1e-4, -1e-4])
def test_a_frame_that_is_off_by_more_than_rounding_is_refused(change: float):
    times = np.linspace(0, 5, 101, dtype=np.float32)
    times[50] += change
    with pytest.raises(InputError, match="expected equal distances"):
        forecast(times)


def test_times_too_late_to_tell_frames_apart_are_refused():
    with pytest.raises(InputError, match="expected equal distances"):
        forecast(np.float32(1e7) + np.array([0, 1, 3, 4], dtype=np.float32))
