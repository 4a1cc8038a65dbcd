"""What an evaluation found: metrics, errors per sample, and the samples worth showing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mno.evaluation.errors import OverTime
from mno.evaluation.metrics import METRICS, mean, relative_l2_per_sample
from mno.evaluation.statistics import Statistics
from mno.fields import Field

FieldArrays = dict[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class Example:
    """One sample shown in the report.

    Attributes:
        ranks: What it is among all samples: `best`, `median`, `worst`; several in small splits.
        index: Its number in the store.
        relative_l2: Its error, the mean over output fields.
        inputs: Arrays of shape `(*dims)`, by field name; of states the frames that are given.
        truth: The same for the output fields; of states the frames that are predicted.
        prediction: The same for the output fields.
    """

    ranks: tuple[str, ...]
    index: int
    relative_l2: float
    inputs: FieldArrays
    truth: FieldArrays
    prediction: FieldArrays


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What an evaluation found.

    Attributes:
        split: The split that was predicted; of its fields only the examples are kept in here.
        outputs: The predicted fields.
        model: Statistics of the surrogate's predictions, by field name.
        baseline: Statistics of predicting the training split's mean field, by field name.
        indices: The samples' numbers in the store, in their order.
        examples: The best, the median and the worst sample.
        check_inputs: Inputs of the first samples, by field name, shape `(samples, *dims)`.
        check_predictions: The surrogate's predictions for them, to check the packaged model by.
        persistence: Statistics of keeping the last given frame of states, and the mean field of
            other outputs, by field name; empty without states. Where a value of that frame is
            missing, it is the point's last that is given, or else the mean field's.
        over_time: Errors of single frames; none without states.
    """

    split: str
    outputs: tuple[Field, ...]
    model: Mapping[str, Statistics]
    baseline: Mapping[str, Statistics]
    indices: np.ndarray
    examples: tuple[Example, ...]
    check_inputs: FieldArrays
    check_predictions: FieldArrays
    persistence: Mapping[str, Statistics] = field(default_factory=dict)
    over_time: OverTime | None = None

    @property
    def relative_l2(self) -> np.ndarray:
        """Relative L2 of every sample, the mean over output fields, shape `(samples,)`.

        NaN where a sample has no known truth; see `measured`.
        """
        return relative_l2(self.model)

    @property
    def measured(self) -> np.ndarray:
        """Which samples have a true value of any output field, shape `(samples,)`, boolean."""
        return measured(self.model)

    @property
    def baseline_relative_l2(self) -> np.ndarray:
        """The same for predicting the training split's mean field."""
        return relative_l2(self.baseline)

    def metrics(self) -> dict[str, Any]:
        """Return all metrics as JSON takes them, what `reports/metrics.json` holds.

        Relative errors are fractions, the others are in the field's unit. A prediction that is
        not a number gives NaN, which Python, DVC and MLflow read, though strict JSON does not.
        Of a field with gaps, `values` counts what was compared, and `missing` what could not be.
        """
        kept = {}
        if self.persistence:
            kept = {"persistence_relative_l2": mean_relative_l2(self.persistence)}
        return {
            "relative_l2": mean_relative_l2(self.model),
            "baseline_relative_l2": mean_relative_l2(self.baseline),
            **kept,
            "samples": len(self.indices),
            "fields": {output.name: self._metrics_of(output) for output in self.outputs},
        }

    def per_sample(self) -> dict[str, Any]:
        """Return each sample's number and errors, what `reports/per_sample.json` holds.

        With states it also holds the errors of each frame, over all samples. Of fields with gaps,
        `values` counts what was compared; where that is 0, an error is NaN.
        """
        with_gaps = {output.name for output in self.outputs if output.gaps}
        frames = {"over_time": self.over_time.to_dict()} if self.over_time else {}
        return {
            "sample": self.indices.tolist(),
            "relative_l2": self.relative_l2.tolist(),
            "baseline_relative_l2": self.baseline_relative_l2.tolist(),
            "fields": {
                name: {
                    "relative_l2": relative_l2_per_sample(statistics).tolist(),
                    "max_error": statistics.per_sample("max_error").tolist(),
                    **({"values": _counts(statistics)} if name in with_gaps else {}),
                }
                for name, statistics in self.model.items()
            },
            **frames,
        }

    def _metrics_of(self, output: Field) -> dict[str, Any]:
        values = {"unit": output.units, **_values(self.model[output.name])}
        values |= _values(self.baseline[output.name], "baseline_")
        if self.persistence:
            values |= _values(self.persistence[output.name], "persistence_")
        if output.gaps:
            counted = self.model[output.name]
            values |= {"values": int(counted.total("points"))}
            values |= {"missing": int(counted.total("missing"))}
        return values


def relative_l2(statistics: Mapping[str, Statistics]) -> np.ndarray:
    """Return every sample's relative L2, the mean over fields, shape `(samples,)`.

    Fields may differ in unit, so their relative errors are averaged, not their errors. Fields of
    which a sample has no known truth are left out of its mean, which is NaN where that is all.
    """
    errors = np.array([relative_l2_per_sample(s) for s in statistics.values()])
    known = np.array([s.measured for s in statistics.values()])
    if known.all():
        return np.mean(errors, axis=0)
    counts = known.sum(axis=0)
    return np.where(known, errors, 0.0).sum(axis=0) / np.where(counts, counts, math.nan)


def measured(statistics: Mapping[str, Statistics]) -> np.ndarray:
    """Return which samples have a true value of any field, shape `(samples,)`, boolean."""
    return np.any([s.measured for s in statistics.values()], axis=0)


def mean_relative_l2(statistics: Mapping[str, Statistics]) -> float:
    """Return the mean of `relative_l2` over the samples that were measured; NaN where none was."""
    return mean(relative_l2(statistics)[measured(statistics)])


def _counts(statistics: Statistics) -> list[int]:
    return statistics.per_sample("points").astype(int).tolist()


def _values(statistics: Statistics, prefix: str = "") -> dict[str, float]:
    return {f"{prefix}{metric.name}": metric.value(statistics) for metric in METRICS}
