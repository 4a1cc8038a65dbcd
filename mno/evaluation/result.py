"""What an evaluation found: metrics, errors per sample, and the samples worth showing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from mno.core.fields import Field
from mno.evaluation.config import IntervalConfig
from mno.evaluation.errors import OverTime
from mno.evaluation.intervals import intervals_of
from mno.evaluation.metrics import METRICS
from mno.evaluation.overall import mean_relative_l2, measured, relative_l2
from mno.evaluation.spectra import spectra_of
from mno.evaluation.statistics import Statistics

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
        error_maps: Root mean square error at each point of space, over samples and frames, by field
            name; none of unordered points.
        interval_config: Of the metrics' intervals.
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
    error_maps: Mapping[str, np.ndarray] = field(default_factory=dict)
    interval_config: IntervalConfig = IntervalConfig()

    def example(self, rank: str) -> Example:
        """Return the best, the median or the worst sample."""
        return next(example for example in self.examples if rank in example.ranks)

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

    @cached_property
    def intervals(self) -> dict[str, Any]:
        """What `metrics` gives of intervals."""
        return intervals_of(self.ways, self.interval_config)

    @property
    def ways(self) -> dict[str, Mapping[str, Statistics]]:
        """Statistics by way to predict: `""` the surrogate, `baseline_`, and `persistence_`."""
        kept = {"persistence_": self.persistence} if self.persistence else {}
        return {"": self.model, "baseline_": self.baseline, **kept}

    def metrics(self) -> dict[str, Any]:
        """Return all metrics as JSON takes them, what `reports/metrics.json` holds.

        Relative errors are fractions, the others are in the field's unit. A prediction that is
        not a number gives NaN, which Python, DVC and MLflow read, though strict JSON does not.
        Where a metric cannot be, a sentence says why in the surrogate's place, and baselines have
        none. Of a field with gaps, `values` counts what was compared, and `missing` what could not
        be. `intervals` has the same paths as the metrics, with two numbers in their places; see
        `mno.evaluation.intervals`.
        """
        return {
            **{f"{way}relative_l2": mean_relative_l2(s) for way, s in self.ways.items()},
            "samples": len(self.indices),
            "fields": {output.name: self._metrics_of(output) for output in self.outputs},
            "intervals": self.intervals,
        }

    def per_sample(self) -> dict[str, Any]:
        """Return each sample's number and errors, what `reports/per_sample.json` holds.

        With states it also holds the errors of each frame, over all samples, and on grids the mean
        spectra. Of fields with gaps, `values` counts what was compared; where that is 0, an error
        is NaN.
        """
        frames = {"over_time": self.over_time.to_dict()} if self.over_time else {}
        return {
            "sample": self.indices.tolist(),
            "relative_l2": self.relative_l2.tolist(),
            "baseline_relative_l2": self.baseline_relative_l2.tolist(),
            "fields": {output.name: self._per_sample_of(output) for output in self.outputs},
            "spectra": {name: spectra_of(statistics) for name, statistics in self.model.items()},
            **frames,
        }

    def _metrics_of(self, output: Field) -> dict[str, Any]:
        values: dict[str, Any] = {"unit": output.units}
        for way, statistics in self.ways.items():
            found = {metric.name: metric.value(statistics[output.name]) for metric in METRICS}
            values |= {
                f"{way}{name}": value
                for name, value in found.items()
                if not way or not isinstance(value, str)
            }
        if output.gaps:
            counted = self.model[output.name]
            values |= {"values": int(counted.total("points"))}
            values |= {"missing": int(counted.total("missing"))}
        return values

    def _per_sample_of(self, output: Field) -> dict[str, Any]:
        statistics = self.model[output.name]
        found = {metric.name: metric.per_sample(statistics) for metric in METRICS}
        values = {n: v.tolist() for n, v in found.items() if not isinstance(v, str)}
        counts = statistics.per_sample("points").astype(int).tolist()
        return values | ({"values": counts} if output.gaps else {})
