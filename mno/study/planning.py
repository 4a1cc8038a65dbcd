"""Which cell comes next, and how long the rest would take.

The most informative first: a model that has been trained fewer times than others, since a study
with a hole in it answers nothing; among those of as many trainings the one whose error scatters
most over its seeds, relative to its mean; and otherwise the order of the study file.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from mno.study.results import Found

Group = tuple[str, str]  # scenario and model


@dataclass(frozen=True)
class Plan:
    """What is to be made.

    Attributes:
        order: The cells to make, the most informative first.
        seconds: How long each is expected to take; none where nothing like it was ever made.
    """

    order: tuple[Found, ...]
    seconds: tuple[float | None, ...]

    def within(self, budget: float | None, workers: int = 1) -> int:
        """Return how many of the first cells fit into a budget, as far as it is known.

        At least one cell without an expected time is taken: it is how times become known.

        Args:
            budget: Seconds; none takes all.
            workers: Cells that are made at a time.
        """
        if budget is None:
            return len(self.order)
        left, taken = budget * workers, 0
        for seconds in self.seconds:
            if seconds is None:
                return max(taken, min(taken + workers, len(self.order)))
            if seconds > left:
                break
            left, taken = left - seconds, taken + 1
        return taken

    def expected(self, workers: int = 1) -> float | None:
        """Return how long all would take, in seconds; none where it cannot be known."""
        known = [seconds for seconds in self.seconds if seconds is not None]
        if len(known) < len(self.seconds):
            return None
        return sum(known) / workers


def make_plan(found: Sequence[Found]) -> Plan:
    """Return which cells to make, in order, given what is finished.

    Args:
        found: All cells of a study, in the order of its file.
    """
    order = [item for item in found if item.state != "fresh"]
    finished: dict[Group, list[float]] = {}
    for item in found:
        if item.state == "fresh" and item.record is not None:
            error = item.record["metrics"]["relative_l2"]
            finished.setdefault(_group(item), []).append(error)
    planned: dict[Group, int] = {group: len(errors) for group, errors in finished.items()}
    ranked: list[tuple[tuple[float, float, int], Found]] = []
    for place, item in enumerate(order):
        group = _group(item)
        round_ = planned.get(group, 0)
        planned[group] = round_ + 1
        ranked.append(((round_, -_scatter(finished.get(group, [])), place), item))
    ranked.sort(key=lambda pair: pair[0])
    chosen = tuple(item for _, item in ranked)
    return Plan(chosen, tuple(expected_seconds(item, found) for item in chosen))


def expected_seconds(wanted: Found, found: Iterable[Found]) -> float | None:
    """Return how long a cell will take, from the ones most like it; none where there are none.

    Like it are, in this order: the same model on the same scenario, the same scenario, the same
    model, any cell; stale ones too.
    """
    times: dict[str, list[float]] = {"both": [], "scenario": [], "model": [], "any": []}
    for item in found:
        if item.record is None or item.record["state"] != "done":
            continue
        seconds = _seconds(item.record)
        same = (item.cell.scenario == wanted.cell.scenario, item.cell.model == wanted.cell.model)
        times["any"].append(seconds)
        if same[0]:
            times["scenario"].append(seconds)
        if same[1]:
            times["model"].append(seconds)
        if all(same):
            times["both"].append(seconds)
    for kind in ("both", "scenario", "model", "any"):
        if times[kind]:
            return statistics.median(times[kind])
    return None


def _group(item: Found) -> Group:
    return item.cell.scenario, item.cell.model.name


def _scatter(errors: Sequence[float | None]) -> float:
    """Return the relative standard deviation of errors; 0 where there are fewer than two."""
    known = [error for error in errors if error]
    return statistics.stdev(known) / statistics.fmean(known) if len(known) > 1 else 0.0


def _seconds(record: Any) -> float:
    return float(record["seconds"]["all"])
