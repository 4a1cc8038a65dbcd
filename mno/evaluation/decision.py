"""The verdict on a surrogate: indicators against targets, and what speaks for and against it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from mno.core.absent import Absent
from mno.core.errors import InputError
from mno.evaluation.break_even import BreakEven, break_even
from mno.evaluation.config import EconomicsConfig, KpiConfig

if TYPE_CHECKING:
    from mno.evaluation.config import EconomicsConfig, KpiConfig


Known = Mapping[str, Any]
Bound = Literal["at_most", "at_least"]
Status = Literal["met", "missed", "undecided", "unknown"]


@dataclass(frozen=True)
class Kpi:
    """One indicator.

    Attributes:
        name: Of the parameter under `evaluate.kpis`.
        field: The output field it is of; none where it is of the whole.
        unit: Of value and target; `1` for fractions and factors.
        target: What is asked for.
        bound: Whether the value has to be `at_most` or `at_least` that.
        value: What was measured; or, in one line, why it is not known.
        interval: Where the value lies with confidence, given the test samples; none if not known.
    """

    name: str
    field: str | None
    unit: str
    target: float
    bound: Bound
    value: float | Absent
    interval: tuple[float, float] | None = None

    @property
    def status(self) -> Status:
        """Whether the target is met; undecided where the interval has it inside.

        What is not a finite number misses.
        """
        if isinstance(self.value, Absent):
            return "unknown"
        if not math.isfinite(self.value):
            return "missed"
        if self.interval is not None and self.interval[0] < self.target < self.interval[1]:
            return "undecided"
        at_most = self.bound == "at_most"
        met = self.value <= self.target if at_most else self.value >= self.target
        return "met" if met else "missed"

    @property
    def is_accuracy(self) -> bool:
        """Whether it is about errors, not about cost."""
        return self.name in ("relative_l2", *_OF_FIELDS)

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON takes it."""
        return {**vars(self), "status": self.status}


_OF_FIELDS = ("rmse", "max_error")
_OF_COST: Mapping[str, tuple[str, str, Bound]] = {
    "latency_ms": ("latency_ms", "ms", "at_most"),
    "latency_p95_ms": ("latency_p95_ms", "ms", "at_most"),
    "throughput_per_s": ("throughput_per_s", "1/s", "at_least"),
    "memory_mib": ("peak_memory_mib", "MiB", "at_most"),
}
"""By indicator its key in `reports/cost.json`, unit and kind of bound."""


def check_kpis(config: KpiConfig, outputs: Sequence[str]) -> None:
    """Refuse indicators of fields that are not predicted.

    Args:
        config: What is asked for.
        outputs: Names of the fields that are.

    Raises:
        InputError: One is of another field.
    """
    for name in _OF_FIELDS:
        for field in getattr(config, name):
            if field not in outputs:
                raise InputError(
                    f"evaluate.kpis.{name}.{field}: {field} is not predicted here; expected "
                    f"{' or '.join(outputs)}"
                )


def indicators(
    config: KpiConfig, metrics: Known, cost: Known, speedup: float | Absent
) -> tuple[Kpi, ...]:
    """Return the indicators that have a target, errors first.

    Args:
        config: What is asked for.
        metrics: `reports/metrics.json`; its `intervals` are used where it has some.
        cost: `reports/cost.json`.
        speedup: How many times faster than a solve a prediction is; or why that is not known.
    """
    return tuple(_wanted(config, metrics, cost, speedup))


def _wanted(
    config: KpiConfig, metrics: Known, cost: Known, speedup: float | Absent
) -> Iterator[Kpi]:
    intervals = metrics.get("intervals", {})
    if config.relative_l2 is not None:
        yield Kpi(
            "relative_l2", None, "1", config.relative_l2, "at_most", metrics["relative_l2"],
            _interval(intervals.get("relative_l2")),
        )  # fmt: skip
    for name in _OF_FIELDS:
        for field, target in getattr(config, name).items():
            figures, bounds = metrics["fields"].get(field, {}), intervals.get("fields", {})
            value = figures.get(name, Absent("kpi.not_predicted", {"field": field}))
            yield Kpi(
                name, field, figures.get("unit", ""), target, "at_most", value,
                _interval(bounds.get(field, {}).get(name)),
            )  # fmt: skip
    for name, (key, unit, bound) in _OF_COST.items():
        target = getattr(config, name)
        if target is not None:
            yield Kpi(name, None, unit, target, bound, cost[key])
    if config.speedup is not None:
        yield Kpi("speedup", None, "1", config.speedup, "at_least", speedup)


def _interval(found: Sequence[float] | Absent | None) -> tuple[float, float] | None:
    """Return an interval of finite ends; none where there is none."""
    if found is None or isinstance(found, Absent) or not all(map(math.isfinite, found)):
        return None
    low, high = found
    return float(low), float(high)


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


def about_kpis(
    kpis: Sequence[Kpi], curve: Curve | Absent | None, samples: Known
) -> Iterator[Reason]:
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
    if isinstance(compared, Absent) or isinstance(compared["solver"], Absent):
        return
    solver, model = compared["solver"], compared["model"]
    is_reached = solver["how"] != "at_least" and solver["ms"] <= model["ms"]
    if found.solver_source == "measured" and is_reached:
        values = {"error": model["error"], "solver_ms": solver["ms"], "model_ms": model["ms"]}
        yield Reason("against", "coarser_solver_as_good", values)


def _more_data(kpi: Kpi, curve: Curve | Absent | None, samples: Known) -> dict[str, Any]:
    """Return how many training samples should meet an indicator; nothing where that is unknown."""
    if kpi.name != "relative_l2" or curve is None or isinstance(curve, Absent):
        return {}
    needed = curve.samples_for(kpi.target)
    if needed.middle is None:
        return {}
    solved = samples["all"] / samples["train"]  # for each training sample, others are set aside
    more = max(0.0, needed.middle - samples["train"]) * solved
    return {"samples": round(needed.middle), "low": needed.low, "high": needed.high,
            "more_solves": round(more)}  # fmt: skip


_SIDES = ("against", "condition", "for")


def decide(
    kpi_config: KpiConfig,
    economics: EconomicsConfig,
    *,
    metrics: Known,
    cost: Known,
    samples: Known,
    curve: Curve | Absent | None = None,
    trust: Known | None = None,
) -> dict[str, Any]:
    """Judge a surrogate by its errors, its cost, its targets and the user's own figures.

    It is not worth it where anything speaks against it, worth it on conditions where there are
    some, and worth it otherwise.

    Args:
        kpi_config: The targets.
        economics: The user's own figures.
        metrics: `reports/metrics.json`.
        cost: `reports/cost.json`.
        samples: Number of `train`ing samples, and of `all`.
        curve: The error as a function of the number of training samples, if there is one.
        trust: `reports/trust.json`, where there is one.

    Returns:
        `verdict` (`worth_it`, `worth_it_if`, `not_worth_it`), `reasons` (`side`, `code`, `values`,
        see `Reason`; those that decide first), `kpis` (see `Kpi`), `break_even` (see `BreakEven`)
        and `error`, the relative L2 on the test split.
    """
    pays = break_even(cost, samples["all"], economics)
    speedup = (
        cost["solver"]
        if pays.solver_seconds is None
        else pays.solver_seconds / pays.surrogate_seconds
    )
    kpis = indicators(kpi_config, metrics, cost, speedup)
    found = [
        *about_errors(metrics),
        *about_kpis(kpis, curve, samples),
        *about_solver(pays, cost, economics),
        *about_trust(trust or {}),
    ]
    reasons = sorted(found, key=lambda reason: _SIDES.index(reason.side))  # stable: by weight
    verdict = {"against": "not_worth_it", "condition": "worth_it_if", "for": "worth_it"}
    return {
        "verdict": verdict[reasons[0].side],
        "reasons": [dict(vars(reason)) for reason in reasons],
        "kpis": [kpi.to_dict() for kpi in kpis],
        "break_even": pays.to_dict(economics),
        "error": metrics["relative_l2"],
    }
