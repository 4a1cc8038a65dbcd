"""Slopes of surrogates: gradients by torch and products by differences tell the same Jacobian."""

import numpy as np
import pytest
import torch

from mno.core.errors import InputError
from mno.core.forecast import TaskConfig
from mno.core.readings import from_points
from mno.data.reading import Schema, Split
from mno.nn.config import ModelConfig
from mno.scenarios.base import make_scenario
from mno.surrogate.surrogate import Surrogate
from mno.training.problem import describe
from tests.support import furnace_runs

FIELDS = {
    "darcy": ({}, {}),
    "diffusion_reaction": ({"frames": 4, "duration": 1.0}, {"scheme": "rollout"}),
    "burgers": ({"frames": 4}, {"time": "axis", "history": 2}),
}
MODELS = {
    "attention": {"mixer": ["softmax"], "heads": 2},
    "scans": {"mixer": ["mamba"], "path": "bidirectional"},
    "latent": {"backbone": "latent", "mixer": ["mamba"], "patch": 2},
    "fno": {"backbone": "fno", "modes": 4},
    "unet": {"backbone": "unet", "levels": 2},
}


def untrained(name, model):
    parameters, task = FIELDS[name]
    scenario = make_scenario(name, 16, parameters)
    drawn = [scenario.sample(np.random.default_rng([3, n])) for n in range(3)]
    solved = [{**given, **scenario.solve(given)} for given in drawn]
    fields = {f.name: np.stack([run[f.name] for run in solved]) for f in scenario.fields}
    schema = Schema(
        name, scenario.fields, scenario.axes, (), scenario.parameters.model_dump(), resolution=16
    )
    split = Split("train", schema, fields, np.arange(3))
    torch.manual_seed(0)
    config = ModelConfig.model_validate({"width": 8, "layers": 1, **model})
    description = describe(split, config, TaskConfig.model_validate(task))
    return Surrogate(description, description.build()), fields


def sides(surrogate, given, seed=0):
    """Return w J d twice, by the gradient and by the product, and the size of what is summed."""
    rng = np.random.default_rng(seed)
    weights = {n: rng.standard_normal(v.shape) for n, v in surrogate.predict(given).items()}
    scale = {n: np.nanstd(v) or 1.0 for n, v in given.items()}
    directions = {n: s * rng.standard_normal(given[n].shape) for n, s in scale.items()}
    slopes = surrogate.gradient(given, weights)
    moved = surrogate.product(given, directions)
    assert {n: v.shape for n, v in slopes.items()} == {n: v.shape for n, v in given.items()}
    left = sum(np.sum(slopes[n] * np.nan_to_num(d), dtype=float) for n, d in directions.items())
    right = sum(np.nansum(weights[n] * values) for n, values in moved.items())
    size = np.sqrt(sum(np.nansum((weights[n] * v) ** 2) for n, v in moved.items()))
    return left, right, size


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("name", FIELDS)
def test_gradient_and_product_are_of_one_jacobian(name, model):
    if model in ("fno", "unet") and name == "burgers":
        pytest.skip("networks of images do not take time as an axis")
    surrogate, fields = untrained(name, MODELS[model])
    given = surrogate.description.given(fields)
    left, right, size = sides(surrogate, given)
    assert size > 0.0
    assert abs(left - right) < 1e-3 * size


def test_readings_have_slopes_in_their_own_shapes_and_none_where_they_are_missing():
    surrogate, _ = furnace_runs.trusted()
    given = surrogate.description.given(furnace_runs.runs("train", 0).fields)
    given = from_points(surrogate.description.readings, given)  # as a dataset has them
    left, right, size = sides(surrogate, given)
    assert abs(left - right) < 1e-3 * size


def test_an_observer_has_slopes_by_what_it_reads():
    surrogate, _ = furnace_runs.observer()
    given = surrogate.description.given(furnace_runs.runs("train", 0, observed=True).fields)
    name = "thermocouple_temperature_read"
    assert np.isnan(given[name]).any()
    left, right, size = sides(surrogate, given)
    assert abs(left - right) < 1e-3 * size
    weights = {"core_temperature": np.ones_like(given[name])}
    slopes = surrogate.gradient(given, weights)[name]
    assert not slopes[np.isnan(given[name])].any() and slopes.any()


def test_what_does_not_fit_is_refused():
    surrogate, fields = untrained("darcy", MODELS["attention"])
    given = surrogate.description.given(fields)
    for weights in ({}, {"pressure": np.ones(3)}, {"heat": np.ones((3, 16, 16))}):
        with pytest.raises(InputError, match="expected some of what is predicted"):
            surrogate.gradient(given, weights)
    with pytest.raises(InputError, match="expected some of the inputs"):
        surrogate.product(given, {"permeability": np.ones(3)})
