"""What a served model's problems are: the scenario that draws and solves them, if there is one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mno.core.errors import MnoError
from mno.data.reading import read_schema
from mno.scenarios.base import scenario_names
from mno.serving.follower import Served

DATA = "data"


@dataclass(frozen=True)
class Problem:
    """A scenario as the model's dataset was solved by it.

    Attributes:
        scenario: Its name.
        resolution: Points along each space axis.
        parameters: The scenario's own.
        history: First frames of states that the model is given; none without states.
    """

    scenario: str
    resolution: int
    parameters: Mapping[str, Any]
    history: int

    def moved(self, changes: Mapping[str, Any]) -> dict[str, Any]:
        """Return it as the worker takes it, with other parameters."""
        return {**asdict(self), "parameters": {**self.parameters, **changes}}


def problem_of(served: Served, root: Path) -> Problem | str:
    """Return what a model's problems are drawn and solved by; or, in one line, why nothing does.

    Args:
        served: The model; its trust knows, and without one the workspace's dataset does.
        root: The workspace.
    """
    trust, description = served.trust, served.surrogate.description
    history = description.forecast.history if description.forecast else 0
    if not isinstance(trust, str):
        if trust.no_solver is not None:
            return trust.no_solver
        scenario, resolution, parameters = trust.scenario, trust.resolution, trust.parameters
    else:
        try:
            schema = read_schema(root / DATA)
        except MnoError as error:
            return f"no solver: {error}"
        if schema.sources or schema.scenario != description.scenario:
            return f"no solver: {DATA}/ is not of solved samples of {description.scenario}"
        scenario, resolution, parameters = schema.scenario, schema.resolution, schema.parameters
    if scenario not in scenario_names() or resolution is None:
        return f"no solver is known for {scenario}"
    return Problem(scenario, resolution, dict(parameters), history)
