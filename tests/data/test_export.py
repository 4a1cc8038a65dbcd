"""`mno export`: what is written is what was in the store, and other programs can open it."""

import base64
import json
import os
import resource
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
import xarray

from mno.core.errors import InputError
from mno.core.fields import Axis, Field
from mno.core.forecast import Forecast
from mno.data.normalise import Normaliser
from mno.imports.export import Selection, export_store
from mno.imports.importer import importer_class
from mno.imports.mapping import FieldRule, Mapping
from mno.nn.config import ModelConfig
from mno.surrogate.description import Description
from mno.surrogate.predictions import predict_store
from mno.surrogate.surrogate import Surrogate
from tests.report.stores import axis, release
from tests.support.file_hashes import hashes

ROOT = Path(__file__).parents[2]
RNG = np.random.default_rng(0)


def values(*shape):
    return RNG.normal(size=shape).astype(np.float32)


TIME = Axis("time", "s", "elapsed time", np.array([0.0, 0.5, 1.5]), (0.0, 2.0))
X, Y, Z = axis("x", 8, 2.0), axis("y", 9, 3.0), axis("z", 4, 1.0)
NODES = Axis("x", "m", "length", np.linspace(0, 1, 8), (0.0, 1.0))
POINT = Axis("point", "1", "number of the point", np.arange(20), (0.0, 20.0))
FLOW = {
    Field("q", "W", "power", "input", ("time",)): values(11, 3),
    Field("w", "s-1", "vorticity & <more>", "state", ("time", "x", "y")): values(11, 3, 8, 9),
    Field("a", "m2", "permeability", "input", ("x", "y"), gaps=True): values(11, 8, 9),
    Field("nu", "Pa s", "viscosity", "input", ()): values(11),
}
FLOW[next(field for field in FLOW if field.name == "a")][2, 3, 4] = np.nan
STORES: dict[str, tuple[dict[Field, np.ndarray], tuple[Axis, ...]]] = {
    "flow": (FLOW, (TIME, X, Y)),
    "steady": (
        {
            Field("a", "m2", "permeability", "input", ("x", "y", "z")): values(6, 8, 9, 4),
            Field("p", "Pa", "pressure", "output", ("x", "y", "z")): values(6, 8, 9, 4),
        },
        (X, Y, Z),
    ),
    "line": (
        {
            Field("a", "1", "before", "input", ("x",)): values(5, 8),
            Field("u", "1", "after", "output", ("x",)): values(5, 8),
        },
        (NODES,),
    ),
    "points": (
        {
            Field("x", "m", "x", "coordinate", ("point",)): values(6, 20),
            Field("y", "m", "y", "coordinate", ("point",)): values(6, 20),
            Field("h", "K", "temperature", "state", ("time", "point")): values(6, 3, 20),
            Field("k", "1", "conductivity", "input", ("point",)): values(6, 20),
        },
        (TIME, POINT),
    ),
}


_TYPES = {"Float32": "f4", "Float64": "f8", "Int64": "i8", "UInt8": "u1"}


def read_vtk(path):
    """Return the text of a file as XML, and its arrays by name."""
    root, arrays = ElementTree.parse(path).getroot(), {}
    assert (root.get("byte_order"), root.get("header_type")) == ("LittleEndian", "UInt64")
    for element in root.iter("DataArray"):
        assert element.get("format") == "binary"
        data = base64.b64decode(element.text or "", validate=True)
        assert struct.unpack_from("<Q", data) == (len(data) - 8,)
        values = np.frombuffer(data[8:], "<" + _TYPES[element.attrib["type"]])
        shape = int(element.attrib["NumberOfTuples"]), int(element.attrib["NumberOfComponents"])
        arrays[element.attrib["Name"]] = values.reshape(shape if shape[1] > 1 else shape[0])
    return root, arrays


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stores")
    return {name: release(folder / name, *given) for name, given in STORES.items()}


def given(name):
    return {field.name: array for field, array in STORES[name][0].items()}


def exported(source, destination, **options):
    export_store(source, destination, **options)
    return destination


@pytest.mark.parametrize("name", STORES)
def test_netcdf_is_imported_again_as_it_was(stores, tmp_path, name):
    fields, axes = STORES[name]
    path = exported(stores[name], tmp_path / "out.nc")
    with importer_class("netcdf")(path, Mapping()) as importer:
        contents = importer.contents
        assert {field.name: field for field in contents.fields} == {f.name: f for f in fields}
        for found, expected in zip(contents.axes, axes, strict=True):
            assert (found.name, found.units, found.long_name) == (
                expected.name, expected.units, expected.long_name,
            )  # fmt: skip
            np.testing.assert_array_equal(found.points, expected.points)
            assert found.extent == expected.extent
        for field, expected in given(name).items():
            np.testing.assert_array_equal(importer.read(field, 0, contents.samples), expected)


def test_xarray_opens_netcdf_with_coordinates_units_and_splits(stores, tmp_path):
    path = exported(stores["flow"], tmp_path / "out.nc")
    with xarray.open_dataset(path) as data, xarray.open_zarr(stores["flow"]) as store:
        for name, expected in given("flow").items():
            np.testing.assert_array_equal(data[name], expected)
        assert data.w.dims == ("sample", "time", "x", "y")
        assert data.w.attrs["units"] == "s-1" and data.w.attrs["role"] == "state"
        assert data.w.attrs["long_name"] == "vorticity & <more>"
        assert data.x.attrs["axis"] == "X" and data.time.attrs["units"] == "s"
        np.testing.assert_array_equal(data.time, TIME.points)
        assert data.split.values.tolist() == store.split.values.tolist()
        assert "split" in data.w.coords and data.attrs["Conventions"] == "CF-1.11"
    with xarray.open_dataset(exported(stores["points"], tmp_path / "points.nc")) as data:
        np.testing.assert_array_equal(data.h.coords["x"], given("points")["x"])


@pytest.mark.parametrize("name", STORES)
def test_npz_holds_the_same_without_pickles(stores, tmp_path, name):
    path = exported(stores[name], tmp_path / "out.npz")
    with np.load(path, allow_pickle=False) as data:
        for field, expected in given(name).items():
            np.testing.assert_array_equal(data[field], expected)
        for along in STORES[name][1]:
            if along.name != "point":
                np.testing.assert_array_equal(data[along.name], along.points)
        assert data["split"].dtype.kind == "U" and len(data["split"]) == len(data["sample"])
    if name == "steady":  # it is imported again as it was
        rules = Mapping(fields={"p": FieldRule(role="output")})
        with importer_class("npz")(path, rules) as importer:
            np.testing.assert_array_equal(importer.read("p", 0, 6), given("steady")["p"])
            np.testing.assert_array_equal(importer.contents.axes[2].points, Z.points)


@pytest.mark.parametrize("suffix", ["nc", "npz"])
def test_chosen_fields_and_samples_are_exported_in_the_order_asked_for(stores, tmp_path, suffix):
    path = tmp_path / f"out.{suffix}"
    exported(stores["flow"], path, fields=["w", "nu"], samples=[7, 8, 9, 2])
    data = xarray.open_dataset(path) if suffix == "nc" else np.load(path)
    with data:
        np.testing.assert_array_equal(data["w"], given("flow")["w"][[7, 8, 9, 2]])
        np.testing.assert_array_equal(data["nu"], given("flow")["nu"][[7, 8, 9, 2]])
        assert list(np.asarray(data["sample"])) == [7, 8, 9, 2] and "a" not in data


@pytest.mark.parametrize("suffix", ["nc", "npz"])
def test_the_size_of_blocks_changes_nothing(stores, tmp_path, monkeypatch, suffix):
    whole = exported(stores["flow"], tmp_path / f"whole.{suffix}")
    monkeypatch.setattr("mno.imports.export._BLOCK_BYTES", 1)
    with Selection(stores["flow"]) as selection:
        assert len(list(selection.runs())) == 11
    parts = exported(stores["flow"], tmp_path / f"parts.{suffix}")
    if suffix == "npz":
        assert whole.read_bytes() == parts.read_bytes()
    else:
        with xarray.open_dataset(whole) as a, xarray.open_dataset(parts) as b:
            xarray.testing.assert_identical(a, b)


def test_grids_over_time_become_files_by_sample_and_frame(stores, tmp_path):
    path = exported(stores["flow"], tmp_path / "out", samples=[2, 5])
    assert sorted(p.name for p in path.iterdir()) == [
        "sample_0002", "sample_0002.pvd", "sample_0005", "sample_0005.pvd",
    ]  # fmt: skip
    for sample in (2, 5):
        collection = ElementTree.parse(path / f"sample_{sample:04d}.pvd").getroot()
        entries = list(collection.iter("DataSet"))
        assert [float(entry.attrib["timestep"]) for entry in entries] == TIME.points.tolist()
        for frame, entry in enumerate(entries):
            root, arrays = read_vtk(path / entry.attrib["file"])
            (piece,) = root.iter("Piece")
            assert piece.attrib["Extent"] == "0 7 0 8 0 0"
            assert root[0].attrib["WholeExtent"] == "0 7 0 8 0 0"
            for name, expected in (("w", given("flow")["w"][:, frame]), ("a", given("flow")["a"])):
                found = arrays[name].reshape(8, 9, order="F")
                assert found.dtype == np.float32
                np.testing.assert_array_equal(found, expected[sample])
            assert arrays["q"].tolist() == [given("flow")["q"][sample, frame]]
            assert arrays["nu"].tolist() == [given("flow")["nu"][sample]]
            assert arrays["TimeValue"].tolist() == [TIME.points[frame]]
            for along in (X, Y):
                np.testing.assert_array_equal(arrays[along.name], along.points)
            assert arrays["z"].tolist() == [0.0]


@pytest.mark.parametrize("name", ["steady", "line"])
def test_grids_without_time_become_one_file_for_each_sample(stores, tmp_path, name):
    path = exported(stores[name], tmp_path / "out")
    entries = list(ElementTree.parse(path / "samples.pvd").getroot().iter("DataSet"))
    assert len(entries) == len(given(name)["a"])
    for sample, entry in enumerate(entries):
        _, arrays = read_vtk(path / entry.attrib["file"])
        for field, expected in given(name).items():
            found = arrays[field].reshape(expected.shape[1:], order="F")
            np.testing.assert_array_equal(found, expected[sample])


@pytest.mark.parametrize("suffix", ["nc", "npz", ""])
def test_readings_along_axes_of_their_own_are_exported(tmp_path, suffix):
    piece = Axis("piece", "1", "piece", np.arange(1.0, 4.0), (0.5, 3.5))
    cores = Field("core", "K", "core temperature", "state", ("time", "piece"))
    heat = Field("heat", "K", "temperature", "state", ("time", "x", "y"))
    given = {cores: values(4, 3, 3), heat: values(4, 3, 8, 9)}
    release(tmp_path / "data", given, (TIME, X, Y, piece))
    out = tmp_path / ("out" + f".{suffix}" * bool(suffix))
    exported(tmp_path / "data", out, samples=[2, 0])
    if suffix:
        opened = xarray.open_dataset(out) if suffix == "nc" else np.load(out)
        np.testing.assert_array_equal(np.asarray(opened["core"]), given[cores][[2, 0]])
    if suffix == "nc":
        assert opened["core"].dims == ("sample", "time", "piece")
        np.testing.assert_array_equal(opened["piece"], piece.points)
    if not suffix:
        _, fields = read_vtk(out / "sample_0002" / "frame_0001.vtr")
        np.testing.assert_array_equal(np.ravel(fields["core"]), given[cores][2, 1])


def test_points_become_vertices(stores, tmp_path):
    path = exported(stores["points"], tmp_path / "out", fields=["h"])
    root, arrays = read_vtk(path / "sample_0003/frame_0002.vtu")
    expected = given("points")
    np.testing.assert_array_equal(arrays["h"], expected["h"][3, 2])
    np.testing.assert_array_equal(arrays["points"][:, 0], expected["x"][3])
    np.testing.assert_array_equal(arrays["points"][:, 1], expected["y"][3])
    assert not arrays["points"][:, 2].any() and "k" not in arrays
    np.testing.assert_array_equal(arrays["connectivity"], np.arange(20))
    np.testing.assert_array_equal(arrays["offsets"], np.arange(1, 21))
    assert set(arrays["types"]) == {1}
    assert next(root.iter("Piece")).attrib == {"NumberOfPoints": "20", "NumberOfCells": "20"}


@pytest.fixture(scope="module")
def predictions(stores, tmp_path_factory):
    torch.manual_seed(0)
    description = Description(
        scenario="flow", inputs={"w": "s-1"}, outputs={"w": "s-1"}, extent=(2.0, 3.0),
        reference_spacing=(0.25, 1 / 3), normaliser=Normaliser({"w": 0.0}, {"w": 1.0}),
        model=ModelConfig(width=4, layers=1, d_state=2), forecast=Forecast(1, "rollout", 2, 0.5),
    )  # fmt: skip
    path = tmp_path_factory.mktemp("predicted") / "predictions.zarr"
    predict_store(Surrogate(description, description.build()), stores["flow"], path, 4,
                  lambda *_: None)  # fmt: skip
    return path


def test_predictions_are_exported_like_data(predictions, tmp_path):
    with xarray.open_zarr(predictions) as store:
        with xarray.open_dataset(exported(predictions, tmp_path / "out.nc")) as data:
            np.testing.assert_array_equal(data.w, store.w)
            np.testing.assert_array_equal(data.time, store.time)
            assert data.w.attrs["units"] == "s-1"
        path = exported(predictions, tmp_path / "out", samples=[1])
        _, arrays = read_vtk(path / "sample_0001/frame_0001.vtr")
        np.testing.assert_array_equal(arrays["w"].reshape(8, 9, order="F"), store.w[1, 1])


def test_damaged_data_are_not_exported(tmp_path):
    store = release(tmp_path / "data", *STORES["line"])
    (store / "u/c/1/0").unlink()
    with pytest.raises(InputError, match="u/c/1/0 is missing since the dataset was released"):
        exported(store, tmp_path / "out.nc")
    assert [p.name for p in tmp_path.iterdir()] == ["data"]
    exported(store, tmp_path / "out.nc", samples=[0, 1])


REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "no format": ("out.hdf", {}, "does not tell the format.*expected .nc, .npz, or"),
    "unknown field": ("out.nc", {"fields": ["zz"]}, "has no field zz; it has q, w, a, nu"),
    "unknown sample": ("out.nc", {"samples": [3, 11]}, "sample 11 is not in .*numbered from 0 to"),
    "no sample": ("out.nc", {"samples": []}, "sample none is not in"),
    "nothing in space": ("o", {"fields": ["nu"]}, "hold fields in space"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_exported_is_refused_and_nothing_is_written(stores, tmp_path, case):
    name, options, message = REFUSED[case]
    with pytest.raises(InputError, match=message) as refused:
        exported(stores["flow"], tmp_path / name, **options)
    assert "\n" not in str(refused.value) and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["out.nc", "out.npz", "out"])
def test_an_earlier_export_is_replaced_only_when_asked_to(stores, tmp_path, name):
    target = exported(stores["flow"], tmp_path / name, samples=[1, 2])
    before = hashes(tmp_path)
    with pytest.raises(InputError, match="exists already.*--force"):
        exported(stores["flow"], target)
    assert hashes(tmp_path) == before
    exported(stores["flow"], target, samples=[3], force=True)
    after = hashes(tmp_path)
    assert after != before
    assert list(tmp_path.iterdir()) == [target]
    assert not any("sample_0001" in file for file in after)


def test_force_removes_nothing_but_exports(stores, tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "home/thesis.tex").write_text("years of work")
    for target in ("home", ""):
        with pytest.raises(InputError, match="name another"):
            exported(stores["flow"], tmp_path / target, force=True)
    store = release(tmp_path / "data", *STORES["line"])
    for target in (store, store / "u", store / "out.nc", tmp_path):
        with pytest.raises(InputError, match="is the store itself, or holds it, or lies in it"):
            export_store(store, target, force=True)
    assert (tmp_path / "home/thesis.tex").read_text() == "years of work"
    assert xarray.open_zarr(store).sizes["sample"] == 5


def export_command(folder, *arguments, env=(), **options):
    return subprocess.run(
        [sys.executable, "-m", "flows.cli", "export", *map(str, arguments)],
        cwd=folder, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "100", **dict(env)}, **options,
    )  # fmt: skip


def limit_file_size():
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))


@pytest.mark.parametrize("name", ["out.nc", "out.npz", "out"])
def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path, name):
    many = {Field("a", "1", "a", "input", ("x", "y")): values(4, 40, 40)}
    store = release(tmp_path / "data", many, (axis("x", 40), axis("y", 40)))
    before = hashes(tmp_path)
    # Python would put half of a compiled module in place where it can write no more.
    uncompiled = {"PYTHONDONTWRITEBYTECODE": "1"}
    done = export_command(tmp_path, store, name, env=uncompiled, preexec_fn=limit_file_size)
    assert done.returncode == 1 and done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: {name} cannot be written (") and "Traceback" not in line
    assert hashes(tmp_path) == before


def test_the_command_says_what_to_do_next(stores, tmp_path):
    done = export_command(tmp_path, stores["flow"], "out.nc", "--field", "w", "--sample", "0:3")
    assert (done.returncode, done.stderr) == (0, "")
    first, last = done.stdout.splitlines()
    assert first.startswith("3 samples of w written in ") and "out.nc (" in first
    assert last.startswith("Next: python -c ") and "open_dataset('out.nc')" in last
    done = export_command(tmp_path, stores["flow"], "vtk", "--sample", "1")
    assert done.stdout.splitlines()[-1].startswith("Next: paraview vtk/sample_0001.pvd")
    done = export_command(tmp_path, stores["flow"], "out.npz", "--json")
    assert json.loads(done.stdout)["samples"] == 11
    done = export_command(tmp_path, stores["flow"], "quiet.npz", "--quiet")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere", "out.nc"], "nowhere does not exist; expected a dataset"),
        (["{store}", "out.xyz"], "does not tell the format"),
        (["{store}", "out.nc", "--sample", "first"], "neither a number nor a range"),
        (["{store}", "out.nc", "--sample", "5:5"], "neither a number nor a range"),
        (["{store}", "out.nc", "--sample", "99"], "sample 99 is not in"),
    ],
)
def test_wrong_use_is_one_line_and_exit_code_2(stores, tmp_path, arguments, message):
    done = export_command(tmp_path, *[text.format(store=stores["flow"]) for text in arguments])
    assert done.returncode == 2 and done.stdout == "" and list(tmp_path.iterdir()) == []
    (line,) = done.stderr.splitlines()
    assert message in line
