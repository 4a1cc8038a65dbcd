"""Scenarios by name; each is one module of this package."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from mno.config import validate
from mno.errors import InputError
from mno.scenarios.base import Scenario

_SUPPORT = {"__init__", "base"}


def scenario_names() -> list[str]:
    """Return the names of all scenarios, in alphabetical order."""
    modules = (path.stem for path in Path(__file__).parent.glob("*.py"))
    return sorted(name for name in modules if name not in _SUPPORT)


def scenario_class(name: str) -> type[Scenario]:
    """Return the scenario of that name.

    A scenario's module is named like it and assigns its class to `SCENARIO`.

    Raises:
        InputError: There is no such scenario.
    """
    if not isinstance(name, str) or not re.fullmatch(r"[a-z_]+", name):
        raise InputError(f"scenario={name!r} must be one of: {', '.join(scenario_names())}")
    if name not in scenario_names():
        raise InputError(f"scenario={name!r} must be one of: {', '.join(scenario_names())}")
    return import_module(f"mno.scenarios.{name}").SCENARIO


def make_scenario(name: str, resolution: int, parameters: Mapping[str, Any]) -> Scenario:
    """Validate a scenario's parameters and build it at a resolution.

    Args:
        name: For example `darcy`.
        resolution: Points along each space axis.
        parameters: The scenario's own parameters, `scenarios.<name>` in `params.yaml`.

    Raises:
        InputError: The name, the resolution or a parameter cannot be used.
    """
    cls = scenario_class(name)
    return cls(validate(cls.Parameters, dict(parameters), f"scenarios.{name}"), resolution)
