from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
import xarray
import zarr
from conftest import Made, make_plan

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
