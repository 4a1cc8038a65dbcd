"""The error over all outputs in sentences: how large, how sure, and against the baselines."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mno.report.language import Words
    from mno.report.results import Known

_GUESSES = {"baseline_relative_l2": "mean_field", "persistence_relative_l2": "kept_frame"}


def summary(metrics: Known, words: Words) -> list[str]:
    """Return one sentence on the error, and one on each guess that needs no model.

    Args:
        metrics: `reports/metrics.json`.
        words: Those of the section.
    """
    intervals = metrics["intervals"]
    error = words.percent(metrics["relative_l2"])
    ends = intervals["relative_l2"]
    if not _known(ends):
        return [words("summary.unsure", error=error)]
    said = {
        "error": error,
        "low": words.percent(ends[0]),
        "high": words.percent(ends[1]),
        "level": words.percent(intervals["level"]),
        "samples": words.number(metrics["samples"]),
    }
    return [words("summary.error", **said)] + [
        _against(guess, intervals[f"relative_l2_minus_{name}"], words)
        for name, guess in _GUESSES.items()
        if _known(intervals.get(f"relative_l2_minus_{name}"))
    ]


def _against(guess: str, ends: list[float], words: Words) -> str:
    """Say by how much the model is better or worse than a guess, on the same samples."""
    low, high = sorted(abs(end) for end in ends)
    key = "better" if ends[1] < 0 else "worse" if ends[0] > 0 else "alike"
    return words(
        f"summary.{key}",
        guess=words(f"term.{guess}"),
        low=words.number(100 * low, 3),
        high=words.number(100 * high, 3),
    )


def _known(ends: list[float] | str | None) -> bool:
    return isinstance(ends, list) and all(math.isfinite(end) for end in ends)
