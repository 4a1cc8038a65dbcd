"""What an audit must find, and name: a test for each way in which a lineage can be false."""

from __future__ import annotations

import hashlib
import json
from contextlib import ExitStack
from pathlib import Path

import pytest

from mno.lineage.audit import Verdict
from mno.lineage.audit.objects import read_listing
from mno.lineage.audit.walk import LINKS
from mno.lineage.record import Tag
from tests.support.audited_line import MODEL, Line
from tests.support.file_hashes import hashes
from tests.support.undone_damage import byte, content, gone

WEIGHTS = "artifacts/candidate/weights.safetensors"
TAGS = {
    "decision": (Tag.RELATIVE_L2, Tag.RIVAL_L2, Tag.DECISION),
    "registry": (Tag.REASON, Tag.PACKAGE, Tag.SEAL, "of the model"),
    "record": (Tag.LINEAGE, Tag.SNAPSHOT),
    "weights": (Tag.CANDIDATE,),
    "data": (Tag.DATA,),
    "parameters": (Tag.PARAMS,),
}
SECOND = f"name = '{MODEL}' AND version = 2"


def named(line: Line, version: int = 2) -> dict[str, set[str]]:
    """Return the subjects that differ, by link."""
    found: dict[str, set[str]] = {}
    for finding in line.differences(version):
        assert finding.expected or finding.found, finding
        found.setdefault(finding.link, set()).add(finding.subject)
    return found


def state(root: Path) -> dict[str, tuple[int, str]]:
    return {n: ((root / n).stat().st_mtime_ns, digest) for n, digest in hashes(root).items()}


@pytest.mark.parametrize("version", [1, 2])
def test_every_link_of_what_the_line_has_made_is_verified(line: Line, version: int) -> None:
    findings = line.findings(version)
    assert [f for f in findings if f.verdict is not Verdict.VERIFIED] == []
    assert {f.link for f in findings} == set(LINKS) - {"imported files"}
    assert len(findings) > 50


def test_an_audit_writes_to_nothing(line: Line, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    line.findings()
    before = state(line.root)
    assert line.differences() == []
    assert state(line.root) == before
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "name",
    [WEIGHTS, "artifacts/candidate/surrogate.json", "artifacts/code/mno/surrogate/surrogate.py",
     "pyfunc_model.py", "MLmodel"],
)  # fmt: skip
def test_a_changed_byte_of_the_package_is_found_in_its_file(line: Line, name: str) -> None:
    for damage in (byte, gone):
        with damage(line.package() / name):
            assert name in named(line)["weights"]
    assert named(line) == {}


def test_a_file_put_into_the_package_is_found(line: Line) -> None:
    extra = line.package() / "artifacts/code/sitecustomize.py"
    extra.write_text("print('hello')\n")
    try:
        assert "artifacts/code/sitecustomize.py" in named(line)["weights"]
    finally:
        extra.unlink()


def test_a_changed_byte_of_the_data_is_found_in_its_shard(line: Line) -> None:
    shard = "pressure/c/1/0/0"
    with byte(line.root / "data" / shard):
        assert f"{shard} in data/" in named(line)["data"]
    md5 = line.record()["data"]["md5"]
    listing = read_listing(line.object(md5).read_bytes())
    with byte(line.object(listing[shard])):
        assert {f"{shard} in DVC's cache", f"{shard} (sha256)"} <= named(line)["data"]
    with gone(line.object(listing[shard])):
        assert named(line) == {"data": {f"{shard} in DVC's cache"}}
    for damage in (byte, gone):
        with damage(line.object(md5)):
            assert named(line)["data"] == {f"list of files {md5}"}


def test_shards_that_changed_places_are_found(line: Line) -> None:
    data = line.root / "data/pressure/c"
    first, second = ((data / n / "0/0").read_bytes() for n in "01")
    with content(data / "0/0/0", second), content(data / "1/0/0", first):
        assert {"pressure/c/0/0/0 in data/", "pressure/c/1/0/0 in data/"} <= named(line)["data"]


def test_older_versions_are_audited_from_the_cache(line: Line) -> None:
    other = (line.root / "data.dvc").read_text().replace("md5: ", "md5: 0")
    with content(line.root / "data.dvc", other.encode()):
        assert named(line, 1) == {"stages": {"data.dvc of the workspace"}}  # the lock knows better
        with gone(line.root / "dvc.lock"):
            assert named(line, 1) == {}


@pytest.mark.parametrize(("tag", "link"), [(t, link) for link, tags in TAGS.items() for t in tags])
@pytest.mark.parametrize("change", ["value = 'x' || substr(value, 2)", None])
def test_a_changed_or_removed_tag_is_found(
    line: Line, tag: str, link: str, change: str | None
) -> None:
    table, where = "model_version_tags", f"{SECOND} AND key = '{tag}'"
    if tag == "of the model":
        table, where = "registered_model_tags", f"name = '{MODEL}' AND key = '{Tag.SEAL}'"
    with line.row(table, where, change):
        assert link in named(line)
    assert named(line) == {}


@pytest.mark.parametrize(
    ("table", "where", "change", "link"),
    [
        ("params", "key = 'train.epochs'", "value = '99'", "parameters"),
        ("params", "key = 'train.epochs'", None, "parameters"),
        ("metrics", "key = 'evaluation/relative_l2'", "value = value * 0.5", "registry"),
        ("latest_metrics", "key = 'evaluation/relative_l2'", "value = value * 0.5", "decision"),
        ("metrics", "key = 'validation_relative_l2' AND step = 1", "value = 0.0", "registry"),
        ("tags", "key = 'mno.training_key'", "value = 'a' || value", "parameters"),
        ("datasets", "1", "digest = 'f' || substr(digest, 2)", "data"),
        ("runs", "1", "status = 'FAILED'", "registry"),
        ("logged_model_tags", "tag_key = 'mno.lineage_sha256'", "tag_value = 'x'", "record"),
        ("model_versions", SECOND, "source = 'models:/m-0'", "registry"),
        ("model_versions", SECOND, "storage_location = '/tmp'", "weights"),
        ("model_versions", SECOND, "run_id = '0'", "registry"),
    ],
)
def test_a_changed_row_of_mlflow_is_found(
    line: Line, table: str, where: str, change: str | None, link: str
) -> None:
    with line.row(table, where, change):
        assert link in named(line)
    assert named(line) == {}


def test_a_changed_byte_of_the_files_of_the_run_is_found(line: Line) -> None:
    of_stages = ("metrics.json", "per_sample.json", "report.html")
    for name, link in {
        "record.json": "record",
        "environment.txt": "environment",
        "training/train.json": "registry",
        **{f"evaluation/{name}": "stages" for name in of_stages},
    }.items():
        with byte(line.run_files() / name):
            assert link in named(line), name
        with gone(line.run_files() / name):
            assert f"run: files {name}" in named(line)["registry"]


def test_a_moved_or_removed_alias_is_found(line: Line) -> None:
    champion = f"name = '{MODEL}' AND alias = 'champion'"
    for change in ("version = 1", None):
        with line.row("registered_model_aliases", champion, change):
            assert named(line, 1) == named(line, 2) == {"decision": {"alias champion"}}


def test_damage_to_the_snapshot_is_found(line: Line) -> None:
    snapshot = line.record()["snapshot"]["commit"]
    for what in (snapshot, f"{snapshot}:mno", f"{snapshot}:params.yaml"):
        identity = line.git("rev-parse", what)
        path = line.root / ".git/objects" / identity[:2] / identity[2:]
        with gone(path):
            assert "snapshot" in named(line), what
        other = line.root / ".git/objects" / snapshot[:2] / snapshot[2:]
        if what != snapshot:  # a whole object of another name
            with content(path, other.read_bytes()):
                assert "snapshot" in named(line), what


def test_a_ref_that_was_moved_or_removed_is_found(line: Line) -> None:
    ours, theirs = (line.record(version)["snapshot"] for version in (2, 1))
    ref = f"refs/mno/{ours['tree'][:16]}"
    try:
        for change in ((ref, theirs["commit"]), ("-d", ref)):
            line.git("update-ref", *change)
            assert named(line) == {"snapshot": {"ref of the commit of the training"}}
    finally:
        line.git("update-ref", ref, ours["commit"])


def test_a_commit_that_is_no_longer_reachable_is_found(line: Line) -> None:
    head = line.record()["head"]
    try:
        line.git("update-ref", "refs/heads/main", line.record()["snapshot"]["commit"])
        found = [f for f in line.differences() if f.link == "snapshot"]
        assert [f.verdict for f in found] == [Verdict.MISSING]
        assert f"git tag audited {head}" in found[0].advice
    finally:
        line.git("update-ref", "refs/heads/main", head)


def test_an_edited_lock_of_the_workspace_is_found(line: Line) -> None:
    lock = line.root / "dvc.lock"
    md5 = hashlib.md5((line.root / "mno/surrogate/rollout.py").read_bytes()).hexdigest()
    edited = lock.read_text().replace(md5, "0" * 32)
    with content(lock, edited.encode()):
        assert any("mno/surrogate/rollout.py" in subject for subject in named(line)["stages"])
    with content(lock, b"stages: ["):
        assert "stages" in named(line)


def test_a_record_of_another_model_is_found(line: Line) -> None:
    ours, theirs = (line.run_files(version) / "record.json" for version in (2, 1))
    with content(ours, theirs.read_bytes()):
        found = named(line)["record"]
        assert {"version in record.json", "tag mno.lineage_sha256 of the version"} <= found
        assert named(line, 1) == {}


def test_records_with_swapped_digests_are_found(line: Line) -> None:
    paths = [line.run_files(version) / "record.json" for version in (1, 2)]
    records = [json.loads(path.read_text()) for path in paths]
    digests = [record["lineage_sha256"] for record in records]
    with ExitStack() as stack:
        for path, record, digest in zip(paths, records, reversed(digests), strict=True):
            new = json.dumps({**record, "lineage_sha256": digest}, indent=2, sort_keys=True) + "\n"
            stack.enter_context(content(path, new.encode()))
        for version in (1, 2):
            assert "digest in record.json" in named(line, version)["record"]


def test_a_seal_that_was_altered_or_removed_breaks_the_chain_for_all(line: Line) -> None:
    (first,) = (line.run_files(1) / "seals").iterdir()
    with byte(first):
        assert "chain of decisions" in named(line, 2)["decision"]
        assert "seal" in named(line, 1)["registry"]
    with gone(first):
        assert "chain of decisions" in named(line, 2)["decision"]


def test_a_sealed_version_that_was_deleted_is_missed(line: Line) -> None:
    with line.row("model_versions", f"name = '{MODEL}' AND version = 1", None):
        assert "version 1" in named(line, 2)["decision"]


def test_a_version_registered_past_the_pipeline_is_named(line: Line) -> None:
    client = line.mlflow.client
    row = client.get_model_version(MODEL, "2")
    for tags in ({}, dict(row.tags), {k: v for k, v in row.tags.items() if k != "mno.seal"}):
        made = client.create_model_version(MODEL, row.source, row.run_id, tags=tags)
        try:
            findings = [f for f in line.differences(int(made.version)) if f.link == "registry"]
            assert findings
            subjects = {f.subject for f in findings}
            assert subjects & {"seal", "version that the seal is of"}
            if "mno.seal" not in tags:
                assert any("past the pipeline" in f.advice for f in findings)
        finally:
            client.delete_model_version(MODEL, str(made.version))
    assert named(line) == {}


def test_a_model_whose_seals_were_taken_away_does_not_pass(line: Line) -> None:
    with (
        line.row("model_version_tags", "key = 'mno.seal'", None),
        line.row("registered_model_tags", "key = 'mno.seal'", None),
    ):
        unknown = {f.link for f in line.findings() if f.verdict is Verdict.UNKNOWN}
        lacking = {"seal"}, {"chain of decisions", "alias champion"}
        assert named(line) == dict(zip(("registry", "decision"), lacking, strict=True))
        assert unknown == {"stages"}
        with byte(line.package() / WEIGHTS):
            assert "weights against the record" in named(line)["weights"]
