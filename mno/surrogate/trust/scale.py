"""How large an error is likely to be, by what is known when a prediction is made.

    scale = prod_j (s_j / c_j) ** b_j

`s_j` are positive numbers known of each prediction, such as the residual it leaves in the equation,
`c_j` their geometric means, and the exponents `b_j` are none below zero: a larger residual never
means a smaller error. A bound divided by this scale is the same for all samples, so that it is wide
where the model is likely to err and narrow elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from pydantic import Field
from scipy.optimize import nnls

from mno.core.config import Config

Signals = Mapping[str, np.ndarray]


class Factor(Config):
    """One number known of a prediction, and how the error grows with it.

    Attributes:
        exponent: `b`; with 0 the number tells nothing.
        centre: `c`, in the number's unit.
        least: Smallest value that the number counts with: the least one it was fitted to, since
            nothing is known of errors below.
    """

    exponent: float = Field(ge=0.0)
    centre: float = Field(gt=0.0)
    least: float = Field(gt=0.0)


class Scale(Config):
    """The scale of an error.

    Attributes:
        factors: By name of the number; none where all predictions are taken to err alike.
    """

    factors: Mapping[str, Factor] = Field(default_factory=dict)

    @classmethod
    def fit(cls, signals: Signals, errors: np.ndarray) -> Scale:
        """Fit exponents to errors, by least squares of their logarithms.

        Args:
            signals: Numbers known of each prediction, shape `(samples,)`, by name.
            errors: Shape `(samples, kinds)`; each kind has a size of its own. Those that are zero
                or not finite are left out.
        """
        names = [name for name, values in signals.items() if _tells(values)]
        if not names:
            return cls()
        least = {name: float(np.min(signals[name][_usable(signals[name])])) for name in names}
        logs = np.stack([np.log(np.maximum(signals[n], least[n])) for n in names], axis=1)
        left, right = [], []
        for errs in errors.T:
            fine = _usable(errs) & np.isfinite(logs).all(axis=1)
            if fine.sum() > len(names) + 1:
                left.append(logs[fine] - logs[fine].mean(axis=0))
                right.append(np.log(errs[fine]) - np.log(errs[fine]).mean())
        if not left:
            return cls()
        exponents, _ = nnls(np.concatenate(left), np.concatenate(right))
        centres = np.exp(np.mean(logs[np.isfinite(logs).all(axis=1)], axis=0))
        factors = {
            name: Factor(exponent=float(b), centre=float(c), least=least[name])
            for name, b, c in zip(names, exponents, centres, strict=True)
            if b > 0.0
        }
        return cls(factors=factors)

    def of(self, signals: Signals, samples: int) -> np.ndarray:
        """Return the scale of each prediction, shape `(samples,)`; infinite where one is not known.

        Args:
            signals: As for `fit`.
            samples: Their number.
        """
        scale = np.ones(samples)
        for name, factor in self.factors.items():
            if name not in signals:
                return np.full(samples, np.inf)
            known = np.where(np.isnan(signals[name]), np.inf, signals[name])
            scale *= (np.maximum(known, factor.least) / factor.centre) ** factor.exponent
        return scale


def _usable(values: np.ndarray) -> np.ndarray:
    return np.isfinite(values) & (values > 0.0)


def _tells(values: np.ndarray) -> bool:
    """Whether a number differs among samples, and is usable in most of them."""
    usable = values[_usable(values)]
    return 2 * len(usable) > len(values) and float(np.ptp(usable)) > 0.0
