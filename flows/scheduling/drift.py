"""Drift: the inputs that `mno serve` is asked for, beside those the model was trained on.

The service keeps counts by version (`mno.serving.counts`). What had been counted already when drift
led to a run before is taken off, so that one drift does not retrain every night.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from flows.scheduling.config import DriftConfig
from flows.scheduling.journal import read_journal
from flows.scheduling.reasons import Reason
from mno.serving.counts import read

Counts = dict[str, dict[str, float]]


def served(root: Path, model: str) -> Counts:
    """Return what the services of a workspace have counted, by version of one model.

    Args:
        root: The workspace.
        model: Its registered name, as `mno-darcy`.

    Returns:
        For each version, as `mno-darcy/3`: `judged` (samples of which it is known whether they are
        like the training data), `flagged` (those that are not), `bounded` (those with a finite
        bound on their error) and `bound`, the sum of these bounds.
    """
    return {
        name: {
            **{key: float(seen[key]) for key in ("judged", "flagged", "bounded")},
            "bound": (seen["mean_bound"] or 0.0) * seen["bounded"],
        }
        for name, seen in read(root).items()
        if name.startswith(f"{model}/")
    }


def drift(root: Path, model: str, config: DriftConfig) -> Reason | None:
    """Say whether what was served since the last run for drift is unlike the training data.

    Args:
        root: The workspace.
        model: Registered name of the model.
        config: Thresholds.
    """
    before: Counts = next(
        (run["served"] for run in reversed(read_journal(root).runs) if run.get("served")), {}
    )
    found = []
    for name, counts in served(root, model).items():
        fresh = {key: counts[key] - before.get(name, {}).get(key, 0.0) for key in _KEYS}
        if min(fresh.values()) < 0:  # the counts began anew
            fresh = counts
        found += _judge(name, fresh, config)
    return Reason("drift", "; ".join(found)) if found else None


_KEYS = ("judged", "flagged", "bounded", "bound")


def _judge(name: str, counts: Mapping[str, float], config: DriftConfig) -> list[str]:
    samples = counts["judged"]
    if samples < config.least_samples:
        return []
    found = []
    share = counts["flagged"] / samples
    if config.flagged_share is not None and share > config.flagged_share:
        found.append(
            f"{share:.0%} of {samples:.0f} inputs served by {name} are unlike its training data "
            f"(above {config.flagged_share:.0%})"
        )
    mean = counts["bound"] / max(counts["bounded"], 1.0)
    if config.mean_bound is not None and mean > config.mean_bound:
        found.append(
            f"the mean bound on the error of {counts['bounded']:.0f} predictions by {name} is "
            f"{mean:.2%} (above {config.mean_bound:.2%})"
        )
    return found
