"""Key performance indicators: what was measured, against what is asked for."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from mno.core.errors import InputError
from mno.evaluation.decision.config import KpiConfig

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
    value: float | str
    interval: tuple[float, float] | None = None

    @property
    def status(self) -> Status:
        """Whether the target is met; undecided where the interval has it inside.

        What is not a finite number misses.
        """
        if isinstance(self.value, str):
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
    config: KpiConfig, metrics: Known, cost: Known, speedup: float | str
) -> tuple[Kpi, ...]:
    """Return the indicators that have a target, errors first.

    Args:
        config: What is asked for.
        metrics: `reports/metrics.json`; its `intervals` are used where it has some.
        cost: `reports/cost.json`.
        speedup: How many times faster than a solve a prediction is; or why that is not known.
    """
    return tuple(_wanted(config, metrics, cost, speedup))


def _wanted(config: KpiConfig, metrics: Known, cost: Known, speedup: float | str) -> Iterator[Kpi]:
    intervals = metrics.get("intervals", {})
    if config.relative_l2 is not None:
        yield Kpi(
            "relative_l2", None, "1", config.relative_l2, "at_most", metrics["relative_l2"],
            _interval(intervals.get("relative_l2")),
        )  # fmt: skip
    for name in _OF_FIELDS:
        for field, target in getattr(config, name).items():
            figures, bounds = metrics["fields"].get(field, {}), intervals.get("fields", {})
            value = figures.get(name, f"the model does not predict {field}")
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


def _interval(found: Sequence[float] | str | None) -> tuple[float, float] | None:
    """Return an interval of finite ends; none where there is none."""
    if found is None or isinstance(found, str) or not all(map(math.isfinite, found)):
        return None
    low, high = found
    return float(low), float(high)
