"""A replay: its folder has the snapshot's files only, and what it makes is held against these."""

import json
import math
import os

import numpy as np
import pytest
import zarr
from safetensors.numpy import save_file

from mno.core.config import read_params
from mno.core.errors import InputError, MnoError
from mno.lineage.audit.objects import Tree, md5_on_disk
from mno.lineage.dvcfiles import DATA_FILE
from mno.lineage.record import candidate_digest
from mno.lineage.replay import Conditions, changed_machine, changed_packages, same_bits, targets_of
from mno.lineage.replay_compare import (
    Agreement,
    Outcome,
    Remade,
    compare_dataset,
    compare_model,
    compare_report,
)
from mno.lineage.replay_folder import check_out, replay_folder, replay_params
from tests.support.file_hashes import hashes

PARAMS = b"""scenario: darcy
execution: {workers: 2, scheduler: null}
train: {warm_start: null}
"""


def tree(**more):
    files = {"params.yaml": PARAMS, "data.dvc": b"outs: []\n", "mno/__init__.py": b"", **more}
    return Tree("c" * 40, "t" * 40, files)


def test_a_name_of_any_kind_stays_in_the_folder_of_replays(tmp_path):
    for name in ("../../etc", "/etc/passwd", "..", "mno-darcy/3", "a" * 500, "é\n"):
        path = replay_folder(tmp_path, name, "snapshot")
        assert path.parent == tmp_path / "build/replay"
        assert len(os.fsencode(path.name)) < 100
    assert replay_folder(tmp_path, "a/1", "x") != replay_folder(tmp_path, "a/1", "y")


@pytest.mark.parametrize(
    "name", ["../escaped.py", "mno/../../escaped.py", "mno/.git/hooks/x", ".git/config", "setup.py"]
)
def test_a_path_that_no_snapshot_has_is_refused(tmp_path, name):
    line = tmp_path / "replay/line"
    with pytest.raises(MnoError, match="which no snapshot holds"):
        check_out(tree(**{name: b"evil"}), line, PARAMS)
    assert list(tmp_path.rglob("*")) == []


def test_code_is_the_snapshots_also_when_a_replay_goes_on(tmp_path):
    line = tmp_path / "line"
    check_out(tree(), line, PARAMS)
    (line / "mno/__init__.py").write_text("evil = True")
    (line / "mno/extra.py").write_text("evil = True")
    (line / DATA_FILE).write_text("outs: [{md5: made}]\n")
    (line / "build").mkdir()
    check_out(tree(), line, PARAMS)
    assert (line / "mno/__init__.py").read_text() == ""
    assert not (line / "mno/extra.py").exists()
    assert (line / DATA_FILE).read_text() == "outs: [{md5: made}]\n"
    assert (line / "build").is_dir()


def test_a_link_among_the_code_is_not_followed(tmp_path):
    outside, line = tmp_path / "outside", tmp_path / "line"
    outside.mkdir()
    (outside / "precious.py").write_text("")
    check_out(tree(), line, PARAMS)
    (line / "mno/__init__.py").unlink()
    (line / "mno").rmdir()
    (line / "mno").symlink_to(outside)
    before = hashes(outside)
    check_out(tree(), line, PARAMS)
    assert hashes(outside) == before
    assert not (line / "mno").is_symlink()


def test_only_what_changes_no_result_is_another_parameter(tmp_path):
    assert replay_params(PARAMS) == (PARAMS, [])
    assert replay_params(PARAMS, workers=2) == (PARAMS, [])
    distant = PARAMS.replace(b"scheduler: null", b"scheduler: tcp://10.0.0.5:8786")
    text, changed = replay_params(distant, 3, "build/warm_start#abc")
    assert len(changed) == 3
    (tmp_path / "params.yaml").write_bytes(text)
    assert read_params(tmp_path) == {
        "scenario": "darcy",
        "execution": {"workers": 3, "scheduler": None},
        "train": {"warm_start": "build/warm_start#abc"},
    }


@pytest.mark.parametrize(
    ("stage", "pull", "targets"),
    [
        (None, False, "generate data.dvc train learning_curve evaluate"),
        (None, True, "train learning_curve evaluate"),
        ("generate", False, "generate"),
        ("train", False, "train"),
        ("evaluate", True, "evaluate"),
    ],
)
def test_what_is_made_again(stage, pull, targets):
    assert targets_of(stage, pull) == targets.split()


@pytest.mark.parametrize(("stage", "pull"), [("register", False), ("generate", True)])
def test_what_cannot_be_replayed_is_wrong_use(stage, pull):
    with pytest.raises(InputError, match="--stage"):
        targets_of(stage, pull)


def test_what_decides_bits_is_told_from_what_does_not():
    machine = {"cpu": "A", "cores": 2, "system": "Linux 6", "device": "cpu"}
    recorded = Conditions(["torch==2.9.0", "rich==14.0"], machine)
    assert same_bits(recorded, recorded)
    newer = Conditions(["torch==2.9.0", "rich==14.1", "new==1"], {**machine, "system": "Linux 7"})
    assert same_bits(recorded, newer)
    assert [c.name for c in changed_packages(recorded, newer) or ()] == ["new", "rich"]
    assert [c.name for c in changed_machine(recorded, newer)] == ["system"]
    other = Conditions(["torch==2.10.0", "rich==14.0"], machine)
    assert not same_bits(recorded, other)
    assert [str(c) for c in changed_packages(recorded, other) or ()] == ["torch: 2.9.0 → 2.10.0"]
    assert not same_bits(recorded, Conditions(recorded.packages, {**machine, "cpu": "B"}))
    assert not same_bits(Conditions(None, machine), recorded)
    assert changed_packages(Conditions(None, machine), recorded) is None


def report(folder, name, content):
    path = folder / name / "metrics.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content))
    return path


REPORT = {"a": 1.0, "b": [2.0, {"c": 3}]}


@pytest.mark.parametrize(
    ("now", "exact", "allowed"),
    [
        (REPORT, Agreement.IDENTICAL, Agreement.IDENTICAL),
        (REPORT | {"a": math.nextafter(1.0, 2.0)}, Agreement.DIFFERENT, Agreement.CLOSE),
        (REPORT | {"b": [2.13, {"c": 3}]}, Agreement.DIFFERENT, Agreement.DIFFERENT),
        (REPORT | {"b": [2.0, {"c": 4}]}, Agreement.DIFFERENT, Agreement.DIFFERENT),
        (REPORT | {"b": [2.0]}, Agreement.DIFFERENT, Agreement.DIFFERENT),
        (REPORT | {"a": None}, Agreement.DIFFERENT, Agreement.DIFFERENT),
        (REPORT | {"a": math.nan}, Agreement.DIFFERENT, Agreement.DIFFERENT),
        ({"a": 1.0}, Agreement.DIFFERENT, Agreement.DIFFERENT),
    ],
)
def test_figures_are_compared_to_the_last_digit(tmp_path, now, exact, allowed):
    before, made = report(tmp_path, "before", REPORT), report(tmp_path, "now", now)
    assert compare_report(before, made, True).agreement is exact
    assert compare_report(before, made, False).agreement is allowed


def test_a_figure_that_is_off_is_named(tmp_path):
    before = report(tmp_path, "before", {"a": 1.0, "b": [2.0, {"c": 3.0}]})
    item = compare_report(before, report(tmp_path, "now", {"a": 1.0, "b": [2.0, {"c": 3.1}]}), True)
    assert "at b 1 c" in item.note
    assert "3.2e-02" in item.note


def test_the_same_figures_written_otherwise_are_identical(tmp_path):
    before, now = (report(tmp_path, name, {"a": 1.0}) for name in ("before", "now"))
    now.write_text('{\n"a": 1.00}')
    assert compare_report(before, now, True).agreement is Agreement.IDENTICAL


def test_what_was_not_kept_cannot_be_compared_and_what_was_not_made_is_different(tmp_path):
    made = report(tmp_path, "now", {"a": 1.0})
    assert compare_report(None, made, True).agreement is Agreement.UNKNOWN
    assert compare_report(made, tmp_path / "nowhere.json", False).agreement is Agreement.DIFFERENT
    made.write_text("{")
    before = report(tmp_path, "before", {"a": 1.0})
    assert compare_report(before, made, False).agreement is Agreement.DIFFERENT


def model(folder, weights):
    folder.mkdir()
    save_file({"weight": weights}, folder / "weights.safetensors")
    (folder / "surrogate.json").write_text("{}")
    return folder


def compared(before, now, exact):
    items = compare_model(candidate_digest(before), before, now, exact)
    return {item.name: item.agreement for item in items}


def test_weights_are_compared_bit_for_bit(tmp_path):
    weights = np.array([3.0, 4.0], np.float32)
    before, same = (model(tmp_path / name, weights) for name in ("before", "same"))
    assert set(compared(before, same, True).values()) == {Agreement.IDENTICAL}
    near = model(tmp_path / "near", np.nextafter(weights, np.float32(9)))
    assert compared(before, near, True)["weights.safetensors"] is Agreement.DIFFERENT
    assert compared(before, near, False) == {
        "surrogate.json": Agreement.IDENTICAL, "weights.safetensors": Agreement.CLOSE,
    }  # fmt: skip
    far = model(tmp_path / "far", weights + np.float32(0.5))
    assert compared(before, far, False)["weights.safetensors"] is Agreement.DIFFERENT


@pytest.mark.parametrize("values", [[-0.0, 4.0], [math.nan, 4.0], [0.0]])
def test_weights_of_another_kind_are_different(tmp_path, values):
    before = model(tmp_path / "before", np.array([0.0, 4.0], np.float32))
    now = model(tmp_path / "now", np.array(values, np.float32))
    assert compared(before, now, False)["weights.safetensors"] is Agreement.DIFFERENT


def test_a_recorded_model_that_is_damaged_is_not_what_is_compared_with(tmp_path):
    weights = np.array([3.0, 4.0], np.float32)
    before, now = model(tmp_path / "before", weights), model(tmp_path / "now", weights * 2)
    sha256 = candidate_digest(before)
    (before / "surrogate.json").write_text("[]")
    item, *others = compare_model(sha256, before, now, False)
    assert (item.agreement, others) == (Agreement.DIFFERENT, [])
    assert "not at hand" in item.note


def dataset(folder, values):
    group = zarr.open_group(folder, mode="w")
    group.create_array("pressure", data=values, chunks=(1, 3))
    group.create_array("split", data=np.array([0, 1]))
    return folder, md5_on_disk(folder)


def test_a_dataset_is_compared_by_bytes_and_then_by_values(tmp_path):
    values = np.array([[1.0, math.nan, 3.0], [4.0, 5.0, 6.0]])
    before, md5 = dataset(tmp_path / "before", values)
    same, _ = dataset(tmp_path / "same", values)
    assert compare_dataset(md5, None, same, True).agreement is Agreement.IDENTICAL
    near, _ = dataset(tmp_path / "near", values * (1 + 1e-9))
    assert compare_dataset(md5, before, near, True).agreement is Agreement.DIFFERENT
    item = compare_dataset(md5, before, near, False)
    assert item.agreement is Agreement.CLOSE
    assert "pressure at most 1.0e-09" in item.note
    assert compare_dataset(md5, None, near, False).agreement is Agreement.DIFFERENT
    values[0, 1] = 2.0
    filled, _ = dataset(tmp_path / "filled", values)
    assert compare_dataset(md5, before, filled, False).agreement is Agreement.DIFFERENT
    other, _ = dataset(tmp_path / "other", values[:1])
    assert compare_dataset(md5, before, other, False).agreement is Agreement.DIFFERENT


@pytest.mark.parametrize(
    ("agreements", "reproduced"),
    [
        ([Agreement.IDENTICAL, Agreement.CLOSE, Agreement.UNKNOWN], True),
        ([Agreement.IDENTICAL, Agreement.DIFFERENT], False),
        ([Agreement.UNKNOWN], False),
        ([], False),
    ],
)
def test_a_model_is_reproduced_if_something_was_compared_and_nothing_differs(
    agreements, reproduced
):
    items = [Remade("thing", agreement) for agreement in agreements]
    assert Outcome([], [], [], [], "none", items).reproduced is reproduced
