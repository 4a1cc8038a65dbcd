"""Which cell comes next, and how long the rest would take.

The most informative first: a model that has been trained fewer times than others, since a study
with a hole in it answers nothing; among those of as many trainings the one whose error scatters
most over its seeds, relative to its mean; and otherwise the order of the study file.
"""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from mno.study.design import models_of
from mno.study.results import Found, Study, counts


@dataclass(frozen=True)
class Plan:
    """The cells to make, the most informative first, and how many seconds each is expected to take.

    That is none where nothing like it was ever made.
    """

    order: tuple[Found, ...]
    seconds: tuple[float | None, ...]

    def within(self, budget: float | None, workers: int = 1) -> int:
        """Return how many of the first cells fit into a budget in seconds, as far as it is known.

        At least one cell without an expected time is taken: it is how times become known.
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
        return sum(known) / workers if len(known) == len(self.seconds) else None


def make_plan(found: Sequence[Found]) -> Plan:
    """Return which of all cells of a study to make, in order, given what is finished."""
    finished: defaultdict[tuple[str, str], list[float | None]] = defaultdict(list)
    for item in found:
        if item.state == "fresh" and item.record is not None:
            finished[_group(item)].append(item.record["metrics"]["relative_l2"])
    planned = Counter({group: len(errors) for group, errors in finished.items()})
    ranked = []
    for place, item in enumerate(item for item in found if item.state != "fresh"):
        group = _group(item)
        ranked.append((planned[group], -_scatter(finished[group]), place, item))
        planned[group] += 1
    order = tuple(item for *_, item in sorted(ranked, key=lambda rank: rank[:3]))
    return Plan(order, tuple(expected_seconds(item, found) for item in order))


def expected_seconds(planned: Found, found: Iterable[Found]) -> float | None:
    """Return how long a cell will take, from the ones most like it; none where there are none.

    Like it are, in this order: the same model on the same scenario, the same scenario, the same
    model, any cell; stale ones too.
    """
    done = [i for i in found if i.record is not None and i.record["state"] == "done"]
    same_scenario = [i for i in done if i.cell.scenario == planned.cell.scenario]
    same_model = [i for i in done if i.cell.model == planned.cell.model]
    both = [i for i in same_scenario if i.cell.model == planned.cell.model]
    alike = both or same_scenario or same_model or done
    seconds = [float(i.record["seconds"]["all"]) for i in alike if i.record is not None]
    return statistics.median(seconds) if seconds else None


def details(study: Study) -> dict[str, Any]:
    """Return all that is known of a study and its cells."""
    found = study.found()
    plan = make_plan(found)
    turns = {item.cell.name: number for number, item in enumerate(plan.order, 1)}
    return {
        "name": study.name,
        "title": study.spec.title,
        "question": study.spec.question,
        "file": str(study.file),
        **counts(found),
        "expected_seconds": plan.expected(),
        "models": [model.name for model in models_of(study.spec)],
        "states": [
            {
                "cell": item.cell.name,
                "state": item.state,
                "reason": item.reason,
                "width": item.cell.params["model"]["width"],
                "next": turns.get(item.cell.name),
                "relative_l2": (item.record or {}).get("metrics", {}).get("relative_l2"),
            }
            for item in found
        ],
        "strays": study.results.strays(study.cells),
    }


def _group(item: Found) -> tuple[str, str]:
    return item.cell.scenario, item.cell.model.name


def _scatter(errors: Sequence[float | None]) -> float:
    """Return the relative standard deviation of errors; 0 where there are fewer than two."""
    known = [error for error in errors if error]
    return statistics.stdev(known) / statistics.fmean(known) if len(known) > 1 else 0.0
