"""The residual that a prediction leaves in the equation of its scenario."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from mno.data.reading import Schema
from mno.description import Description
from mno.evaluation.physics import equation_residual
from mno.residuals import residual_names

Arrays = Mapping[str, np.ndarray]


class Equation:
    """A scenario's equation, into which predictions are put; see `equation_of`.

    Args:
        description: Of the model that predicts.
        parameters: The scenario's own; those that are numbers may stand in the equation.
    """

    def __init__(self, description: Description, parameters: Mapping[str, Any]) -> None:
        self._description = description
        self._schema = Schema(description.scenario, (), (), parameters=parameters)

    def residual(self, given: Arrays, predicted: Arrays) -> np.ndarray | str:
        """Return the norm of each prediction's residual, relative to the equation's source or size.

        Args:
            given: What the model was given, in physical units, `(samples, *dims)` by name.
            predicted: What it predicted of it.

        Returns:
            Shape `(samples,)`, nondimensional; NaN where the prediction is. Or, in one line, why
            the equation has no residual on this grid.
        """
        description = self._description
        whole = {**given, **predicted}
        for name in description.states:
            whole[name] = np.concatenate([given[name], predicted[name]], axis=1)
        for name in description.forcings:  # as long as the states; the last is not looked at
            frames = whole[description.states[0]].shape[1]
            whole[name] = np.concatenate([given[name], given[name][:, -1:]], axis=1)[:, :frames]
        found = equation_residual(description, self._schema, whole)
        return f"no equation residual: {found}" if isinstance(found, str) else found


def equation_of(
    description: Description, parameters: Mapping[str, Any], imported: bool
) -> Equation | str:
    """Return the equation of a model's scenario; or, in one line, why none can be put to use.

    Args:
        description: Of the model.
        parameters: The scenario's own, which the dataset was made with.
        imported: Whether the dataset was imported.
    """
    name = description.scenario
    if imported:
        return f"no equation residual for imported data ({name})"
    if name not in residual_names():
        return f"no equation residual: none is written for {name}"
    if description.gaps:
        return f"no equation residual: {', '.join(description.gaps)} may have missing values"
    if description.coordinates:
        return "no equation residual on unordered points"
    return Equation(description, parameters)
