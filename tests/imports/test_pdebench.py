"""Files of PDEBench and of The Well: what their arrays become, and what is refused."""

import h5py
import numpy as np
import pytest
from opened import assert_values, contents_and_values, fields_of, mapped, refusal, rules

RNG = np.random.default_rng(0)
XY, TXY = ("x", "y"), ("time", "x", "y")


def centres(num_points):
    return ((np.arange(num_points) + 0.5) / num_points).astype(np.float32)


def darcy(path, *, dtype="f4", tensor_axes=4, **options):
    nu = RNG.random((7, 6, 8)).astype(dtype)
    tensor = RNG.random((7, 1, 6, 8)).astype(dtype)
    with h5py.File(path, "w") as file:
        file.attrs["beta"] = 1.0
        file.create_dataset("nu", data=nu, **options)
        file.create_dataset("tensor", data=tensor if tensor_axes == 4 else tensor[:, 0], **options)
        file["x-coordinate"], file["y-coordinate"] = centres(6), centres(8)
    return {"permeability": nu, "pressure": tensor[:, 0]}


STORED = [
    {},
    {"dtype": ">f4"},
    {"dtype": "f8"},
    {"dtype": ">f8"},
    {"dtype": "i4"},
    {"compression": "lzf"},
    {"compression": "lzf", "shuffle": True, "dtype": "f8"},
    {"compression": "gzip", "fletcher32": True, "shuffle": True},
]


@pytest.mark.parametrize("options", [*STORED, {"tensor_axes": 3}], ids=str)
def test_darcy_flow_comes_back_as_it_was_written(tmp_path, options):
    path = tmp_path / "2D_DarcyFlow_beta1.0_Train.hdf5"
    written = darcy(path, **options)
    contents, values = contents_and_values("pdebench", path)
    assert contents.samples == 7
    assert fields_of(contents) == {"permeability": ("input", XY), "pressure": ("output", XY)}
    assert contents.sources == {"permeability": "nu", "pressure": "tensor"}
    assert contents.parameters == {"beta": 1.0} and contents.remarks == ()
    assert [axis.name for axis in contents.axes] == ["x", "y"]
    np.testing.assert_allclose(contents.axes[0].extent, (0, 1), atol=1e-6)
    assert_values(values, **written)


def one_dimensional(path, times=None):
    tensor = RNG.random((5, 11, 16)).astype(np.float32)
    with h5py.File(path, "w") as file:
        file["tensor"], file["x-coordinate"] = tensor, centres(16)
        if times is not None:
            file["t-coordinate"] = times
    return tensor


def test_time_may_have_one_more_point_than_the_frames(tmp_path):
    path = tmp_path / "1D_Burgers_Sols_Nu0.01.hdf5"
    tensor = one_dimensional(path, np.linspace(0, 2.2, 12))
    contents, values = contents_and_values("pdebench", path)
    assert fields_of(contents) == {"velocity": ("state", ("time", "x"))}
    np.testing.assert_allclose(contents.axes[0].points, np.linspace(0, 2, 11))
    assert_values(values, velocity=tensor)


def test_frames_are_numbered_where_times_are_missing(tmp_path):
    one_dimensional(tmp_path / "1D.hdf5")
    contents, _ = contents_and_values("pdebench", tmp_path / "1D.hdf5")
    np.testing.assert_array_equal(contents.axes[0].points, np.arange(11))
    assert contents.remarks == ("t-coordinate is missing; frames are numbered from 0",)


@pytest.mark.parametrize(
    ("times", "told"),
    [
        (np.linspace(0, 1, 10), "t-coordinate has shape (10,), but the arrays have 11 points"),
        (np.zeros(11), "t-coordinate does not increase"),
    ],
)
def test_times_that_do_not_fit_are_refused(tmp_path, times, told):
    one_dimensional(tmp_path / "1D.hdf5", times)
    assert told in refusal("pdebench", tmp_path / "1D.hdf5")


def test_arrays_with_names_become_states(tmp_path):
    path = tmp_path / "2D_CFD_Rand_M0.1.hdf5"
    arrays = {n: RNG.random((4, 3, 6, 8)) for n in ("density", "pressure", "Vx", "Vy")}
    with h5py.File(path, "w") as file:
        file.attrs.update({"M": 0.1, "eta": 1e-8})
        for name, array in arrays.items():
            file[name] = array
        file["t-coordinate"] = np.linspace(0, 1, 4)
        file["x-coordinate"], file["y-coordinate"] = centres(6), centres(8)
    contents, values = contents_and_values("pdebench", path)
    assert contents.parameters == {"M": 0.1, "eta": 1e-8}
    names = ("density", "pressure", "velocity_x", "velocity_y")
    assert fields_of(contents) == dict.fromkeys(sorted(names), ("state", TXY))
    assert_values(values, velocity_y=arrays["Vy"])


def test_incompressible_flow_has_components_and_a_force(tmp_path):
    path = tmp_path / "ns_incom_inhom_2d_512-0.h5"
    velocity, particles = RNG.random((2, 5, 8, 8, 2)), RNG.random((2, 5, 8, 8, 1))
    force = RNG.random((2, 8, 8, 2))
    with h5py.File(path, "w") as file:
        for name, array in {"velocity": velocity, "particles": particles, "force": force}.items():
            file.create_dataset(name, data=array, dtype="f4", compression="lzf", shuffle=True)
        file["t"] = np.tile(np.linspace(0, 1, 5), (2, 1))
    contents, values = contents_and_values("pdebench", path)
    found = fields_of(contents)
    assert found["force_x"] == ("input", XY) and found["particles"] == ("state", TXY)
    assert_values(values, velocity_y=velocity[..., 1], force_y=force[..., 1])
    assert "x-coordinate is missing" in contents.remarks[0]


DAM_BREAK = ["0000", "0001", "0002"]


def groups(path, names=DAM_BREAK, channels=1, **options):
    data = RNG.random((len(names), 5, 6, 8, channels)).astype(np.float32)
    with h5py.File(path, "w", userblock_size=options.pop("userblock_size", 0)) as file:
        for name, values in zip(names, data, strict=True):
            group = file.create_group(name)
            group.create_dataset("data", data=values, **options)
            group["grid/x"] = np.linspace(-2.4, 2.4, 6, dtype=np.float32)
            group["grid/y"] = np.linspace(-2.4, 2.4, 8, dtype=np.float32)
            group["grid/t"] = np.linspace(0, 1, 5, dtype=np.float32)
    return data


def test_groups_of_the_dam_break_become_samples(tmp_path):
    data = groups(tmp_path / "2D_rdb_NA_NA.h5")
    contents, values = contents_and_values("pdebench", tmp_path / "2D_rdb_NA_NA.h5")
    assert fields_of(contents) == {"depth": ("state", TXY)}
    assert_values(values, depth=data[..., 0])
    np.testing.assert_allclose(contents.axes[1].extent, (-2.88, 2.88), rtol=1e-6)


@pytest.mark.parametrize(
    "options", [{}, {"dtype": ">f4"}, {"dtype": "f8"}, {"chunks": (1, 6, 8, 2)},
                {"compression": "gzip"}, {"userblock_size": 512}], ids=str,
)  # fmt: skip
def test_groups_may_begin_anywhere_and_have_holes(tmp_path, options):
    path = tmp_path / "2D_diff-react_NA_NA.h5"
    # As many figures as differ: by number, not by text.
    data = groups(path, ["9998", "9999", "10003"], 2, **options)
    _, values = contents_and_values("pdebench", path, block=2)
    assert_values(values, activator=data[..., 0], inhibitor=data[..., 1])


def another_shape(file):
    del file["0002/data"]
    file["0002/data"] = np.ones((5, 6, 7, 1))


def another_grid(file):
    file["0001/grid/x"][:] = np.linspace(0, 1, 6)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (another_shape, "0002/data has shape (5, 6, 7, 1), but 0000/data has"),
        (another_grid, "group 0001 has other points along x than 0000"),
        (lambda file: file.create_group("0003"), "/0003 has no array data; it has nothing"),
    ],
)
def test_a_group_unlike_the_others_is_refused_by_name(tmp_path, change, told):
    groups(tmp_path / "2D_rdb_NA_NA.h5")
    with h5py.File(tmp_path / "2D_rdb_NA_NA.h5", "a") as file:
        change(file)
    assert told in refusal("pdebench", tmp_path / "2D_rdb_NA_NA.h5")


def test_an_array_of_text_can_be_dropped(tmp_path):
    path = tmp_path / "darcy.hdf5"
    darcy(path)
    with h5py.File(path, "a") as file:
        file["notes"] = np.array([b"one", b"two"])
    told = refusal("pdebench", path)
    assert "notes holds" in told and "expected real numbers" in told and "drop: true" in told
    found = fields_of(mapped("pdebench", path, rules(notes={"drop": True})).contents)
    assert set(found) == {"permeability", "pressure"}


def test_chunks_of_many_large_samples_are_read_in_order(tmp_path):
    path = tmp_path / "2D_CFD.hdf5"
    data = np.arange(40 * 2 * 480 * 480, dtype=np.float32).reshape(40, 2, 480, 480)
    with h5py.File(path, "w") as file:
        # A row of chunks is 40 samples of 1.8 MiB, more than HDF5 keeps.
        file.create_dataset("density", data=data, chunks=(40, 1, 33, 64), compression="lzf")
    _, values = contents_and_values("pdebench", path, block=16)
    assert_values(values, density=data)


SAMPLES, TIMES, X, Y = 4, 5, 6, 8
TIME_X_Y = ("time", "x", "y")


class Well:
    def __init__(self, path, names=("x", "y")):
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

    def add(self, name, values, varies="nt", dims="xy", **attrs):
        with h5py.File(self.path, "a") as file:
            file[name] = values
            file[name].attrs["sample_varying"] = "n" in varies
            file[name].attrs["time_varying"] = "t" in varies
            file[name].attrs["dim_varying"] = ["x" in dims, "y" in dims]
            file[name].attrs.update(attrs)
        return values


@pytest.fixture
def well(tmp_path):
    return Well(tmp_path / "active_matter.hdf5")


def values_of(*shape):
    return RNG.random(shape).astype(np.float32)


def test_scalars_vectors_and_tensors_become_states(well):
    density = well.add("t0_fields/density", values_of(SAMPLES, TIMES, X, Y))
    velocity = well.add("t1_fields/velocity", values_of(SAMPLES, TIMES, X, Y, 2))
    stress = well.add("t2_fields/stress", values_of(SAMPLES, TIMES, X, Y, 2, 2))
    contents, values = contents_and_values("the-well", well.path)
    assert contents.samples == SAMPLES
    assert set(fields_of(contents).values()) == {("state", TIME_X_Y)}
    assert_values(values, density=density, velocity_y=velocity[..., 1])
    assert_values(values, stress_xy=stress[..., 0, 1], stress_yx=stress[..., 1, 0])
    assert contents.sources["velocity_y"] == "t1_fields/velocity[1]"
    np.testing.assert_allclose(contents.axes[0].points, np.linspace(0, 2, TIMES))
    assert contents.parameters["alpha"] == -1.0
    assert contents.parameters["grid_type"] == "cartesian"
    assert contents.parameters["boundary_conditions"] == {"x_periodic": "PERIODIC"}


def test_a_symmetric_tensor_is_taken_once(well):
    well.add("t2_fields/stress", values_of(SAMPLES, TIMES, X, Y, 2, 2), symmetric=True)
    contents, _ = contents_and_values("the-well", well.path)
    assert [f.name for f in contents.fields] == ["stress_xx", "stress_xy", "stress_yy"]


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
def test_an_array_is_repeated_along_the_axes_it_lacks(well, varies, dims, shape, index):
    heat = well.add("t0_fields/heat", values_of(*shape), varies, dims)
    contents, values = contents_and_values("the-well", well.path)
    # What does not vary over time is an input.
    expected, frames = (
        (("state", TIME_X_Y), (TIMES,)) if "t" in varies else (("input", TIME_X_Y[1:]), ())
    )
    assert fields_of(contents) == {"heat": expected}
    assert_values(values, heat=np.broadcast_to(heat[index], (SAMPLES, *frames, X, Y)))


def test_a_vector_that_does_not_vary_is_repeated(well):
    wind = well.add("t1_fields/wind", values_of(2), "", "")
    _, values = contents_and_values("the-well", well.path)
    assert_values(values, wind_y=np.full((SAMPLES, X, Y), wind[1]))


def test_numbers_of_samples_are_inputs_and_constants_parameters(well):
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


def test_other_axes_are_renamed(tmp_path):
    well = Well(tmp_path / "rsg.hdf5", ("r", "theta"))
    velocity = well.add("t1_fields/velocity", values_of(SAMPLES, TIMES, X, Y, 2))
    contents, values = contents_and_values("the-well", well.path)
    assert {axis.name: axis.long_name for axis in contents.axes[1:]} == {"x": "r", "y": "theta"}
    assert_values(values, velocity_theta=velocity[..., 1])


def test_times_of_each_trajectory_must_agree(well):
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
    assert "dimensions/time gives other points along time for other samples" in told


def test_an_array_that_does_not_fit_is_refused_or_dropped(well):
    well.add("t0_fields/density", values_of(SAMPLES, TIMES, X, Y))
    well.add("t0_fields/odd", values_of(SAMPLES, TIMES, X, Y + 1))
    told = refusal("the-well", well.path)
    assert "t0_fields/odd has shape" in told and "expected axes of trajectory" in told
    contents, _ = contents_and_values("the-well", well.path, rules(odd={"drop": True}))
    assert [field.name for field in contents.fields] == ["density"]


def test_a_file_of_another_kind_is_refused(tmp_path):
    path = tmp_path / "other.hdf5"
    with h5py.File(path, "w") as file:
        file["tensor"] = np.ones((3, 4))
    told = refusal("the-well", path)
    assert "has no group dimensions" in told and "expected a file of The Well" in told
