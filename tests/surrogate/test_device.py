"""Where models compute: as `--device` says, and with nothing left elsewhere.

What a CUDA device does is looked at where there is one. That all of a computation is in one place
is looked at anywhere: torch refuses to combine what lies on `meta`, which holds no values, with
tensors of the processor.
"""

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from flows.cli import app
from mno.core.device import DEVICE, asked_device
from mno.core.errors import InputError
from mno.data.reading import Schema
from mno.nn.config import ModelConfig
from mno.scenarios.base import make_scenario
from mno.training.processes import training_device
from tests.support.untrained import untrained

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
# Scans along a curve through points order them by their values, which `meta` does not have.
LATENT = ModelConfig(backbone="latent", mixer=["softmax"], cells=4, width=8, layers=1)
CASES = {
    "darcy": (16, {}, {}),
    "darcy_ring": (8, {}, {"model": LATENT}),
    "navier_stokes": (16, {"frames": 3}, {}),
    "furnace": (16, {"frames": 3}, {"scheme": "horizon"}),
}


def problem(name):
    """An untrained model of a scenario, and one sample of its inputs."""
    resolution, parameters, options = CASES[name]
    scenario = make_scenario(name, resolution, parameters)
    schema = Schema(name, scenario.fields, scenario.axes)
    given = scenario.sample(np.random.default_rng(0))
    solved = {**given, **scenario.solve(given)}
    fields = {field.name: np.asarray(solved[field.name])[None] for field in schema.fields}
    surrogate = untrained(schema, fields, nudged=True, **options)
    states = {field.name for field in schema.fields if field.role == "state"}
    given = surrogate.description.given_names
    return surrogate, {n: fields[n][:, :1] if n in states else fields[n] for n in given}


@pytest.mark.parametrize("name", CASES)
def test_an_answer_is_computed_where_the_operator_and_what_is_given_are(name):
    surrogate, given = problem(name)
    shapes = {k: x.shape for k, x in surrogate.predict(given).items()}
    arrays, _ = surrogate.at_points(given, None)
    there = {k: torch.from_numpy(x).to("meta") for k, x in arrays.items()}
    found = surrogate.answers(surrogate.operator.to("meta"), there, None)
    assert {k: tuple(x.shape) for k, x in found.items()} == shapes
    assert all(x.is_meta for x in found.values())


def test_what_was_asked_for_is_where_training_computes(monkeypatch):
    monkeypatch.setenv(DEVICE, "cpu")
    assert asked_device() == training_device() == "cpu"
    monkeypatch.setenv(DEVICE, "")
    assert asked_device() is None


COMMANDS = ["run", "train", "predict a b c", "study run paper", "study tune darcy"]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_device_that_is_not_there_is_refused_before_anything_is_done(command, monkeypatch):
    monkeypatch.setenv(DEVICE, "")
    with pytest.raises(InputError, match="device 'tpu' is not known; choose cpu or cuda"):
        CliRunner().invoke(app, [*command.split(), "--device", "tpu"], catch_exceptions=False)
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="finds none here; install .* or choose cpu"):
            CliRunner().invoke(app, [*command.split(), "--device", "cuda"], catch_exceptions=False)


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("name", CASES)
def test_a_gpu_answers_as_the_processor_does(name):
    surrogate, given = problem(name)
    expected = surrogate.predict(given)
    surrogate.device = "cuda"
    for field, found in surrogate.predict(given).items():
        np.testing.assert_allclose(found, expected[field], rtol=1e-3, atol=1e-4 * found.std())
