"""Where the heat of a run goes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class EnergyBalance:
    """Heat in each interval between frames, J per metre of depth, as the solver's steps have it.

    What is stored is what is supplied less what is lost, but for the solver's error. Rounding a
    frame to float32 is no part of it.

    Attributes:
        stored: Increase of the heat content.
        supplied: What the heaters give.
        lost: What leaves through the boundary.
    """

    stored: np.ndarray
    supplied: np.ndarray
    lost: np.ndarray

    @property
    def error(self) -> float:
        """What is missing over the whole run, relative to the larger of supplied and lost."""
        missing = abs(self.stored.sum() - self.supplied.sum() + self.lost.sum())
        size = max(abs(self.supplied.sum()), abs(self.lost.sum()), abs(self.stored.sum()))
        return float(missing / size) if size else 0.0
