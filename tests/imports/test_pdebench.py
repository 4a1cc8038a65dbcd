from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from opened import assert_values, contents_and_values, fields_of, mapped, refusal, rules

RNG = np.random.default_rng(0)
XY, TXY = ("x", "y"), ("time", "x", "y")
Change = Callable[[h5py.File], None]


def centres(num_points: int) -> np.ndarray:
    return ((np.arange(num_points) + 0.5) / num_points).astype(np.float32)


def darcy(path: Path, *, dtype: str = "f4", tensor_axes: int = 4, **options: object) -> dict:
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
def test_darcy_flow_comes_back_as_it_was_written(tmp_path: Path, options: dict):
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


def one_dimensional(path: Path, times: np.ndarray | None = None) -> np.ndarray:
    tensor = RNG.random((5, 11, 16)).astype(np.float32)
    with h5py.File(path, "w") as file:
        file["tensor"], file["x-coordinate"] = tensor, centres(16)
        if times is not None:
            file["t-coordinate"] = times
    return tensor


def test_time_may_have_one_more_point_than_the_frames(tmp_path: Path):
    path = tmp_path / "1D_Burgers_Sols_Nu0.01.hdf5"
    tensor = one_dimensional(path, np.linspace(0, 2.2, 12))
    contents, values = contents_and_values("pdebench", path)
    assert fields_of(contents) == {"velocity": ("state", ("time", "x"))}
    np.testing.assert_allclose(contents.axes[0].points, np.linspace(0, 2, 11))
    assert_values(values, velocity=tensor)


def test_frames_are_numbered_where_times_are_missing(tmp_path: Path):
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
def test_times_that_do_not_fit_are_refused(tmp_path: Path, times: np.ndarray, told: str):
    one_dimensional(tmp_path / "1D.hdf5", times)
    assert told in refusal("pdebench", tmp_path / "1D.hdf5")


def test_arrays_with_names_become_states(tmp_path: Path):
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


def test_incompressible_flow_has_components_and_a_force(tmp_path: Path):
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


CONFIG = "sim:\n  T_end: 1.0\n  n_boundaries: [1, 2]\nname: radial\nnested: {a: {b: 3}}\n"
DAM_BREAK = ["0000", "0001", "0002"]


def groups(
    path: Path,
    names: list[str] = DAM_BREAK,
    channels: int = 1,
    config: str | None = CONFIG,
    **options: object,
) -> np.ndarray:
    data = RNG.random((len(names), 5, 6, 8, channels)).astype(np.float32)
    with h5py.File(path, "w", userblock_size=options.pop("userblock_size", 0)) as file:
        for name, values in zip(names, data, strict=True):
            group = file.create_group(name)
            group.create_dataset("data", data=values, **options)
            group["grid/x"] = np.linspace(-2.4, 2.4, 6, dtype=np.float32)
            group["grid/y"] = np.linspace(-2.4, 2.4, 8, dtype=np.float32)
            group["grid/t"] = np.linspace(0, 1, 5, dtype=np.float32)
            if config is not None:
                group.attrs["config"] = config
    return data


def test_groups_of_the_dam_break_become_samples(tmp_path: Path):
    data = groups(tmp_path / "2D_rdb_NA_NA.h5")
    contents, values = contents_and_values("pdebench", tmp_path / "2D_rdb_NA_NA.h5")
    assert fields_of(contents) == {"depth": ("state", TXY)}
    assert_values(values, depth=data[..., 0])
    assert contents.parameters == {"config": {"sim.T_end": 1.0, "name": "radial", "nested.a.b": 3}}
    assert contents.remarks == ("config is that of group 0000",)
    np.testing.assert_allclose(contents.axes[1].extent, (-2.88, 2.88), rtol=1e-6)


@pytest.mark.parametrize(
    "options", [{}, {"dtype": ">f4"}, {"dtype": "f8"}, {"chunks": (1, 6, 8, 2)},
                {"compression": "gzip"}, {"userblock_size": 512}], ids=str,
)  # fmt: skip
def test_groups_may_begin_anywhere_and_have_holes(tmp_path: Path, options: dict):
    path = tmp_path / "2D_diff-react_NA_NA.h5"
    # As many figures as differ: by number, not by text.
    data = groups(path, ["9998", "9999", "10003"], 2, **options)
    contents, values = contents_and_values("pdebench", path, block=2)
    assert_values(values, activator=data[..., 0], inhibitor=data[..., 1])
    assert contents.remarks[0] == (
        "groups go from 9998 to 10003, and 3 numbers in between are missing; samples are numbered "
        "from 0"
    )


@pytest.mark.parametrize("config", ["a: [1", "!!python/object/apply:os.system ['true']", "\t-"])
def test_a_config_that_is_no_plain_yaml_is_left_out(tmp_path: Path, config: str):
    groups(tmp_path / "2D_rdb_NA_NA.h5", config=config)
    contents, _ = contents_and_values("pdebench", tmp_path / "2D_rdb_NA_NA.h5")
    assert contents.parameters == {"config": {}}
    assert contents.remarks == ("the config of group 0000 is not valid YAML; it is left out",)


def test_a_config_that_expands_without_end_costs_nothing(tmp_path: Path):
    lines = ["a0: &a0 {x: 1, y: 2}"]
    lines += [f"a{i}: &a{i} {{l: *a{i - 1}, m: *a{i - 1}, n: *a{i - 1}}}" for i in range(1, 30)]
    groups(tmp_path / "2D_rdb_NA_NA.h5", config="\n".join(lines))
    contents, _ = contents_and_values("pdebench", tmp_path / "2D_rdb_NA_NA.h5")
    assert 0 < len(contents.parameters["config"]) <= 200


def another_shape(file: h5py.File) -> None:
    del file["0002/data"]
    file["0002/data"] = np.ones((5, 6, 7, 1))


def another_grid(file: h5py.File) -> None:
    file["0001/grid/x"][:] = np.linspace(0, 1, 6)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (another_shape, "0002/data has shape (5, 6, 7, 1), but 0000/data has"),
        (another_grid, "group 0001 has other points along x than 0000"),
        (lambda file: file.create_group("0003"), "/0003 has no array data; it has nothing"),
    ],
)
def test_a_group_unlike_the_others_is_refused_by_name(tmp_path: Path, change: Change, told: str):
    groups(tmp_path / "2D_rdb_NA_NA.h5")
    with h5py.File(tmp_path / "2D_rdb_NA_NA.h5", "a") as file:
        change(file)
    assert told in refusal("pdebench", tmp_path / "2D_rdb_NA_NA.h5")


def test_an_array_of_text_can_be_dropped(tmp_path: Path):
    path = tmp_path / "darcy.hdf5"
    darcy(path)
    with h5py.File(path, "a") as file:
        file["notes"] = np.array([b"one", b"two"])
    told = refusal("pdebench", path)
    assert "notes holds" in told and "expected real numbers" in told and "drop: true" in told
    found = fields_of(mapped("pdebench", path, rules(notes={"drop": True})).contents)
    assert set(found) == {"permeability", "pressure"}


def test_chunks_of_many_large_samples_are_read_in_order(tmp_path: Path):
    path = tmp_path / "2D_CFD.hdf5"
    data = np.arange(40 * 2 * 480 * 480, dtype=np.float32).reshape(40, 2, 480, 480)
    with h5py.File(path, "w") as file:
        # A row of chunks is 40 samples of 1.8 MiB, more than HDF5 keeps.
        file.create_dataset("density", data=data, chunks=(40, 1, 33, 64), compression="lzf")
    _, values = contents_and_values("pdebench", path, block=16)
    assert_values(values, density=data)
