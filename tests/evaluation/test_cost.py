"""What a model costs: operations by hand, and beside its solver and another model."""

import math
import os
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from small_lines import solved_split
from torch import nn

from mno.core.absent import Absent
from mno.core.forecast import Forecast
from mno.data.normalise import Normaliser
from mno.evaluation.config import EconomicsConfig
from mno.evaluation.cost import flops_per_prediction, measure_cost, memory_use
from mno.evaluation.decision import break_even
from mno.evaluation.equal_error import Point, equal_error, time_at
from mno.evaluation.timing import Times
from mno.nn.config import ModelConfig
from mno.nn.mixers.mamba import MambaMixer
from mno.surrogate.description import Description
from mno.surrogate.surrogate import Surrogate
from tests.support import furnace_runs
from tests.support.untrained import broken, untrained

QUICK = EconomicsConfig(comparison_seconds=5.0)


def solved(name, resolution=12, **parameters):
    return solved_split("test", name, 3, 0, resolution, **parameters)


def surrogate_of(split):
    return untrained(split.schema, split.fields)


@pytest.mark.parametrize(
    ("name", "parameters"), [("darcy", {}), ("diffusion_reaction", {"frames": 3, "duration": 0.2})]
)
def test_a_surrogate_is_measured_beside_its_solver(name, parameters):
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


def test_operations_of_a_rollout_grow_with_its_frames():
    counts = []
    for frames in (3, 5):
        split = solved("diffusion_reaction", frames=frames, duration=0.1 * (frames - 1))
        cost = measure_cost(surrogate_of(split), split, EconomicsConfig(comparison_seconds=0.0))
        counts.append(cost["flops"])
        assert cost["solver"] == Absent("cost.off")
    assert counts[1] == 2 * counts[0]


def test_operations_along_time_are_those_of_all_frames_once():
    first = {"u": np.zeros((1, 8, 16), np.float32)}
    counts = []
    for steps in (2, 4, 6):
        description = Description(
            scenario="line",
            inputs={"u": "1"},
            outputs={"u": "1"},
            extent=(1.0,),
            reference_spacing=(1 / 16,),
            normaliser=Normaliser({"u": 0.0}, {"u": 1.0}),
            model=ModelConfig.model_validate({"width": 4, "layers": 1, "d_state": 2}),
            forecast=Forecast(8, "rollout", steps, 1.0, True),
        )
        counts.append(flops_per_prediction(Surrogate(description, description.build()), first))
    each = (counts[1] - counts[0]) / 2
    assert counts[2] == counts[0] + 4 * each
    assert counts[0] == (8 + 2 - 1) * each  # of the last frame nothing follows


def test_a_model_that_predicts_no_numbers_is_measured_too():
    split = solved("darcy")
    compared = measure_cost(broken(surrogate_of(split)), split, QUICK)["equal_error"]
    assert np.isnan(compared["model"]["error"])
    assert compared["solver"] == Absent("cost.no_error")


def test_imported_data_have_no_solver():
    split = solved("darcy")
    schema = replace(split.schema, scenario="plant", sources=({"file": "a.npz"},))
    imported = replace(split, schema=schema)
    cost = measure_cost(surrogate_of(split), imported, QUICK)
    assert cost["solver"] == cost["equal_error"] == Absent("solver.imported", {"scenario": "plant"})


def test_problems_that_differ_from_grid_to_grid_are_not_compared():
    split = solved("diffusion_reaction", frames=3, duration=0.2, sampling="pdebench")
    found = equal_error(surrogate_of(split), split.schema, 1.0, 10.0)
    assert isinstance(found, Absent)
    assert "give another problem on another grid" in str(found)


def test_a_comparison_that_would_take_too_long_says_so():
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
def test_the_time_at_an_error_lies_between_its_neighbours(error, ms, how):
    found, said = time_at(error, CURVE)
    assert said == how
    assert found == pytest.approx(ms)


@pytest.mark.parametrize(
    ("seconds", "interval"),
    [([3.0], (1.5, 6.0)), ([4.0, 3.0], (1.5, 8.0)), ([2.0, 1.0, 3.0, 6.0, 5.0, 4.0], (1.0, 6.0))],
)
def test_of_few_calls_no_interval_is_narrow(seconds, interval):
    assert Times(np.array(seconds)).interval == interval


def test_memory_is_that_of_processes_of_their_own_whatever_they_print(tmp_path, monkeypatch):
    split = solved("darcy")
    surrogate = surrogate_of(split)
    surrogate.save(tmp_path)
    prints = "import atexit\nprint('a note', flush=True)\natexit.register(print, 'another')\n"
    (tmp_path / "sitecustomize.py").write_text(prints)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    memory = memory_use(tmp_path, surrogate.description, split)
    model, solver = memory["peak_memory_mib"], memory["solver_memory_mib"]
    assert isinstance(model, float) and isinstance(solver, float)
    assert 20 < solver < model < 4000  # the solver does without torch


def test_runs_of_a_plant_are_solved_there_too(tmp_path):
    surrogate, _ = furnace_runs.trusted()
    surrogate.save(tmp_path)
    split = furnace_runs.runs("validation", 1)
    memory = memory_use(tmp_path, surrogate.description, split)
    assert isinstance(memory["solver_memory_mib"], float)


def test_a_model_of_fields_and_readings_has_a_price_for_readings_alone():
    for part in ("both", "readings"):
        surrogate, _ = furnace_runs.trusted(part)
        test = furnace_runs.runs("validation", 1, part=part)
        cost = measure_cost(surrogate, test, EconomicsConfig(comparison_seconds=0.0))
        assert ("readings_ms" in cost) == (part == "both")
        spent = {stage: {"cpu_seconds": 1.0} for stage in ("generate", "train", "evaluate")}
        pays = break_even(cost | {"solver": {"ms": 1e6}, "spent": spent}, 9, EconomicsConfig())
        if part == "both":
            assert pays["readings"]["surrogate_seconds"] == 1e-3 * cost["readings_ms"]
            assert pays["readings"]["solves"] >= 1
        else:
            assert pays["readings"] is None


def test_a_process_that_fails_says_why(tmp_path):
    split = solved("darcy")
    memory = memory_use(tmp_path, surrogate_of(split).description, split)
    assert "does not hold a readable model" in str(memory["peak_memory_mib"])


POINTS = 6


class OneLayer(nn.Module):
    """What stands in the place of an operator: any layer, on the values of one field."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, batch):
        values = batch.fields["u"]
        self.layer(values)
        return type(batch)({"v": values}, batch.place, {})


def flops_of(layer, values):
    description = Description(
        scenario="line",
        inputs={"u": "1"},
        outputs={"v": "1"},
        extent=(1.0,),
        reference_spacing=(1 / values.shape[-1],),
        normaliser=Normaliser({"u": 0.0, "v": 0.0}, {"u": 1.0, "v": 1.0}),
        model=ModelConfig.model_validate({"width": 4, "layers": 1, "d_state": 2}),
    )
    return flops_per_prediction(Surrogate(description, OneLayer(layer)), {"u": values})


def values(points=POINTS):
    return np.random.default_rng(0).standard_normal((1, points)).astype(np.float32)


def attend(u):
    q = u.reshape(1, 1, POINTS, 1)
    nn.functional.scaled_dot_product_attention(q, q, q)


COMPLEX = torch.complex64
FFT = 8 * math.log2(8)


@pytest.mark.parametrize(
    ("layer", "points", "expected"),
    [
        (nn.Linear(POINTS, 5), POINTS, 2 * POINTS * 5),
        (lambda u: u.to(COMPLEX) @ torch.ones(POINTS, 3, dtype=COMPLEX), POINTS, 8 * POINTS * 3),
        (lambda u: torch.fft.fft(u.to(COMPLEX)), 8, 5.0 * FFT),
        (torch.fft.rfft, 8, 2.5 * FFT),
        (lambda u: torch.fft.irfft(u.to(COMPLEX), n=8), 5, 2.5 * FFT),
        (attend, POINTS, 2 * (2 * POINTS * POINTS)),
    ],
    ids=["linear", "complex", "fft", "rfft", "irfft", "attention"],
)
def test_operations_count_by_the_usual_formulas(layer, points, expected):
    assert flops_of(layer, values(points)) == expected


@pytest.mark.parametrize(
    ("discretization", "per_state"), [("simplified", 7), ("zoh", 9), ("centred", 9)]
)
def test_a_mamba_mixer_is_its_projections_and_its_scan(discretization, per_state):
    """By hand: d_inner = 20, two directions of state 3, steps of rank 2."""
    width, inner, directions, state, rank = 20, 20, 2, 3, 2
    mixer = MambaMixer(width, d_state=state, expand=1, dims=1, discretization=discretization)
    assert (mixer.d_inner, mixer.dt_rank) == (inner, rank)
    projections = 2 * width * 2 * inner + 2 * inner * directions * (rank + 2 * state)
    projections += 2 * inner * width
    scan = directions * inner * ((2 * rank + 1) + 2 + per_state * state)
    found = flops_of(
        lambda u: mixer(u.reshape(1, POINTS, width), (POINTS,)), values(POINTS * width)
    )
    assert found == POINTS * (projections + scan)
