"""The snapshot of what runs, and the record that names it."""

import json
import os
import socket
import subprocess
from pathlib import Path

import pytest

from mno.core.errors import InputError, MnoError
from mno.lineage.dvcfiles import DataVersion, locked_out, read_data_version
from mno.lineage.record import (
    candidate_digest,
    complete_record,
    lineage_sha256,
    params_sha256,
    start_record,
)
from mno.lineage.snapshot import changed_code, take_snapshot
from mno.lineage.tidying import Needed

DATA_DVC = """\
md5: {md5}
frozen: false
deps:
- path: build/dataset
  md5: {md5}.dir
  size: 10
  nfiles: 2
  hash: md5
outs:
- md5: {md5}.dir
  size: 10
  nfiles: 2
  hash: md5
  path: data
"""


class Repository:
    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True)
        self.git("init", "-q", "-b", "main")
        for key, value in (("user.name", "t"), ("user.email", "t@localhost")):
            self.git("config", key, value)
        self.write("params.yaml", "scenario: darcy\nseed: 1\n")
        self.write("dvc.yaml", "stages: {}\n")
        self.write("data.dvc", DATA_DVC.format(md5="0" * 32))
        self.write("mno/solver.py", "ORDER = 2\n")
        self.write("pipelines/train.py", "import mno\n")
        self.write(".gitignore", "__pycache__/\n")
        self.write("README.md", "hello\n")

    def git(self, *args: str) -> str:
        return subprocess.run(
            ["git", "-C", str(self.root), *args], capture_output=True, text=True, check=True
        ).stdout.strip()

    def write(self, name: str, text: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def commit(self) -> str:
        self.git("add", "-A")
        self.git("commit", "-q", "-m", "work")
        return self.git("rev-parse", "HEAD")


@pytest.fixture
def repository(tmp_path):
    return Repository(tmp_path / "a checkout")


def state(repository):
    return (
        repository.git("status", "--porcelain"),
        repository.git("for-each-ref", "refs/heads"),
        repository.git("symbolic-ref", "HEAD"),
        repository.git("stash", "list"),
        repository.git("ls-files", "--stage"),
    )


def files(repository, commit):
    return repository.git("ls-tree", "-r", "--name-only", commit).splitlines()


def test_holds_what_runs_as_it_is_in_the_work_tree(repository):
    repository.commit()
    repository.write("mno/solver.py", "ORDER = 4\n")
    repository.write("mno/extra.py", "NEW = True\n")
    repository.write("mno/__pycache__/solver.pyc", "ignored")
    (repository.root / "pipelines/train.py").unlink()
    snapshot = take_snapshot(repository.root)
    expected = ["data.dvc", "dvc.yaml", "mno/extra.py", "mno/solver.py", "params.yaml"]
    assert files(repository, snapshot.commit) == expected
    assert repository.git("show", f"{snapshot.commit}:mno/solver.py") == "ORDER = 4"


def test_leaves_branches_index_and_work_tree_as_they_are(repository):
    repository.commit()
    repository.write("mno/solver.py", "ORDER = 4\n")
    repository.git("add", "mno/solver.py")
    repository.write("mno/solver.py", "ORDER = 6\n")
    before = state(repository)
    take_snapshot(repository.root)
    assert state(repository) == before


def test_same_files_give_the_same_commit_and_one_ref(repository):
    repository.commit()
    first = take_snapshot(repository.root)
    repository.write("README.md", "not part of what runs\n")
    assert take_snapshot(repository.root) == first
    repository.write("params.yaml", "scenario: darcy\nseed: 2\n")
    second = take_snapshot(repository.root)
    assert second.commit != first.commit
    refs = repository.git("for-each-ref", "--format=%(objectname)", "refs/mno").splitlines()
    assert sorted(refs) == sorted([first.commit, second.commit])


def test_another_clone_gives_the_same_commit(repository, tmp_path):
    repository.commit()
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", str(repository.root), str(clone)], check=True)
    assert take_snapshot(clone).commit == take_snapshot(repository.root).commit


def test_snapshot_survives_garbage_collection(repository):
    repository.commit()
    snapshot = take_snapshot(repository.root)
    repository.git("gc", "-q", "--prune=now")
    assert repository.git("cat-file", "-t", snapshot.commit) == "commit"


def test_what_a_stash_names_is_needed_however_old_it_is(repository):
    repository.commit()
    stashed = {letter * 32 for letter in "abc"}
    for md5 in stashed:
        repository.write("data.dvc", DATA_DVC.format(md5=md5))
        repository.git("stash", "-q")
    needed = Needed()
    needed.add_workspace(repository.root)
    assert {f"{md5}.dir" for md5 in stashed} <= needed.hashes


def test_changed_parameters_and_data_hashes_leave_the_code_committed(repository):
    repository.commit()
    repository.write("params.yaml", "scenario: darcy\nseed: 2\n")
    text = (repository.root / "data.dvc").read_text().replace("0" * 32, "f" * 32)
    repository.write("data.dvc", text.replace("size: 10", "size: 11").replace("  nfiles: 2\n", ""))
    assert take_snapshot(repository.root).changed == ()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("mno/solver.py", "ORDER = 4\n"),
        ("mno/new.py", ""),
        ("dvc.yaml", "stages: {a: {cmd: b}}\n"),
        ("data.dvc", "deps: [{path: elsewhere}]\nouts: [{path: data}]\n"),
        ("constraints.txt", "numpy==2.0\n"),
        ("pipelines/train.py", None),
    ],
)
def test_changed_code_is_named(repository, name, text):
    head = repository.commit()
    (repository.root / name).unlink(missing_ok=True)
    if text is not None:
        repository.write(name, text)
    snapshot = take_snapshot(repository.root)
    assert snapshot.changed == (name,)
    assert snapshot.head == head


def test_code_committed_afterwards_is_found_to_match(repository):
    repository.commit()
    repository.write("mno/solver.py", "ORDER = 4\n")
    snapshot = take_snapshot(repository.root)
    assert changed_code(repository.root, snapshot.commit, repository.commit()) == ()


def test_without_any_commit_everything_counts_as_changed(repository):
    snapshot = take_snapshot(repository.root)
    assert snapshot.head is None
    assert "mno/solver.py" in snapshot.changed
    assert "data.dvc" in snapshot.changed


def test_works_in_a_worktree(repository, tmp_path):
    repository.commit()
    worktree = tmp_path / "work tree"
    repository.git("worktree", "add", "-q", str(worktree), "-b", "other")
    (worktree / "mno/solver.py").write_text("ORDER = 8\n")
    snapshot = take_snapshot(worktree)
    assert snapshot.changed == ("mno/solver.py",)
    assert repository.git("show", f"{snapshot.commit}:mno/solver.py") == "ORDER = 8"


def test_workspace_may_be_a_folder_of_a_larger_repository(repository):
    repository.commit()
    inner = repository.root / "inner"
    repository.write("inner/mno/a.py", "A = 1\n")
    repository.write("inner/params.yaml", "seed: 1\n")
    snapshot = take_snapshot(inner)
    assert snapshot.changed == ("mno/a.py",)
    assert files(repository, snapshot.commit) == ["inner/mno/a.py", "inner/params.yaml"]


def test_is_not_misled_by_the_index_of_a_hook(repository, monkeypatch):
    repository.commit()
    expected = take_snapshot(repository.root)
    monkeypatch.setenv("GIT_INDEX_FILE", str(repository.root / ".git/other-index"))
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    assert take_snapshot(repository.root) == expected


def test_outside_a_repository_the_remedy_is_named(tmp_path):
    (tmp_path / "params.yaml").write_text("seed: 1\n")
    with pytest.raises(InputError, match="not in a git repository.*git init"):
        take_snapshot(tmp_path)


def test_without_git_the_remedy_is_named(repository, monkeypatch):
    monkeypatch.setenv("PATH", os.fspath(repository.root))
    with pytest.raises(MnoError, match="install git"):
        take_snapshot(repository.root)


PARAMS = {"scenario": "darcy", "seed": 1, "train": {"epochs": 3}, "execution": {"workers": 2}}
LOCK = """\
schema: '2.0'
stages:
  train:
    cmd: python -m pipelines.train
    outs:
    - path: models/candidate
      hash: md5
      md5: abc.dir
"""


@pytest.fixture
def record(repository):
    repository.commit()
    snapshot = take_snapshot(repository.root)
    return start_record(
        repository.root, snapshot, PARAMS, threads=2, device="cpu", ids={"mlflow_run": "r1"}
    )


def complete(record, repository, **ids):
    return complete_record(record, repository.root, candidate_sha256="c" * 64, ids=ids)


def test_names_data_code_parameters_and_model(record, repository):
    repository.write("dvc.lock", LOCK)
    full = complete(record, repository)
    assert full["data"] == {"md5": "0" * 32 + ".dir", "source_md5": "0" * 32 + ".dir"}
    assert full["model"] == {"md5": "abc.dir", "sha256": "c" * 64}
    assert full["snapshot"]["commit"] == take_snapshot(repository.root).commit
    assert full["head"] == repository.git("rev-parse", "HEAD")
    assert (full["seed"], full["threads"], full["device"]) == (1, 2, "cpu")
    assert json.loads(json.dumps(full)) == full


def test_does_not_name_the_machine(record):
    assert socket.gethostname() not in json.dumps(record["machine"])
    assert record["machine"]["cores"] >= 1


def test_lineage_covers_all_but_ids_and_times(record, repository):
    first = complete(record, repository, mlflow_model="m1")
    later = {**record, "ids": {"mlflow_run": "r2"}, "times": {"started": "later"}}
    assert complete(later, repository)["lineage_sha256"] == first["lineage_sha256"]
    for key in set(record) - {"ids", "times"}:
        assert lineage_sha256({**first, key: "other"}) != first["lineage_sha256"], key


def test_completing_twice_changes_nothing(record, repository):
    once = complete(record, repository, mlflow_model="m1")
    assert complete(once, repository, mlflow_model="m1") == once


def test_execution_is_not_part_of_the_parameters():
    assert params_sha256(PARAMS) == params_sha256({**PARAMS, "execution": {"workers": 9}})
    assert params_sha256(PARAMS) == params_sha256(dict(reversed(PARAMS.items())))
    assert params_sha256(PARAMS) != params_sha256({**PARAMS, "seed": 2})


def test_environment_depends_on_the_constraints(record, repository):
    repository.write("constraints.txt", "numpy==2.0\n")
    snapshot = take_snapshot(repository.root)
    other = start_record(repository.root, snapshot, PARAMS, threads=2, device="cpu")
    assert other["environment_sha256"] != record["environment_sha256"]


def test_record_of_another_schema_is_refused(record, repository):
    with pytest.raises(MnoError, match="schema 99"):
        complete({**record, "schema": 99}, repository)


def test_candidate_digest_sees_names_and_bytes(tmp_path):
    for folder, name, content in (("a", "w", b"12"), ("b", "w", b"13"), ("c", "v", b"12")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_bytes(content)
    assert len({candidate_digest(tmp_path / folder) for folder in "abc"}) == 3
    with pytest.raises(MnoError, match="train first"):
        candidate_digest(tmp_path / "missing")


def test_hashes_that_are_not_there_yet_are_none(tmp_path):
    assert read_data_version(tmp_path / "data.dvc") == DataVersion(None, None)
    assert locked_out(tmp_path, "train", "models/candidate") is None
    (tmp_path / "data.dvc").write_text("deps: [{path: build/dataset}]\nouts: [{path: data}]\n")
    assert read_data_version(tmp_path / "data.dvc") == DataVersion(None, None)


@pytest.mark.parametrize("text", ["a: [", "just words", "- a\n- b\n"])
def test_damaged_file_of_dvc_is_named(tmp_path, text):
    (tmp_path / "dvc.lock").write_text(text)
    with pytest.raises(MnoError, match="dvc.lock"):
        locked_out(tmp_path, "train", "models/candidate")
