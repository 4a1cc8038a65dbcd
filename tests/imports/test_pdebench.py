from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from opened import contents_and_values

from mno.core.errors import InputError
from mno.imports.mapping import MappedFile, validate_mapping
from mno.imports.pdebench import PdeBench

RNG = np.random.default_rng(0)


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


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"dtype": ">f4"},
        {"dtype": "f8"},
        {"dtype": ">f8"},
        {"dtype": "i4"},
        {"tensor_axes": 3},
        {"compression": "lzf"},
        {"compression": "lzf", "shuffle": True, "dtype": "f8"},
        {"compression": "gzip", "fletcher32": True, "shuffle": True},
    ],
    ids=str,
)
def test_darcy_flow_comes_back_as_it_was_written(tmp_path: Path, options: dict):
    path = tmp_path / "2D_DarcyFlow_beta1.0_Train.hdf5"
    written = darcy(path, **options)
    contents, values = contents_and_values("pdebench", path)
    assert contents.samples == 7
    assert {f.name: (f.role, f.dims) for f in contents.fields} == {
        "permeability": ("input", ("x", "y")),
        "pressure": ("output", ("x", "y")),
    }
    assert contents.sources == {"permeability": "nu", "pressure": "tensor"}
    assert contents.parameters == {"beta": 1.0}
    assert contents.remarks == ()
    assert [axis.name for axis in contents.axes] == ["x", "y"]
    np.testing.assert_allclose(contents.axes[0].extent, (0, 1), atol=1e-6)
    for name, array in written.items():
        np.testing.assert_array_equal(values[name], array.astype(np.float32))


def one_dimensional(path: Path, times: np.ndarray | None) -> np.ndarray:
    tensor = RNG.random((5, 11, 16)).astype(np.float32)
    with h5py.File(path, "w") as file:
        file["tensor"] = tensor
        file["x-coordinate"] = centres(16)
        if times is not None:
            file["t-coordinate"] = times
    return tensor


def test_time_may_have_one_more_point_than_the_frames(tmp_path: Path):
    path = tmp_path / "1D_Burgers_Sols_Nu0.01.hdf5"
    tensor = one_dimensional(path, np.linspace(0, 2.2, 12))
    contents, values = contents_and_values("pdebench", path)
    (field,) = contents.fields
    assert (field.name, field.role, field.dims) == ("velocity", "state", ("time", "x"))
    np.testing.assert_allclose(contents.axes[0].points, np.linspace(0, 2, 11))
    np.testing.assert_array_equal(values["velocity"], tensor)


def test_frames_are_numbered_where_times_are_missing(tmp_path: Path):
    path = tmp_path / "1D.hdf5"
    one_dimensional(path, None)
    contents, _ = contents_and_values("pdebench", path)
    np.testing.assert_array_equal(contents.axes[0].points, np.arange(11))
    assert contents.remarks == ("t-coordinate is missing; frames are numbered from 0",)


def test_fewer_times_than_frames_are_refused(tmp_path: Path):
    path = tmp_path / "1D.hdf5"
    one_dimensional(path, np.linspace(0, 1, 10))
    with pytest.raises(InputError, match="t-coordinate has shape .10,., but .* 11 points"):
        contents_and_values("pdebench", path)


def test_coordinates_that_do_not_increase_are_refused(tmp_path: Path):
    path = tmp_path / "1D.hdf5"
    one_dimensional(path, np.zeros(11))
    with pytest.raises(InputError, match="t-coordinate does not increase"):
        contents_and_values("pdebench", path)


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
    assert {f.role for f in contents.fields} == {"state"}
    assert set(values) == {"density", "pressure", "velocity_x", "velocity_y"}
    np.testing.assert_array_equal(values["velocity_y"], arrays["Vy"].astype(np.float32))


def test_incompressible_flow_has_components_and_a_force(tmp_path: Path):
    path = tmp_path / "ns_incom_inhom_2d_512-0.h5"
    velocity, particles = RNG.random((2, 5, 8, 8, 2)), RNG.random((2, 5, 8, 8, 1))
    force = RNG.random((2, 8, 8, 2))
    with h5py.File(path, "w") as file:
        for name, array in {"velocity": velocity, "particles": particles, "force": force}.items():
            file.create_dataset(name, data=array, dtype="f4", compression="lzf", shuffle=True)
        file["t"] = np.tile(np.linspace(0, 1, 5), (2, 1))
    contents, values = contents_and_values("pdebench", path)
    roles = {f.name: (f.role, f.dims) for f in contents.fields}
    assert roles["force_x"] == ("input", ("x", "y"))
    assert roles["particles"] == ("state", ("time", "x", "y"))
    np.testing.assert_array_equal(values["velocity_y"], velocity[..., 1].astype(np.float32))
    np.testing.assert_array_equal(values["force_y"], force[..., 1].astype(np.float32))
    assert "x-coordinate is missing" in contents.remarks[0]


CONFIG = "sim:\n  T_end: 1.0\n  n_boundaries: [1, 2]\nname: radial\nnested: {a: {b: 3}}\n"


def groups(path: Path, names: list[str], channels: int, config: str | None = CONFIG) -> np.ndarray:
    data = RNG.random((len(names), 5, 6, 8, channels)).astype(np.float32)
    with h5py.File(path, "w") as file:
        for name, values in zip(names, data, strict=True):
            group = file.create_group(name)
            group["data"] = values
            group["grid/x"] = np.linspace(-2.4, 2.4, 6, dtype=np.float32)
            group["grid/y"] = np.linspace(-2.4, 2.4, 8, dtype=np.float32)
            group["grid/t"] = np.linspace(0, 1, 5, dtype=np.float32)
            if config is not None:
                group.attrs["config"] = config
    return data


def test_groups_of_the_dam_break_become_samples(tmp_path: Path):
    path = tmp_path / "2D_rdb_NA_NA.h5"
    data = groups(path, ["0000", "0001", "0002", "0003"], 1)
    contents, values = contents_and_values("pdebench", path)
    (field,) = contents.fields
    assert (field.name, field.role, field.dims) == ("depth", "state", ("time", "x", "y"))
    np.testing.assert_array_equal(values["depth"], data[..., 0])
    assert contents.parameters == {"config": {"sim.T_end": 1.0, "name": "radial", "nested.a.b": 3}}
    assert contents.remarks == ("config is that of group 0000",)
    np.testing.assert_allclose(contents.axes[1].extent, (-2.88, 2.88), rtol=1e-6)


def test_groups_may_begin_anywhere_and_have_holes(tmp_path: Path):
    path = tmp_path / "2D_diff-react_NA_NA.h5"
    # As many figures as differ: by number, not by text.
    data = groups(path, ["9998", "9999", "10003"], 2)
    contents, values = contents_and_values("pdebench", path, block=2)
    np.testing.assert_array_equal(values["activator"], data[..., 0])
    np.testing.assert_array_equal(values["inhibitor"], data[..., 1])
    assert contents.remarks[0] == (
        "groups go from 9998 to 10003, and 3 numbers in between are missing; samples are numbered "
        "from 0"
    )


@pytest.mark.parametrize("config", ["a: [1", "!!python/object/apply:os.system ['true']", "\t-"])
def test_a_config_that_is_no_plain_yaml_is_left_out(tmp_path: Path, config: str):
    path = tmp_path / "2D_rdb_NA_NA.h5"
    groups(path, ["0000", "0001"], 1, config)
    contents, _ = contents_and_values("pdebench", path)
    assert contents.parameters == {"config": {}}
    assert contents.remarks == ("the config of group 0000 is not valid YAML; it is left out",)


def test_a_config_that_expands_without_end_costs_nothing(tmp_path: Path):
    path = tmp_path / "2D_rdb_NA_NA.h5"
    lines = ["a0: &a0 {x: 1, y: 2}"]
    lines += [f"a{i}: &a{i} {{l: *a{i - 1}, m: *a{i - 1}, n: *a{i - 1}}}" for i in range(1, 30)]
    groups(path, ["0000", "0001"], 1, "\n".join(lines))
    contents, _ = contents_and_values("pdebench", path)
    assert 0 < len(contents.parameters["config"]) <= 200


def test_a_group_of_another_shape_is_refused_by_name(tmp_path: Path):
    path = tmp_path / "2D_rdb_NA_NA.h5"
    groups(path, ["0000", "0001", "0002"], 1)
    with h5py.File(path, "a") as file:
        del file["0002/data"]
        file["0002/data"] = np.ones((5, 6, 7, 1))
    with pytest.raises(InputError, match=r"0002/data has shape .* but 0000/data has"):
        contents_and_values("pdebench", path)


def test_a_group_on_another_grid_is_refused_by_name(tmp_path: Path):
    path = tmp_path / "2D_rdb_NA_NA.h5"
    groups(path, ["0000", "0001", "0002"], 1)
    with h5py.File(path, "a") as file:
        file["0001/grid/x"][:] = np.linspace(0, 1, 6)
    with pytest.raises(InputError, match="group 0001 has other points along x than 0000"):
        contents_and_values("pdebench", path)


def test_a_group_without_data_is_refused_by_name(tmp_path: Path):
    path = tmp_path / "2D_rdb_NA_NA.h5"
    groups(path, ["0000", "0001"], 1)
    with h5py.File(path, "a") as file:
        file.create_group("0002")
    with pytest.raises(InputError, match="/0002 has no array data; it has nothing"):
        contents_and_values("pdebench", path)


def test_an_array_of_text_can_be_dropped(tmp_path: Path):
    path = tmp_path / "darcy.hdf5"
    darcy(path)
    with h5py.File(path, "a") as file:
        file["notes"] = np.array([b"one", b"two"])
    with pytest.raises(InputError, match="notes holds .*expected real numbers.*drop: true"):
        contents_and_values("pdebench", path)
    mapping = validate_mapping({"fields": {"notes": {"drop": True}}}, tmp_path / "map.yaml")
    with PdeBench(path, mapping) as importer:
        mapped = MappedFile(importer, path, mapping)
        assert {field.name for field in mapped.contents.fields} == {"permeability", "pressure"}


def test_chunks_of_many_large_samples_are_read_in_order(tmp_path: Path):
    path = tmp_path / "2D_CFD.hdf5"
    data = np.arange(40 * 2 * 480 * 480, dtype=np.float32).reshape(40, 2, 480, 480)
    with h5py.File(path, "w") as file:
        # A row of chunks is 40 samples of 1.8 MiB, more than HDF5 keeps.
        file.create_dataset("density", data=data, chunks=(40, 1, 33, 64), compression="lzf")
    _, values = contents_and_values("pdebench", path, block=16)
    np.testing.assert_array_equal(values["density"], data)
