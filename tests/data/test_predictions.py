"""Predictions of a store: which frames are given, which are written, when they are, and gaps."""

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
def surrogate():
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


def store(folder, arrays, dims):
    group = zarr.open_group(str(folder), mode="w")
    for name, values in arrays.items():
        group.create_array(name, data=values, dimension_names=dims.get(name))
    return folder


def make_store(folder, times, frames=SHAPE[1]):
    state = np.random.default_rng(0).random((SHAPE[0], frames, *SHAPE[2:]))
    arrays = {"temperature": state, "conductivity": state[:, 0], "x": (np.arange(6) + 0.5) / 6}
    arrays |= {} if times is None else {"time": times}
    dims = {"temperature": ("sample", "time", "x", "y"), "conductivity": ("sample", "x", "y")}
    store(folder, arrays, dims | {"x": ("x",), "time": ("time",)})
    for name, unit in (("x", "m"), ("time", "s")):
        if name in arrays:
            zarr.open_array(str(folder / name)).attrs["units"] = unit
    return folder


def predict(surrogate, source, steps=None, size=1):
    destination = source.with_name("out.zarr")
    group = zarr.open_group(str(source), mode="r")
    done = predict_store(surrogate, source, destination, size, lambda *_: None, steps)
    assert done == group[surrogate.description.fields[0]].shape[0]
    return zarr.open_group(str(destination), mode="r")


@pytest.mark.parametrize("steps", [None, 5])
def test_the_first_frames_are_continued(surrogate, tmp_path, steps):
    source = make_store(tmp_path / "in.zarr", np.arange(4) * 0.5 + 10)
    out, given = predict(surrogate, source, steps, 2), zarr.open_group(str(source), mode="r")
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
        (None, 1, r"numbers of shape \(samples, frames=2 or more, x, y\)"),
    ],
)
def test_frames_that_do_not_fit_are_refused_and_nothing_is_left(
    surrogate, tmp_path, times, frames, words
):
    source = make_store(tmp_path / "in.zarr", times, frames)
    with pytest.raises(InputError, match=words):
        predict(surrogate, source)
    assert [path.name for path in tmp_path.iterdir()] == ["in.zarr"]


def saved(kind):
    """Return a model of an earlier version, what it was given and what it answered."""
    folder = Path(__file__).parents[1] / "surrogate/formats" / kind
    surrogate, known = Surrogate.load(folder), dict(np.load(folder / "prediction.npz"))
    names = surrogate.description.given_names
    return surrogate, {n: known.get(f"given {n}", known.get(n)) for n in names}, known


@pytest.mark.parametrize("steps", [None, 2])
def test_forcings_and_numbers_are_read_beside_states(tmp_path, steps):
    surrogate, inputs, _ = saved("frames")
    surplus = {n: np.concatenate([inputs[n]] * 3, axis=1) for n in ("power", "temperature")}
    dims = {"loss": ("sample",)} | dict.fromkeys(surplus, ("sample", "time", "x"))
    out = predict(surrogate, store(tmp_path / "in.zarr", inputs | surplus, dims), steps)
    expected = surrogate.predict(inputs, 1, steps)["temperature"]
    np.testing.assert_array_equal(out["temperature"][:], expected)
    assert out["temperature"].metadata.dimension_names == ("sample", "time", "x")


def test_a_forcing_that_ends_too_early_is_refused_and_nothing_is_left(tmp_path):
    surrogate, inputs, _ = saved("frames")
    with pytest.raises(InputError, match=r"power is .* frames=10 or more"):
        predict(surrogate, store(tmp_path / "in.zarr", inputs, {}), steps=9)
    assert [path.name for path in tmp_path.iterdir()] == ["in.zarr"]


def test_predictions_at_points_say_where_they_are(tmp_path):
    surrogate, inputs, known = saved("points")
    predict(surrogate, store(tmp_path / "in.zarr", inputs, dict.fromkeys(inputs, POINT)))
    with xarray.open_zarr(tmp_path / "out.zarr") as out:
        assert set(out.coords) == {"x", "y"}
        np.testing.assert_array_equal(out["x"], known["x"])
        np.testing.assert_allclose(out["deflection"], known["deflection"], rtol=1e-4, atol=1e-5)


POINT = ("sample", "point")
GAPPY = {"cover": POINT, "loss": POINT[:1], "temperature": ("sample", "time", "point")}
GAPPY |= {"x": POINT, "y": POINT}


def test_a_store_with_gaps_is_predicted_as_a_whole(tmp_path):
    surrogate, given, _ = saved("gaps")
    out = predict(surrogate, store(tmp_path / "in.zarr", given, GAPPY))
    for name, expected in surrogate.predict(given, 1).items():
        found = np.asarray(out[name][:])
        assert np.isfinite(found).all()
        np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("kind", "dims", "steps", "words"),
    [
        ("frames", {}, 9, "power is .* frames=10 or more"),
        ("gaps", GAPPY, None, "in.zarr, from 1 on: field y has a value that is miss"),
    ],
)
def test_what_the_model_cannot_take_leaves_nothing_behind(tmp_path, kind, dims, steps, words):
    surrogate, given, _ = saved(kind)
    if kind == "gaps":
        given["y"][1, 4] = np.nan
    with pytest.raises(InputError, match=words):
        predict(surrogate, store(tmp_path / "in.zarr", given, dims), steps)
    assert [path.name for path in tmp_path.iterdir()] == ["in.zarr"]


@pytest.mark.parametrize(
    ("damaged", "text", "words"),
    [
        ("zarr.json", "null", "in.zarr cannot be read .*; expected a Zarr group with the arrays"),
        ("conductivity/zarr.json", "{}", "in.zarr: conductivity cannot be read"),
        ("conductivity/c/0/0/0", "garbage", "in.zarr: conductivity cannot be read .*Zstd"),
        ("x/c/0", "garbage", "in.zarr: x cannot be read .*Zstd"),
    ],
)
def test_a_damaged_store_is_one_line_and_leaves_nothing_behind(
    surrogate, tmp_path, damaged, text, words
):
    source = make_store(tmp_path / "in.zarr", None)
    assert (source / damaged).exists()
    (source / damaged).write_text(text)
    with pytest.raises(InputError, match=words) as told:
        predict_store(surrogate, source, tmp_path / "out.zarr", 1, lambda *_: None)
    assert "\n" not in str(told.value)
    assert [path.name for path in tmp_path.iterdir()] == ["in.zarr"]


@pytest.mark.parametrize("text", ["null", '"x"', "[]"])
def test_a_model_whose_description_is_none_is_one_line(tmp_path, text):
    (tmp_path / "surrogate.json").write_text(text)
    with pytest.raises(InputError, match="does not hold a readable model"):
        Surrogate.load(tmp_path)
