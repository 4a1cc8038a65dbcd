"""What a scenario is: a family of PDE problems with a sampler, a solver and checks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from mno.config import Config
from mno.fields import Axis, Field

Fields = Mapping[str, np.ndarray]

SQUARE = ("x y", "-x y", "x -y", "-x -y", "y x", "-y x", "y -x", "-y -x")
"""The eight symmetries of a square whose points lie symmetrically in it, such as cell centres."""


@dataclass(frozen=True)
class Check:
    """A physical quantity that must stay small on every sample.

    Attributes:
        name: Key of the value in the mapping that `Scenario.check` returns.
        description: What is measured, for the report.
        tolerance: Largest value that is accepted.
    """

    name: str
    description: str
    tolerance: float


class Scenario(ABC):
    """One family of PDE problems at one resolution.

    A scenario is stateless: what it yields depends on its parameters, its resolution and the
    random generator it is handed, so that samples may be made anywhere, in any order.

    A field of role `state` has the axis `time` before those of space. `sample` draws it at the
    first frame, without that axis; `solve` returns it at all frames, the first one included. How
    many frames an operator is given, and how it predicts the others, is not the scenario's choice.

    On unordered points the one axis of space is `point`, and a field of role `coordinate` for each
    space axis says where they are; `sample` draws them, so that domains may differ from sample to
    sample.

    Fields, checks and symmetries may depend on the parameters: such a scenario sets them anew when
    it is made.

    `symmetries` are the maps of the grid onto itself that turn a solved sample into another solved
    sample when all its fields, inputs and outputs, are carried along by their values (scalar
    fields; a symmetry that also changes values, as a mirror does with a velocity, cannot be
    declared). They must hold for the discrete equation, not for the continuous one alone; a test
    should compare them with the solver. The name of a map lists, for each space axis of the result
    in order, the axis whose values run along it, with a minus sign where they run backwards:
    `y -x` is a quarter turn. The identity is one of them.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    Parameters: ClassVar[type[Config]]
    fields: tuple[Field, ...]
    checks: tuple[Check, ...]
    symmetries: tuple[str, ...] = ()

    @abstractmethod
    def __init__(self, parameters: Config, resolution: int) -> None:
        """Take validated parameters and the number of points along each space axis.

        Raises:
            InputError: The scenario cannot be solved at that resolution; the message says which
                are possible.
        """

    @property
    @abstractmethod
    def axes(self) -> tuple[Axis, ...]:
        """Coordinate axes, in the order in which fields use them."""

    @abstractmethod
    def sample(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Draw the inputs and the initial states of one sample, float32, by name."""

    @abstractmethod
    def solve(self, inputs: Fields) -> dict[str, np.ndarray]:
        """Solve the equation for what `sample` drew; return outputs and states, float32."""

    @abstractmethod
    def check(self, inputs: Fields, outputs: Fields) -> dict[str, float]:
        """Measure each of `checks` on what was drawn and on what was solved, as it is stored."""

    def compile(self) -> None:  # noqa: B027 - optional
        """Do once what would otherwise be paid at the first sample (compilation)."""

    @property
    def inputs(self) -> tuple[Field, ...]:
        """Fields an operator is given, states at their first frames."""
        return tuple(field for field in self.fields if field.role in ("input", "state"))

    @property
    def outputs(self) -> tuple[Field, ...]:
        """Fields an operator predicts, states at their later frames."""
        return tuple(field for field in self.fields if field.role in ("output", "state"))
