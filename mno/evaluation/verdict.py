"""The verdict: what the metrics come to, in plain words."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mno.evaluation.words import number, percent

CLEARLY_BETTER = 3.0  # a surrogate should be at least so many times better than a guess


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
    """Judge a surrogate's relative L2 against the better of the guesses that need no model.

    These are the training split's mean field and, of states, the last given frame.

    Args:
        metrics: What `Evaluation.metrics()` returned.
    """
    error = metrics["relative_l2"]
    baseline, guess, blind = _best_guess(metrics)
    if not math.isfinite(error):
        return Verdict(
            False,
            "The model's predictions are not usable: its test error is not a finite number.",
            "Do not use this model. Training most likely diverged; look at the loss curves and "
            "lower the learning rate.",
        )
    found = f"Test error {percent(error)} (relative L2)"
    guessing = f"{guess} ({percent(baseline)})"
    if error <= baseline / CLEARLY_BETTER:
        times = (
            f"{number(baseline / error, 2)} times smaller than"
            if error
            else "none at all, as against"
        )
        return Verdict(
            True,
            f"{found}, {times} {guessing}.",
            "Whether that is good enough depends on the use: look at the worst sample below, and "
            "at what this report does not say.",
        )
    if error >= baseline:
        comparison = f"no better than {guessing}"
    else:
        comparison = f"only {number(baseline / error, 2)} times smaller than {guessing}"
    return Verdict(
        False,
        f"{found}, {comparison}.",
        f"Do not rely on this model: it should be at least {number(CLEARLY_BETTER, 1)} times "
        f"better than a guess that {blind}. More samples, more epochs or a larger model are the "
        "usual remedies.",
    )


def _best_guess(metrics: Mapping[str, Any]) -> tuple[float, str, str]:
    """Return the smaller error of the guesses, which of them it is, and what it is blind to."""
    mean_field = metrics["baseline_relative_l2"]
    kept = metrics.get("persistence_relative_l2", math.inf)
    if kept < mean_field:
        return kept, "keeping the last given frame", "nothing changes"
    return mean_field, "predicting the mean field", "ignores the input"
