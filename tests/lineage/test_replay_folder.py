"""The folder of a replay: the snapshot's files and no others, and nothing outside of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mno.core.config import read_params
from mno.core.errors import InputError, MnoError
from mno.lineage.audit.objects import Tree
from mno.lineage.dvcfiles import DATA_FILE
from mno.lineage.replay import (
    Conditions,
    DataFrom,
    changed_machine,
    changed_packages,
    make_plan,
    same_bits,
    stages_of,
)
from mno.lineage.replay_folder import altered, check_out, replay_folder, replay_params
from tests.support.file_hashes import hashes

PARAMS = b"""scenario: darcy
execution: {workers: 2, scheduler: null}
train: {warm_start: null}
"""


def tree(**more: bytes) -> Tree:
    files = {"params.yaml": PARAMS, "data.dvc": b"outs: []\n", "mno/__init__.py": b"", **more}
    return Tree("c" * 40, "t" * 40, files)


def test_a_name_of_any_kind_stays_in_the_folder_of_replays(tmp_path: Path) -> None:
    for name in ("../../etc", "/etc/passwd", "..", "mno-darcy/3", "a" * 500, "é\n"):
        path = replay_folder(tmp_path, name, "snapshot")
        assert path.parent == tmp_path / "build/replay"
        assert len(os.fsencode(path.name)) < 100
    assert replay_folder(tmp_path, "a/1", "x") != replay_folder(tmp_path, "a/1", "y")


@pytest.mark.parametrize(
    "name", ["../escaped.py", "mno/../../escaped.py", "mno/.git/hooks/x", ".git/config", "setup.py"]
)
def test_a_path_that_no_snapshot_has_is_refused(tmp_path: Path, name: str) -> None:
    line = tmp_path / "replay/line"
    with pytest.raises(MnoError, match="which no snapshot holds"):
        check_out(tree(**{name: b"evil"}), line, PARAMS)
    assert list(tmp_path.rglob("*")) == []


def test_code_is_the_snapshots_also_when_a_replay_goes_on(tmp_path: Path) -> None:
    line = tmp_path / "line"
    files = check_out(tree(), line, PARAMS)
    (line / "mno/__init__.py").write_text("evil = True")
    (line / "mno/extra.py").write_text("evil = True")
    (line / DATA_FILE).write_text("outs: [{md5: made}]\n")
    (line / "build").mkdir()
    assert altered(files, line) == ["mno/__init__.py"]
    files = check_out(tree(), line, PARAMS)
    assert altered(files, line) == []
    assert not (line / "mno/extra.py").exists()
    assert (line / DATA_FILE).read_text() == "outs: [{md5: made}]\n"
    assert (line / "build").is_dir()


def test_a_link_among_the_code_is_not_followed(tmp_path: Path) -> None:
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


def test_only_what_changes_no_result_is_another_parameter(tmp_path: Path) -> None:
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
    ("stage", "data", "targets", "given"),
    [
        (None, None, "generate data.dvc train learning_curve evaluate", (False, False, False)),
        (None, DataFrom.PULL, "train learning_curve evaluate", (True, False, True)),
        (None, DataFrom.BOTH, "generate train learning_curve evaluate", (True, False, False)),
        ("generate", None, "generate", (False, False, False)),
        ("train", None, "train", (True, False, False)),
        ("train", DataFrom.REGENERATE, "generate data.dvc train", (False, False, False)),
        ("evaluate", None, "evaluate", (True, True, True)),
    ],
)
def test_what_is_not_made_is_given(
    stage: str | None, data: DataFrom | None, targets: str, given: tuple[bool, ...]
) -> None:
    plan = make_plan(stage, data)
    assert list(plan.targets) == targets.split()
    assert (plan.data, plan.model, plan.data_report) == given


@pytest.mark.parametrize(
    ("stage", "data"),
    [("register", None), ("generate", DataFrom.PULL), ("generate", DataFrom.BOTH)],
)
def test_what_cannot_be_replayed_is_wrong_use(stage: str, data: DataFrom | None) -> None:
    with pytest.raises(InputError, match="--stage"):
        make_plan(stage, data)


def test_a_snapshot_whose_stages_cannot_be_read_says_so() -> None:
    assert stages_of(tree(**{"dvc.yaml": b"stages: {train: {}}"})) == ["train"]
    for text in (b"stages: 3", b"[", b"other: {}"):
        with pytest.raises(MnoError, match=r"dvc\.yaml of the snapshot"):
            stages_of(tree(**{"dvc.yaml": text}))


def test_what_decides_bits_is_told_from_what_does_not() -> None:
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
