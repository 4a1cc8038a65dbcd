"""The error by number of training samples: means over seeds, comparisons, how fast it falls."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from mno.study.results import Found
from mno.study.statistics import Comparison, Mean, as_one_family, compare, mean_with_interval

Errors = Mapping[str, Mapping[int, Mapping[int, float]]]


@dataclass(frozen=True)
class SampleCurve:
    """The error of one model by number of training samples.

    Attributes:
        model: Its name.
        errors: Test error by number of samples, over seeds, the fewest samples first.
        exponent: By which power of the number of samples the error falls: the slope, in logarithms,
            of the line that fits best; 0.5 halves the error by four times the samples.
    """

    model: str
    errors: Mapping[int, Mean]
    exponent: Mean


@dataclass(frozen=True)
class SampleFindings:
    """One scenario's curves.

    Attributes:
        scenario: Its name in the study.
        curves: By model.
        comparisons: All pairs of models by number of samples; all of them are one family.
    """

    scenario: str
    curves: Mapping[str, SampleCurve]
    comparisons: Mapping[int, Sequence[Comparison]]

    @property
    def numbers(self) -> list[int]:
        """Numbers of training samples, the fewest first."""
        return list(self.comparisons)


def samples_of(found: Sequence[Found]) -> dict[str, SampleFindings]:
    """Put the learning curves of cells together, by scenario; those without any are left out."""
    errors: dict[str, dict[str, dict[int, dict[int, float]]]] = {}
    for item in found:
        for point in (item.record or {}).get("learning_curve", []):
            error = point["test"]["relative_l2"]
            if error is not None:
                model = errors.setdefault(item.cell.scenario, {}).setdefault(
                    item.cell.model.name, {}
                )
                model.setdefault(point["samples"], {})[point["seed"]] = error
    return {name: _findings(name, by_model) for name, by_model in errors.items()}


def _findings(scenario: str, errors: Errors) -> SampleFindings:
    numbers = sorted({number for by_number in errors.values() for number in by_number})
    compared: list[tuple[int, Comparison]] = []
    for number in numbers:  # each number of samples has a scatter of its own
        at = {model: of[number] for model, of in errors.items() if number in of}
        compared += [(number, c) for c in compare(at, list(combinations(at, 2)))]
    family = as_one_family([comparison for _, comparison in compared])
    return SampleFindings(
        scenario,
        {model: _curve(model, of) for model, of in errors.items()},
        {n: [c for (m, _), c in zip(compared, family, strict=True) if m == n] for n in numbers},
    )


def _curve(model: str, errors: Mapping[int, Mapping[int, float]]) -> SampleCurve:
    numbers = sorted(errors)
    means = {n: mean_with_interval(list(errors[n].values())) for n in numbers}
    return SampleCurve(model, means, _exponent({n: errors[n] for n in numbers}))


def _exponent(errors: Mapping[int, Mapping[int, float]]) -> Mean:
    """Return by which power errors fall, seed by seed; NaN from one number of samples."""
    seeds = sorted(set.intersection(*(set(of) for of in errors.values())))
    if len(errors) < 2 or not seeds:
        return Mean(math.nan, None, None, len(seeds))
    x = np.log(list(errors))
    slopes = [np.polyfit(x, np.log([of[s] for of in errors.values()]), 1)[0] for s in seeds]
    return mean_with_interval([-float(slope) for slope in slopes])
