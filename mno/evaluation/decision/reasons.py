"""What speaks for and against a surrogate, one finding each."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from mno.evaluation.cost.config import EconomicsConfig
from mno.evaluation.decision.break_even import BreakEven
from mno.evaluation.decision.kpis import Kpi

Known = Mapping[str, Any]
_POINTS = 0.03  # by which the coverage of bounds may fall short
CLEARLY_BETTER = 3.0  # a surrogate should be at least so many times better than a guess


@dataclass(frozen=True)
class Reason:
    """A finding.

    Attributes:
        side: `against` the surrogate, which decides; a `condition` under which it is worth it; or
            `for` it.
        code: What was found; the report has words for it.
        values: The figures that the words need, by name.
    """

    side: Literal["against", "condition", "for"]
    code: str
    values: Mapping[str, Any]


class Curve(Protocol):
    """The error as a function of the number of training samples."""

    @property
    def largest(self) -> int:
        """Most training samples that an error was measured with."""
        ...

    def samples_for(self, error: float) -> Any:
        """Return `middle`, `low` and `high` of the samples that an error takes, None if unknown."""


def about_errors(metrics: Known) -> Iterator[Reason]:
    """Compare the relative L2 with the better of the guesses that need no model.

    These are the training split's mean field and, of states, the last given frame.
    """
    error = metrics["relative_l2"]
    if not math.isfinite(error):
        yield Reason("against", "unusable", {})
        return
    guesses = {
        "mean_field": metrics["baseline_relative_l2"],
        "persistence": metrics.get("persistence_relative_l2", math.inf),
    }
    guess = min(guesses, key=guesses.__getitem__)
    values = {"error": error, "guess": guess, "guess_error": guesses[guess]}
    if error >= guesses[guess] > 0 or error > guesses[guess]:
        yield Reason("against", "no_better_than_guess", values)
    elif error > guesses[guess] / CLEARLY_BETTER:
        times = {"times": guesses[guess] / error, "wanted": CLEARLY_BETTER}
        yield Reason("against", "barely_better_than_guess", values | times)
    else:
        times = guesses[guess] / error if error else None
        yield Reason("for", "better_than_guess", values | {"times": times})


def about_kpis(kpis: Sequence[Kpi], curve: Curve | str | None, samples: Known) -> Iterator[Reason]:
    """Say which targets are missed, undecided or not known, and that there is none for errors.

    Args:
        kpis: The indicators that have a target.
        curve: Of the training samples it takes; a line or None where there is none.
        samples: `train` and `all`: training samples there are, and all that were solved for them.
    """
    for kpi in kpis:
        values = kpi.to_dict()
        if kpi.status == "missed":
            more = _more_data(kpi, curve, samples)
            side = "condition" if more else "against"
            yield Reason(side, "kpi_missed_needs_data" if more else "kpi_missed", values | more)
        elif kpi.status in ("undecided", "unknown"):
            yield Reason("condition", f"kpi_{kpi.status}", values)
    met = sum(kpi.status == "met" for kpi in kpis)
    if kpis and met == len(kpis):
        yield Reason("for", "kpis_met", {"count": met})
    if not any(kpi.is_accuracy for kpi in kpis):
        yield Reason("condition", "no_accuracy_kpi", {})


def about_solver(found: BreakEven, cost: Known, economics: EconomicsConfig) -> Iterator[Reason]:
    """Say whether the surrogate is faster than the solver, and whether and when that pays."""
    prediction, solve = found.surrogate_seconds, found.solver_seconds
    if solve is None:
        yield Reason("condition", "solver_unknown", {"surrogate_seconds": prediction})
        return
    speeds = {"solver_seconds": solve, "surrogate_seconds": prediction}
    if found.state == "never":
        yield Reason("against", "never_pays", speeds)
        return
    yield Reason("for", "faster", {**speeds, "speedup": solve / prediction})
    yield from _about_coarser_solver(found, cost)
    if found.state == "unknown":
        yield Reason("condition", "spent_unknown", {"why": found.why})
    elif found.days is None:
        yield Reason("condition", "volume_unknown", {"solves": found.solves})
    else:
        values = {"solves": found.solves, "days": found.days, "horizon": economics.horizon_days}
        late = found.days > economics.horizon_days
        yield Reason("condition" if late else "for", "pays_late" if late else "pays", values)


def about_trust(trust: Known) -> Iterator[Reason]:
    """Say where the bounds given with predictions hold clearly more seldom than they should.

    That is more than three points below their level, and less often than chance explains.

    Args:
        trust: `reports/trust.json`; empty where nothing is known.
    """
    if not trust:
        return
    rates = [
        (rate["count"] / rate["samples"], field, rate["expected"][0])
        for field, measures in trust["measured"]["coverage"].items()
        for frames in measures.values()
        for rate in frames
        if rate and rate["samples"] and rate["expected"]
    ]
    level = trust["level"]
    failing = [rate for rate in rates if rate[0] < min(level - _POINTS, rate[2])]
    if failing:
        share, field, _ = min(failing)
        yield Reason("condition", "bounds_fail", {"share": share, "level": level, "field": field})


def _about_coarser_solver(found: BreakEven, cost: Known) -> Iterator[Reason]:
    """A solver of the user's own may behave otherwise on coarser grids: then nothing is said."""
    compared = cost["equal_error"]
    if isinstance(compared, str) or isinstance(compared["solver"], str):
        return
    solver, model = compared["solver"], compared["model"]
    is_reached = solver["how"] != "at_least" and solver["ms"] <= model["ms"]
    if found.solver_source == "measured" and is_reached:
        values = {"error": model["error"], "solver_ms": solver["ms"], "model_ms": model["ms"]}
        yield Reason("against", "coarser_solver_as_good", values)


def _more_data(kpi: Kpi, curve: Curve | str | None, samples: Known) -> dict[str, Any]:
    """Return how many training samples should meet an indicator; nothing where that is unknown."""
    if kpi.name != "relative_l2" or curve is None or isinstance(curve, str):
        return {}
    needed = curve.samples_for(kpi.target)
    if needed.middle is None:
        return {}
    solved = samples["all"] / samples["train"]  # for each training sample, others are set aside
    more = max(0.0, needed.middle - samples["train"]) * solved
    return {"samples": round(needed.middle), "low": needed.low, "high": needed.high,
            "more_solves": round(more)}  # fmt: skip
