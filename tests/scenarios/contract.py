"""What every scenario must do: `check_scenario`, to be called by its tests."""

import hashlib
import json
import math
import os
import pickle
import subprocess
import sys
import warnings
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from scipy.linalg import expm

import mno
from mno.core.errors import InputError
from mno.core.grid import Grid
from mno.scenarios.base import Fields, Scenario, make_scenario, scenario_class, scenario_names

_SEEDS = range(3)
_ELSEWHERE = """
import json, sys
from tests.scenarios.contract import digest
from mno.scenarios.base import make_scenario
name, resolution, parameters = json.loads(sys.argv[1])
print(digest(make_scenario(name, resolution, parameters), 0))
"""


def check_scenario(
    name: str, resolution: int = 16, parameters: Mapping[str, Any] | None = None
) -> None:
    """Assert what the production line relies on, of a scenario at a small resolution.

    It is found by its name and can be made without parameters. Its fields, axes, units, checks and
    parameters are complete. `sample` and `solve` return finite float32 arrays of the shapes that
    its fields say, states beginning with what was drawn. They depend on nothing but the random
    stream: not on what was made before, a copy, threads or another process. Its checks pass on
    what it solves and fail on damaged solutions, on those of other samples and on values that are
    no numbers. Declared symmetries hold; `outside` names other problems that can be solved; a
    residual in torch is less on a solution than on a damaged one; a linear system has the solution,
    and is symmetric; derivatives are what differences of solutions are.
    Resolutions, parameters and inputs that cannot be used are refused in one line that says what
    was given.

    What it cannot know is whether the equation is solved: exact solutions, measured orders and
    conservation are a scenario's own tests.
    """
    parameters = parameters or {}
    assert name in scenario_names(), f"{name} is not among {scenario_names()}"
    assert scenario_class(name).name == name
    make_scenario(name, max(resolution, 48), {})
    scenario = make_scenario(name, resolution, parameters)
    given, solved = solved_sample(scenario)
    _check_declarations(scenario)
    _check_arrays(scenario, given, solved)
    _check_repeats(scenario, parameters)
    _check_checks(scenario, given, solved)
    _check_symmetries(scenario, given, solved)
    _check_outside(scenario, parameters)
    _check_residual(scenario, parameters, given, solved)
    _check_linear_system(scenario, given, solved)
    _check_derivatives(scenario, given, solved)
    _check_refusals(scenario, given)


def solved_sample(
    scenario: Scenario, seed: int = 0
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return what a stream draws, and its solution."""
    given = scenario.sample(np.random.default_rng(seed))
    return given, scenario.solve(given)


def failed_checks(scenario: Scenario, given: Fields, solved: Fields) -> set[str]:
    """Return the names of the checks that a sample does not pass; NaN does not pass."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        values = scenario.check(given, solved)
    assert set(values) == {check.name for check in scenario.checks}
    return {check.name for check in scenario.checks if not values[check.name] <= check.tolerance}


def digest(scenario: Scenario, seed: int) -> str:
    """Return the SHA-256 of all that a stream draws and of its solution."""
    found = hashlib.sha256()
    for fields in solved_sample(scenario, seed):
        for name in sorted(fields):
            found.update(fields[name].tobytes())
    return found.hexdigest()


def turned(field: np.ndarray, symmetry: str) -> np.ndarray:
    """Return a field, whose last axes are those of space, as a symmetry carries it along."""
    if not field.ndim:
        return field
    parts = symmetry.split()
    axes = [part.lstrip("-") for part in parts]
    last = field.ndim - len(parts)
    order = [*range(last), *(last + sorted(axes).index(axis) for axis in axes)]
    backwards = tuple(last + k for k, part in enumerate(parts) if part.startswith("-"))
    return np.flip(field.transpose(order), backwards)


def _check_declarations(scenario: Scenario) -> None:
    assert scenario.title and type(scenario).__doc__
    names = [field.name for field in scenario.fields]
    assert len(set(names)) == len(names) and scenario.inputs and scenario.outputs
    axes = {axis.name: axis for axis in scenario.axes}
    used = {axis for field in scenario.fields for axis in field.dims}
    assert used == set(axes), f"axes are {set(axes)}, fields have {used}"
    assert "time" not in axes or next(iter(axes)) == "time"
    for field in scenario.fields:
        assert field.units and field.long_name
        assert list(field.dims) == [axis for axis in axes if axis in field.dims], "order of axes"
        assert field.role != "state" or field.dims[0] == "time"
    for axis in axes.values():
        assert axis.units and axis.extent[0] <= axis.points[0] <= axis.points[-1] <= axis.extent[1]
        assert np.all(np.diff(axis.points) > 0.0)
    schema = scenario.Parameters.model_json_schema()["properties"]
    checks = [check.name for check in scenario.checks]
    assert checks and len(set(checks)) == len(checks)
    assert all(check.description and check.tolerance >= 0.0 for check in scenario.checks)
    for key, parameter in scenario.Parameters.model_fields.items():
        assert parameter.description, f"parameter {key} has no description"
        types = schema[key].get("anyOf", [schema[key]])
        for bounds in (kind for kind in types if kind["type"] in ("number", "integer")):
            both = {"inimum", "aximum"} <= {bound[-6:] for bound in bounds}
            assert both, f"parameter {key} has no lower or no upper bound"


def _check_arrays(scenario: Scenario, given: Fields, solved: Fields) -> None:
    shapes = scenario.shapes
    states = {field.name for field in scenario.fields if field.role == "state"}
    drawn = {f.name: shapes[f.name] for f in scenario.fields if f.role != "output"}
    drawn |= {name: shapes[name][1:] for name in states}
    assert {name: array.shape for name, array in given.items()} == drawn
    outputs = {field.name: shapes[field.name] for field in scenario.outputs}
    assert {name: array.shape for name, array in solved.items()} == outputs
    gaps = {field.name for field in scenario.fields if field.gaps}
    for name, array in (*given.items(), *solved.items()):
        assert array.dtype == np.float32, f"{name} is {array.dtype}"
        finite = ~np.isinf(array) if name in gaps else np.isfinite(array)
        assert finite.all(), f"{name} is not finite"
    for name in states:
        np.testing.assert_array_equal(solved[name][0], given[name])


def _check_repeats(scenario: Scenario, parameters: Mapping[str, Any]) -> None:
    expected = [digest(scenario, seed) for seed in _SEEDS]
    assert len(set(expected)) == len(expected), "streams draw the same"
    copied = pickle.loads(pickle.dumps(scenario))
    assert digest(copied, 0) == expected[0], "a copy, or what was solved before, changes a sample"
    with ThreadPoolExecutor(3) as pool:
        in_threads = list(pool.map(lambda seed: digest(copied, seed), [*_SEEDS] * 2))
    assert in_threads == expected * 2, "threads change samples"
    problem = [scenario.name, scenario.resolution, dict(parameters)]
    found = subprocess.run(
        [sys.executable, "-c", _ELSEWHERE, json.dumps(problem)],
        cwd=Path(mno.__file__).parents[1],
        env={**os.environ, "OMP_NUM_THREADS": "3", "OPENBLAS_NUM_THREADS": "3"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.strip() == expected[0], "another process with more threads changes samples"


def _check_checks(scenario: Scenario, given: Fields, solved: Fields) -> None:
    for seed in _SEEDS:
        failed = failed_checks(scenario, *solved_sample(scenario, seed))
        assert not failed, f"seed {seed} does not pass {failed}"
    larger = {name: array * np.float32(1.01) for name, array in solved.items()}
    assert failed_checks(scenario, given, larger), "one per cent more passes all checks"
    other = solved_sample(scenario, 1)[1]
    assert failed_checks(scenario, given, other), "the solution of another sample passes all checks"
    gaps = {field.name for field in scenario.fields if field.gaps}
    for fields in (given, solved):
        for name in fields:
            for value in (math.inf,) if name in gaps else (math.nan, math.inf):
                wrong = {key: array.copy() for key, array in fields.items()}
                wrong[name][tuple(min(1, size - 1) for size in wrong[name].shape)] = value
                pair = (wrong, solved) if fields is given else (given, wrong)
                assert failed_checks(scenario, *pair), f"{value} in {name} passes all checks"


def _check_symmetries(scenario: Scenario, given: Fields, solved: Fields) -> None:
    if any(field.role == "coordinate" for field in scenario.fields):
        return  # a solver may number points in its own way: a test of its own compares with it
    for symmetry in scenario.symmetries:
        again = scenario.solve({name: turned(field, symmetry) for name, field in given.items()})
        for name, field in solved.items():
            difference = np.abs(again[name] - turned(field, symmetry)).max()
            assert difference <= 1e-5 * np.abs(field).max(), f"{symmetry!r} does not hold"


def _check_outside(scenario: Scenario, parameters: Mapping[str, Any]) -> None:
    here = scenario.sample(np.random.default_rng(3))
    for label, changed in scenario.outside().items():
        there = make_scenario(scenario.name, scenario.resolution, {**parameters, **changed})
        assert there.fields == scenario.fields
        for ours, theirs in zip(scenario.axes, there.axes, strict=True):
            assert np.array_equal(ours.points, theirs.points)
        given, solved = solved_sample(there, 3)
        assert not failed_checks(there, given, solved), f"{label!r} does not pass its checks"
        same = all(np.array_equal(here[key], given[key]) for key in here)
        assert not same or failed_checks(scenario, given, solved), f"{label!r} is the same problem"


def _check_residual(
    scenario: Scenario, parameters: Mapping[str, Any], given: Fields, solved: Fields
) -> None:
    import torch

    from mno.scenarios.residuals import residual_names, residual_of

    if scenario.name not in residual_names():
        return
    shape = tuple(len(axis.points) for axis in scenario.axes)
    spacing = tuple(float(axis.points[1] - axis.points[0]) for axis in scenario.axes)
    grid = Grid(shape, spacing)
    numbers = {
        key: torch.tensor(float(value))
        for key, value in scenario.Parameters(**parameters).model_dump().items()
        if isinstance(value, float)
    }

    def residual(solution: Fields) -> float:
        fields = {**given, **solution}
        arrays = {key: torch.from_numpy(array.copy())[None] for key, array in fields.items()}
        (found,) = residual_of(scenario.name)({**numbers, **arrays}, grid)
        return float(found)

    noise = np.random.default_rng(0).standard_normal
    damaged = {
        key: array + (0.3 * array.std() * noise(array.shape)).astype(np.float32)
        for key, array in solved.items()
    }
    assert residual(solved) < 0.5 * residual(damaged), "the residual of a solution is not small"


def _check_linear_system(scenario: Scenario, given: Fields, solved: Fields) -> None:
    system = scenario.linear_system(given)
    if system is None:
        return
    asymmetry = abs(system.stiffness - system.stiffness.T).max()
    assert asymmetry < 1e-12 * abs(system.stiffness).max(), "the linear system is not symmetric"
    name, points = scenario.outputs[0].name, system.source.shape[-1]
    levels = solved[name].reshape(-1, points) - system.level
    if system.mass is None:
        inside = levels[0] != 0.0  # where points lie on a wall, that is what is known of them
        left = (system.stiffness @ levels[0] - system.source)[inside]
        assert inside.mean() > 0.8
        assert abs(left).max() < 1e-4 * abs(system.source).max(), "the linear system is another"
        return
    step = float(np.diff(scenario.axes[0].points[:2])[0])
    for before, after, source in zip(levels, levels[1:], system.source, strict=False):
        rates = np.zeros((points + 1, points + 1))  # of the values, and of a one
        rates[:-1, :-1] = -system.stiffness.toarray() / system.mass[:, None]
        rates[:-1, -1] = source / system.mass
        difference = abs((expm(step * rates) @ [*before, 1.0])[:-1] - after).max()
        assert difference < 2e-3 * abs(levels).max(), "the linear system is another"


def _check_derivatives(scenario: Scenario, given: Fields, solved: Fields) -> None:
    if not scenario.has_derivatives:
        return
    noise = np.random.default_rng(0).standard_normal
    directions = {n: x.astype(float) * noise((2, *x.shape)) for n, x in given.items()}
    again, rates = scenario.solve_along(given, directions)
    for name, array in solved.items():
        apart = np.abs(again[name] - array).max()
        assert again[name].dtype == np.float32 and apart <= 1e-5 * np.abs(array).max()
        for number, rate in enumerate(rates[name]):
            ends = []
            for step in (1e-3, -1e-3):
                moved = {n: given[n] + step * d[number] for n, d in directions.items()}
                whole = {**given, **{n: x.astype(np.float32) for n, x in moved.items()}}
                ends.append(scenario.solve(whole)[name].astype(float))
            off = np.linalg.norm(rate - (ends[0] - ends[1]) / 2e-3)
            assert off < 1e-2 * np.linalg.norm(rate), f"{name} has another rate"


def _check_refusals(scenario: Scenario, given: Fields) -> None:
    name, resolution = scenario.name, scenario.resolution
    for wrong in (0, -4):
        said = _refusal(lambda wrong=wrong: make_scenario(name, wrong, {}))
        assert str(wrong) in said
    said = _refusal(lambda: make_scenario(name, resolution, {"no_such_parameter": 1.0}))
    assert f"scenarios.{name}" in said and "no_such_parameter" in said
    for key in scenario.Parameters.model_fields:
        for value in ("no such value", math.nan):
            said = _refusal(lambda changed={key: value}: make_scenario(name, resolution, changed))
            assert f"scenarios.{name}.{key}={value!r}" in said
    used = {field.name for field in type(scenario).fields}  # what parameters add follows from these
    for key, array in given.items():
        if key not in used:
            continue
        longer = np.zeros((*array.shape, 3), np.float32)
        said = _refusal(lambda key=key, longer=longer: scenario.solve({**given, key: longer}))
        assert key in said and str(longer.shape) in said and f"expected {array.shape}" in said
        nan = np.full(array.shape, math.nan, np.float32)
        said = _refusal(lambda key=key, nan=nan: scenario.solve({**given, key: nan}))
        assert key in said and "nan" in said


def _refusal(make: Any) -> str:
    try:
        make()
    except InputError as error:
        assert "\n" not in str(error)
        return str(error)
    raise AssertionError("what cannot be solved was not refused with an InputError")
