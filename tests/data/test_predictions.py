"""Predictions of a store of states: which frames are given, which are written, when they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import xarray
import zarr

from mno.core.errors import InputError
from mno.core.forecast import Forecast
from mno.data.normalise import Normaliser
from mno.nn.config import ModelConfig
from mno.surrogate.description import Description
from mno.surrogate.predictions import predict_store
from mno.surrogate.surrogate import Surrogate

SHAPE = (5, 4, 6, 6)  # samples, frames, x, y


@pytest.fixture(scope="module")
def surrogate() -> Surrogate:
    torch.manual_seed(0)
    description = Description(
        scenario="heat",
        inputs={"conductivity": "W m-1 K-1", "temperature": "K"},
        outputs={"temperature": "K"},
        extent=(1.0, 1.0),
        reference_spacing=(1 / 6, 1 / 6),
        normaliser=Normaliser(
            {"conductivity": 0.5, "temperature": 0.5}, {"conductivity": 0.3, "temperature": 0.3}
        ),
        model=ModelConfig(width=4, layers=1, d_state=2),
        forecast=Forecast(2, "rollout", 3, 0.5),
    )
    return Surrogate(description, description.build())


def make_store(folder: Path, times: np.ndarray | None, frames: int = SHAPE[1]) -> Path:
    rng = np.random.default_rng(0)
    group = zarr.open_group(str(folder), mode="w")
    dims = ("sample", "time", "x", "y")
    state = rng.random((SHAPE[0], frames, *SHAPE[2:]))
    group.create_array("temperature", data=state, dimension_names=dims)
    group.create_array("conductivity", data=state[:, 0], dimension_names=("sample", "x", "y"))
    x = (np.arange(6) + 0.5) / 6
    group.create_array("x", data=x, dimension_names=("x",)).attrs["units"] = "m"
    if times is not None:
        group.create_array("time", data=times, dimension_names=("time",)).attrs["units"] = "s"
    return folder


def predict(surrogate: Surrogate, source: Path, steps: int | None = None) -> zarr.Group:
    destination = source.with_name("out.zarr")
    done = predict_store(surrogate, source, destination, 2, lambda *_: None, steps)
    assert done == SHAPE[0]
    return zarr.open_group(str(destination), mode="r")


@pytest.mark.parametrize("steps", [None, 5])
def test_the_first_frames_are_continued(surrogate, tmp_path, steps):
    source = make_store(tmp_path / "in.zarr", np.arange(4) * 0.5 + 10)
    out, given = predict(surrogate, source, steps), zarr.open_group(str(source), mode="r")
    inputs = {
        "temperature": np.asarray(given["temperature"][:, :2]),
        "conductivity": np.asarray(given["conductivity"][:]),
    }
    expected = surrogate.predict(inputs, 2, steps)["temperature"]
    np.testing.assert_array_equal(out["temperature"][:], expected)
    assert out["temperature"].metadata.dimension_names == ("sample", "time", "x", "y")
    np.testing.assert_allclose(out["time"][:], 10.5 + 0.5 * np.arange(1, 1 + (steps or 3)))
    assert (out["time"].attrs["units"], out["x"].attrs["units"]) == ("s", "m")
    assert "y" not in out


def test_without_times_none_are_written(surrogate, tmp_path):
    out = predict(surrogate, make_store(tmp_path / "in.zarr", None))
    assert out["temperature"].shape == (5, 3, 6, 6)
    assert "time" not in out


@pytest.mark.parametrize(
    ("times", "frames", "words"),
    [
        (np.arange(4) * 0.25, 4, "continues frames that are 0.5 apart"),
        (None, 1, r"numbers of shape \(sample, time, x, y\) with 2 frames or more"),
    ],
)
def test_frames_that_do_not_fit_are_refused_and_nothing_is_left(
    surrogate, tmp_path, times, frames, words
):
    source = make_store(tmp_path / "in.zarr", times, frames)
    with pytest.raises(InputError, match=words):
        predict(surrogate, source)
    assert [path.name for path in tmp_path.iterdir()] == ["in.zarr"]


ROD = Path(__file__).parents[1] / "surrogate/formats/frames"


@pytest.mark.parametrize("steps", [None, 2])
def test_forcings_and_numbers_are_read_beside_states(tmp_path, steps):
    surrogate, known = Surrogate.load(ROD), np.load(ROD / "prediction.npz")
    inputs = {name: known[name] for name in ("power", "loss")}
    inputs["temperature"] = known["given temperature"]
    group = zarr.open_group(str(tmp_path / "in.zarr"), mode="w")
    surplus = np.concatenate([inputs["power"], inputs["power"]], axis=1)
    group.create_array("power", data=surplus, dimension_names=("sample", "time", "x"))
    group.create_array("loss", data=inputs["loss"], dimension_names=("sample",))
    state = np.concatenate([inputs["temperature"]] * 3, axis=1)
    group.create_array("temperature", data=state, dimension_names=("sample", "time", "x"))
    done = predict_store(
        surrogate, tmp_path / "in.zarr", tmp_path / "out.zarr", 1, lambda *_: None, steps
    )
    assert done == len(inputs["loss"]) == 2
    out = zarr.open_group(str(tmp_path / "out.zarr"), mode="r")
    expected = surrogate.predict(inputs, 1, steps)["temperature"]
    np.testing.assert_array_equal(out["temperature"][:], expected)
    assert out["temperature"].metadata.dimension_names == ("sample", "time", "x")


def test_a_forcing_that_ends_too_early_is_refused_and_nothing_is_left(tmp_path):
    surrogate, known = Surrogate.load(ROD), np.load(ROD / "prediction.npz")
    group = zarr.open_group(str(tmp_path / "in.zarr"), mode="w")
    for name in ("power", "loss"):
        group.create_array(name, data=known[name])
    group.create_array("temperature", data=known["given temperature"])
    with pytest.raises(InputError, match=r"power is .* with 10 frames or more"):
        predict_store(
            surrogate, tmp_path / "in.zarr", tmp_path / "out.zarr", 1, lambda *_: None, steps=9
        )
    assert [path.name for path in tmp_path.iterdir()] == ["in.zarr"]


def test_predictions_at_points_say_where_they_are(tmp_path):
    saved = Path(__file__).parents[1] / "surrogate/formats/points"
    surrogate, known = Surrogate.load(saved), np.load(saved / "prediction.npz")
    group = zarr.open_group(str(tmp_path / "in.zarr"), mode="w")
    for name in ("x", "y", "load"):
        group.create_array(name, data=known[name], dimension_names=("sample", "point"))
    predict_store(surrogate, tmp_path / "in.zarr", tmp_path / "out.zarr", 1, lambda *_: None)
    with xarray.open_zarr(tmp_path / "out.zarr") as out:
        assert set(out.coords) == {"x", "y"}
        np.testing.assert_array_equal(out["x"], known["x"])
        np.testing.assert_allclose(out["deflection"], known["deflection"], rtol=1e-4, atol=1e-5)
