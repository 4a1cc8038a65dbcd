"""The files of a dataset."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
import xarray
import zarr
from conftest import Made, make_plan
from numcodecs.zstd import compress
from zarr.codecs import ZstdCodec

from mno.data.shard_file import content_size, read_index, write_shard_file
from mno.data.store import create_store, write_values


def test_xarray_opens_it_without_a_warning(made: Made):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dataset = xarray.open_zarr(made.store)
        loaded = dataset.load()
    assert set(loaded.data_vars) == {"initial", "temperature"}
    assert set(loaded.coords) == {"x", "time", "split"}
    assert loaded["temperature"].dims == ("sample", "time", "x")
    assert loaded["temperature"].dtype == np.float32
    assert loaded["initial"].shape == (10, 16)
    assert np.isfinite(loaded["temperature"]).all()
    # Seconds stay numbers: they are times of a process, not of a calendar.
    assert loaded["time"].dtype == np.float64
    test = loaded["temperature"].where(loaded["split"] == "test", drop=True)
    assert test.sizes["sample"] == made.report.splits["test"] == 2


def test_fields_and_axes_say_what_they_are(made: Made):
    group = zarr.open_group(made.store, mode="r")
    assert group.attrs["Conventions"] == "CF-1.11"
    assert dict(group["initial"].attrs) == {
        "units": "K",
        "long_name": "initial temperature",
        "role": "input",
        "coordinates": "split",
    }
    assert dict(group["x"].attrs) == {"units": "m", "long_name": "position", "axis": "X"}
    assert dict(group["time"].attrs) == {"units": "s", "long_name": "time", "axis": "T"}


def test_a_chunk_is_a_sample_and_a_shard_is_what_a_task_makes(made: Made):
    array = zarr.open_group(made.store, mode="r")["temperature"]
    assert array.chunks == (1, 3, 16)
    assert array.shards == (4, 3, 16)
    assert np.isnan(array.fill_value)
    assert sorted(p.name for p in (made.store / "temperature" / "c").iterdir()) == ["0", "1", "2"]


def test_the_root_holds_what_determines_the_data_and_nothing_else(made: Made):
    attributes = json.loads((made.store / "zarr.json").read_text())["attributes"]
    assert attributes["scenario"] == "heat"
    assert attributes["seed"] == 1
    assert attributes["generate"] == made.plan.config.content
    assert attributes["parameters"] == made.plan.parameters.model_dump()
    assert attributes["extent"] == {"time": [0.0, 1.0], "x": [0.0, 2.0]}
    assert attributes["symmetries"] == ["x", "-x"]
    assert attributes["shards"] == {k: v for k, v in made.hashes.items() if k != "zarr.json"}
    assert set(attributes) == {
        *("Conventions", "title", "scenario", "seed", "generate", "parameters"),
        *("fields", "extent", "symmetries", "shards", "metadata_sha256"),
    }


@pytest.mark.parametrize(("start", "size"), [(0, 3), (2, 4), (4, 6), (8, 1)])
def test_a_write_that_is_not_one_whole_shard_is_refused(tmp_path, start, size):
    store = tmp_path / "store"
    create_store(store, make_plan())
    with pytest.raises(ValueError, match="not one whole shard of 4 samples"):
        write_values(store, "initial", start, np.zeros((size, 16), np.float32))
    assert not (store / "initial" / "c").exists()


@pytest.mark.parametrize("shard_size", [2, 3, 8, 10])
def test_a_store_whose_shards_are_not_one_tasks_is_refused(tmp_path, shard_size):
    """Two tasks of four samples each would share one of its shards, or one would be cut in two."""
    store = tmp_path / "store"
    create_store(store, make_plan(shard_size=shard_size))
    for start in (0, 4):
        with pytest.raises(ValueError, match=f"not one whole shard of {shard_size} samples"):
            write_values(store, "initial", start, np.zeros((4, 16), np.float32))
    assert not (store / "initial" / "c").exists()


def test_a_field_of_zeros_is_written(tmp_path):
    store = tmp_path / "store"
    create_store(store, make_plan())
    write_values(store, "initial", 8, np.zeros((2, 16), np.float32))
    assert (store / "initial" / "c" / "2" / "0").is_file()
    assert np.array_equal(zarr.open_group(store)["initial"][8:], np.zeros((2, 16)))


@pytest.fixture(params=[(), (7,), (5, 4), (3, 32, 33)], ids=str)
def array(request, tmp_path):
    """A new array of ten samples in shards of four."""
    group = zarr.create_group(tmp_path)
    return group.create_array(
        "a",
        shape=(10, *request.param),
        dtype="float32",
        chunks=(1, *request.param),
        shards=(4, *request.param),
        compressors=ZstdCodec(level=1),
        fill_value=np.nan,
    )


def path_of(array, tmp_path, shard):
    return tmp_path.joinpath("a", "c", str(shard), *("0" for _ in array.shape[1:]))


def test_the_bytes_are_those_that_zarr_writes(array, tmp_path):
    values = np.random.default_rng(0).normal(size=array.shape).astype(np.float32)
    array[:] = values
    for shard in range(3):
        path = path_of(array, tmp_path, shard)
        theirs = path.read_bytes()
        path.unlink()
        write_shard_file(path, values[4 * shard : 4 * shard + 4], 4)
        assert path.read_bytes() == theirs
        assert not list(tmp_path.rglob("*.partial"))


def test_zarr_reads_what_is_written_and_samples_of_nan_are_there(array, tmp_path):
    values = np.random.default_rng(0).normal(size=array.shape).astype(np.float32)
    values[1] = values[4:8] = np.nan
    for shard in range(3):
        write_shard_file(path_of(array, tmp_path, shard), values[4 * shard : 4 * shard + 4], 4)
    np.testing.assert_array_equal(array[:], values)


def test_large_samples_are_compressed_as_hard_as_is_worth_it(tmp_path):
    """A sample that hardly gets smaller is stored faster; zarr reads the one like the other."""
    noise = np.random.default_rng(0).normal(size=(1, 2**19)).astype(np.float32)
    steps = np.arange(2**19, dtype=np.float32)[None] // 64
    values = np.concatenate([noise, steps])
    group = zarr.create_group(tmp_path)
    codec = {"compressors": ZstdCodec(level=1), "dtype": "float32"}
    array = group.create_array("a", shape=(2, 2**19), chunks=(1, 2**19), shards=(2, 2**19), **codec)
    path = path_of(array, tmp_path, 0)
    write_shard_file(path, values, 2)
    np.testing.assert_array_equal(array[:], values)
    with open(path, "rb") as file:
        lengths = [length for _, length in read_index(file.fileno(), 2)]
    content = values[0].tobytes(), values[1].tobytes()
    assert lengths == [len(compress(content[0], -1)), len(compress(content[1], 1))]


@pytest.mark.parametrize("size", [0, 1, 255, 256, 65791, 65792, 2**20])
@pytest.mark.parametrize("made", ["zeros", "noise"])
def test_a_chunk_tells_the_size_of_its_content(size, made):
    rng = np.random.default_rng(0)
    content = bytes(size) if made == "zeros" else rng.bytes(size)
    assert content_size(compress(content, 1)) == size


@pytest.mark.parametrize("frame", [b"", b"\x28\xb5\x2f\xfd", b"\x28\xb5\x2f\xfd\0\0", b"P" * 40])
def test_what_is_no_chunk_tells_no_size(frame):
    assert content_size(frame) == -1
