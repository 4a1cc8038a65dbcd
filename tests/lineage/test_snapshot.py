from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from mno.core.errors import InputError, MnoError
from mno.lineage.snapshot import changed_code, take_snapshot


def state(repository) -> tuple[str, ...]:
    return (
        repository.git("status", "--porcelain"),
        repository.git("for-each-ref", "refs/heads"),
        repository.git("symbolic-ref", "HEAD"),
        repository.git("stash", "list"),
        repository.git("ls-files", "--stage"),
    )


def files(repository, commit: str) -> list[str]:
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


def test_changed_parameters_and_data_hashes_leave_the_code_committed(repository):
    repository.commit()
    repository.write("params.yaml", "scenario: darcy\nseed: 2\n")
    text = (repository.root / "data.dvc").read_text().replace("0" * 32, "f" * 32)
    repository.write("data.dvc", text.replace("size: 10", "size: 11").replace("  nfiles: 2\n", ""))
    snapshot = take_snapshot(repository.root)
    assert snapshot.changed == ()


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
    head = repository.commit()
    assert changed_code(repository.root, snapshot.commit, head) == ()


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


def test_outside_a_repository_the_remedy_is_named(tmp_path: Path):
    (tmp_path / "params.yaml").write_text("seed: 1\n")
    with pytest.raises(InputError, match="not in a git repository.*git init"):
        take_snapshot(tmp_path)


def test_without_git_the_remedy_is_named(repository, monkeypatch):
    monkeypatch.setenv("PATH", os.fspath(repository.root))
    with pytest.raises(MnoError, match="install git"):
        take_snapshot(repository.root)
