"""The verdict: what the metrics come to, in plain words."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mno.evaluation.words import number, percent

CLEARLY_BETTER = 3.0  # a surrogate should be at least so many times better than the mean field


@dataclass(frozen=True)
class Verdict:
    """What the metrics come to.

    Attributes:
        good: Whether the surrogate is clearly better than the simplest baseline.
        headline: The finding, one sentence.
        advice: What follows from it, one or two sentences.
    """

    good: bool
    headline: str
    advice: str


def verdict(metrics: Mapping[str, Any]) -> Verdict:
    """Judge a surrogate's relative L2 against predicting the training split's mean field.

    Args:
        metrics: What `Evaluation.metrics()` returned.
    """
    error, baseline = metrics["relative_l2"], metrics["baseline_relative_l2"]
    if not math.isfinite(error):
        return Verdict(
            False,
            "The model's predictions are not usable: its test error is not a finite number.",
            "Do not use this model. Training most likely diverged; look at the loss curves and "
            "lower the learning rate.",
        )
    found = f"Test error {percent(error)} (relative L2)"
    mean_field = f"predicting the mean field ({percent(baseline)})"
    if error <= baseline / CLEARLY_BETTER:
        times = (
            f"{number(baseline / error, 2)} times smaller than"
            if error
            else "none at all, as against"
        )
        return Verdict(
            True,
            f"{found}, {times} {mean_field}.",
            "Whether that is good enough depends on the use: look at the worst sample below, and "
            "at what this report does not say.",
        )
    if error >= baseline:
        comparison = f"no better than {mean_field}"
    else:
        comparison = f"only {number(baseline / error, 2)} times smaller than {mean_field}"
    return Verdict(
        False,
        f"{found}, {comparison}.",
        f"Do not rely on this model: it should be at least {number(CLEARLY_BETTER, 1)} times "
        "better than a guess that ignores the input. More samples, more epochs or a larger model "
        "are the usual remedies.",
    )
