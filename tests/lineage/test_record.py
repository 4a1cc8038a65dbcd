from __future__ import annotations

import json
import socket

import pytest

from mno.core.errors import MnoError
from mno.lineage.dvcfiles import DataVersion, locked_out, read_data_version
from mno.lineage.record import (
    candidate_digest,
    complete_record,
    lineage_sha256,
    params_sha256,
    start_record,
)
from mno.lineage.snapshot import take_snapshot

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
    digests = {candidate_digest(tmp_path / folder) for folder in "abc"}
    assert len(digests) == 3
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
