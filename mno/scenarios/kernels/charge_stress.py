"""The state `stress` of a furnace: thermal stress in its charge, from its temperature."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from mno.core.errors import InputError
from mno.core.fields import Field
from mno.scenarios.base import Check, Fields
from mno.scenarios.kernels.furnace_plant import FurnaceParameters
from mno.scenarios.kernels.thermal_stress import Solid, charge_cells, has_holes, thermal_stress
from mno.scenarios.kernels.thermal_stress_plain import stress_by_displacements


@dataclass(frozen=True)
class ChargeStress:
    """Each piece of the charge as an elastic body, free of stress at the ambient temperature.

    Nothing holds its surface: it stands on the hearth without friction, and has no weight.

    Attributes:
        solid: What the charge is made of.
    """

    FIELD: ClassVar[Field] = Field(
        "stress", "Pa", "von Mises stress in the charge", "state", ("time", "x", "y")
    )
    CHECK: ClassVar[Check] = Check(
        "equilibrium",
        "largest difference between stress and what a second statement, in displacements, makes of "
        "the stored temperature, over E alpha times the greatest rise in the charge, 1 Pa at least "
        "(rounding to float32 leaves up to 6e-8)",
        2e-7,
    )

    solid: Solid

    @classmethod
    def of(cls, parameters: FurnaceParameters) -> Self:
        """Take a furnace's elastic constants, and how the ends of the pieces are held."""
        p = parameters
        held = p.piece_ends == "held"
        return cls(Solid(p.youngs_modulus, p.poisson_ratio, p.thermal_expansion, held))

    def frames(self, inputs: Fields, temperature: np.ndarray) -> np.ndarray:
        """Return the stress at frames of the temperature, Pa, float32, shape `(time, x, y)`.

        Raises:
            InputError: A piece has a hole.
        """
        charge = charge_cells(inputs["heat_capacity"])
        if has_holes(charge):
            raise InputError(
                "heat_capacity has a piece of charge, where it is greatest, with a hole in it; "
                "expected solid pieces, since stresses are computed for no others: fill the hole"
            )
        rise = _rise(inputs, temperature)
        return thermal_stress(charge, rise, self.solid).astype(np.float32)

    def imbalance(self, inputs: Fields, outputs: Fields) -> float:
        """Return how far stored stresses are from those by displacements, nondimensional."""
        charge = charge_cells(inputs["heat_capacity"])
        rise = _rise(inputs, outputs["temperature"])
        again = stress_by_displacements(charge, rise, self.solid)
        size = np.abs(rise[:, charge]).max()
        size *= self.solid.youngs_modulus * self.solid.thermal_expansion
        first = np.abs(inputs["stress"] - again[0]).max()
        return float(max(first, np.abs(outputs["stress"] - again).max()) / max(size, 1.0))


def _rise(inputs: Fields, temperature: np.ndarray) -> np.ndarray:
    return temperature.astype(np.float64) - float(inputs["ambient_temperature"])
