"""The files of a dataset."""

import json
import os
import shutil
import warnings
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import xarray
import zarr
from numcodecs.zstd import compress
from zarr.codecs import ZstdCodec

from mno.core.errors import InputError, MnoError
from mno.data.generate.run import generate
from mno.data.generate.work import WorkFolder, solve_shard
from mno.data.reading import open_split, read_schema, read_split, verify
from mno.data.shard_file import content_size, read_index, write_shard_file
from tests.data.conftest import ALONE, flip, hashes, make, make_plan


def test_xarray_opens_it_without_a_warning(made):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded = xarray.open_zarr(made.store).load()
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


def test_fields_and_axes_say_what_they_are(made):
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
    array = group["temperature"]  # a chunk is a sample, and a shard what a task makes
    assert (array.chunks, array.shards) == ((1, 3, 16), (4, 3, 16)) and np.isnan(array.fill_value)
    assert sorted(p.name for p in (made.store / "temperature" / "c").iterdir()) == ["0", "1", "2"]


def test_the_root_holds_what_determines_the_data_and_nothing_else(made):
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


@pytest.fixture(params=[(), (7,), (5, 4), (3, 32, 33)], ids=str)
def array(request, tmp_path):
    return zarr.create_group(tmp_path).create_array(
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


def test_the_bytes_are_those_that_zarr_writes_and_reads_also_where_all_is_nan(array, tmp_path):
    values = np.random.default_rng(0).normal(size=array.shape).astype(np.float32)
    array[:] = values
    for shard in range(3):
        path = path_of(array, tmp_path, shard)
        theirs = path.read_bytes()
        path.unlink()
        write_shard_file(path, values[4 * shard : 4 * shard + 4], 4)
        assert path.read_bytes() == theirs
    values[1] = values[4:8] = np.nan
    for shard in range(3):
        write_shard_file(path_of(array, tmp_path, shard), values[4 * shard : 4 * shard + 4], 4)
    np.testing.assert_array_equal(array[:], values)
    assert not list(tmp_path.rglob("*.partial"))


def test_large_samples_are_compressed_as_hard_as_is_worth_it(tmp_path):
    """A sample that hardly gets smaller is stored faster; zarr reads the one like the other."""
    noise = np.random.default_rng(0).normal(size=(1, 2**19)).astype(np.float32)
    values = np.concatenate([noise, np.arange(2**19, dtype=np.float32)[None] // 64])
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


def stamps(work):
    return {p.name: (p.stat().st_ino, p.stat().st_mtime_ns) for p in (work / "done").iterdir()}


def remade(work, before):
    after = stamps(work)
    return {name for name in after if after[name] != before.get(name)}


def truncate(path):
    os.truncate(path, path.stat().st_size // 2)


DAMAGE = [Path.unlink, truncate, partial(flip, at=5)]


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize(
    "file", ["store/temperature/c/1/0/0", "store/initial/c/1/0", "done/1.json"]
)
def test_only_a_damaged_shard_is_made_again(copy, damage, file):
    work = copy.store.parent / "work"
    before = stamps(work)
    damage(work / file)
    again = make(copy.store.parent, copy.plan)
    assert remade(work, before) == {"1.json"}
    assert set(before) == {"0.json", "1.json", "2.json"}
    assert again.hashes == copy.hashes


def test_editing_the_released_dataset_is_noticed_by_the_next_run(copy):
    work = copy.store.parent / "work"
    before = stamps(work)
    released, kept = (f / "initial/c/2/0" for f in (copy.store, work / "store"))
    assert released.samefile(kept), "released files are hard links"
    flip(released)
    again = make(copy.store.parent, copy.plan)
    assert remade(work, before) == {"2.json"}
    assert again.hashes == copy.hashes


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_shard_of_a_release_is_named_and_repaired_by_generating(copy, damage):
    shard, work = copy.store / "temperature/c/1/0/0", copy.store.parent / "work"
    content = shard.read_bytes()
    shard.unlink()
    shard.write_bytes(content)  # no link any more, as on another disk
    damage(shard)
    words = "does not match its recorded sha256" if shard.exists() else "is missing"
    assert verify(copy.store) == [f"temperature/c/1/0/0 {words}"]
    before = stamps(work)
    again = make(copy.store.parent, copy.plan)
    assert remade(work, before) == set(), "the work folder was intact"
    assert verify(again.store) == [] and again.hashes == copy.hashes


def test_a_complete_work_folder_is_released_without_solving(copy):
    work = copy.store.parent / "work"
    before = stamps(work)
    progress = []
    generate(copy.plan, work, copy.store.parent / "other", ALONE, progress.append)
    assert remade(work, before) == set()
    assert hashes(copy.store.parent / "other") == copy.hashes
    assert [(p.shards_done, p.shards, p.samples_done, p.samples) for p in progress] == [
        (3, 3, 10, 10)
    ]


@pytest.mark.parametrize("change", [{"seed": 2}, {"diffusivity": 0.03}, {"shard_size": 5}, {}])
def test_shards_of_another_plan_or_other_code_are_not_used(copy, change):
    work, plan = copy.store.parent / "work", make_plan(**change)
    before, plan = stamps(work), plan if change else replace(plan, code="new code")
    assert plan.digest != copy.plan.digest
    again = make(copy.store.parent, plan)
    fresh = make(copy.store.parent / "fresh", plan)
    assert again.hashes == fresh.hashes and (again.hashes != copy.hashes) is bool(change)
    assert remade(work, before) == set(stamps(work)), "all are made anew"


def test_stray_files_are_swept(copy):
    work = copy.store.parent / "work"
    strays = [
        work / "store/initial/c/1/0.0123.partial",
        work / "store/initial/c/9/0",
        work / "done/1.0123.partial",
        work / "done/7.json",
        work / "scratch/dask-scratch-space/worker-0123/storage",  # of killed workers
        copy.store.parent / "data.partial/zarr.json",
    ]
    for stray in strays:
        stray.parent.mkdir(parents=True, exist_ok=True)
        stray.write_text("{}")
    before = stamps(work)
    (work / "done/0.json").unlink()
    again = make(copy.store.parent, copy.plan)
    assert not [stray for stray in strays if stray.exists()]
    assert again.hashes == copy.hashes
    assert "1.json" not in remade(work, before)


def test_a_record_is_written_after_its_files_and_holds_while_they_are_as_they_were(tmp_path):
    plan = make_plan()
    folder = WorkFolder(tmp_path, plan)
    folder.resume()
    folder.write(*solve_shard(plan, 0))
    written = folder.write(*solve_shard(plan, 1))
    record = folder.finished()[1]
    assert record == written and len(record.inputs) == 4
    assert record.files == {
        name: sha for name, sha in hashes(folder.store).items() if "/c/1/" in name
    }
    last = max((folder.store / name).stat().st_mtime_ns for name in record.files)
    assert (folder.done / "1.json").stat().st_mtime_ns >= last
    flip(folder.store / "temperature/c/1/0/0")
    assert set(folder.finished()) == {0}


def test_a_release_replaces_what_was_there(copy):
    (copy.store / "stray").write_text("")
    again = make(copy.store.parent, make_plan(seed=9))
    assert verify(again.store) == []
    assert sorted(p.name for p in again.store.parent.iterdir()) == ["data", "work"]


def test_values_do_not_depend_on_the_shard_size(made, tmp_path):
    other = make(tmp_path, make_plan(shard_size=3))
    assert other.report.shards == 4 and made.report.shards == 3
    ours, theirs = zarr.open_group(made.store), zarr.open_group(other.store)
    for name in ("initial", "temperature", "split"):
        assert np.array_equal(ours[name][:], theirs[name][:])


def test_the_schema_is_the_scenarios(made):
    schema, scenario = read_schema(made.store), made.plan.build()
    assert schema.scenario == "heat"
    assert schema.fields == scenario.fields
    assert schema.inputs == scenario.inputs
    assert schema.outputs == scenario.outputs
    assert [axis.name for axis in schema.axes] == ["time", "x"]
    for ours, theirs in zip(schema.axes, scenario.axes, strict=True):
        for said in ("units", "long_name", "extent"):
            assert getattr(ours, said) == getattr(theirs, said)
        assert np.array_equal(ours.points, theirs.points)
    assert schema.symmetries == scenario.symmetries == ("x", "-x")
    assert schema.extent == (2.0,)
    assert schema.spacing == (0.125,)


def test_a_dataset_that_says_nothing_of_symmetries_has_none(copy):
    group = zarr.open_group(copy.store, mode="r+")
    del group.attrs["symmetries"]
    assert read_schema(copy.store).symmetries == ()


def test_the_splits_are_all_samples_once_with_the_stores_values(made):
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
        assert set(made.plan.splits[split.indices]) == {name}


def test_values_are_the_solvers(made):
    scenario, train = made.plan.build(), read_split(made.store, "train")
    assert len(set(train.indices // 4)) > 1, "the split must span shards"
    for row, sample in enumerate(train.indices):
        inputs = scenario.sample(made.plan.rng(int(sample)))
        assert np.array_equal(train.fields["initial"][row], inputs["initial"])
        solved = scenario.solve(inputs)["temperature"]
        assert np.array_equal(train.fields["temperature"][row], solved)


@pytest.mark.parametrize(
    "file", ["temperature/c/1/0/0", "initial/c/2/0", "split/c/0", "x/c/0", "initial/zarr.json"]
)
def test_a_flipped_bit_in_any_file_is_refused_whatever_its_time(copy, file):
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


def test_altered_attributes_are_refused(copy):
    root = copy.store / "zarr.json"
    metadata = json.loads(root.read_text())
    metadata["attributes"]["extent"]["x"] = [0.0, 3.0]
    root.write_text(json.dumps(metadata))
    assert verify(copy.store) == ["zarr.json does not match its recorded sha256"]


def test_missing_truncated_and_added_files_are_all_named(copy):
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


def test_an_unknown_split_is_an_input_error(made):
    with pytest.raises(InputError, match="split='all' is not in .*; it has .*train"):
        read_split(made.store, "all")


def test_a_split_that_stays_in_its_files_reads_what_is_asked_for(made):
    whole, stored = read_split(made.store, "train"), open_split(made.store, "train")
    assert len(stored) == len(whole) and np.array_equal(stored.indices, whole.indices)
    assert stored.nbytes == sum(field.nbytes for field in whole.fields.values())
    for name, field in whole.fields.items():
        array = stored.fields[name]
        assert (array.shape, array.dtype, len(array)) == (field.shape, field.dtype, len(field))
        for numbers in (np.array([4, 0, 4]), slice(1, 4), np.array([], dtype=int)):
            np.testing.assert_array_equal(array[numbers], field[numbers])


def test_a_field_stored_in_another_way_is_refused(copy):
    path = copy.store / "initial/zarr.json"
    metadata = json.loads(path.read_text())
    gzip = {"name": "gzip", "configuration": {"level": 1}}
    metadata["codecs"][0]["configuration"]["codecs"][1] = gzip
    path.write_text(json.dumps(metadata))
    with pytest.raises(InputError, match="initial is not stored as this version stores fields"):
        open_split(copy.store, "train", checked=False)
