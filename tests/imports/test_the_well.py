from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from opened import assert_values, contents_and_values, fields_of, refusal, rules

RNG = np.random.default_rng(0)
SAMPLES, TIMES, X, Y = 4, 5, 6, 8
TXY = ("time", "x", "y")


class Well:
    """Writes a file by the specification."""

    def __init__(self, path: Path, names: tuple[str, ...] = ("x", "y")) -> None:
        self.path = path
        with h5py.File(path, "w") as file:
            file.attrs["dataset_name"] = "active_matter"
            file.attrs["grid_type"] = "cartesian"
            file.attrs["n_spatial_dims"] = 2
            file.attrs["n_trajectories"] = SAMPLES
            file.attrs["simulation_parameters"] = ["alpha"]
            file.attrs["alpha"] = -1.0
            dimensions = file.create_group("dimensions")
            dimensions.attrs["spatial_dims"] = names
            dimensions["time"] = np.linspace(0, 2, TIMES, dtype=np.float32)
            for name, length in zip(names, (X, Y), strict=True):
                dimensions[name] = np.linspace(0, 1, length, dtype=np.float32)
            boundary = file.create_group("boundary_conditions/x_periodic")
            boundary.attrs["bc_type"] = "PERIODIC"
            for group in ("scalars", "t0_fields", "t1_fields", "t2_fields"):
                file.create_group(group).attrs["field_names"] = []

    def add(self, name: str, values: np.ndarray, varies: str = "nt", dims: str = "xy", **attrs):
        with h5py.File(self.path, "a") as file:
            file[name] = values
            file[name].attrs["sample_varying"] = "n" in varies
            file[name].attrs["time_varying"] = "t" in varies
            file[name].attrs["dim_varying"] = ["x" in dims, "y" in dims]
            file[name].attrs.update(attrs)
        return values


@pytest.fixture
def well(tmp_path: Path) -> Well:
    return Well(tmp_path / "active_matter.hdf5")


def values_of(*shape: int) -> np.ndarray:
    return RNG.random(shape).astype(np.float32)


def test_scalars_vectors_and_tensors_become_states(well: Well):
    density = well.add("t0_fields/density", values_of(SAMPLES, TIMES, X, Y))
    velocity = well.add("t1_fields/velocity", values_of(SAMPLES, TIMES, X, Y, 2))
    stress = well.add("t2_fields/stress", values_of(SAMPLES, TIMES, X, Y, 2, 2))
    flat = well.add("t2_fields/flat", values_of(SAMPLES, TIMES, X, Y, 4))
    contents, values = contents_and_values("the-well", well.path)
    assert contents.samples == SAMPLES
    assert set(fields_of(contents).values()) == {("state", TXY)}
    assert_values(values, density=density, velocity_y=velocity[..., 1], flat_yx=flat[..., 2])
    assert_values(values, stress_xy=stress[..., 0, 1], stress_yx=stress[..., 1, 0])
    assert contents.sources["velocity_y"] == "t1_fields/velocity[1]"
    np.testing.assert_allclose(contents.axes[0].points, np.linspace(0, 2, TIMES))
    assert contents.parameters["alpha"] == -1.0
    assert contents.parameters["grid_type"] == "cartesian"
    assert contents.parameters["boundary_conditions"] == {"x_periodic": "PERIODIC"}


def test_a_symmetric_tensor_is_taken_once(well: Well):
    well.add("t2_fields/stress", values_of(SAMPLES, TIMES, X, Y, 2, 2), symmetric=True)
    contents, _ = contents_and_values("the-well", well.path)
    assert [f.name for f in contents.fields] == ["stress_xx", "stress_xy", "stress_yy"]
    assert "stress is symmetric; each of its components is taken once" in contents.remarks


@pytest.mark.parametrize(
    ("varies", "dims", "shape", "index"),
    [
        ("n", "xy", (SAMPLES, X, Y), np.s_[:]),
        ("n", "xy", (SAMPLES, 1, X, Y), np.s_[:, 0]),
        ("n", "xy", (SAMPLES, X, Y, 1), np.s_[..., 0]),
        ("n", "x", (SAMPLES, X), np.s_[:, :, None]),
        ("n", "x", (SAMPLES, X, 1), np.s_[:]),
        ("n", "y", (SAMPLES, Y), np.s_[:, None]),
        ("", "xy", (X, Y), np.s_[None]),
        ("", "xy", (1, 1, X, Y), np.s_[:, 0]),
        ("", "y", (Y,), np.s_[None, None]),
        ("t", "xy", (TIMES, X, Y), np.s_[None]),
        ("nt", "x", (SAMPLES, TIMES, X), np.s_[..., None]),
        ("nt", "", (SAMPLES, TIMES), np.s_[..., None, None]),
    ],
)
def test_an_array_is_repeated_along_the_axes_it_lacks(
    well: Well, varies: str, dims: str, shape: tuple[int, ...], index: tuple
):
    heat = well.add("t0_fields/heat", values_of(*shape), varies, dims)
    contents, values = contents_and_values("the-well", well.path)
    # What does not vary over time is an input.
    expected, frames = (("state", TXY), (TIMES,)) if "t" in varies else (("input", TXY[1:]), ())
    assert fields_of(contents) == {"heat": expected}
    assert_values(values, heat=np.broadcast_to(heat[index], (SAMPLES, *frames, X, Y)))


def test_a_vector_that_does_not_vary_is_repeated(well: Well):
    wind = well.add("t1_fields/wind", values_of(2), "", "")
    _, values = contents_and_values("the-well", well.path)
    assert_values(values, wind_y=np.full((SAMPLES, X, Y), wind[1]))


def test_numbers_of_samples_are_inputs_and_constants_parameters(well: Well):
    well.add("t0_fields/density", values_of(SAMPLES, TIMES, X, Y))
    zeta = well.add("scalars/zeta", values_of(SAMPLES), "n")
    well.add("scalars/alpha", np.array([0.25]), "")
    drive = well.add("scalars/drive", values_of(TIMES), "t")
    gust = well.add("scalars/gust", values_of(SAMPLES, TIMES), "nt")
    contents, values = contents_and_values("the-well", well.path)
    assert_values(values, zeta=zeta, drive=np.tile(drive, (SAMPLES, 1)), gust=gust)
    assert [field.name for field in contents.fields if field.is_scalar] == ["zeta"]
    assert contents.parameters["alpha"] == 0.25
    assert [field.name for field in contents.fields if field.is_forcing] == ["drive", "gust"]


def test_other_axes_are_renamed_and_said_so(tmp_path: Path):
    well = Well(tmp_path / "rsg.hdf5", ("r", "theta"))
    velocity = well.add("t1_fields/velocity", values_of(SAMPLES, TIMES, X, Y, 2))
    contents, values = contents_and_values("the-well", well.path)
    assert {axis.name: axis.long_name for axis in contents.axes[1:]} == {"x": "r", "y": "theta"}
    assert "of the axes of the file, r is called x, theta is called y" in contents.remarks
    assert_values(values, velocity_theta=velocity[..., 1])


def test_times_of_each_trajectory_must_agree(well: Well):
    well.add("t0_fields/density", values_of(SAMPLES, TIMES, X, Y))
    times = np.tile(np.linspace(0, 1, TIMES), (SAMPLES, 1))
    with h5py.File(well.path, "a") as file:
        del file["dimensions/time"]
        file["dimensions/time"] = times
    contents, _ = contents_and_values("the-well", well.path)
    np.testing.assert_array_equal(contents.axes[0].points, times[0])
    with h5py.File(well.path, "a") as file:
        file["dimensions/time"][2] += 0.5
    told = refusal("the-well", well.path)
    assert "dimensions/time" in told and "differs from trajectory to trajectory" in told


def test_an_array_that_does_not_fit_is_refused_or_dropped(well: Well):
    well.add("t0_fields/density", values_of(SAMPLES, TIMES, X, Y))
    well.add("t0_fields/odd", values_of(SAMPLES, TIMES, X, Y + 1))
    told = refusal("the-well", well.path)
    assert "t0_fields/odd has shape" in told and "expected axes of trajectory" in told
    contents, _ = contents_and_values("the-well", well.path, rules(odd={"drop": True}))
    assert [field.name for field in contents.fields] == ["density"]


def test_a_file_of_another_kind_is_refused(tmp_path: Path):
    path = tmp_path / "other.hdf5"
    with h5py.File(path, "w") as file:
        file["tensor"] = np.ones((3, 4))
    told = refusal("the-well", path)
    assert "has no group dimensions" in told and "expected a file of The Well" in told
