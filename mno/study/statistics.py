"""Errors over seeds: means with intervals, and paired comparisons corrected for their number.

Two models of a scenario are compared seed by seed: the same seed draws the same order of the
samples. What is compared is the logarithm of the error, so that a difference is a ratio, and two
models of 1 % and 2 % differ by as much as two of 10 % and 20 %. The p values of all comparisons of
a family are corrected by Holm's method (Scand. J. Statist. 6, 65, 1979), whatever depends on what.

The test is a paired t test. From three seeds a pair knows its own scatter badly: Student's test
shows a difference of 20 % between models that scatter by 5 % in 2 of 100 pairs, once corrected for
78 comparisons. So the variance of a pair is moderated (Smyth 2004, Stat. Appl. Genet. Mol. Biol.
3, 3): averaged with the one that is usual among all pairs of the scenario, which weighs the more
the more these are alike. Pairs share models, and so tell less than as many strangers: the usual
variance counts for at most as many degrees of freedom as there are models, less one; and no pair is
taken to scatter less than it was seen to. `tests/study/test_study_report.py` simulates studies
without any difference, and how many name one: more than 5 in 100 where few seeds compare all with
one model that scatters several times as the others do.

Where a study varies the number of samples, the error falls with it as a power: its exponent, and
the comparisons at each number.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Literal, NamedTuple, Self

import numpy as np
from scipy.optimize import root_scalar
from scipy.special import digamma, polygamma, stdtr, stdtrit

from mno.study.results import Found

LEVEL = 0.95  # confidence of intervals; one less it is the error rate of a family of comparisons
MARGIN = 0.1  # relative difference of errors below which two models count as equal

Verdict = Literal["lower", "higher", "equal", "unknown"]


@dataclass(frozen=True)
class Mean:
    """The mean of some values, mostly one for each seed, with the interval of Student's t.

    The ends are none from one value, which does not show how much values differ.
    """

    value: float
    low: float | None
    high: float | None
    seeds: int

    def text(
        self, write: Callable[[float], str], between: str = " to ", least: float = -math.inf
    ) -> str:
        """Return it in words with its interval, if there is one: `2 % (1.9 % to 2.1 %)`.

        Both ends are written with `between` between them; a lower end below `least` as that.
        """
        if self.low is None or self.high is None:
            return write(self.value)
        return f"{write(self.value)} ({write(max(self.low, least))}{between}{write(self.high)})"


@dataclass(frozen=True)
class Comparison:
    """One model against another, over the seeds that both have.

    `ratio` is the error of a over that of b, the geometric mean over seeds, `error` the standard
    error of its logarithm, of so many degrees of `freedom`; `p` is of the moderated paired t test,
    two-sided, and `corrected` the same after Holm's correction for the number of comparisons in its
    `family`. `low` and `high`, the ends of the ratio's interval, are corrected alike: 1 is outside
    where the corrected p is below 5 %. From one seed there is neither interval nor p.
    """

    a: str
    b: str
    ratio: float
    seeds: int
    error: float | None = None
    freedom: float | None = None
    p: float | None = None
    low: float | None = None
    high: float | None = None
    corrected: float | None = None
    family: int = 1

    @property
    def verdict(self) -> Verdict:
        """What can be said: a's error is `lower`, `higher`, `equal` within 10 %, or `unknown`."""
        if self.corrected is None or self.low is None or self.high is None:
            return "unknown"
        if self.corrected < 1 - LEVEL:
            return "lower" if self.ratio < 1 else "higher"
        return "equal" if self.low > 1 / (1 + MARGIN) and self.high < 1 + MARGIN else "unknown"

    def reversed(self) -> Self:
        """Return the same with both models in each other's place."""
        low = None if self.high is None else 1 / self.high
        high = None if self.low is None else 1 / self.low
        return replace(self, a=self.b, b=self.a, ratio=1 / self.ratio, low=low, high=high)

    def sentence(self) -> str:
        """Return it in words."""
        a, b, p, n, how = self.a, self.b, self.corrected, self.seeds, self.verdict
        if self.low is None or self.high is None or p is None:
            return f"{a} and {b}: one common seed does not tell"
        by = f"{abs(self.ratio - 1):.0%}"
        span = f"ratio of errors {self.ratio:.2f}, interval {self.low:.2f} to {self.high:.2f}"
        if how in ("lower", "higher"):
            return f"{a} has a {how} error than {b}, by {by} ({span}; p = {p:.2g})"
        if how == "equal":
            return f"no difference between {a} and {b}: equal within {MARGIN:.0%} ({span})"
        return f"no difference shown between {a} and {b} by {n} seeds ({span}; p = {p:.2g})"


def mean_with_interval(given: Sequence[float]) -> Mean:
    """Return the mean of one value or more, mostly of an error over seeds."""
    values, n = np.asarray(given, float), len(given)
    mean = float(values.mean())
    if n < 2:
        return Mean(mean, None, None, n)
    half = float(stdtrit(n - 1, (1 + LEVEL) / 2)) * float(values.std(ddof=1)) / math.sqrt(n)
    return Mean(mean, mean - half, mean + half, n)


def compare(
    errors: Mapping[str, Mapping[int, float]], pairs: Sequence[tuple[str, str]]
) -> list[Comparison]:
    """Compare models pairwise, as one family; a pair without a common seed is left out.

    Errors, above 0, are of each model of the scenario by seed; all of them tell how much errors
    usually scatter, whichever pairs are asked for.
    """
    prior = _usual_scatter(errors)
    found = (_compared(a, errors[a], b, errors[b], prior) for a, b in pairs)
    return as_one_family([comparison for comparison in found if comparison is not None])


def as_one_family(found: Sequence[Comparison]) -> list[Comparison]:
    """Return comparisons with p values and intervals corrected for the number of all of them."""
    tested = [c.p for c in found if c.p is not None]
    corrected = holm(tested)
    left, each = sum(p >= 1 - LEVEL for p in corrected), iter(corrected)
    of = [replace(c, family=len(tested)) for c in found]
    return [c if c.p is None else _corrected(c, c.p, next(each), left) for c in of]


def _corrected(found: Comparison, p: float, corrected: float, left: int) -> Comparison:
    """Return a comparison with its corrected p, and the interval of a test as strict as that.

    Those that are not told apart, so many as are `left`, all have the interval of the strictest.
    """
    times = left if corrected >= 1 - LEVEL else corrected / p if p > 0 else found.family
    half = float(stdtrit(found.freedom, 1 - (1 - LEVEL) / 2 / times)) * (found.error or 0.0)
    low, high = found.ratio * math.exp(-half), found.ratio * math.exp(half)
    return replace(found, corrected=corrected, low=low, high=high)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p values corrected for their number by Holm's step-down method, in their order."""
    p, order = np.array(p_values), np.argsort(p_values, kind="stable")
    corrected = np.empty(len(p))
    corrected[order] = np.maximum.accumulate(np.arange(len(p), 0, -1) * p[order])
    return np.minimum(corrected, 1.0).tolist()


class _Scatter(NamedTuple):
    """A variance and the degrees of freedom that it counts for."""

    variance: float
    freedom: float


def _usual_scatter(errors: Mapping[str, Mapping[int, float]]) -> _Scatter | None:
    """Return the usual variance of two models' differences, if of two pairs (Smyth 2004, 6.2)."""
    logs = [_differences(errors[a], errors[b]) for a, b in combinations(errors, 2)]
    several = [d for d in logs if len(d) > 1]
    known = [(float(d.var(ddof=1)), len(d) - 1) for d in several if d.var(ddof=1) > 0]
    if len(known) < 2:
        return None
    variances, freedoms = (np.asarray(values, float) for values in zip(*known, strict=True))
    centred = np.log(variances) - digamma(freedoms / 2) + np.log(freedoms / 2)
    excess = float(centred.var(ddof=1) - polygamma(1, freedoms / 2).mean())
    usual, freedom = float(centred.mean()), math.inf
    if excess > 1e-8:  # solve trigamma(half) = excess
        found = root_scalar(lambda log: polygamma(1, math.exp(log)) - excess, bracket=(-20, 20))
        half = math.exp(found.root)
        usual, freedom = usual + float(digamma(half)) - found.root, 2 * half
    return _Scatter(math.exp(usual), min(freedom, len(errors) - 1.0))


def _differences(a: Mapping[int, float], b: Mapping[int, float]) -> np.ndarray:
    """Return the logarithms of the ratios of errors, by common seed."""
    seeds = sorted(set(a) & set(b))
    return np.log([a[s] for s in seeds]) - np.log([b[s] for s in seeds])


def _compared(
    a: str, of_a: Mapping[int, float], b: str, of_b: Mapping[int, float], prior: _Scatter | None
) -> Comparison | None:
    logs = _differences(of_a, of_b)
    n = len(logs)
    if n == 0:
        return None
    mean = float(logs.mean())
    if n == 1:
        return Comparison(a, b, math.exp(mean), n)
    scatter = own = _Scatter(float(logs.var(ddof=1)), n - 1.0)
    if prior is not None:  # moderated
        freedom = prior.freedom + own.freedom
        shared = (prior.freedom * prior.variance + own.freedom * own.variance) / freedom
        scatter = _Scatter(max(shared, own.variance), freedom)
    error = math.sqrt(scatter.variance / n)
    p = float(2 * stdtr(scatter.freedom, -abs(mean / error)) if error else mean == 0)
    return Comparison(a, b, math.exp(mean), n, error, scatter.freedom, p)


Errors = dict[int, dict[int, float]]  # by number of samples and seed


@dataclass(frozen=True)
class SampleCurve:
    """The error of one model by number of training samples, the fewest first.

    `exponent` says by which power of the number of samples the error falls: the slope, in
    logarithms, of the line that fits best; 0.5 halves the error by four times the samples.
    """

    errors: Mapping[int, Mean]
    exponent: Mean


@dataclass(frozen=True)
class SampleFindings:
    """One scenario's curves by model; and all pairs of models, by number of samples, one family."""

    curves: Mapping[str, SampleCurve]
    comparisons: Mapping[int, Sequence[Comparison]]

    @property
    def numbers(self) -> list[int]:
        """Numbers of training samples, the fewest first."""
        return list(self.comparisons)


def samples_of(found: Sequence[Found]) -> dict[str, SampleFindings]:
    """Put the learning curves of cells together, by scenario; those without any are left out."""
    errors: dict[str, dict[str, Errors]] = {}  # by scenario and model
    for item in found:
        for point in item.record.get("learning_curve", []):
            if (error := point["test"]["relative_l2"]) is not None:
                by_model = errors.setdefault(item.cell.scenario, {})
                by_number = by_model.setdefault(item.cell.model.name, {})
                by_number.setdefault(point["samples"], {})[point["seed"]] = error
    return {name: _findings(by_model) for name, by_model in errors.items()}


def _findings(errors: Mapping[str, Errors]) -> SampleFindings:
    numbers = sorted({number for by_number in errors.values() for number in by_number})
    compared: list[tuple[int, Comparison]] = []
    for number in numbers:  # each number of samples has a scatter of its own
        at = {model: of[number] for model, of in errors.items() if number in of}
        compared += [(number, c) for c in compare(at, list(combinations(at, 2)))]
    family = as_one_family([comparison for _, comparison in compared])
    pairs = [(number, c) for (number, _), c in zip(compared, family, strict=True)]
    curves = {}
    for model, of in errors.items():
        means = {n: mean_with_interval(list(of[n].values())) for n in sorted(of)}
        curves[model] = SampleCurve(means, _exponent({n: of[n] for n in sorted(of)}))
    return SampleFindings(curves, {n: [c for m, c in pairs if m == n] for n in numbers})


def _exponent(errors: Errors) -> Mean:
    """Return by which power errors fall, seed by seed; NaN from one number of samples."""
    seeds = sorted(set.intersection(*(set(of) for of in errors.values())))
    if len(errors) < 2 or not seeds:
        return Mean(math.nan, None, None, len(seeds))
    x = np.log(list(errors))
    slopes = [np.polyfit(x, np.log([of[s] for of in errors.values()]), 1)[0] for s in seeds]
    return mean_with_interval([-float(slope) for slope in slopes])
