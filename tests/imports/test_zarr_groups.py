"""Zarr groups: ours, xarray's and others', and what is refused."""

import base64
import json
import os
import pickle
import warnings

import numpy as np
import pytest
import xarray
import zarr
from opened import assert_values, contents_and_values, fields_of, refusal, rules

from mno.core.config import Config
from mno.core.errors import InputError
from mno.core.fields import Axis, Field
from mno.data.config import GenerateConfig, SplitConfig
from mno.data.generate.plan import DatasetPlan
from mno.data.shard_file import write_shard_file
from mno.data.store import seal, shard_file
from mno.imports.collection import import_files
from mno.imports.importer import importer_class
from mno.imports.mapping import Mapping
from mno.scenarios.base import SampleSource

RNG, INPUT = np.random.default_rng(0), {"role": "input"}


def values(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def refused(path, mapping=None):
    return refusal("zarr", path, mapping)


class NoParameters(Config):
    pass


def released(path, given, given_axes):
    class Given(SampleSource):
        name = "given"
        title = "Values that somebody gives"
        Parameters = NoParameters
        fields = tuple(given)
        axes = given_axes

        @classmethod
        def open(cls, parameters, resolution, root):
            return cls()

        def make(self, samples, rng):
            raise NotImplementedError

        def coordinates(self):
            samples = len(next(iter(given.values())))
            return {"group": np.arange(samples) // 2, "start": np.arange(samples) * 0.5}

    samples = len(next(iter(given.values())))
    split = SplitConfig(train=0.5, validation=0.25, test=0.25)
    config = GenerateConfig(samples=samples, resolution=8, shard_size=4, seed=1, split=split)
    DatasetPlan(Given, NoParameters(), config, code="").create_store(path)
    for field, array in given.items():
        for start in range(0, samples, 4):
            part = array[start : start + 4]
            write_shard_file(path / shard_file(field, start // 4), part, 4)
    seal(path, {})
    return path


TIME = Axis("time", "s", "elapsed time", np.array([0.0, 0.5, 1.5]), (0.0, 2.0))
X = Axis("x", "m", "length", np.linspace(0, 1, 8), (0.0, 1.0))
Y = Axis("y", "m", "height", np.arange(9) + 0.5, (0.0, 9.0))
POINT = Axis("point", "1", "number of the point", np.arange(20), (0.0, 20.0))
GRID = {
    Field("q", "W", "power", "input", ("time",), scale="log"): values(10, 3),
    Field("w", "s-1", "vorticity", "state", ("time", "x", "y")): values(10, 3, 8, 9),
    Field("a", "m2", "permeability", "input", ("x", "y"), gaps=True): values(10, 8, 9),
    Field("nu", "Pa s", "viscosity", "input", ()): values(10),
    Field("b", "1", "answer", "output", ("x",), scale="less nu"): values(10, 8),
}
POINTS = {
    Field("x", "m", "x", "coordinate", ("point",)): values(10, 20),
    Field("y", "m", "y", "coordinate", ("point",)): values(10, 20),
    Field("elapsed", "s", "elapsed time", "times", ("time",)): values(10, 3),
    Field("a", "K", "temperature", "state", ("time", "point")): values(10, 3, 20),
}


@pytest.mark.parametrize(
    ("given", "axes"), [(GRID, (TIME, X, Y)), (POINTS, (TIME, POINT))], ids=["grid", "points"]
)
def test_a_released_dataset_comes_back_as_it_was(tmp_path, given, axes):
    given[next(iter(given))][3] = 0.0  # shards may hold nothing but one value
    contents, read = contents_and_values("zarr", released(tmp_path / "data", given, axes))
    assert contents.samples == 10 and contents.fields == tuple(given)
    for found, expected in zip(contents.axes, axes, strict=True):
        assert (found.name, found.units, found.long_name, found.extent) == (
            expected.name, expected.units, expected.long_name, expected.extent,
        )  # fmt: skip
        np.testing.assert_array_equal(found.points, expected.points)
    assert_values(read, **{field.name: expected for field, expected in given.items()})
    assert contents.groups is not None and contents.groups.tolist() == [n // 2 for n in range(10)]
    assert contents.starts is not None and contents.starts[3] == 1.5
    assert contents.parameters["scenario"] == "given"
    assert contents.remarks[-1] == "split is left out: it holds text"


def test_what_tells_equal_inputs_apart_is_no_field_of_a_dataset_that_comes_back(tmp_path):
    file = tmp_path / "a.npz"
    coeff = np.arange(16, dtype=np.float32).reshape(4, 2, 2)
    np.savez(file, coeff=coeff, sol=coeff)
    outcome = import_files(tmp_path / "plant", [file], "npz", None)
    store = tmp_path / "plant" / "parts" / outcome.added[0].content[:16]
    assert (store / "identity").is_dir()
    contents, _ = contents_and_values("zarr", store)
    assert [field.name for field in contents.fields] == ["coeff", "sol"]


def test_rates_of_fields_are_no_fields_of_a_dataset_that_comes_back(tmp_path):
    store = released(tmp_path / "data", GRID, (TIME, X, Y))
    group = zarr.open_group(store, mode="r+")
    group.attrs["rates"] = ["rate_of_w"]
    group.create_array("rate_of_w", data=values(10, 2), dimension_names=("sample", "direction"))
    contents, _ = contents_and_values("zarr", store)
    assert contents.fields == tuple(GRID)


def test_a_shard_that_was_altered_or_lost_since_the_release_is_found(tmp_path):
    path = released(tmp_path / "data", GRID, (TIME, X, Y))
    shard = path / "w/c/1/0/0/0"
    content = bytearray(shard.read_bytes())
    content[100] ^= 1
    shard.write_bytes(bytes(content))
    importer = importer_class("zarr")(path, Mapping())
    np.testing.assert_array_equal(importer.read("w", 0, 4), values_of("w")[:4])
    with pytest.raises(InputError, match="w/c/1/0/0/0 is altered since the dataset was released"):
        importer.read("w", 2, 6)
    (path / "a/c/2/0/0").unlink()
    with pytest.raises(InputError, match="a/c/2/0/0 is missing since"):
        importer.read("a", 9, 10)


def values_of(name):
    return next(array for field, array in GRID.items() if field.name == name)


def dataset(**extra):
    return xarray.Dataset(
        {
            "u": (("sample", "time", "lat", "lon"), values(7, 4, 5, 6), {"units": "m/s"}),
            "a": (("lat", "lon", "sample"), values(5, 6, 7), {"role": "input"}),
            "mask": (("lat", "lon"), values(5, 6), {"role": "input"}),
            **extra,
        },
        coords={
            "lat": ("lat", np.arange(5.0), {"units": "degrees_north"}),
            "lon": np.arange(6.0),
            "time": ("time", np.arange(4) * 3, {"units": "hours since 2020-01-01"}),
            "place": ("sample", list("abcdefg")),
        },
        attrs={"viscosity": 0.1, "name": "a run", "long": "x" * 10_000, "list": [1, 2]},
    )


def written(path, data, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data.to_zarr(path, **options)
    return path


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("consolidated", [True, False])
@pytest.mark.parametrize("chunks", [(7, 4, 5, 6), (2, 1, 3, 6), (1, 4, 5, 6)])
def test_what_xarray_writes_is_read(tmp_path, zarr_format, consolidated, chunks):
    data = dataset()
    path = written(
        tmp_path / "x", data, zarr_format=zarr_format, consolidated=consolidated,
        encoding={"u": {"chunks": chunks}},
    )  # fmt: skip
    contents, read = contents_and_values("zarr", path)
    fields = {field.name: field for field in contents.fields}
    assert fields_of(contents) == {
        "a": ("input", ("x", "y")),
        "mask": ("input", ("x", "y")),
        "u": ("state", ("time", "x", "y")),
    }
    assert fields["u"].units == "m/s" and not fields["u"].gaps
    assert_values(read, u=data.u.values.transpose(0, 1, 3, 2))
    assert_values(read, a=data.a.values.transpose(2, 1, 0))
    assert_values(read, mask=np.stack([data["mask"].values.T] * 7))
    axes = {axis.name: axis for axis in contents.axes}
    assert [axis.name for axis in contents.axes] == ["time", "x", "y"]
    assert (axes["time"].units, axes["y"].units) == ("hours", "degrees_north")
    assert axes["x"].extent == (-0.5, 5.5)
    assert contents.parameters == {"viscosity": 0.1, "name": "a run"}


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_packed_values_are_unpacked_and_missing_ones_are_gaps(tmp_path, zarr_format):
    data = dataset()
    data["u"][2, 1, 3, 4] = np.nan
    packed = {"dtype": "i2", "scale_factor": 0.01, "add_offset": 1.0, "_FillValue": -9999}
    path = written(tmp_path / "x", data, zarr_format=zarr_format, encoding={"u": packed})
    contents, read = contents_and_values("zarr", path)
    assert {field.name: field.gaps for field in contents.fields}["u"]
    assert np.isnan(read["u"][2, 1, 4, 3]) and np.isnan(read["u"]).sum() == 1
    np.testing.assert_allclose(read["u"], data.u.values.transpose(0, 1, 3, 2), atol=0.0051)


def test_a_fill_value_that_xarray_encodes_as_text_is_understood(tmp_path):
    group = zarr.create_group(tmp_path / "g")
    given = values(3, 4)
    given[1, 2] = -1e30
    fill = base64.standard_b64encode(np.float64(np.float32(-1e30)).tobytes()).decode()
    array = group.create_array("u", data=given, dimension_names=("time", "x"))
    array.attrs["_FillValue"] = fill
    _, read = contents_and_values("zarr", tmp_path / "g")
    assert np.argwhere(np.isnan(read["u"])).tolist() == [[0, 1, 2]]


def test_without_an_axis_of_samples_a_group_is_one_sample(tmp_path):
    data = dataset().isel(sample=0).drop_vars("place")
    contents, read = contents_and_values("zarr", written(tmp_path / "x", data))
    assert contents.samples == 1
    np.testing.assert_array_equal(read["u"][0], data.u.values.transpose(0, 2, 1))


def test_channels_become_fields(tmp_path):
    data = xarray.Dataset(
        {
            "w": (("sample", "time", "channel", "x"), values(5, 3, 2, 8)),
            "nu": ("sample", values(5)),
            "dt": ((), 0.5),
        }
    )
    contents, read = contents_and_values("zarr", written(tmp_path / "x", data))
    assert [field.name for field in contents.fields] == ["nu", "w_0", "w_1"]
    assert_values(read, w_1=data.w.values[:, :, 1])
    assert_values(read, nu=data.nu.values)
    assert contents.parameters["dt"] == 0.5


def test_arrays_without_names_of_axes_are_told_by_shape(tmp_path):
    group = zarr.create_group(tmp_path / "g", zarr_format=2)
    given = {"a": values(5, 8, 8), "u": values(5, 8, 8), "nu": values(5)}
    for name, array in given.items():
        group.create_array(name, data=array, chunks=(2, 3, 8)[: array.ndim])
    contents, read = contents_and_values("zarr", tmp_path / "g")
    assert {field.name: field.dims for field in contents.fields} == {
        "a": ("x", "y"), "u": ("x", "y"), "nu": (),
    }  # fmt: skip
    assert_values(read, **given)


@pytest.mark.parametrize("compressors", ["auto", None, "blosc", "gzip"])
@pytest.mark.parametrize("order", [("sample", "x"), ("x", "sample")])
@pytest.mark.parametrize("kept", [0, 2**20])
def test_chunks_of_many_samples_are_read_rightly(tmp_path, monkeypatch, compressors, order, kept):
    monkeypatch.setattr("mno.imports.stored._KEPT_BYTES", kept)
    monkeypatch.setattr("mno.imports.stored._BOX_BYTES", 300)
    codecs = {"blosc": zarr.codecs.BloscCodec(), "gzip": zarr.codecs.GzipCodec()}
    group = zarr.create_group(tmp_path / "g")
    given = values(23, 30)
    group.create_array(
        "u", data=given if order[0] == "sample" else given.T, chunks=(7, 9), shards=(14, 18),
        dimension_names=order, compressors=codecs.get(compressors, compressors),
    )  # fmt: skip
    for block in (1, 5, 23):
        _, read = contents_and_values("zarr", tmp_path / "g", rules(u={"role": "input"}), block)
        assert_values(read, u=given)


def plain(path, **changes):
    """Write a group with the array `u`, whose metadata are then changed."""
    group = zarr.create_group(path)
    group.create_array("u", data=values(6, 8), chunks=(2, 8), dimension_names=("sample", "x"))
    group.create_array("a", data=values(6, 8), chunks=(2, 8), dimension_names=("sample", "x"))
    content = json.loads((path / "u/zarr.json").read_text())
    (path / "u/zarr.json").write_text(json.dumps({**content, **changes}))
    return path


def grid(*chunks):
    return {"chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(chunks)}}}


def sharded(*inner, codecs=({"name": "bytes"},)):
    inside = {
        "chunk_shape": list(inner),
        "codecs": list(codecs),
        "index_codecs": [{"name": "bytes"}],
    }
    return {"codecs": [{"name": "sharding_indexed", "configuration": inside}]}


UNREAD = "u cannot be read"
ODD = {
    "unknown codec": ({"codecs": [{"name": "bytes"}, {"name": "magic"}]}, "has the codec 'magic'"),
    "unpickling codec": (
        {"codecs": [{"name": "bytes"}, {"name": "numcodecs.pickle"}]}, "codec 'numcodecs.pickle'",
    ),
    "unknown codec in shards": (sharded(1, 8, codecs=[{"name": "magic"}]), "has the codec 'magic'"),
    "shards in shards": (sharded(1, 8, codecs=sharded(1, 4)["codecs"]), UNREAD),
    "objects": ({"data_type": "object"}, "'object'"),
    "times": ({"data_type": {"name": "numpy.datetime64"}}, "datetime64"),
    "complex with a fill": ({"data_type": "complex64", "fill_value": [0, 0]}, "real numbers"),
    "huge chunks": (grid(10**6, 10**6), UNREAD),
    "empty chunks": (grid(0, 8), UNREAD),
    "huge shards": (grid(2**12, 2**12) | sharded(1, 1), UNREAD),
    "huge samples": ({"shape": [6, 10**12]} | grid(1, 8), "has 10"),
    "many samples": ({"shape": [10**12, 8]}, "has 10"),
    "no samples": ({"shape": [0, 8]}, "has 0 places along sample"),
    "negative shape": ({"shape": [-6, 8]}, UNREAD),
    "other grid": ({"chunk_grid": {"name": "fancy"}}, UNREAD),
    "unknown axis": ({"dimension_names": ["sample", "q"]}, "cannot be told what the axis q is"),
    "same axis twice": ({"dimension_names": ["sample", "lon"]}, "two of the same kind"),
    "no names": ({"dimension_names": None}, "the axes of u have no names"),
    "other samples": ({"shape": [5, 8]}, "places along sample, where others have"),
}  # fmt: skip


@pytest.mark.parametrize("case", ODD)
def test_odd_metadata_are_refused_in_one_line(tmp_path, case):
    changes, message = ODD[case]
    assert message in refused(plain(tmp_path / "g", **changes), rules(u=INPUT, a=INPUT))


def test_what_is_dropped_may_be_anything(tmp_path):
    path = plain(tmp_path / "g", codecs=[{"name": "magic"}])
    contents, _ = contents_and_values("zarr", path, rules(u={"drop": True}))
    assert [field.name for field in contents.fields] == ["a"]


class Bomb:
    ran: list[str] = []

    def __reduce__(self):
        return Bomb.ran.append, ("ran",)


def test_pickles_in_chunks_are_never_loaded(tmp_path):
    group = zarr.create_group(tmp_path / "g", zarr_format=2)
    group.create_array("u", data=values(6, 8), chunks=(6, 8), compressors=None)
    metadata = json.loads((tmp_path / "g/u/.zarray").read_text())
    (tmp_path / "g/u/0.0").write_bytes(pickle.dumps(Bomb()))
    for changes in (
        {"filters": [{"id": "pickle"}]},
        {"compressor": {"id": "pickle"}},
        {"dtype": "|O", "filters": [{"id": "pickle"}]},
    ):
        (tmp_path / "g/u/.zarray").write_text(json.dumps({**metadata, **changes}))
        assert "pickle" in refused(tmp_path / "g")
    assert Bomb.ran == []


def test_links_and_pipes_are_refused(tmp_path):
    (tmp_path / "secret").write_bytes(bytes(64))
    for make in (
        lambda file: file.symlink_to(tmp_path / "secret"),
        lambda file: file.symlink_to("../../../../secret"),
        lambda file: os.mkfifo(file),
    ):
        path = plain(tmp_path / f"g{len(list(tmp_path.iterdir()))}")
        file = path / "u/c/0/0"
        file.unlink()
        make(file)
        assert str(file) in refused(path)
    path = plain(tmp_path / "linked")
    (path / "a").rename(tmp_path / "elsewhere")
    (path / "a").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    assert "a link that leads out of the store" in refused(path)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"node_type": "array"}', b"\xff\xfe"])
def test_other_folders_are_refused(tmp_path, content):
    (tmp_path / "g").mkdir()
    assert "cannot be read" in refused(tmp_path / "g")
    (tmp_path / "g/zarr.json").write_bytes(content)
    assert "cannot be read" in refused(tmp_path / "g")
    (tmp_path / "file").write_bytes(content)
    assert "is not a folder" in refused(tmp_path / "file")


@pytest.mark.parametrize("content", [b"", b"garbage", bytes(1000)])
def test_damaged_chunks_are_refused_in_one_line(tmp_path, content):
    path = plain(tmp_path / "g")
    (path / "u/c/1/0").write_bytes(content)
    assert UNREAD in refused(path, rules(u=INPUT, a=INPUT))


def test_roles_that_nothing_tells_are_asked_for(tmp_path):
    group = zarr.create_group(tmp_path / "g")
    group.create_array("q", data=values(6, 8), dimension_names=("sample", "x"))
    assert "`fields: {q: {role: input}}`" in refused(tmp_path / "g")
