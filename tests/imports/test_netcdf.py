import h5py
import numpy as np
import pytest
import scipy.io
import xarray
from opened import (
    assert_cuts_are_refused,
    assert_flips_do_no_harm,
    assert_values,
    contents_and_values,
    mapped,
    refusal,
    rules,
)

from mno.core.errors import InputError
from mno.core.fields import Field
from mno.data.reading import Schema
from mno.imports.mapping import Mapping

RNG = np.random.default_rng(0)


def classic(dataset, path):
    dataset.to_netcdf(path, engine="scipy", format="NETCDF3_CLASSIC")


def offsets_of_64_bits(dataset, path):
    dataset.to_netcdf(path, engine="scipy", format="NETCDF3_64BIT")


def records(dataset, path):
    first = next(iter(dataset.dims))
    dataset.to_netcdf(path, engine="scipy", format="NETCDF3_CLASSIC", unlimited_dims=[str(first)])


def on_hdf5(dataset, path):
    dataset.to_netcdf(path, engine="h5netcdf")


def compressed(dataset, path):
    encoding = {name: {"zlib": True, "shuffle": True} for name in dataset.data_vars}
    dataset.to_netcdf(path, engine="h5netcdf", encoding=encoding)


def read_back(write, dataset, folder, block=3):
    write(dataset, folder / "file.nc")
    return contents_and_values("netcdf", folder / "file.nc", block=block)


writers = pytest.mark.parametrize(
    "write", [classic, offsets_of_64_bits, records, on_hdf5, compressed]
)


def heat(dtype="f4"):
    """A field over time and a number for each sample, as an export has them."""
    data = {
        "temperature": (
            ("sample", "time", "x", "y"),
            (RNG.random((5, 4, 6, 8)) * 100).astype(dtype),
            {"units": "K", "long_name": "temperature of the wall", "role": "state"},
        ),
        "power": (("sample",), RNG.random(5).astype("f4"), {"units": "W", "role": "input"}),
        "group": (("sample",), np.array([0, 0, 1, 1, 2], dtype="i4")),
    }
    axes = {
        "time": ("time", np.arange(4.0) * 60, {"units": "s"}),
        "x": ("x", np.arange(6.0) + 0.5, {"units": "m", "extent": [0.0, 6.0]}),
        "y": ("y", np.linspace(0, 2, 8), {"units": "m", "long_name": "height"}),
    }
    return xarray.Dataset(data, axes, {"title": "a wall", "Conventions": "CF-1.11"})


@writers
@pytest.mark.parametrize("dtype", ["f4", "f8", "i2", "i4"])
def test_an_exported_dataset_comes_back(tmp_path, write, dtype):
    dataset = heat(dtype)
    contents, values = read_back(write, dataset, tmp_path, block=2)
    assert contents.samples == 5
    temperature, power = sorted(contents.fields, key=lambda field: -len(field.dims))
    assert temperature == Field(
        "temperature", "K", "temperature of the wall", "state", ("time", "x", "y")
    )
    assert (power.role, power.dims, power.units) == ("input", (), "W")
    # xarray writes a mark for missing values whether or not there are any.
    assert not power.gaps
    assert_values(values, temperature=dataset["temperature"], power=dataset["power"])
    assert [(a.name, a.units) for a in contents.axes] == [("time", "s"), ("x", "m"), ("y", "m")]
    np.testing.assert_array_equal(contents.axes[1].points, np.arange(6) + 0.5)
    assert contents.axes[1].extent == (0, 6)
    np.testing.assert_allclose(contents.axes[2].extent, (-1 / 7, 2 + 1 / 7))
    assert contents.axes[2].long_name == "height"
    assert contents.groups is not None and contents.groups.tolist() == [0, 0, 1, 1, 2]
    assert contents.parameters["title"] == "a wall"


@writers
def test_axes_of_any_order_and_other_names_are_put_in_order(tmp_path, write):
    t2m = RNG.random((4, 3, 8, 6)).astype("f4")
    dataset = xarray.Dataset(
        {"t2m": (("Time", "member", "Latitude", "LON"), t2m, {"units": "K"})},
        {
            "Time": ("Time", np.arange(4.0), {"units": "hours since 2020-01-01"}),
            "Latitude": ("Latitude", np.linspace(40, 33, 8), {"units": "degrees_north"}),
            "LON": ("LON", np.linspace(0, 5, 6), {"units": "degrees_east"}),
        },
    )
    contents, values = read_back(write, dataset, tmp_path, block=2)
    (field,) = contents.fields
    assert (contents.samples, field.role, field.dims) == (3, "state", ("time", "x", "y"))
    # Latitudes decrease in the file.
    assert_values(values, t2m=t2m.transpose(1, 0, 3, 2)[..., ::-1])
    np.testing.assert_allclose(contents.axes[2].points, np.linspace(33, 40, 8))
    assert [a.units for a in contents.axes] == ["hours", "degrees_east", "degrees_north"]
    axes = {"time": {"units": "s"}, "x": {"units": "km", "extent": (0, 400)}}
    for rule, off in (({"units": "degC"}, 273.15), ({"units": "degC", "given_in": "degC"}, 0.0)):
        mapping = Mapping.model_validate({"fields": {"t2m": rule}, "axes": axes})
        file = mapped("netcdf", tmp_path / "file.nc", mapping)
        np.testing.assert_allclose(file.read("t2m", 0, 3), values["t2m"] - off, rtol=1e-6)
        time, x, _ = file.contents.axes
        assert time.points.tolist() == [0.0, 3600.0, 7200.0, 10800.0] and time.units == "s"
        assert time.extent == (0.0, 10800.0) and x.extent == (0.0, 400.0) and x.units == "km"


@writers
def test_packed_values_and_gaps_are_unpacked(tmp_path, write):
    packed = RNG.integers(-100, 100, (3, 4, 5)).astype("i2")
    packed[0, 1, 2] = packed[2, 0, 0] = -999
    attributes = {"scale_factor": 0.5, "add_offset": 10.0, "missing_value": np.int16(-999)}
    contents, values = read_back(
        write, xarray.Dataset({"p": (("sample", "time", "x"), packed, attributes)}), tmp_path
    )
    assert_values(values, p=np.where(packed == -999, np.nan, packed * 0.5 + 10).astype("f4"))
    assert contents.fields[0].gaps
    assert np.isnan(values["p"]).sum() == 2
    assert "p says how a missing value is marked, so it may have gaps" in contents.remarks[0]
    assert "time has no coordinates; frames are numbered from 0" in contents.remarks


@pytest.mark.parametrize(
    ("stored", "said", "expected"),
    [
        ("i8", {"missing_value": np.int64(7 - 2**63)}, [[1, np.nan, 3]]),
        ("i1", {"_Unsigned": "true", "scale_factor": 0.5}, [[0.5, 127.5, 1.5]]),
        (">i2", {"_Unsigned": "true", "missing_value": np.int16(-1)}, [[1, np.nan, 3]]),
    ],
)
def test_integers_are_what_their_attributes_say(tmp_path, stored, said, expected):
    second = -1 if "_Unsigned" in said else said["missing_value"]
    packed = np.array([[1, second, 3]], stored)
    _, values = read_back(on_hdf5, xarray.Dataset({"p": (("time", "x"), packed, said)}), tmp_path)
    assert_values(values, p=[expected])


@pytest.mark.parametrize(
    ("points", "extent", "offset"),
    [
        (np.linspace(0, 1, 8192, dtype="f4"), (-0.5 / 8191, 1 + 0.5 / 8191), 0.5),
        (np.array([850.0]), (849.5, 850.5), 0.5),
        (np.array([0.0, 1.0, 2.0, 4.0]), (-2 / 3, 4 + 2 / 3), None),
    ],
)
def test_an_import_says_which_points_training_refuses(tmp_path, points, extent, offset):
    u = RNG.random((2, 3, len(points))).astype("f4")
    dataset = xarray.Dataset({"u": (("sample", "time", "x"), u)}, {"x": points})
    contents, _ = read_back(on_hdf5, dataset, tmp_path)
    assert contents.axes[1].extent == pytest.approx(extent)
    schema = Schema("imported", contents.fields, contents.axes)
    if offset is not None:
        assert schema.offset == (offset,)
    else:
        with pytest.raises(InputError, match="axis x has 4 points from 0 to 4"):
            schema.offset  # noqa: B018
    refused = "points along x are not evenly spaced (steps 1 to 2), which training refuses"
    assert (offset is None) == any(refused in remark for remark in contents.remarks)


@writers
def test_a_fill_value_of_the_attribute_is_missing(tmp_path, write):
    data = RNG.random((3, 4, 5)).astype("f4")
    data[1, 2, 3] = np.nan
    dataset = xarray.Dataset({"p": (("sample", "time", "x"), data)})
    dataset["p"].encoding["_FillValue"] = np.float32(1e20)
    contents, values = read_back(write, dataset, tmp_path)
    assert contents.fields[0].gaps
    assert_values(values, p=data)


@writers
def test_a_file_without_samples_is_one_and_what_is_the_same_in_all_is_repeated(tmp_path, write):
    u, mask = RNG.random((3, 4, 6)).astype("f4"), RNG.random(6).astype("f4")
    whole = xarray.Dataset({"u": (("sample", "time", "x"), u), "mask": (("x",), mask)})
    contents, values = read_back(write, whole.isel(sample=0), tmp_path)
    assert contents.samples == 1
    assert {f.name: f.role for f in contents.fields} == {"u": "state", "mask": "input"}
    assert_values(values, u=u[:1])
    _, values = read_back(write, whole, tmp_path, block=2)
    assert_values(values, mask=np.tile(mask, (3, 1)))


@writers
def test_points_without_order_have_coordinates(tmp_path, write):
    places = {n: RNG.random((3, 7)).astype("f4") for n in ("x", "y")}
    variables = {n: (("sample", "point"), v, {"role": "coordinate"}) for n, v in places.items()}
    load = RNG.random((3, 7)).astype("f4")
    variables["load"] = (("sample", "point"), load, {"role": "input", "gaps": np.int32(1)})
    contents, values = read_back(write, xarray.Dataset(variables), tmp_path, block=2)
    assert {f.name: (f.role, f.dims, f.gaps) for f in contents.fields} == {
        "x": ("coordinate", ("point",), False),
        "y": ("coordinate", ("point",), False),
        "load": ("input", ("point",), True),
    }
    assert_values(values, y=places["y"])
    assert [axis.name for axis in contents.axes] == ["point"]


@writers
def test_what_is_not_known_is_left_out_and_said_so(tmp_path, write):
    dataset = xarray.Dataset(
        {
            "u": (("time", "y", "x"), RNG.random((4, 3, 6)).astype("f4")),
            "bounds": (("time", "nv"), RNG.random((4, 2))),
            "profile": (("time", "x"), RNG.random((4, 6))),
            "series": (("time",), RNG.random(4)),
            "name": (("x",), np.array(list("abcdef"), dtype="S1")),
            "viscosity": ((), np.float64(0.5)),
        }
    )
    contents, _ = read_back(write, dataset, tmp_path)
    assert {f.name: f.is_forcing for f in contents.fields} == {"u": False, "series": True}
    assert "bounds is left out: dimension nv is not known as an axis here" in contents.remarks
    assert "profile is not given along y; it is left out" in contents.remarks
    assert any(r.startswith("name") and r.endswith("it is left out") for r in contents.remarks)
    assert contents.parameters["viscosity"] == 0.5


def test_axes_may_be_named_by_their_attribute(tmp_path):
    axes = {
        "epoch": ("epoch", np.arange(4.0), {"axis": "T"}),
        "easting": ("easting", np.arange(6.0), {"axis": "X"}),
    }
    dataset = xarray.Dataset({"u": (tuple(axes), RNG.random((4, 6)).astype("f4"))}, axes)
    contents, _ = read_back(on_hdf5, dataset, tmp_path)
    assert contents.fields[0].dims == ("time", "x")


@writers
def test_roles_that_are_not_told_are_asked_for(tmp_path, write):
    path = tmp_path / "steady.nc"
    write(xarray.Dataset({n: (("sample", "x"), RNG.random((3, 6))) for n in ("k", "p")}), path)
    with pytest.raises(InputError, match="say which is which"):
        mapped("netcdf", path)
    found = mapped("netcdf", path, rules(p={"role": "output"})).contents
    assert {field.name: field.role for field in found.fields} == {"k": "input", "p": "output"}


def test_a_file_that_scipy_wrote_with_several_records(tmp_path):
    path = tmp_path / "records.nc"
    arrays = {"u": RNG.random((5, 3)).astype("f4"), "v": RNG.random((5, 3)).astype("f8")}
    # Three bytes a record are padded to four.
    arrays["w"] = RNG.integers(0, 9, (5, 3)).astype("i1")
    with scipy.io.netcdf_file(path, "w") as file:
        file.createDimension("time", None)
        file.createDimension("x", 3)
        for name, array in arrays.items():
            file.createVariable(name, array.dtype, ("time", "x"))[:] = array
    _, values = contents_and_values("netcdf", path)
    for name, array in arrays.items():
        np.testing.assert_array_equal(values[name][0], array.astype("f4"))


def test_version_5_and_an_open_number_of_records_are_refused_with_the_remedy(tmp_path):
    path = tmp_path / "odd.nc"
    records(heat(), path)
    raw = path.read_bytes()
    for head in (b"CDF\x05" + raw[4:8], raw[:4] + b"\xff" * 4):
        path.write_bytes(head + raw[8:])
        assert "nccopy -k nc4" in refusal("netcdf", path)


@pytest.mark.parametrize("write", [classic, offsets_of_64_bits, records, on_hdf5])
def test_every_truncation_is_refused_in_one_line(tmp_path, write):
    write(heat(), tmp_path / "whole.nc")
    assert_cuts_are_refused("netcdf", tmp_path / "whole.nc", 211)


def test_flipped_bytes_of_a_header_never_raise_anything_else(tmp_path):
    classic(heat(), tmp_path / "whole.nc")
    assert_flips_do_no_harm("netcdf", tmp_path / "whole.nc", range(900), 100)


def test_dimensions_without_names_and_text_are_refused(tmp_path):
    path = tmp_path / "plain.h5"
    with h5py.File(path, "w") as file:
        file["u"] = np.ones((3, 4))
    assert "u has shape (3, 4) and dimensions without names" in refusal("netcdf", path)
    path.write_text("netcdf wall { }")
    assert "is not a NetCDF file" in refusal("netcdf", path)
