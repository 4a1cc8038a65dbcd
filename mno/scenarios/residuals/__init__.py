"""Residuals of scenarios' equations in torch, by name; each is one module of this package.

They are apart from the scenarios, so that training can punish a prediction that does not solve the
equation without depending on samplers and solvers.
"""

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import TypeAlias

from torch import Tensor

from mno.core.errors import InputError
from mno.core.grid import Grid

Residual: TypeAlias = Callable[[Mapping[str, Tensor], Grid], Tensor]
"""Takes all fields of some samples in physical units, shape `(batch, *grid)`, by name, and their
grid of equal cells, whose first axis is time where they are states; returns the norm of each
sample's residual relative to its source or size, shape `(batch,)`, nondimensional or in one over
the unit of time. The mapping also holds the scenario's parameters that are numbers, as tensors
without axes. A grid that does not fit is a `ValueError`."""

SMALLEST = 1e-3
"""Root mean square that a first frame counts for at least."""


def widths(grid: Grid, *axes: str) -> tuple[float, ...]:
    """Return the width of the cells along each axis; a ValueError if axes or cells do not fit."""
    found = [h for h in grid.spacing if not isinstance(h, tuple)]
    if not len(found) == len(grid.spacing) == len(axes):
        raise ValueError(
            f"grid has spacing {grid.spacing}; the scheme needs one width for each of "
            f"{', '.join(axes[:-1])} and {axes[-1]}"
        )
    return tuple(found)


def rms(values: Tensor) -> Tensor:
    """Return the root mean square of each sample, given values of `(batch, ...)`."""
    return values.square().flatten(1).mean(dim=1).sqrt()


def residual_names() -> list[str]:
    """Return the scenarios that have a residual, in alphabetical order."""
    modules = (path.stem for path in Path(__file__).parent.glob("*.py"))
    return sorted(name for name in modules if name != "__init__")


def residual_of(scenario: str) -> Residual:
    """Return `residual` of the module named like a scenario; an InputError if there is none."""
    if scenario not in residual_names():
        raise InputError(
            f"scenario={scenario} has no residual in mno/scenarios/residuals (there are: "
            f"{', '.join(residual_names())}); set train.residual_weight=0, or write it"
        )
    return import_module(f"mno.scenarios.residuals.{scenario}").residual
