"""Packages of models that continue states."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from mlflow.exceptions import MlflowException
from registry_shop import tiny_surrogate

from mno.core.forecast import Forecast
from mno.registry.packaging import check_predictions, frames_given, load_model, save_package
from mno.surrogate.surrogate import Surrogate

INPUTS = {
    "permeability": np.random.default_rng(0).random((3, 8, 8), dtype=np.float32),
    "pressure": np.random.default_rng(1).random((3, 2, 8, 8), dtype=np.float32),
}


def surrogate_of(scheme: str) -> Surrogate:
    """A model that continues the pressure for three frames after two, given a permeability."""
    steady = tiny_surrogate(seed=1).description
    torch.manual_seed(0)
    description = replace(
        steady,
        inputs={**steady.inputs, **steady.outputs},
        forecast=Forecast(2, scheme, 3, 0.5),  # pyright: ignore[reportArgumentType]
    )
    return Surrogate(description, description.build())


def packaged(surrogate: Surrogate, folder):
    (folder / "candidate").mkdir()
    surrogate.save(folder / "candidate")
    save_package(folder / "candidate", INPUTS, folder / "model")
    return load_model(folder / "model")


@pytest.mark.parametrize("scheme", ["rollout", "horizon"])
def test_a_package_continues_states_as_its_surrogate_does(tmp_path, scheme):
    surrogate = surrogate_of(scheme)
    model = packaged(surrogate, tmp_path)
    expected = surrogate.predict(INPUTS)
    assert expected["pressure"].shape == (3, 3, 8, 8)
    assert check_predictions(model, INPUTS, expected) is None
    assert frames_given(model) == 2
    given, predicted = model.metadata.get_input_schema(), model.metadata.get_output_schema()
    shapes = {spec.name: spec.shape for spec in given.inputs}
    assert shapes == {"permeability": (-1, -1, -1), "pressure": (-1, 2, -1, -1)}
    assert [spec.shape for spec in predicted.inputs] == [(-1, -1, -1, -1)]
    with pytest.raises(MlflowException, match="frames=2"):
        model.predict({**INPUTS, "pressure": INPUTS["pressure"][:, :1]})


def test_a_package_that_rolls_out_takes_any_number_of_steps(tmp_path):
    surrogate = surrogate_of("rollout")
    model = packaged(surrogate, tmp_path)
    found = model.predict(INPUTS, params={"steps": 5})
    np.testing.assert_array_equal(found["pressure"], surrogate.predict(INPUTS, steps=5)["pressure"])
    with pytest.raises(MlflowException, match="steps=0 must be at least 1"):
        model.predict(INPUTS, params={"steps": 0})


def test_a_model_without_states_is_given_no_frames(tmp_path):
    assert frames_given(packaged(tiny_surrogate(seed=1), tmp_path)) == 0


def test_a_package_is_given_forcings_and_numbers(tmp_path):
    saved = Path(__file__).parents[1] / "surrogate/formats/frames"
    known = dict(np.load(saved / "prediction.npz"))
    expected = {"temperature": known.pop("temperature")}
    inputs = known | {"temperature": known.pop("given temperature")}
    save_package(saved, inputs, tmp_path / "model")
    model = load_model(tmp_path / "model")
    shapes = {spec.name: spec.shape for spec in model.metadata.get_input_schema().inputs}
    assert shapes == {"power": (-1, -1, -1), "loss": (-1,), "temperature": (-1, 2, -1)}
    assert check_predictions(model, inputs, expected) is None
    nested = {name: array.tolist() for name, array in inputs.items()}
    assert check_predictions(model, nested, expected) is None
