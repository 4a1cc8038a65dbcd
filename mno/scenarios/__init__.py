"""Scenarios by name; each is one module of this package."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from mno.config import IMPORTED, Config, validate
from mno.errors import InputError
from mno.scenarios.base import SampleSource, Scenario

_SUPPORT = {"__init__", "base", IMPORTED}


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
    if name not in scenario_names():
        known = ", ".join(scenario_names())
        raise InputError(f"scenario={name!r} must be one of: {known} (or imported: mno import)")
    return import_module(f"mno.scenarios.{name}").SCENARIO


def source_class(name: str) -> type[SampleSource]:
    """Return a scenario by its name, or the source of imported data.

    Raises:
        InputError: There is no such scenario.
    """
    if name == IMPORTED:
        return import_module(f"mno.scenarios.{IMPORTED}").SCENARIO
    return scenario_class(name)


def source_parameters(name: str, parameters: Mapping[str, Any] | None) -> Config:
    """Validate the parameters of a scenario, or of imported data: `scenarios.<name>`.

    Raises:
        InputError: The name or a parameter cannot be used.
    """
    if name == IMPORTED and not parameters:
        raise InputError(
            "scenario=imported, but nothing has been imported; run, for example: mno import npz "
            "my_arrays.npz"
        )
    return validate(source_class(name).Parameters, dict(parameters or {}), f"scenarios.{name}")


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
