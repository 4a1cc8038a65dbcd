"""Seals are made once, and tell of what was not as it should have been at registration."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from registry_shop import Shop

from mno.lineage.audit import Finding, Verdict
from mno.lineage.audit.code import check_snapshot, check_stages
from mno.lineage.audit.data import check_sources
from mno.lineage.seal import Seal, SealPointer, seal_text
from mno.registry.catalogue import existing_workspace, find_version_of, registry_of
from mno.registry.evidence import gather, read_chain, read_facts
from mno.registry.settings import Workspace

NAME = "mno-darcy"
LOCK = """\
schema: '2.0'
stages:
  train:
    cmd: python -m pipelines.train
    deps:
    - path: data
      md5: {data}.dir
    - path: mno/code.py
      md5: {code}
    params:
      params.yaml:
        seed: {seed}
    outs:
    - path: models/candidate
      md5: {model}.dir
"""


def chain(shop: Shop, folder: Path) -> list[Seal]:
    return list(read_chain(registry_of(existing_workspace(shop.root)), NAME, folder))


def findings(shop: Shop, check, version: int = 1, originals: Sequence[Path] = ()) -> list[Finding]:
    with gather(existing_workspace(shop.root), NAME, version, [], originals) as evidence:
        return list(check(evidence))


def test_the_database_and_mlflows_client_say_the_same(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.register(shop.train(1))

    def facts(scratch: str) -> dict[str, object]:
        registry = registry_of(Workspace(shop.root))
        version = find_version_of(registry, f"models:/{NAME}/1")
        return read_facts(registry, version, tmp_path / scratch)

    read = facts("read")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:////{shop.root}/./mlflow.db")
    assert not Workspace(shop.root).embedded
    assert facts("asked") == read


def test_each_version_is_sealed_once_with_what_was_registered_and_names_the_seal_before(
    shop: Shop, tmp_path: Path
) -> None:
    first = shop.train(1)
    registered = shop.register(first)
    (seal,) = chain(shop, tmp_path)
    assert (seal.version, seal.previous, seal.problem) == (1, None, None)
    assert seal.content["record"] == registered["record"]
    assert seal.content["aliases"] == {"champion": 1}
    assert seal.content["version"]["tags"]["mno.decision"] == "champion"
    assert "artifacts/candidate/weights.safetensors" in seal.content["package"]
    assert {"record.json", "environment.txt"} <= set(seal.content["run"]["files"])
    shop.register(first)
    assert chain(shop, tmp_path) == [seal]
    # As after a kill before the version names its seal.
    client = existing_workspace(shop.root).client
    client.delete_model_version_tag(NAME, "1", "mno.seal")
    shop.register(first)
    assert client.get_model_version(NAME, "1").tags["mno.seal"] == str(seal.pointer)
    assert chain(shop, tmp_path) == [seal]
    shop.register(shop.train(2))
    latest, before = chain(shop, tmp_path)
    assert (latest.version, latest.previous) == (2, before.pointer)
    assert before == seal


def test_pointers_lead_nowhere_else(tmp_path: Path) -> None:
    good = SealPointer("0f", "a" * 64)
    assert SealPointer.parse(str(good)) == good
    for text in ("", "0f", f"../{'a' * 64}", f"0f/../{'a' * 61}", f"0f/{'a' * 63}", "/" + "a" * 64):
        assert SealPointer.parse(text) is None
    assert json.loads(seal_text({"schema": 1}, None))["previous"] is None


def test_code_in_no_commit_is_named_and_a_forged_mark_is_found(shop: Shop) -> None:
    (shop.root / "mno/code.py").write_text("A = 2\n")
    evaluated = shop.train(1)
    allowed = {**shop.request.params, "registry": {"allow_uncommitted": True}}
    shop.register(evaluated, params=allowed)
    (unknown,) = [f for f in findings(shop, check_snapshot) if f.verdict is not Verdict.VERIFIED]
    assert unknown.verdict is Verdict.UNKNOWN
    assert "mno/code.py" in unknown.found
    client = existing_workspace(shop.root).client
    client.set_model_version_tag(NAME, "1", "mno.uncommitted", "false")
    (changed,) = [f for f in findings(shop, check_snapshot) if f.verdict is not Verdict.VERIFIED]
    assert changed.verdict is Verdict.CHANGED
    assert "mno/code.py" in changed.found


def test_code_committed_after_the_training_counts_as_committed(shop: Shop) -> None:
    (shop.root / "mno/code.py").write_text("A = 2\n")
    evaluated = shop.train(1)
    shop.git("commit", "-q", "-a", "-m", "more")
    shop.register(evaluated)
    assert {f.verdict for f in findings(shop, check_snapshot)} == {Verdict.VERIFIED}


@pytest.mark.parametrize(
    ("lie", "subject"),
    [
        ({"code": "0" * 32}, "mno/code.py of train"),
        ({"data": "b" * 32}, "data of train"),
        ({"seed": 7}, "parameter seed of train"),
    ],
)
def test_a_lock_that_was_edited_to_look_right_is_found(
    shop: Shop, lie: dict[str, object], subject: str
) -> None:
    evaluated = shop.train(1)
    code = hashlib.md5((shop.root / "mno/code.py").read_bytes()).hexdigest()
    truth = {"data": "a" * 32, "code": code, "seed": 1, "model": "c" * 32}
    (shop.root / "dvc.lock").write_text(LOCK.format(**truth | lie))
    shop.register(evaluated)
    found = [f.subject for f in findings(shop, check_stages) if f.verdict.is_difference]
    assert found == [subject]


def test_files_that_were_imported_are_held_against_their_digests(
    shop: Shop, tmp_path: Path
) -> None:
    original = tmp_path / "plant.csv"
    original.write_text("time,temperature\n0,300\n")
    sha256 = hashlib.sha256(original.read_bytes()).hexdigest()
    file = {"file": original.name, "sha256": sha256, "content": "0" * 64}
    params = {"scenario": "imported", "seed": 1}
    params["scenarios"] = {"imported": {"name": "plant", "files": [file], "split": {}}}
    (shop.root / "params.yaml").write_text(json.dumps(params))
    shop.register(shop.train(1))

    def verdict(*originals: Path) -> Verdict:
        found = findings(shop, check_sources, originals=originals)
        (ours,) = [f for f in found if f.subject.startswith("plant.csv") and "as" not in f.subject]
        return ours.verdict

    assert verdict() is Verdict.UNKNOWN
    assert verdict(tmp_path) is Verdict.VERIFIED
    original.write_text("time,temperature\n0,301\n")
    assert verdict(tmp_path) is Verdict.CHANGED
