"""Metrics: functions of additive statistics, in physical units.

For prediction p and truth t of one sample, e = p - t, with sums over all points and frames of the
field whose truth is known:

    relative L2         mean over samples of ||e|| / ||t||
    RMSE                sqrt(sum over samples of ||e||^2 / number of points)
    nRMSE               sqrt(sum over samples of ||e||^2 / sum over samples of ||t||^2)
    maximum error       largest |e| of all points of all samples
    boundary RMSE       the RMSE over the outermost points along each space axis, each once
    conserved RMSE      sqrt(mean over samples and frames of (mean of e over the points)^2)
    Fourier RMSE        the RMSE of the part of e in waves of a band (`mno.evaluation.statistics`):
                        k < 4 low, 4 <= k < 12 middle, k >= 12 high, with k waves on the longest
                        side of the domain; the squares of the three add up to that of the RMSE
    relative rise       mean over samples of ||e|| / ||t - r|| where a field is taken less another,
                        r, as a temperature less the ambient one (`mno.core.fields.Field.scale`)
    relative H1         mean over samples of ||e||_H1 / ||t||_H1 (`mno.evaluation.statistics`)

They are those of PDEBench (Takamoto et al. 2022, https://arxiv.org/abs/2210.07182, appendix B), and
H1. Where ours differ: PDEBench's nRMSE averages a ratio per sample, which is the relative L2 here;
nRMSE here is pooled, so it does not let samples of small magnitude dominate. PDEBench counts
corners twice in the boundary RMSE; in the Fourier RMSE it takes one quadrant of the waves and
averages the roots over the shells of a band, whose bounds are the same. On an axis that is periodic
the outermost points are compared all the same, since a dataset does not say so. The mean over the
points is the field's integral, divided by the size of the domain.

Defined answers where a denominator vanishes: a sample whose truth is zero everywhere has no
magnitude of its own, so its error is divided by the root mean square of ||t|| over the split. If
all truths are zero, a relative error is 0 where there is no error and infinite where there is. A
constant field and a single sample need no special case. NaN in a prediction gives NaN. A sample
without any known truth is not measured: its own relative error is NaN, and means leave it out.

A metric that a field has no grid for, or no waves, is `Absent`.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from mno.core.absent import Absent
from mno.evaluation.statistics import Space, Statistics


@dataclass(frozen=True, eq=False)
class Pooled:
    """A function of sums over samples."""

    columns: np.ndarray  # what is summed, shape (sums, samples), float64
    of: Callable[[np.ndarray], np.ndarray]  # the figure, from shape (sums, *any) to (*any)

    def value(self) -> float:
        """Return the figure of all samples; its sums are exact, so order does not matter."""
        sums = np.array([math.fsum(column) for column in self.columns])
        with np.errstate(divide="ignore", invalid="ignore"):
            return float(self.of(sums))

    def per_sample(self) -> np.ndarray:
        """Return the figure of each sample alone, shape `(samples,)`."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return self.of(self.columns)

    def minus(self, other: "Pooled") -> "Pooled":
        """Return the difference of two figures of the same samples."""
        own = len(self.columns)
        columns = np.concatenate([self.columns, other.columns])
        return Pooled(columns, lambda sums: self.of(sums[:own]) - other.of(sums[own:]))


@dataclass(frozen=True, eq=False)
class Largest:
    """The largest of one number per sample, shape `(samples,)`; NaN where it is not measured."""

    values: np.ndarray
    measured: np.ndarray

    def value(self) -> float:
        """Return the largest; NaN where one is, or where no sample was measured."""
        return float(np.max(self.values)) if self.measured.any() else math.nan

    def per_sample(self) -> np.ndarray:
        """Return the number of each sample, shape `(samples,)`; NaN where it was not measured."""
        return np.where(self.measured, self.values, math.nan)


Figure = Pooled | Largest | Absent


@dataclass(frozen=True)
class Metric:
    """A single number that says how far predictions are from the truth; smaller is better.

    Its name is the key in `reports/metrics.json` and in the words of the report's `accuracy`.
    """

    name: str
    physical: bool  # whether it carries the field's unit; otherwise it is a fraction
    figure: Callable[[Statistics], Figure]

    def value(self, statistics: Statistics) -> float | Absent:
        """Return its value over all samples, or why there is none."""
        figure = self.figure(statistics)
        return figure if isinstance(figure, Absent) else figure.value()

    def per_sample(self, statistics: Statistics) -> np.ndarray | Absent:
        """Return its value for each sample alone, shape `(samples,)`, or why there is none."""
        figure = self.figure(statistics)
        return figure if isinstance(figure, Absent) else figure.per_sample()


def mean(values: np.ndarray) -> float:
    """Return the mean by an exact sum, so that order does not matter; NaN without values."""
    return math.fsum(values) / len(values) if len(values) else math.nan


def mean_over(values: np.ndarray, known: np.ndarray) -> Pooled:
    """Return the mean of a number per sample over those that are known; shapes `(samples,)`."""
    columns = np.array([np.where(known, values, 0.0), known], dtype=np.float64)
    return Pooled(columns, lambda sums: sums[0] / sums[1])


def _ratio(squared_error: np.ndarray, squared_size: np.ndarray) -> np.ndarray:
    """Return sqrt(error / size), with 0 for 0 / 0 and infinity for a positive number / 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        found = np.sqrt(squared_error) / np.sqrt(squared_size)
    return np.where(squared_error == 0, 0.0, found)


def relative(statistics: Statistics, norm: str = "", size: str = "squared_truth") -> Pooled:
    """Return the mean of ||p - t|| / ||t|| over the samples measured: in L2, or in `_h1`.

    In place of t may stand its rise, of which the `size` is `squared_rise`.
    """
    squared_error = statistics.per_sample(f"squared_error{norm}")
    squared_size = statistics.per_sample(f"{size}{norm}")
    measured = statistics.measured
    typical = math.fsum(squared_size) / max(int(measured.sum()), 1)
    sizes = np.where(squared_size == 0, typical, squared_size)
    return mean_over(_ratio(squared_error, sizes), measured)


def root_mean(
    statistics: Statistics, squares: str | np.ndarray = "squared_error", count: str = "points"
) -> Pooled:
    """Return the root of squares over a count; by default the root mean square error."""
    values = statistics.per_sample(squares) if isinstance(squares, str) else squares
    columns = np.array([values, statistics.per_sample(count)])
    return Pooled(columns, lambda sums: np.sqrt(sums[0] / sums[1]))


def _nrmse(statistics: Statistics) -> Pooled:
    columns = [statistics.per_sample(name) for name in ("squared_error", "squared_truth")]
    return Pooled(
        np.array([*columns, statistics.measured]),
        lambda sums: np.where(sums[2] > 0, _ratio(sums[0], sums[1]), math.nan),
    )


def _on_grid(figure: Callable[..., Figure], *names: str) -> Callable[[Statistics], Figure]:
    """Return the figure of these names where a grid was measured, and else why there was none."""
    return lambda s: s.space if isinstance(s.space, Absent) else figure(s, *names)


def _in_band(statistics: Statistics, name: str) -> Figure:
    assert isinstance(statistics.space, Space)
    band = statistics.space.band(name)
    if band.start >= band.stop:
        return Absent("grid.too_coarse")
    return root_mean(statistics, statistics.per_sample("error_power")[:, band].sum(axis=1))


METRICS = (
    Metric("relative_l2", False, relative),
    Metric("rmse", True, root_mean),
    Metric("nrmse", False, _nrmse),
    Metric("max_error", True, lambda s: Largest(s.per_sample("max_error"), s.measured)),
    Metric("boundary_rmse", True, _on_grid(root_mean, "squared_boundary_error", "boundary_points")),
    Metric("conserved_rmse", True, _on_grid(root_mean, "squared_mean_error", "frames")),
    Metric("fourier_low_rmse", True, _on_grid(_in_band, "low")),
    Metric("fourier_middle_rmse", True, _on_grid(_in_band, "middle")),
    Metric("fourier_high_rmse", True, _on_grid(_in_band, "high")),
    Metric("relative_h1", False, _on_grid(relative, "_h1")),
)


def relative_l2(statistics: Mapping[str, Statistics]) -> np.ndarray:
    """Return every sample's relative L2, the mean over fields, shape `(samples,)`.

    Fields may differ in unit, so their relative errors are averaged, not their errors. Fields of
    which a sample has no known truth are left out of its mean, which is NaN where that is all.
    """
    errors = np.array([relative(s).per_sample() for s in statistics.values()])
    known = np.array([s.measured for s in statistics.values()])
    if known.all():
        return np.mean(errors, axis=0)
    counts = known.sum(axis=0)
    return np.where(known, errors, 0.0).sum(axis=0) / np.where(counts, counts, math.nan)


def measured(statistics: Mapping[str, Statistics]) -> np.ndarray:
    """Return which samples have a true value of any field, shape `(samples,)`, boolean."""
    return np.any([s.measured for s in statistics.values()], axis=0)


def pooled_relative_l2(statistics: Mapping[str, Statistics]) -> Pooled:
    """Return the mean of `relative_l2` over the samples that were measured."""
    return mean_over(relative_l2(statistics), measured(statistics))


def spectra_of(statistics: Statistics) -> dict[str, list[float]] | Absent:
    """Return mean spectra over the samples and frames of one field, or why there are none.

    It has to be measured with `spectra`, of one sample or more. By `wavenumber` k they hold the
    share of the mean square, in the square of the field's unit, that lies in waves from k to below
    k + 1, of `truth`, `prediction` and `error`; each is added up in the samples' order.
    """
    space = statistics.space
    if not isinstance(space, Space):
        return space
    points = statistics.total("points")
    shares = {
        name: statistics.per_sample(f"{name}_power").cumsum(axis=0)[-1] / points
        for name in ("truth", "prediction", "error")
    }
    return {"wavenumber": space.shells.tolist()} | {n: v.tolist() for n, v in shares.items()}
