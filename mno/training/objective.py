"""The objective: what training minimises, put together from the configuration."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from mno.grid import Grid
from mno.residuals import residual_of
from mno.surrogate import Description
from mno.training.config import TrainConfig
from mno.training.loss import relative_h1, relative_l2


class Objective:
    """The error of a prediction, and the weighted residual that it leaves in the equation.

    Args:
        description: What is trained; its normaliser gives the physical units.
        grid: The grid of the training data.
        config: Which error, and the residual's weight.

    Raises:
        InputError: A residual is asked for, and the scenario has none.
    """

    def __init__(self, description: Description, grid: Grid, config: TrainConfig) -> None:
        self.normaliser = description.normaliser
        self.inputs = tuple(description.inputs)
        self.grid = grid
        self.error = config.loss
        self.residual_weight = config.residual_weight
        self.residual = residual_of(description.scenario) if config.residual_weight else None

    @property
    def is_relative_l2(self) -> bool:
        """Whether it is the relative L2 error and nothing else."""
        return self.error == "relative_l2" and self.residual is None

    def __call__(self, predicted: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
        """Return what is minimised for each sample, shape `(batch,)`, nondimensional.

        Args:
            predicted: Normalised output fields of shape `(batch, *grid)`, by name.
            batch: All fields as solved, normalised likewise; inputs as they were before noise.
        """
        if self.error == "h1":
            loss = relative_h1(predicted, batch, self.normaliser, self.grid)
        else:
            loss = relative_l2(predicted, batch, self.normaliser)
        if self.residual is None:
            return loss
        known = {name: batch[name] for name in self.inputs} | dict(predicted)
        fields = {name: self.normaliser.decode(name, field) for name, field in known.items()}
        return loss + self.residual_weight * self.residual(fields, self.grid)
