"""The objective: what training minimises, put together from the configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mno.core.errors import InputError
from mno.core.grid import Grid
from mno.scenarios.residuals import residual_of
from mno.surrogate.description import Description
from mno.training.config import TrainConfig
from mno.training.loss import relative_h1, relative_l2
from mno.training.steps import Prediction


class Objective:
    """The error of a prediction, and the weighted residual that it leaves in the equation.

    Args:
        description: What is trained; its normaliser gives the physical units.
        grid: The grid of the training data; none of unordered points.
        config: Which error, and the residual's weight.
        parameters: The scenario's own; a residual may need those that are numbers.

    Raises:
        InputError: A residual is asked for, and the scenario has none, or inputs with gaps; or what
            is asked for needs a grid.
    """

    def __init__(
        self,
        description: Description,
        grid: Grid | None,
        config: TrainConfig,
        parameters: Mapping[str, Any],
    ) -> None:
        self.description = description
        self.normaliser = description.normaliser
        self._grid = grid
        self.numbers = {
            name: torch.tensor(float(value), dtype=torch.float64)
            for name, value in parameters.items()
            if isinstance(value, int | float)
        }
        self.error = config.loss
        if grid is None and (config.loss == "h1" or config.residual_weight):
            weight = f"residual_weight={config.residual_weight}"
            asked = "loss=h1" if config.loss == "h1" else weight
            raise InputError(
                f"train.{asked} takes differences between neighbours on a grid, but the dataset "
                "holds unordered points; set train.loss=relative_l2 and train.residual_weight=0"
            )
        if description.gaps and config.residual_weight:
            raise InputError(
                f"train.residual_weight={config.residual_weight} needs all values of the inputs, "
                f"but {', '.join(description.gaps)} may have gaps; set train.residual_weight=0"
            )
        self.residual_weight = config.residual_weight
        self.residual = residual_of(description.scenario) if config.residual_weight else None

    @property
    def grid(self) -> Grid:
        """The grid of the training data, where what is asked for needs one."""
        assert self._grid is not None  # noqa: S101  (else `__init__` has refused)
        return self._grid

    @property
    def is_relative_l2(self) -> bool:
        """Whether it is the relative L2 error and nothing else."""
        return self.error == "relative_l2" and self.residual is None

    def __call__(self, prediction: Prediction) -> Tensor:
        """Return what is minimised for each sample, shape `(batch,)`, nondimensional."""
        predicted, truth = prediction.fields, prediction.truth
        if self.error == "h1":
            loss = relative_h1(predicted, truth, self.normaliser, self.grid)
        else:
            loss = relative_l2(predicted, truth, self.normaliser)
        if self.residual is None:
            return loss
        known = self._known(prediction)
        fields = {name: self.normaliser.decode(name, field) for name, field in known.items()}
        place = self._place(known)
        return loss + self.residual_weight * self.residual(fields | self.numbers, place)

    def _known(self, prediction: Prediction) -> dict[str, Tensor]:
        """Return all fields, those with frames from the last given to the last predicted."""
        given, predicted = prediction.given, prediction.fields
        known = dict(given) | dict(predicted)
        forecast = self.description.forecast
        if forecast is None:
            return known
        for name in self.description.states:  # a difference in time needs the frame before
            known[name] = torch.cat([given[name][:, -1:], predicted[name]], dim=1)
        intervals = known[self.description.states[0]].shape[1] - 1
        for name in self.description.forcings:  # one frame per interval, the last said again
            held = given[name][:, forecast.history - 1 :][:, :intervals]
            known[name] = torch.cat([held, held[:, -1:]], dim=1)
        return known

    def _place(self, fields: Mapping[str, Tensor]) -> Grid:
        """Return the grid of the fields, in space and time where there are states."""
        forecast = self.description.forecast
        if forecast is None:
            return self.grid
        frames = fields[self.description.states[0]].shape[1]
        times = tuple((k + 0.5) / frames for k in range(frames))
        places = (times, *self.grid.places) if self.grid.places else ()
        spacing = (forecast.interval, *self.grid.spacing)
        return Grid((frames, *self.grid.shape), spacing, places=places)
