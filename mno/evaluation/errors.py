"""Errors of one way to predict, added up batch by batch: of whole fields and of single frames."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import numpy as np

from mno.evaluation.metrics import mean, mean_relative_l2, rmse
from mno.evaluation.space import Space
from mno.evaluation.statistics import NO_GRID, Statistics, of_frames

Arrays = Mapping[str, np.ndarray]


class Errors:
    """What was measured of one way to predict.

    Args:
        outputs: Names of the predicted fields.
        states: Names of those that have frames.
        spaces: Grids of the predicted fields by name, or why there is none; where not given,
            nothing is measured that asks for one.
        spectra: Whether the spectra of predictions and truth are measured on them, too.
    """

    def __init__(
        self,
        outputs: Collection[str],
        states: Collection[str],
        spaces: Mapping[str, Space | str] | None = None,
        spectra: bool = False,
    ) -> None:
        self.spectra = spectra
        spaces = spaces or dict.fromkeys(outputs, NO_GRID)
        self.whole = {name: Statistics(space=spaces[name]) for name in outputs}
        self.frames: dict[str, list[Statistics]] = {name: [] for name in states}

    def add(self, predicted: Arrays, truth: Arrays) -> None:
        """Measure a batch.

        Args:
            predicted: Fields of shape `(samples, *dims)`, states `(samples, frames, *grid)`.
            truth: The same fields as solved.
        """
        for name, before in self.whole.items():
            self.whole[name] = before + Statistics.of(
                predicted[name], truth[name], before.space, self.spectra
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
        known = [[state for state in states if state.measured.any()] for states in frames]
        return np.array([mean(np.array([mean_relative_l2(s) for s in states])) for states in known])

    def rmse_over_time(self) -> dict[str, np.ndarray]:
        """Return the RMSE of each frame, `(frames,)`, by name of the state, in its unit."""
        return {name: np.array([rmse(s) for s in frames]) for name, frames in self.frames.items()}


@dataclass(frozen=True, eq=False)
class OverTime:
    """Errors of each predicted frame, each of shape `(frames,)`; NaN without truth.

    Attributes:
        times: When the frames are, in the unit of the dataset's time axis.
        units: That unit.
        model: Relative L2 of the surrogate, the mean over states.
        baseline: Of the mean field of the training split at the same time.
        persistence: Of keeping the last given frame.
        rmse: RMSE of each state in its unit, by the state's name and then `rmse`, `baseline_rmse`
            and `persistence_rmse`.
    """

    times: np.ndarray
    units: str
    model: np.ndarray
    baseline: np.ndarray
    persistence: np.ndarray
    rmse: Mapping[str, Mapping[str, np.ndarray]] = field(default_factory=dict)

    @classmethod
    def of(
        cls, times: np.ndarray, units: str, model: Errors, baseline: Errors, persistence: Errors
    ) -> OverTime:
        """Gather the errors of the frames at some times."""
        ways = {"rmse": model, "baseline_rmse": baseline, "persistence_rmse": persistence}
        found = {key: errors.rmse_over_time() for key, errors in ways.items()}
        rmse = {name: {key: found[key][name] for key in ways} for name in model.frames}
        curves = (errors.over_time() for errors in (model, baseline, persistence))
        return cls(times, units, *curves, rmse=rmse)

    def to_dict(self) -> dict[str, object]:
        """Return what `reports/per_sample.json` holds of it."""
        return {
            "time": self.times.tolist(),
            "relative_l2": self.model.tolist(),
            "baseline_relative_l2": self.baseline.tolist(),
            "persistence_relative_l2": self.persistence.tolist(),
            "fields": {
                name: {key: values.tolist() for key, values in curves.items()}
                for name, curves in self.rmse.items()
            },
        }
