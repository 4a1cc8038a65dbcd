from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from conftest import ALONE, Made, hashes, make, make_plan

from mno.core.errors import MnoError
from mno.data.generate.run import generate
from mno.data.generate.work import WorkFolder, solve_shard
from mno.data.reading import verify


def stamps(work: Path) -> dict[str, tuple[int, int]]:
    return {p.name: (p.stat().st_ino, p.stat().st_mtime_ns) for p in (work / "done").iterdir()}


def remade(work: Path, before: dict[str, tuple[int, int]]) -> set[str]:
    after = stamps(work)
    return {name for name in after if after[name] != before.get(name)}


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[5] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [Path.unlink, truncate, flip])
@pytest.mark.parametrize(
    "file", ["store/temperature/c/1/0/0", "store/initial/c/1/0", "done/1.json"]
)
def test_only_a_damaged_shard_is_made_again(copy: Made, damage, file):
    work = copy.store.parent / "work"
    before = stamps(work)
    damage(work / file)
    again = make(copy.store.parent, copy.plan)
    assert remade(work, before) == {"1.json"}
    assert set(before) == {"0.json", "1.json", "2.json"}
    assert again.hashes == copy.hashes


def test_editing_the_released_dataset_is_noticed_by_the_next_run(copy: Made):
    work = copy.store.parent / "work"
    before = stamps(work)
    released, kept = (f / "initial/c/2/0" for f in (copy.store, work / "store"))
    assert released.samefile(kept), "released files are hard links"
    flip(released)
    again = make(copy.store.parent, copy.plan)
    assert remade(work, before) == {"2.json"}
    assert again.hashes == copy.hashes


def cut_link(path: Path) -> None:
    """Make a released file one of its own, as a copy to another disk is."""
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (Path.unlink, "is missing"),
        (truncate, "does not match its recorded sha256"),
        (flip, "does not match its recorded sha256"),
    ],
)
def test_a_damaged_shard_of_a_release_is_named_and_repaired_by_generating(
    copy: Made, damage, words
):
    shard = copy.store / "temperature/c/1/0/0"
    cut_link(shard)
    damage(shard)
    assert verify(copy.store) == [f"temperature/c/1/0/0 {words}"]
    before = stamps(copy.store.parent / "work")
    again = make(copy.store.parent, copy.plan)
    assert remade(copy.store.parent / "work", before) == set(), "the work folder was intact"
    assert verify(again.store) == [] and again.hashes == copy.hashes


def test_what_killed_workers_leave_is_swept(copy: Made):
    leftover = copy.store.parent / "work/scratch/dask-scratch-space/worker-0123/storage"
    leftover.mkdir(parents=True)
    make(copy.store.parent, copy.plan)
    assert not (copy.store.parent / "work/scratch").exists()


def test_a_complete_work_folder_is_released_without_solving(copy: Made):
    work = copy.store.parent / "work"
    before = stamps(work)
    progress = []
    generate(copy.plan, work, copy.store.parent / "other", ALONE, progress.append)
    assert remade(work, before) == set()
    assert hashes(copy.store.parent / "other") == copy.hashes
    assert [(p.shards_done, p.shards, p.samples_done, p.samples) for p in progress] == [
        (3, 3, 10, 10)
    ]


@pytest.mark.parametrize("change", [{"seed": 2}, {"diffusivity": 0.03}, {"shard_size": 5}])
def test_shards_of_another_plan_are_not_used(copy: Made, change):
    plan = make_plan(**change)
    assert plan.digest != copy.plan.digest
    again = make(copy.store.parent, plan)
    fresh = make(copy.store.parent / "fresh", plan)
    assert again.hashes == fresh.hashes != copy.hashes


def test_shards_of_other_code_are_not_used(copy: Made):
    work = copy.store.parent / "work"
    before = stamps(work)
    plan = type(copy.plan)(copy.plan.scenario, copy.plan.parameters, copy.plan.config, "new code")
    make(copy.store.parent, plan)
    assert remade(work, before) == {"0.json", "1.json", "2.json"}
    assert {json.loads((work / "done" / n).read_text())["code"] for n in before} == {"new code"}


def test_stray_files_are_swept(copy: Made):
    work = copy.store.parent / "work"
    strays = [
        work / "store/initial/c/1/0.0123.partial",
        work / "store/initial/c/9/0",
        work / "done/1.0123.partial",
        work / "done/7.json",
        work / "store.partial/zarr.json",
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


def test_a_record_is_written_after_its_files(tmp_path):
    plan = make_plan()
    folder = WorkFolder(tmp_path, plan)
    folder.resume()
    folder.prepare()
    folder.write(*solve_shard(plan, 1))
    record = folder.finished()[1]
    assert record.samples == (4, 7)
    assert record.files == {
        name: sha for name, sha in hashes(folder.store).items() if "/c/1/" in name
    }
    written = max((folder.store / name).stat().st_mtime_ns for name in record.files)
    assert (folder.done / "1.json").stat().st_mtime_ns >= written


def test_a_shard_that_is_altered_after_it_was_written_is_noticed(tmp_path):
    plan = make_plan()
    folder = WorkFolder(tmp_path, plan)
    folder.resume()
    folder.prepare()
    written = [folder.write(*solve_shard(plan, shard)) for shard in (0, 1)]
    assert folder.finished() == {0: written[0], 1: written[1]}
    flip(folder.store / "temperature/c/1/0/0")
    assert set(folder.finished()) == {0}


def test_an_incomplete_folder_is_not_released(tmp_path):
    plan = make_plan()
    folder = WorkFolder(tmp_path / "work", plan)
    folder.resume()
    folder.prepare()
    folder.write(*solve_shard(plan, 1))
    with pytest.raises(MnoError, match=r"shards \[0, 2\]"):
        folder.release(tmp_path / "data", folder.finished())
    assert [p.name for p in tmp_path.iterdir()] == ["work"]


def test_a_release_replaces_what_was_there(copy: Made):
    (copy.store / "stray").write_text("")
    again = make(copy.store.parent, make_plan(seed=9))
    assert verify(again.store) == []
    assert sorted(p.name for p in again.store.parent.iterdir()) == ["data", "work"]


def test_values_do_not_depend_on_the_shard_size(made: Made, tmp_path):
    import zarr

    other = make(tmp_path, make_plan(shard_size=3))
    assert other.report.shards == 4 and made.report.shards == 3
    ours, theirs = zarr.open_group(made.store), zarr.open_group(other.store)
    for name in ("initial", "temperature", "split"):
        assert np.array_equal(ours[name][:], theirs[name][:])
