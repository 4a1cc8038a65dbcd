"""A real surrogate beside the real solver of its scenario: times, memory, equal error."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mno.core.absent import Absent
from mno.core.forecast import TaskConfig, forecast_of
from mno.data.normalise import Normaliser
from mno.data.reading import Schema, Split
from mno.evaluation.config import EconomicsConfig
from mno.evaluation.cost import measure_cost, memory_use
from mno.evaluation.equal_error import Point, equal_error, time_at
from mno.nn.config import ModelConfig
from mno.scenarios.base import make_scenario
from mno.surrogate.description import Description
from mno.surrogate.surrogate import Surrogate

QUICK = EconomicsConfig(comparison_seconds=5.0)


def solved(name: str, resolution: int = 12, **parameters) -> Split:
    scenario = make_scenario(name, resolution, parameters)
    rows = []
    for sample in range(3):
        given = scenario.sample(np.random.default_rng(sample))
        rows.append({**given, **scenario.solve(given)})
    schema = Schema(
        name, scenario.fields, scenario.axes, parameters=parameters, resolution=resolution
    )
    fields = {f.name: np.stack([row[f.name] for row in rows]) for f in scenario.fields}
    return Split("test", schema, fields, np.arange(3))


def surrogate_of(split: Split) -> Surrogate:
    schema = split.schema
    torch.manual_seed(0)
    description = Description(
        scenario=schema.scenario,
        inputs={field.name: field.units for field in schema.inputs},
        outputs={field.name: field.units for field in schema.outputs},
        extent=schema.extent,
        reference_spacing=schema.spacing,
        normaliser=Normaliser.fit(split.fields),
        model=ModelConfig.model_validate({"width": 4, "layers": 1, "d_state": 2}),
        forecast=forecast_of(TaskConfig(), schema.fields, schema.axes),
    )
    return Surrogate(description, description.build())


@pytest.mark.parametrize(
    ("name", "parameters"), [("darcy", {}), ("diffusion_reaction", {"frames": 3, "duration": 0.2})]
)
def test_a_surrogate_is_measured_beside_its_solver(name: str, parameters: dict) -> None:
    split = solved(name, **parameters)
    surrogate = surrogate_of(split)
    cost = measure_cost(surrogate, split, QUICK)
    assert cost["parameters"] == surrogate.num_parameters
    assert cost["threads"] == 1
    assert 0 < cost["latency_ms"] <= cost["latency_p95_ms"]
    assert min(cost["flops"], cost["throughput_per_s"], cost["batch_size"]) > 0
    solver, compared = cost["solver"], cost["equal_error"]
    assert 0 < solver["ms"] <= solver["p95_ms"]
    assert solver["problems"] == 3
    assert solver["speedup"] == pytest.approx(solver["ms"] / cost["latency_ms"])
    assert compared["reference"] == 24
    errors = [point["error"] for point in compared["curve"]]
    assert [point["resolution"] for point in compared["curve"]] == [8, 12]
    assert errors[0] > errors[1] > 0  # finer grids are nearer to the reference
    assert compared["model"]["error"] > errors[1]  # it is not trained at all


def test_operations_of_a_rollout_grow_with_its_frames() -> None:
    counts = []
    for frames in (3, 5):
        split = solved("diffusion_reaction", frames=frames, duration=0.1 * (frames - 1))
        cost = measure_cost(surrogate_of(split), split, EconomicsConfig(comparison_seconds=0.0))
        counts.append(cost["flops"])
        assert cost["solver"] == Absent("cost.off")
    assert counts[1] == 2 * counts[0]


def test_a_model_that_predicts_no_numbers_is_measured_too() -> None:
    split = solved("darcy")
    surrogate = surrogate_of(split)
    with torch.no_grad():
        for weight in surrogate.operator.parameters():
            weight.fill_(torch.nan)
    compared = measure_cost(surrogate, split, QUICK)["equal_error"]
    assert np.isnan(compared["model"]["error"])
    assert compared["solver"] == Absent("cost.no_error")


def test_imported_data_have_no_solver() -> None:
    split = solved("darcy")
    schema = replace(split.schema, scenario="plant", sources=({"file": "a.npz"},))
    imported = replace(split, schema=schema)
    cost = measure_cost(surrogate_of(split), imported, QUICK)
    assert cost["solver"] == cost["equal_error"] == Absent("solver.imported", {"scenario": "plant"})


def test_problems_that_differ_from_grid_to_grid_are_not_compared() -> None:
    split = solved("diffusion_reaction", frames=3, duration=0.2, sampling="pdebench")
    found = equal_error(surrogate_of(split), split.schema, 1.0, 10.0)
    assert isinstance(found, Absent)
    assert "give another problem on another grid" in str(found)


def test_a_comparison_that_would_take_too_long_says_so() -> None:
    split = solved("darcy")
    found = equal_error(surrogate_of(split), split.schema, 1.0, 1e-6)
    assert isinstance(found, Absent)
    assert "raise evaluate.economics.comparison_seconds" in str(found)


CURVE = (Point(8, 0.1, 1.0), Point(16, 0.01, 10.0), Point(32, 0.001, 100.0))


@pytest.mark.parametrize(
    ("error", "ms", "how"),
    [
        (0.2, 1.0, "at_most"),
        (0.1, 1.0, "at_most"),
        (0.01, 10.0, "interpolated"),
        (10**-2.5, 10**1.5, "interpolated"),
        (0.0001, 100.0, "at_least"),
    ],
)
def test_the_time_at_an_error_lies_between_its_neighbours(
    error: float, ms: float, how: str
) -> None:
    found, said = time_at(error, CURVE)
    assert said == how
    assert found == pytest.approx(ms)


def test_memory_is_that_of_processes_of_their_own(tmp_path: Path) -> None:
    split = solved("darcy")
    surrogate = surrogate_of(split)
    surrogate.save(tmp_path)
    memory = memory_use(tmp_path, surrogate.description, split)()
    model, solver = memory["peak_memory_mib"], memory["solver_memory_mib"]
    assert isinstance(model, float) and isinstance(solver, float)
    assert 20 < solver < model < 4000  # the solver does without torch


def test_a_process_that_fails_says_why(tmp_path: Path) -> None:
    split = solved("darcy")
    memory = memory_use(tmp_path, surrogate_of(split).description, split)()
    assert "does not hold a readable model" in str(memory["peak_memory_mib"])
