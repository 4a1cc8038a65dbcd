from __future__ import annotations

import json
import os
import shutil

import numpy as np
import pytest
import zarr
from conftest import Made
from damage import flip

from mno.core.errors import InputError, MnoError
from mno.data.reading import open_split, read_schema, read_split, verify


def test_the_schema_is_the_scenarios(made: Made):
    schema, scenario = read_schema(made.store), made.plan.build()
    assert schema.scenario == "heat"
    assert schema.fields == scenario.fields
    assert schema.inputs == scenario.inputs
    assert schema.outputs == scenario.outputs
    assert [axis.name for axis in schema.axes] == ["time", "x"]
    for ours, theirs in zip(schema.axes, scenario.axes, strict=True):
        assert (ours.units, ours.long_name, ours.extent) == (
            theirs.units,
            theirs.long_name,
            theirs.extent,
        )
        assert np.array_equal(ours.points, theirs.points)
    assert schema.symmetries == scenario.symmetries == ("x", "-x")
    assert schema.extent == (2.0,)
    assert schema.spacing == (0.125,)


def test_a_dataset_that_says_nothing_of_symmetries_has_none(copy: Made):
    group = zarr.open_group(copy.store, mode="r+")
    del group.attrs["symmetries"]
    assert read_schema(copy.store).symmetries == ()


def test_the_splits_are_all_samples_once_with_the_stores_values(made: Made):
    group = zarr.open_group(made.store, mode="r")
    splits = {name: read_split(made.store, name) for name in ("train", "validation", "test")}
    assert {name: len(split) for name, split in splits.items()} == made.report.splits
    indices = np.concatenate([split.indices for split in splits.values()])
    assert sorted(indices.tolist()) == list(range(10))
    for name, split in splits.items():
        assert split.indices.dtype == np.int64
        assert split.fields["temperature"].dtype == np.float32
        for field in ("initial", "temperature"):
            assert np.array_equal(split.fields[field], group[field][:][split.indices])
        assert set(made.plan.splits()[split.indices]) == {name}


def test_values_are_the_solvers(made: Made):
    scenario, train = made.plan.build(), read_split(made.store, "train")
    assert len(set(train.indices // 4)) > 1, "the split must span shards"
    for row, sample in enumerate(train.indices):
        inputs = scenario.sample(made.plan.rng(int(sample)))
        assert np.array_equal(train.fields["initial"][row], inputs["initial"])
        solved = scenario.solve(inputs)["temperature"]
        assert np.array_equal(train.fields["temperature"][row], solved)


def test_an_intact_dataset_has_no_problems(made: Made):
    assert verify(made.store) == []


@pytest.mark.parametrize(
    "file",
    ["temperature/c/1/0/0", "initial/c/2/0", "split/c/0", "x/c/0", "initial/zarr.json"],
)
def test_a_flipped_bit_in_any_file_is_refused_whatever_its_time(copy: Made, file):
    before = (copy.store / file).stat()
    flip(copy.store / file)
    after = (copy.store / file).stat()
    assert (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns)
    for split in ("train", "test"):
        with pytest.raises(MnoError) as caught:
            read_split(copy.store, split)
        assert str(caught.value) == (
            f"{copy.store}/{file} does not match its recorded sha256; "
            'make the dataset again with "mno generate --repair"'
        )


def test_altered_attributes_are_refused(copy: Made):
    root = copy.store / "zarr.json"
    metadata = json.loads(root.read_text())
    metadata["attributes"]["extent"]["x"] = [0.0, 3.0]
    root.write_text(json.dumps(metadata))
    assert verify(copy.store) == ["zarr.json does not match its recorded sha256"]


def test_missing_truncated_and_added_files_are_all_named(copy: Made):
    (copy.store / "initial/c/0/0").unlink()
    os.truncate(copy.store / "temperature/c/1/0/0", 100)
    shutil.copy(copy.store / "initial/c/1/0", copy.store / "initial/c/7")
    assert verify(copy.store) == [
        "initial/c/0/0 is missing",
        "temperature/c/1/0/0 does not match its recorded sha256",
        "initial/c/7 is not part of the dataset",
    ]
    with pytest.raises(MnoError, match=r"initial/c/0/0 is missing \(and 2 more\); make"):
        read_split(copy.store, "train")


@pytest.mark.parametrize("content", [None, "", "[]", "{}", '{"attributes": {}}', "\x00"])
def test_what_is_no_dataset_is_an_input_error(tmp_path, content):
    if content is not None:
        (tmp_path / "zarr.json").write_text(content)
    for read in (read_schema, verify, lambda store: read_split(store, "train")):
        with pytest.raises(InputError, match="mno generate") as caught:
            read(tmp_path)
        assert "\n" not in str(caught.value)


def test_an_unknown_split_is_an_input_error(made: Made):
    with pytest.raises(InputError, match="split='all' is not in .*; it has .*train"):
        read_split(made.store, "all")


def test_a_split_that_stays_in_its_files_reads_what_is_asked_for(made: Made):
    whole, stored = read_split(made.store, "train"), open_split(made.store, "train")
    assert len(stored) == len(whole) and np.array_equal(stored.indices, whole.indices)
    assert stored.nbytes == sum(field.nbytes for field in whole.fields.values())
    for name, field in whole.fields.items():
        array = stored.fields[name]
        assert (array.shape, array.dtype, len(array)) == (field.shape, field.dtype, len(field))
        for numbers in (np.array([4, 0, 4]), slice(1, 4), np.array([], dtype=int)):
            np.testing.assert_array_equal(array[numbers], field[numbers])


def test_a_field_stored_in_another_way_is_refused(copy: Made):
    path = copy.store / "initial/zarr.json"
    metadata = json.loads(path.read_text())
    metadata["codecs"][0]["configuration"]["codecs"][1]["name"] = "gzip"
    path.write_text(json.dumps(metadata))
    with pytest.raises(InputError, match="initial is not stored as this version stores fields"):
        open_split(copy.store, "train", checked=False)
