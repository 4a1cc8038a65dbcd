"""What an audit must find, and name: a test for each way in which a lineage can be false."""

import hashlib
import json
import random
import re
import shutil
import sqlite3
import subprocess
import sys
import zlib
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, closing
from dataclasses import replace
from pathlib import Path

import pytest

from flows.audit import audited
from flows.replay import make_again
from mno.core.errors import InputError, MnoError
from mno.lineage.audit import Verdict
from mno.lineage.audit.objects import read_listing
from mno.lineage.audit.walk import LINKS
from mno.lineage.record import Tag
from mno.lineage.replay import targets_of
from mno.lineage.replay_compare import Agreement
from tests.support.audited_line import MODEL, Line
from tests.support.file_hashes import hashes
from tests.support.undone_damage import byte, content, gone
from tests.support.workspaces import Workspace

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


def named(line, version=2):
    found: dict[str, set[str]] = {}
    for finding in line.differences(version):
        assert finding.expected or finding.found, finding
        found.setdefault(finding.link, set()).add(finding.subject)
    return found


def state(root):
    return {n: ((root / n).stat().st_mtime_ns, digest) for n, digest in hashes(root).items()}


@pytest.mark.parametrize("version", [1, 2])
def test_every_link_of_what_the_line_has_made_is_verified(line, version):
    findings = line.findings(version)
    assert [f for f in findings if f.verdict is not Verdict.VERIFIED] == []
    assert {f.link for f in findings} == set(LINKS) - {"imported files"}
    assert len(findings) > 50


def test_an_audit_writes_to_nothing(line, tmp_path, monkeypatch):
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
def test_a_changed_byte_of_the_package_is_found_in_its_file(line, name):
    for damage in (byte, gone):
        with damage(line.package() / name):
            assert name in named(line)["weights"]
    assert named(line) == {}


def test_a_file_put_into_the_package_is_found(line):
    extra = line.package() / "artifacts/code/sitecustomize.py"
    extra.write_text("print('hello')\n")
    try:
        assert "artifacts/code/sitecustomize.py" in named(line)["weights"]
    finally:
        extra.unlink()


def test_a_changed_byte_of_the_data_is_found_in_its_shard(line):
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


def test_shards_that_changed_places_are_found(line):
    data = line.root / "data/pressure/c"
    first, second = ((data / n / "0/0").read_bytes() for n in "01")
    with content(data / "0/0/0", second), content(data / "1/0/0", first):
        assert {"pressure/c/0/0/0 in data/", "pressure/c/1/0/0 in data/"} <= named(line)["data"]


def test_older_versions_are_audited_from_the_cache(line):
    other = (line.root / "data.dvc").read_text().replace("md5: ", "md5: 0")
    with content(line.root / "data.dvc", other.encode()):
        assert named(line, 1) == {"stages": {"data.dvc of the workspace"}}  # the lock knows better
        with gone(line.root / "dvc.lock"):
            assert named(line, 1) == {}


@pytest.mark.parametrize(("tag", "link"), [(t, link) for link, tags in TAGS.items() for t in tags])
@pytest.mark.parametrize("change", ["value = 'x' || substr(value, 2)", None])
def test_a_changed_or_removed_tag_is_found(line, tag, link, change):
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
def test_a_changed_row_of_mlflow_is_found(line, table, where, change, link):
    with line.row(table, where, change):
        assert link in named(line)
    assert named(line) == {}


def test_a_changed_byte_of_the_files_of_the_run_is_found(line):
    of_stages = ("metrics.json", "per_sample.json", "robustness.json")
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


def test_a_moved_or_removed_alias_is_found(line):
    champion = f"name = '{MODEL}' AND alias = 'champion'"
    for change in ("version = 1", None):
        with line.row("registered_model_aliases", champion, change):
            assert named(line, 1) == named(line, 2) == {"decision": {"alias champion"}}


def test_damage_to_the_snapshot_is_found(line):
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


def test_a_ref_that_was_moved_or_removed_is_found(line):
    ours, theirs = (line.record(version)["snapshot"] for version in (2, 1))
    ref = f"refs/mno/{ours['tree'][:16]}"
    try:
        for change in ((ref, theirs["commit"]), ("-d", ref)):
            line.git("update-ref", *change)
            assert named(line) == {"snapshot": {"ref of the commit of the training"}}
    finally:
        line.git("update-ref", ref, ours["commit"])


def test_a_commit_that_is_no_longer_reachable_is_found(line):
    head = line.record()["head"]
    try:
        line.git("update-ref", "refs/heads/main", line.record()["snapshot"]["commit"])
        found = [f for f in line.differences() if f.link == "snapshot"]
        assert [f.verdict for f in found] == [Verdict.MISSING]
        assert f"git tag audited {head}" in found[0].advice
    finally:
        line.git("update-ref", "refs/heads/main", head)


def test_an_edited_lock_of_the_workspace_is_found(line):
    lock = line.root / "dvc.lock"
    md5 = hashlib.md5((line.root / "mno/surrogate/rollout.py").read_bytes()).hexdigest()
    with content(lock, lock.read_text().replace(md5, "0" * 32).encode()):
        assert any("mno/surrogate/rollout.py" in subject for subject in named(line)["stages"])
    with content(lock, b"stages: ["):
        assert "stages" in named(line)


def test_a_record_of_another_model_is_found(line):
    ours, theirs = (line.run_files(version) / "record.json" for version in (2, 1))
    with content(ours, theirs.read_bytes()):
        found = named(line)["record"]
        assert {"version in record.json", "tag mno.lineage_sha256 of the version"} <= found
        assert named(line, 1) == {}


def test_records_with_swapped_digests_are_found(line):
    paths = [line.run_files(version) / "record.json" for version in (1, 2)]
    records = [json.loads(path.read_text()) for path in paths]
    digests = [record["lineage_sha256"] for record in records]
    with ExitStack() as stack:
        for path, record, digest in zip(paths, records, reversed(digests), strict=True):
            new = json.dumps({**record, "lineage_sha256": digest}, indent=2, sort_keys=True) + "\n"
            stack.enter_context(content(path, new.encode()))
        for version in (1, 2):
            assert "digest in record.json" in named(line, version)["record"]


def test_a_seal_that_was_altered_or_removed_breaks_the_chain_for_all(line):
    (first,) = (line.run_files(1) / "seals").iterdir()
    with byte(first):
        assert "chain of decisions" in named(line, 2)["decision"]
        assert "seal" in named(line, 1)["registry"]
    with gone(first):
        assert "chain of decisions" in named(line, 2)["decision"]


def test_a_sealed_version_that_was_deleted_is_missed(line):
    with line.row("model_versions", f"name = '{MODEL}' AND version = 1", None):
        assert "version 1" in named(line, 2)["decision"]


def test_a_version_registered_past_the_pipeline_is_named(line):
    client = line.mlflow.client
    row = client.get_model_version(MODEL, "2")
    for tags in ({}, dict(row.tags), {k: v for k, v in row.tags.items() if k != "mno.seal"}):
        made = client.create_model_version(MODEL, row.source, row.run_id, tags=tags)
        try:
            findings = [f for f in line.differences(int(made.version)) if f.link == "registry"]
            assert findings
            assert {f.subject for f in findings} & {"seal", "version that the seal is of"}
            if "mno.seal" not in tags:
                assert any("past the pipeline" in f.advice for f in findings)
        finally:
            client.delete_model_version(MODEL, str(made.version))
    assert named(line) == {}


def test_a_model_whose_seals_were_taken_away_does_not_pass(line):
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


def test_says_what_it_verified_and_exits_with_0_or_3(line):
    workspace = Workspace(line.root)
    done = workspace.mno("audit", f"models:/{MODEL}@champion")
    assert done.returncode == 0, done.stderr
    assert f"Audit of models:/{MODEL}/2" in done.stdout
    assert "PASSED" in done.stdout
    assert "\x1b" not in done.stdout
    with byte(line.package() / "artifacts/candidate/weights.safetensors"):
        done = workspace.mno("audit", f"models:/{MODEL}/2", "--json")
        assert done.returncode == 3
        told = json.loads(done.stdout)
        assert told["passed"] is False
        assert told["verdicts"]["changed"] >= 1
        assert any(f["subject"].endswith("weights.safetensors") for f in told["findings"])


def test_an_audit_loads_neither_torch_nor_mlflow(line):
    heavy = ["mlflow", "torch", "numba", "pandas", "prefect", "sqlalchemy", "lightning"]
    code = (
        "import sys; from flows.audit import audited\n"
        f"with audited('models:/{MODEL}@champion', True) as (_, found):\n"
        f"    print(found.passed, [m for m in {heavy} if m in sys.modules])"
    )
    assert Workspace(line.root).run(sys.executable, "-c", code, check=True).stdout == "True []\n"


def audit_of(target, caches=()):
    with audited(str(target), True, caches) as (_, found):
        return found


def test_a_model_is_found_by_all_its_names(there, tmp_path):
    copy = tmp_path / "copied"
    shutil.copytree(there.package() / "artifacts/candidate", copy)
    run = there.record()["ids"]["mlflow_run"]
    places = (there.root / "models/candidate", copy / "weights.safetensors", there.package())
    second = f"models:/{MODEL}/2"
    for target in (f"models:/{MODEL}@champion", second, f"runs:/{run}", *map(str, places)):
        audit = audit_of(target)
        assert (audit.model, audit.passed) == (second, True), target
    with byte(copy / "weights.safetensors"), pytest.raises(InputError, match="changed since"):
        audit_of(copy)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("models:/mno-darcy/99", "not in the registry"),
        ("models:/mno-darcy@nobody", "not in the registry"),
        ("models:/mno-other/1", "not in the registry"),
        ("models:mno-darcy", "expected models:/NAME/VERSION"),
        ("http://127.0.0.1/model", "'http://127.*expected models:/NAME/VERSION"),
        ("runs:/00ff", "no registered version is of this run"),
        ("nowhere", "holds no model"),
    ],
)
def test_what_is_no_model_is_wrong_use(there, target, message):
    with pytest.raises(InputError, match=message):
        audit_of(target)
    with pytest.raises(InputError, match="not a folder"):
        audit_of(target, [Path("nowhere")])


def test_another_checkout_says_what_it_lacks_and_is_content_with_the_rest(
    line, tmp_path, monkeypatch
):
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", str(line.root), str(clone)], check=True)
    monkeypatch.chdir(clone)
    target = f"models:/{MODEL}/2"
    with pytest.raises(InputError, match="MLFLOW_TRACKING_URI"):
        audit_of(target)
    assert not (clone / "mlflow.db").exists()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{line.database}")
    lacking = audit_of(target)
    assert {f.link for f in lacking.findings if f.verdict.is_difference} == {"data", "snapshot"}
    assert all(f.advice for f in lacking.findings if f.verdict == "missing")
    subprocess.run(["git", "fetch", "-q", "origin", "refs/mno/*:refs/mno/*"], cwd=clone, check=True)
    audit = audit_of(target, [line.cache])
    assert [f for f in audit.findings if f.verdict.is_difference] == []


def test_help_teaches():
    done = subprocess.run(
        [sys.executable, "-m", "flows.cli", "audit", "--help"], capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    options = ("--cache", "--originals", "--all")
    for word in ("models:/mno-darcy@champion", "Exit code 3", *options):
        assert word in done.stdout


OWN = ("build/replay/", "build/locks/")


def contents(root):
    """Everything in a workspace but the folder of replays and who works in it."""
    return {name: sha for name, sha in hashes(root).items() if not name.startswith(OWN)}


def replayed(stage):
    with audited(f"models:/{MODEL}/2", True) as (evidence, found):
        return replace(found, replay=make_again(evidence, targets_of(stage), True))


@pytest.mark.slow
def test_the_data_are_made_again_bit_for_bit_and_nothing_else_is_touched(there):
    before = contents(there.root)
    audit = replayed("generate")
    assert audit.passed
    assert audit.replay
    assert [(item.name, item.agreement) for item in audit.replay.items] == [
        ("dataset", Agreement.IDENTICAL)
    ]
    assert audit.replay.items[0].found == there.record()["data"]["md5"]
    assert (audit.replay.packages, audit.replay.machine) == ([], [])
    assert json.loads(json.dumps(audit.to_dict()))["replay"]["reproduced"] is True
    assert contents(there.root) == before
    assert list((there.root / "build/replay").iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--stage", "register"), "expected one of generate, train, evaluate"),
        (("--stage", "generate", "--pull"), "leave out --pull"),
    ],
)
def test_wrong_use_is_one_line(line, arguments, said):
    done = Workspace(line.root).mno("replay", f"models:/{MODEL}/2", *arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert (done.stdout, len(done.stderr.strip().splitlines())) == ("", 1)


def test_data_that_are_not_at_hand_are_not_trained_on(there):
    objects = there.object(there.record()["data"]["md5"])
    kept = objects.read_bytes()
    objects.unlink()
    try:
        with pytest.raises(MnoError, match="is not in DVC's cache: fetch it"):
            replayed("train")
        objects.write_bytes(kept + b" ")
        with pytest.raises(MnoError, match="not what its name promises"):
            replayed("train")
    finally:
        objects.write_bytes(kept)


Change = tuple[str, Callable[[], AbstractContextManager[None]]]

OURS = f"name = '{MODEL}' AND version = 2"
RUN = "run_uuid = '{run}'"
OF_USERS = f"{RUN} AND key NOT LIKE 'system/%'"
# Rows that an audit of version 2 relies on, and their columns.
ROWS = (
    ("model_version_tags", OURS, ("key", "value")),
    ("model_versions", OURS, ("source", "run_id", "storage_location", "creation_time")),
    ("registered_model_tags", f"name = '{MODEL}'", ("key", "value")),
    ("registered_model_aliases", f"name = '{MODEL}'", ("alias", "version")),
    ("runs", RUN, ("start_time", "end_time", "artifact_uri")),
    ("params", RUN, ("key", "value")),
    ("metrics", OF_USERS, ("key", "value", "step")),
    ("latest_metrics", OF_USERS, ("key", "value")),
    ("tags", f"{RUN} AND key IN ('mno.training_key', 'mno.candidate')", ("key", "value")),
    ("inputs", "destination_id = '{run}' AND source_type = 'DATASET'", ("destination_id",)),
    ("datasets", "1", ("name", "digest", "dataset_source")),
    ("logged_models", "source_run_id = '{run}'", ("name", "source_run_id", "artifact_location")),
    ("logged_model_tags", "model_id = '{model}'", ("tag_key", "tag_value")),
)


class Changes:
    """Draws changes to what an audit of version 2 relies on."""

    def __init__(self, line: Line, seed: int) -> None:
        self.line, self.random = line, random.Random(seed)
        with line.evidence() as evidence:
            assert evidence.package and evidence.run and evidence.record
            folders = [evidence.package, evidence.run, line.root / "data"]
            run, source = evidence.facts["run"]["id"], evidence.facts["version"]["source"]
        seals = list((line.run_files(1) / "seals").iterdir())
        listing = line.object(evidence.record["data"]["md5"])
        objects = {line.object(md5) for md5 in read_listing(listing.read_bytes()).values()}
        left = {"registered_model_meta"}
        inside = [p for folder in folders for p in sorted(folder.rglob("*")) if p.is_file()]
        kept = [p for p in inside if p.name not in left and "__pycache__" not in p.parts]
        self.files = [*kept, *seals, listing, *sorted(objects)]
        self.blobs = self._loose(evidence.record["snapshot"]["commit"])
        self.rows = self._relied_on(run, source.removeprefix("models:/"))

    def draw(self) -> Change:
        kinds = (self._byte, self._line, self._object, self._lock, self._row)
        return self.random.choices(kinds, (40, 10, 10, 5, 35))[0]()

    def _byte(self) -> Change:
        path = self.random.choice([path for path in self.files if path.stat().st_size])
        position, bit = self.random.randrange(path.stat().st_size), self.random.randrange(8)
        return f"bit {bit} of byte {position} of {path}", lambda: byte(path, position, bit)

    def _line(self) -> Change:
        path = self.random.choice([p for p in self.files if p.suffix in (".json", ".txt", ".py")])
        lines = path.read_bytes().splitlines(keepends=True)
        if not lines:
            return self._line()
        number = self.random.randrange(len(lines))
        new = b"".join(lines[:number] + lines[number + 1 :])
        return f"line {number} of {path} removed", lambda: content(path, new)

    def _object(self) -> Change:
        path = self.random.choice(self.blobs)
        text = bytearray(zlib.decompress(path.read_bytes()))
        position = self.random.randrange(len(text))
        text[position] ^= 1 << self.random.randrange(8)
        return f"byte {position} of object {path}", lambda: content(path, zlib.compress(text))

    def _lock(self) -> Change:
        path = self.line.root / "dvc.lock"
        text = path.read_text()
        ours = text.partition("\n  register:")[0]
        spot = self.random.choice(list(re.finditer(r"md5: [0-9a-f]{32}", ours))).end() - 1
        digit = "0" if text[spot] != "0" else "1"
        new = text[:spot] + digit + text[spot + 1 :]
        return f"dvc.lock at {spot}: {digit}", lambda: content(path, new.encode())

    def _row(self) -> Change:
        table, row, column, value = self.random.choice(self.rows)
        if isinstance(value, str) and value:
            spot = self.random.randrange(len(value))
            letter = chr(ord(value[spot]) ^ (1 << self.random.randrange(3)))
            new = value[:spot] + letter + value[spot + 1 :]
            change = f"{column} = '{new.replace(chr(39), chr(39) * 2)}'"
        else:
            change = f"{column} = coalesce({column}, 0) + 1"
        if self.random.random() < 0.1 and table not in ("model_versions", "runs", "datasets"):
            change = None
        what = f"{table} {row}: {change or 'removed'}"
        return what, lambda: self.line.row(table, f"rowid = {row}", change)

    def _loose(self, commit: str) -> list[Path]:
        listed = self.line.git("ls-tree", "-r", "-t", "--object-only", commit).split()
        names = [commit, self.line.git("rev-parse", f"{commit}^{{tree}}"), *listed]
        paths = (self.line.root / ".git/objects" / n[:2] / n[2:] for n in dict.fromkeys(names))
        return [path for path in paths if path.exists()]

    def _relied_on(self, run: str, model: str) -> list[tuple[str, int, str, object]]:
        found = []
        with closing(sqlite3.connect(self.line.database)) as database:
            for table, where, columns in ROWS:
                chosen = where.format(run=run, model=model)
                for column in columns:
                    query = f"SELECT rowid, {column} FROM {table} WHERE {chosen}"
                    rows = database.execute(query).fetchall()
                    assert rows, (table, chosen)
                    found += [(table, row, column, value) for row, value in rows]
        return found


@pytest.mark.slow
@pytest.mark.nightly
@pytest.mark.timeout(1800)
def test_no_change_is_missed(line):
    changes, missed = Changes(line, seed=2), []
    for _ in range(600):
        what, apply = changes.draw()
        with apply():
            if not line.differences():
                missed.append(what)
    assert missed == []
    assert line.differences() == []
