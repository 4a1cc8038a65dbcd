"""Questions asked of many versions: the registry is MLflow's own tables, written in bulk."""

import json
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from benchmarks.lineage_registry import (
    METRICS,
    MODEL,
    SOLVER,
    Registry,
    Size,
    commit_of,
    is_champion,
    make_registry,
)
from flows.lineage import Answers
from mno.core.errors import InputError
from mno.lineage.questions import RegisteredVersion
from mno.lineage.record import lineage_sha256
from mno.lineage.snapshot import take_snapshot
from mno.registry import settings
from mno.registry.decision import read_history
from tests.support.workspaces import Workspace

SIZE = Size(versions=40, commits=10, snapshots=20, data=5)
LAST = SIZE.versions


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    return make_registry(tmp_path_factory.mktemp("registry") / "workspace", SIZE)


@pytest.fixture
def registry(made, tmp_path, monkeypatch):
    """A registry that a test may change; it is where the commands run."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    root = tmp_path / "workspace"
    shutil.copytree(made.root, root)
    with closing(sqlite3.connect(root / "mlflow.db")) as database:
        change = "UPDATE runs SET artifact_uri = replace(artifact_uri, ?, ?)"
        database.execute(change, [str(made.root), str(root)])
        database.commit()
    monkeypatch.chdir(root)
    return Registry(root, made.commits, made.snapshots, made.data)


def numbers(versions):
    return sorted(version.number for version in versions)


def of_data(place):
    each = SIZE.versions // SIZE.data
    return list(range(place * each + 1, place * each + each + 1))


def change(registry, statement):
    with closing(sqlite3.connect(registry.root / "mlflow.db")) as database:
        assert database.execute(statement).rowcount == 1
        database.commit()


def set_tag(registry, number, key, value):
    where = f"version = {number} AND key = '{key}'"
    change(registry, f"UPDATE model_version_tags SET value = '{value}' WHERE {where}")


def rewrite_record(registry, number, seal=True, **entries):
    """Give a version another record, and the digest of it if that is asked."""
    path = registry.root / f"mlartifacts/darcy/{number:032x}/artifacts/record.json"
    record = json.loads(path.read_text()) | entries
    record["lineage_sha256"] = lineage_sha256(record)
    path.write_text(json.dumps(record))
    if seal:
        set_tag(registry, number, "mno.lineage_sha256", record["lineage_sha256"])


def test_models_of_a_version_of_the_data(registry):
    third = list(registry.data)[2]
    for given in (third, third.removesuffix(".dir"), third[:8].upper()):
        assert numbers(Answers().models(data=given).versions) == of_data(2)
    assert Answers().models(data="0123456789").versions == []


def test_models_of_an_imported_file(registry, tmp_path):
    (tmp_path / "log.csv").write_text("time,power\n")
    digest = subprocess.run(
        ["sha256sum", str(tmp_path / "log.csv")], capture_output=True, text=True, check=True
    ).stdout.split()[0]
    data = {"md5": "0" * 32, "files": [{"file": "plant/log.csv", "sha256": digest}]}
    rewrite_record(registry, 7, data=data)
    rewrite_record(registry, 8, seal=False, data=data)
    for given in (digest, str(tmp_path / "log.csv")):
        found = Answers().models(file=given)
        assert numbers(found.versions) == [7]
        assert numbers(found.unknown) == [8]  # a record that is not the version's


def test_a_bad_commit_affects_whose_code_has_it(registry):
    bad = 5  # changes solver and metrics; later ones change the solver again
    verdict = Answers().affected(commit=registry.commits[bad])
    has = [n for n in range(1, LAST + 1) if commit_of(n, SIZE) >= bad]
    assert numbers(found.version for found in verdict.affected) == has
    last = next(found for found in verdict.affected if found.version.number == LAST)
    assert last.why == (
        f"as in the commit: {METRICS}; has the commit, changed again since: {SOLVER}"
    )
    assert set(last.stages) == {"generate", "evaluate"}
    assert verdict.unknown == {}


def test_code_that_was_committed_after_training_is_affected_by_its_content(registry):
    """The record names the commit before; the snapshot has what was committed later."""
    number = next(n for n in range(1, LAST + 1) if commit_of(n, SIZE) == 6)
    rewrite_record(registry, number, head=registry.commits[5], uncommitted=[SOLVER])
    verdict = Answers().affected(commit=registry.commits[6])
    assert number in numbers(found.version for found in verdict.affected)


COMMIT = ("-c", "user.name=t", "-c", "user.email=t@localhost", "commit", "-qam", "n")


def git(registry, *words):
    subprocess.run(["git", *words], cwd=registry.root, check=True)


def test_a_commit_that_deletes_a_file_affects_who_was_trained_without_it(registry):
    git(registry, "reset", "-q", "--hard")
    (registry.root / METRICS).unlink()
    set_tag(registry, LAST, "mno.snapshot", take_snapshot(registry.root).commit)
    git(registry, *COMMIT)
    (found,) = Answers().affected(commit="HEAD").affected
    assert (found.version.number, found.why) == (LAST, f"as in the commit: {METRICS}")


def test_a_commit_of_other_files_affects_nobody(registry):
    (registry.root / "notes.md").write_text("nothing\n")
    for words in (["reset", "-q", "--hard"], ["add", "notes.md"], COMMIT):
        git(registry, *words)
    verdict = Answers().affected(commit="HEAD")
    assert (verdict.affected, verdict.unknown) == ([], {})
    assert "no code that models are made from" in verdict.asked


def test_a_snapshot_that_is_not_here_cannot_be_known(registry):
    set_tag(registry, LAST, "mno.snapshot", "0" * 40)
    verdict = Answers().affected(commit=registry.commits[-1])
    assert "not in this clone" in verdict.unknown[f"models:/{MODEL}/{LAST}"]


def test_what_began_from_an_affected_model_is_affected(registry):
    tags = {version.number: version.tags for version in Answers().versions}
    rewrite_record(registry, 30, warm_start={"sha256": tags[1]["mno.candidate"]})
    rewrite_record(registry, LAST, warm_start={"sha256": tags[30]["mno.candidate"]})
    verdict = Answers().affected(data=next(iter(registry.data)))
    assert numbers(f.version for f in verdict.affected) == [*of_data(0), 30, LAST]
    why = {found.version.number: found.why for found in verdict.affected}
    assert why[LAST] == f"its training began from models:/{MODEL}/30"


def test_before_a_damaged_seal_nothing_is_known_of_the_decisions(registry):
    seal = next((registry.root / f"mlartifacts/darcy/{20:032x}/artifacts/seals").iterdir())
    seal.write_bytes(seal.read_bytes() + b" ")
    history = read_history(settings.Workspace(registry.root), MODEL)
    known = [n for n in range(21, LAST + 1) if is_champion(n)]
    assert [reign.version for reign in history.reigns] == known
    assert f"{20:032x}" in str(history.problem) and "changed" in str(history.problem)


def test_a_deleted_version_is_not_told_of(registry):
    deleted = f"SET current_stage = 'Deleted_Internal' WHERE version = {LAST}"
    change(registry, f"UPDATE model_versions {deleted}")
    assert LAST not in numbers(Answers().versions)


def test_a_server_and_the_database_say_the_same(registry, monkeypatch):
    read = Answers()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:////{registry.root}/./mlflow.db")
    asked = Answers()
    assert type(asked.registry) is not type(read.registry)

    def plain(version: RegisteredVersion) -> dict:
        return version.to_dict() | {"tags": dict(version.tags), "run": version.run_id}

    assert [plain(v) for v in asked.versions] == [plain(v) for v in read.versions]
    run = str(read.versions[0].run_id)
    assert asked.registry.read(run, "record.json") == read.registry.read(run, "record.json")
    assert asked.registry.read(run, "nothing") is read.registry.read(run, "nothing") is None


def test_the_command_answers_and_refuses(registry):
    workspace = Workspace(registry.root)
    # The script, since `python -m` would take the workspace's own folder `mno` for the package.
    mno = str(Path(sys.executable).with_name("mno"))
    data = next(iter(registry.data))
    done = workspace.run(mno, "lineage", "affected", "--data", data, "--json", check=True)
    assert len(json.loads(done.stdout)["affected"]) == 8
    done = workspace.run(mno, "lineage", "diff", "1", f"models:/{MODEL}@champion", check=True)
    for line in ("seed", "relative_l2", SOLVER, "numpy", "version (DVC's md5)", "git diff"):
        assert line in done.stdout
    done = workspace.run(mno, "lineage", "models", "--data", "xyz")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({}, "nothing is given; give exactly one of"),
        (dict(data="x", file="y"), "--data and --file is given"),
        (dict(data="xyz"), "no digest of a version of the data"),
        (dict(commit="nowhere"), "no digest of a commit"),
        (dict(commit="--upload-pack=x"), "is no commit"),
        (dict(commit="0" * 40), "fetch it"),
    ],
)
def test_questions_about_nothing_are_refused(made, monkeypatch, asked, message):
    monkeypatch.chdir(made.root)
    with pytest.raises(InputError, match=message):
        Answers().affected(**asked)


@pytest.mark.parametrize(
    ("target", "message"), [("99", "not in the registry"), ("@", "expected models:/NAME/VERSION")]
)
def test_versions_that_are_not_there_are_refused(made, monkeypatch, target, message):
    monkeypatch.chdir(made.root)
    with pytest.raises(InputError, match=message):
        Answers().difference("1", target)


def test_nothing_registered_is_an_answer(registry):
    (registry.root / "mlflow.db").unlink()
    answers = Answers()
    assert answers.models(data="abcdef").versions == []
    with pytest.raises(InputError, match="not in the registry"):
        answers.difference("1", "2")
    assert not (registry.root / "mlflow.db").exists()


def test_what_no_question_needs_is_not_loaded(registry):
    heavy = ["mlflow", "torch", "numpy", "pandas", "zarr", "prefect", "sqlalchemy", "httpx"]
    code = (
        "import sys; from flows.lineage import Answers;"
        f"Answers().models(data='abcdef'); print([m for m in {heavy} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
