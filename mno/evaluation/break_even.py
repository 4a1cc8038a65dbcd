"""Break-even: after how many solves a surrogate has paid for what was spent on it.

With S spent at first, s for each solve by the solver and p for each prediction, all in seconds of
computing, N solves cost N s by the solver and S + N p by the surrogate, so that

    N = S / (s - p)    if s > p, and never if not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from mno.core.absent import Absent
from mno.evaluation.config import EconomicsConfig

Known = Mapping[str, Any]


@dataclass(frozen=True)
class BreakEven:
    """What it takes for a surrogate to pay.

    Attributes:
        state: `reached` after `solves`; `never`, where a prediction takes as long as a solve or
            longer; `unknown`, where `why` says what is not known.
        solver_seconds: Of one solve, on one core; none if not known.
        solver_source: Whether those are `given` by the user, or `measured`; none if not known.
        surrogate_seconds: Of one prediction, on one core.
        spent: Seconds of computing by `data`, `training`, `learning_curve` (where one was trained)
            and `evaluation`; or, in one line, why not known.
        data_source: Whether those of the data are `recorded`, or `computed` from the number of
            samples and the seconds of a solve.
        solves: After so many it has paid, a whole number.
        days: After so many, at the user's number of queries per day.
        saved_a_day: Seconds of computing that are saved in a day, at that number.
        no_solver: Why the seconds of a solve are not known.
    """

    state: Literal["reached", "never", "unknown"]
    solver_seconds: float | None
    solver_source: Literal["given", "measured"] | None
    surrogate_seconds: float
    spent: Mapping[str, float | Absent]
    data_source: Literal["recorded", "computed"]
    solves: int | None = None
    days: float | None = None
    saved_a_day: float | None = None
    no_solver: Absent | None = None

    @property
    def why(self) -> Absent | str | None:
        """What is not known: of the solver, or in one line of each part of what was spent."""
        if self.state != "unknown" or self.no_solver is not None:
            return self.no_solver
        missing = [f"{name} {why}" for name, why in self.spent.items() if isinstance(why, Absent)]
        return "; ".join(missing)

    @property
    def total_spent(self) -> float | None:
        """Seconds of computing spent at first; none if not known."""
        known = [seconds for seconds in self.spent.values() if not isinstance(seconds, Absent)]
        return sum(known) if len(known) == len(self.spent) else None

    def to_dict(self, economics: EconomicsConfig) -> dict[str, Any]:
        """Return it as JSON takes it, with the price of what is spent and saved if one is given."""
        known = {name: value for name, value in vars(self).items() if name != "no_solver"}
        more = {"why": self.why, "total_spent": self.total_spent, "money": self._money(economics)}
        return known | more

    def _money(self, economics: EconomicsConfig) -> dict[str, Any] | None:
        if economics.hourly_rate is None:
            return None
        a_second = economics.hourly_rate / 3600
        amounts = {
            "spent": self.total_spent,
            "a_solve": self.solver_seconds,
            "a_prediction": self.surrogate_seconds,
            "saved_a_day": self.saved_a_day,
        }
        priced = {name: None if s is None else s * a_second for name, s in amounts.items()}
        return {"currency": economics.currency, "hourly_rate": economics.hourly_rate, **priced}


def solves_to_break_even(spent: float, solver: float, surrogate: float) -> int | None:
    """Return after how many solves the surrogate has cost no more than the solver; none if never.

    Args:
        spent: Before the first use.
        solver: For one solve.
        surrogate: For one prediction, in the same unit.
    """
    saved = solver - surrogate
    return math.ceil(spent / saved) if saved > 0 and math.isfinite(spent / saved) else None


def break_even(cost: Known, samples: int, economics: EconomicsConfig) -> BreakEven:
    """Return what it takes for a surrogate to pay.

    Where the user names the cost of a solve, the data are taken to cost as much per sample; so are
    they where nobody has recorded what they took.

    Args:
        cost: `reports/cost.json`.
        samples: Of the whole dataset.
        economics: The user's own figures.
    """
    solver = cost["solver"]
    given = economics.solver_seconds
    measured = None if isinstance(solver, Absent) else 1e-3 * solver["ms"]
    seconds = measured if given is None else given
    surrogate = 1e-3 * cost["latency_ms"]
    recorded = {stage: _cpu_seconds(found) for stage, found in cost["spent"].items()}
    computed = seconds is not None and (
        given is not None or isinstance(recorded["generate"], Absent)
    )
    spent = {
        "data": samples * seconds if computed and seconds is not None else recorded["generate"],
        **{part: recorded[stage] for part, stage in _PARTS.items() if stage in recorded},
    }
    source = None if seconds is None else "measured" if given is None else "given"
    basis = BreakEven(
        "unknown", seconds, source, surrogate, spent, "computed" if computed else "recorded"
    )
    return _concluded(basis, cost, economics)


_PARTS = {"training": "train", "learning_curve": "learning_curve", "evaluation": "evaluate"}


def _concluded(basis: BreakEven, cost: Known, economics: EconomicsConfig) -> BreakEven:
    if basis.solver_seconds is None:
        return replace(basis, no_solver=cost["solver"])
    saved = basis.solver_seconds - basis.surrogate_seconds
    if saved <= 0:
        return replace(basis, state="never")
    queries = economics.queries_per_day
    a_day = None if queries is None else queries * saved
    if basis.total_spent is None:
        return replace(basis, saved_a_day=a_day)
    solves = solves_to_break_even(basis.total_spent, basis.solver_seconds, basis.surrogate_seconds)
    days = None if queries is None or solves is None else solves / queries
    return replace(basis, state="reached", solves=solves, days=days, saved_a_day=a_day)


def _cpu_seconds(stage: Known | Absent) -> float | Absent:
    return stage if isinstance(stage, Absent) else stage["cpu_seconds"]
