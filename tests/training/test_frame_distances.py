from __future__ import annotations

import numpy as np
import pytest

from mno.core.errors import InputError
from mno.core.fields import Axis, Field
from mno.core.forecast import Forecast, TaskConfig, forecast_of

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
