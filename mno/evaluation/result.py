"""What an evaluation found: metrics, errors per sample, and the samples worth showing."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from mno.core.absent import Absent
from mno.core.fields import Field
from mno.evaluation import metrics
from mno.evaluation.config import IntervalConfig
from mno.evaluation.intervals import intervals_of
from mno.evaluation.statistics import Space, Statistics, of_frames

FieldArrays = dict[str, np.ndarray]
Arrays = Mapping[str, np.ndarray]


class Errors:
    """What was measured of one way to predict: of all outputs, and of each frame of states."""

    def __init__(
        self,
        outputs: Collection[str],
        states: Collection[str],
        spaces: Mapping[str, Space | Absent],
        spectra: bool = False,
    ) -> None:
        self.spectra = spectra
        self.whole = {name: Statistics(space=spaces[name]) for name in outputs}
        self.frames: dict[str, list[Statistics]] = {name: [] for name in states}

    def add(self, predicted: Arrays, truth: Arrays, rises: Mapping[str, np.ndarray] = {}) -> None:
        """Measure a batch of fields `(samples, *dims)`, of states `(samples, frames, *grid)`.

        Of some fields the truth is given less what it is taken less, too.
        """
        for name, before in self.whole.items():
            self.whole[name] = before + Statistics.of(
                predicted[name], truth[name], before.space, self.spectra, rises.get(name)
            )
        for name, before in self.frames.items():
            new = of_frames(predicted[name], truth[name])
            before = before or [Statistics()] * len(new)
            self.frames[name] = [a + b for a, b in zip(before, new, strict=True)]

    def over_time(self) -> np.ndarray:
        """Return the relative L2 of each frame, the mean over samples and states; `(frames,)`.

        NaN where no sample has a known truth.
        """
        frames = zip(*self.frames.values(), strict=True)
        found = ([metrics.relative(s).value() for s in of if s.measured.any()] for of in frames)
        return np.array([metrics.mean(np.array(errors)) for errors in found])


class OverTime(NamedTuple):
    """Errors of each predicted frame, each of shape `(frames,)`; NaN without truth.

    `model`, `baseline` (the training split's mean field at the same time) and `persistence` (the
    last given frame is kept) are relative L2, the mean over states; `rmse` has, by the state's name
    and then `rmse`, `baseline_rmse` and `persistence_rmse`, the RMSE in the state's unit.
    """

    times: np.ndarray
    units: str  # of the times
    model: np.ndarray
    baseline: np.ndarray
    persistence: np.ndarray
    rmse: Mapping[str, Mapping[str, list[float]]]

    def to_dict(self) -> dict[str, object]:
        """Return what `reports/per_sample.json` holds of it."""
        return {
            "time": self.times.tolist(),
            "relative_l2": self.model.tolist(),
            "baseline_relative_l2": self.baseline.tolist(),
            "persistence_relative_l2": self.persistence.tolist(),
            "fields": self.rmse,
        }


@dataclass(frozen=True, eq=False)
class Example:
    """One sample shown in the report; its arrays have shape `(*dims)`, by field name."""

    ranks: tuple[str, ...]  # among all samples: best, median, worst; several in small splits
    index: int  # its number in the store
    relative_l2: float  # the mean over output fields
    inputs: FieldArrays  # of states the frames that are given
    truth: FieldArrays  # of states the frames that are predicted
    prediction: FieldArrays


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What an evaluation found; of the split's fields only the examples are kept in here.

    Ways to predict are `""`, the surrogate; `baseline_`, the training split's mean field; and with
    states `persistence_`, which keeps their last given frame and has the mean field of other
    outputs. A value missing there is the point's last that is given, or else the mean field's.
    """

    outputs: tuple[Field, ...]
    ways: Mapping[str, Errors]
    indices: np.ndarray  # the samples' numbers in the store, in their order
    examples: tuple[Example, ...]  # the best, the median and the worst sample
    check_inputs: FieldArrays  # of the first samples, by field name, shape (samples, *dims)
    check_predictions: FieldArrays  # of them, to check the packaged model by
    times: tuple[np.ndarray, str] | None  # of predicted frames, and their unit; with states
    error_maps: Mapping[str, np.ndarray]  # root mean squares at points of space that are ordered
    interval_config: IntervalConfig

    def example(self, rank: str) -> Example:
        """Return the best, the median or the worst sample."""
        return next(example for example in self.examples if rank in example.ranks)

    @property
    def model(self) -> Mapping[str, Statistics]:
        """Statistics of the surrogate's predictions, by field name."""
        return self.ways[""].whole

    @property
    def relative_l2(self) -> np.ndarray:
        """Relative L2 of every sample, the mean over output fields, shape `(samples,)`.

        NaN where a sample has no known truth; see `measured`.
        """
        return metrics.relative_l2(self.model)

    @property
    def measured(self) -> np.ndarray:
        """Which samples have a true value of any output field, shape `(samples,)`, boolean."""
        return metrics.measured(self.model)

    @property
    def baseline_relative_l2(self) -> np.ndarray:
        """The same for predicting the training split's mean field."""
        return metrics.relative_l2(self.ways["baseline_"].whole)

    @cached_property
    def over_time(self) -> OverTime | None:
        """Errors of single frames; none without states."""
        if self.times is None:
            return None
        rmse = {
            name: {
                f"{way}rmse": [metrics.root_mean(s).value() for s in errors.frames[name]]
                for way, errors in self.ways.items()
            }
            for name in self.ways[""].frames
        }
        return OverTime(*self.times, *(e.over_time() for e in self.ways.values()), rmse=rmse)

    def metrics(self) -> dict[str, Any]:
        """Return what `reports/metrics.json` holds.

        Relative errors are fractions, the others are in the field's unit. A prediction that is
        not a number gives NaN, which Python, DVC and MLflow read, though strict JSON does not.
        Where a metric cannot be, a sentence says why in the surrogate's place, and baselines have
        none. Of a field with gaps, `values` counts what was compared, and `missing` what could not
        be. `intervals` has the same paths as the metrics (`mno.evaluation.intervals`).
        """
        whole = {way: errors.whole for way, errors in self.ways.items()}
        overall = {way: metrics.pooled_relative_l2(fields) for way, fields in whole.items()}
        return {
            **{f"{way}relative_l2": error.value() for way, error in overall.items()},
            "samples": len(self.indices),
            "fields": {output.name: self._metrics_of(output) for output in self.outputs},
            "intervals": intervals_of(whole, self.interval_config),
        }

    def per_sample(self) -> dict[str, Any]:
        """Return what `reports/per_sample.json` holds: each sample's number and errors.

        With states there are the errors of each frame, over all samples, and on grids the mean
        spectra. Of fields with gaps, `values` counts what was compared; at 0 an error is NaN.
        """
        frames = {"over_time": self.over_time.to_dict()} if self.over_time else {}
        return {
            "sample": self.indices.tolist(),
            "relative_l2": self.relative_l2.tolist(),
            "baseline_relative_l2": self.baseline_relative_l2.tolist(),
            "fields": {output.name: self._per_sample_of(output) for output in self.outputs},
            "spectra": {name: metrics.spectra_of(of) for name, of in self.model.items()},
            **frames,
        }

    def _metrics_of(self, output: Field) -> dict[str, Any]:
        values: dict[str, Any] = {"unit": output.units}
        for way, errors in self.ways.items():
            for metric in metrics.METRICS:
                value = metric.value(errors.whole[output.name])
                if not way or not isinstance(value, Absent):
                    values[f"{way}{metric.name}"] = value
        counted = self.model[output.name]
        if counted.knows_rise:
            values["relative_rise"] = metrics.relative(counted, size="squared_rise").value()
        if output.gaps:
            values["values"] = int(counted.total("points"))
            values["missing"] = int(counted.total("missing"))
        return values

    def _per_sample_of(self, output: Field) -> dict[str, Any]:
        statistics = self.model[output.name]
        found = {metric.name: metric.per_sample(statistics) for metric in metrics.METRICS}
        values = {n: v.tolist() for n, v in found.items() if not isinstance(v, Absent)}
        if output.gaps:
            values["values"] = statistics.per_sample("points").astype(int).tolist()
        return values
