"""What is said of more training samples: exact curves, noisy ones, floors, too few points."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from mno.core.absent import Absent
from mno.evaluation.learning import FURTHEST, LearningCurve, fit_points

SIZES = (400, 800, 1600, 3200)


def power_law(n: float, exponent: float = 0.5, floor: float = 0.0, level: float = 0.04) -> float:
    return level * ((1 - floor) * (n / SIZES[-1]) ** -exponent + floor)


def fitted(exponent: float = 0.5, floor: float = 0.0, sizes=SIZES) -> LearningCurve:
    return LearningCurve.fit(sizes, [power_law(n, exponent, floor) for n in sizes])


@pytest.mark.parametrize("exponent", [0.25, 0.5, 1.0])
def test_an_exact_power_law_is_carried_on(exponent: float) -> None:
    curve = fitted(exponent)
    needed = curve.samples_for(power_law(9600, exponent))
    assert needed.low and needed.middle
    assert needed.low <= 9600 * 1.001
    assert needed.high is None or needed.high >= 9600
    assert 9600 / 1.5 < needed.middle < 9600 * 1.5
    assert curve.exponent.low is not None and curve.exponent.high is not None
    assert curve.exponent.low <= exponent + 0.03
    assert curve.exponent.high >= exponent


def test_the_measured_points_themselves_are_reproduced() -> None:
    curve = fitted()
    for n in SIZES:
        error = curve.error(n)
        assert error.middle == pytest.approx(power_law(n), rel=0.03)
        assert error.low < power_law(n) < error.high  # type: ignore[operator]


def test_a_floor_puts_errors_below_it_out_of_reach() -> None:
    curve = fitted(exponent=1.0, floor=0.8)
    assert curve.chance(0.5 * power_law(SIZES[-1])) < 0.1
    assert curve.samples_for(0.5 * power_law(SIZES[-1])).middle is None
    assert curve.floor.low < 0.8 * 0.04 < curve.floor.high  # type: ignore[operator]


def test_fewer_points_say_less() -> None:
    four, three = fitted(), fitted(sizes=SIZES[1:])
    wide, narrow = three.error(12_800), four.error(12_800)
    assert wide.high - wide.low > narrow.high - narrow.low  # type: ignore[operator]


def test_few_measured_samples_say_less_of_the_level() -> None:
    errors = [power_law(n) for n in SIZES]
    sure, unsure = (LearningCurve.fit(SIZES, errors, d).error(3200) for d in (0.0, 0.2))
    assert unsure.high - unsure.low > 3 * (sure.high - sure.low)  # type: ignore[operator]


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    held = []
    for exponent, floor in ((0.3, 0.0), (0.6, 0.0), (0.6, 0.3), (1.0, 0.6)):
        truth = power_law(12_800, exponent, floor)
        for _ in range(25):
            noise = np.exp(rng.normal(0, 0.03, len(SIZES)))
            errors = [power_law(n, exponent, floor) * e for n, e in zip(SIZES, noise, strict=True)]
            found = LearningCurve.fit(SIZES, errors).error(12_800)
            held.append(found.low <= truth <= found.high)  # type: ignore[operator]
    assert 0.82 <= np.mean(held) <= 1.0


def test_several_seeds_tell_of_the_scatter() -> None:
    def width(scatter: float) -> float:
        errors = [power_law(n) * (1 + s * scatter) for n in SIZES for s in (-1, 1)]
        found = LearningCurve.fit(np.repeat(SIZES, 2).tolist(), errors).error(12_800)
        return found.high - found.low  # type: ignore[operator]

    assert width(0.15) > 1.5 * width(0.01)


def test_nothing_is_said_beyond_ten_times_the_samples() -> None:
    curve = fitted()
    assert curve.samples_for(power_law(3200 * 20)).middle is None
    with pytest.raises(ValueError, match="more than 10 times 3200"):
        curve.error(3200 * FURTHEST + 1)


def test_errors_that_do_not_fall_are_not_said_to() -> None:
    curve = LearningCurve.fit(SIZES, [0.04, 0.041, 0.04, 0.04])
    assert curve.chance(0.02) < 0.05
    rising = LearningCurve.fit(SIZES, [0.04, 0.05, 0.06, 0.07])
    assert math.isfinite(rising.error(32_000).middle)  # type: ignore[arg-type]
    assert rising.chance(0.03) < 0.05


@pytest.mark.parametrize(
    ("samples", "errors"),
    [((1, 2), (1.0, 0.5)), ((1, 2, 2), (1.0, 0.5, 0.5)), ((1, 2, 3), (1.0, 0.0, 0.5)),
     ((1, 2, 3), (1.0, math.nan, 0.5))],
)  # fmt: skip
def test_what_is_no_curve_is_refused(samples, errors) -> None:
    with pytest.raises(ValueError, match="3 numbers of samples or more, and errors above 0"):
        LearningCurve.fit(samples, errors)


def point(samples: int, error: float | None) -> dict[str, Any]:
    found = {"relative_l2": error, "standard_error": 0.001, "measured": 400}
    return {"samples": samples, "validation": found, "test": found}


def test_points_without_an_error_are_left_out_and_too_few_are_explained() -> None:
    points = [point(n, power_law(n)) for n in SIZES]
    curve = fit_points({"points": [*points, point(200, None), point(100, 0.0)], "why_off": None})
    assert isinstance(curve, LearningCurve)
    assert curve.largest == 3200
    few = fit_points({"points": [*points[:2], point(3200, None)], "why_off": None})
    assert isinstance(few, Absent) and str(few).startswith("2 numbers of training samples")
    assert fit_points({"points": [], "why_off": "not measured"}) == Absent("learning.off")
