"""Questions asked of many versions: the registry is MLflow's own tables, written in bulk."""

from __future__ import annotations

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
from flows.lineage import Answers, Asked
from mno.core.errors import InputError
from mno.lineage.questions import RegisteredVersion
from mno.lineage.record import lineage_sha256
from tests.support.undone_damage import byte, gone
from tests.support.workspaces import Workspace

SIZE = Size(versions=40, commits=10, snapshots=20, data=5)
LAST = SIZE.versions


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    return make_registry(tmp_path_factory.mktemp("registry") / "workspace", SIZE)


@pytest.fixture
def registry(made: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
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


def numbers(versions) -> list[int]:
    return sorted(version.number for version in versions)


def of_data(place: int) -> list[int]:
    each = SIZE.versions // SIZE.data
    return list(range(place * each + 1, place * each + each + 1))


def change(registry: Registry, statement: str) -> None:
    with closing(sqlite3.connect(registry.root / "mlflow.db")) as database:
        assert database.execute(statement).rowcount == 1
        database.commit()


def set_tag(registry: Registry, number: int, key: str, value: str) -> None:
    where = f"version = {number} AND key = '{key}'"
    change(registry, f"UPDATE model_version_tags SET value = '{value}' WHERE {where}")


def rewrite_record(registry: Registry, number: int, seal: bool = True, **entries) -> None:
    """Give a version another record, and the digest of it if that is asked."""
    path = registry.root / f"mlartifacts/darcy/{number:032x}/artifacts/record.json"
    record = json.loads(path.read_text()) | entries
    record["lineage_sha256"] = lineage_sha256(record)
    path.write_text(json.dumps(record))
    if seal:
        set_tag(registry, number, "mno.lineage_sha256", record["lineage_sha256"])


def seal_of(registry: Registry, number: int) -> Path:
    return next((registry.root / f"mlartifacts/darcy/{number:032x}/artifacts/seals").iterdir())


def test_models_of_a_version_of_the_data(registry: Registry) -> None:
    third = list(registry.data)[2]
    for given in (third, third.removesuffix(".dir"), third[:8].upper()):
        assert numbers(Answers().models(Asked(data=given)).versions) == of_data(2)
    assert Answers().models(Asked(data="0123456789")).versions == []


def test_models_of_a_shard_wherever_it_lies(registry: Registry, tmp_path: Path) -> None:
    data = list(registry.data)
    shared = set(registry.data[data[1]].values()) & set(registry.data[data[2]].values())
    found = Answers().models(Asked(shard=min(shared)))
    assert numbers(found.versions) == sorted(of_data(1) + of_data(2))
    assert sorted(found.files) == sorted([data[1], data[2]])
    # The shards' content is the decimal number that their names are made from.
    (tmp_path / "shard").write_text("0")
    assert numbers(Answers().models(Asked(shard=str(tmp_path / "shard"))).versions) == of_data(0)


def test_a_lost_or_damaged_list_of_files_cannot_be_known(registry: Registry) -> None:
    lost, damaged, *_ = registry.data
    shard = next(iter(registry.data[damaged].values()))
    cache = registry.root / ".dvc/cache/files/md5"
    (cache / lost[:2] / lost[2:]).unlink()
    (cache / damaged[:2] / damaged[2:]).write_text("[]")
    found = Answers().models(Asked(shard=shard))
    assert found.unknown == {lost: 8, damaged: 8}
    bad = Answers().affected(Asked(shard=shard))
    assert len(bad.unknown) == 16 - len([f for f in bad.affected if f.version.uri in bad.unknown])


def test_models_of_an_imported_file(registry: Registry, tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("time,power\n")
    digest = subprocess.run(
        ["sha256sum", str(tmp_path / "log.csv")], capture_output=True, text=True, check=True
    ).stdout.split()[0]
    data = {"md5": "0" * 32, "files": [{"file": "plant/log.csv", "sha256": digest}]}
    rewrite_record(registry, 7, data=data)
    rewrite_record(registry, 8, seal=False, data=data)
    for given in (digest, str(tmp_path / "log.csv")):
        found = Answers().models(Asked(file=given))
        assert numbers(found.versions) == [7]
        assert sum(found.unknown.values()) == 1  # a record that is not the version's


def test_a_bad_commit_affects_whose_code_has_it(registry: Registry) -> None:
    bad = 5  # changes solver and metrics; later ones change the solver again
    verdict = Answers().affected(Asked(commit=registry.commits[bad]))
    has = [n for n in range(1, LAST + 1) if commit_of(n, SIZE) >= bad]
    assert numbers(found.version for found in verdict.affected) == has
    last = next(found for found in verdict.affected if found.version.number == LAST)
    assert last.why == (
        f"as in the commit: {METRICS}; has the commit, changed again since: {SOLVER}"
    )
    assert set(last.stages) == {"generate", "evaluate"}
    assert verdict.unknown == {}


def test_code_that_was_committed_after_training_is_affected_by_its_content(
    registry: Registry,
) -> None:
    """The record names the commit before; the snapshot has what was committed later."""
    number = next(n for n in range(1, LAST + 1) if commit_of(n, SIZE) == 6)
    rewrite_record(registry, number, head=registry.commits[5], uncommitted=[SOLVER])
    verdict = Answers().affected(Asked(commit=registry.commits[6]))
    assert number in numbers(found.version for found in verdict.affected)


def test_a_commit_of_other_files_affects_nobody(registry: Registry) -> None:
    (registry.root / "notes.md").write_text("nothing\n")
    commit = ["-c", "user.name=t", "-c", "user.email=t@localhost", "commit", "-qm", "n"]
    for words in (["reset", "-q", "--hard"], ["add", "notes.md"], commit):
        subprocess.run(["git", *words], cwd=registry.root, check=True)
    verdict = Answers().affected(Asked(commit="HEAD"))
    assert (verdict.affected, verdict.unknown) == ([], {})
    assert "no code that models are made from" in verdict.asked


def test_a_snapshot_that_is_not_here_cannot_be_known(registry: Registry) -> None:
    set_tag(registry, LAST, "mno.snapshot", "0" * 40)
    verdict = Answers().affected(Asked(commit=registry.commits[-1]))
    assert "not in this clone" in verdict.unknown[f"models:/{MODEL}/{LAST}"]


def test_what_began_from_an_affected_model_is_affected(registry: Registry) -> None:
    tags = {version.number: version.tags for version in Answers().catalogue.versions}
    rewrite_record(registry, 30, warm_start={"sha256": tags[1]["mno.candidate"]})
    rewrite_record(registry, LAST, warm_start={"sha256": tags[30]["mno.candidate"]})
    verdict = Answers().affected(Asked(data=next(iter(registry.data))))
    assert numbers(f.version for f in verdict.affected) == [*of_data(0), 30, LAST]
    why = {found.version.number: found.why for found in verdict.affected}
    assert why[LAST] == f"its training began from models:/{MODEL}/30"


def test_production_is_told_from_the_sealed_decisions(registry: Registry) -> None:
    champions = [n for n in range(LAST, 0, -1) if is_champion(n)]
    found, problems = Answers().production(MODEL)
    assert ([period.version.number for period in found], problems) == (champions, [])
    assert [period.current for period in found[:2]] == [True, False]
    assert found[1].until == found[0].since is not None
    assert found[0].reason == found[0].version.tags["mno.decision_reason"]


def test_an_alias_that_was_moved_by_hand_is_told(registry: Registry) -> None:
    change(registry, "UPDATE registered_model_aliases SET version = 3")
    moved, _ = Answers().production(None)
    assert (moved[0].version.number, moved[0].since, moved[0].current) == (3, None, True)
    assert "moved past" in moved[0].reason
    assert sum(period.current for period in moved) == 1


def test_before_a_damaged_seal_nothing_is_known_of_production(registry: Registry) -> None:
    seal = seal_of(registry, 20)
    seal.write_bytes(seal.read_bytes() + b" ")
    found, problems = Answers().production(MODEL)
    known = [n for n in range(LAST, 20, -1) if is_champion(n)]
    assert [period.version.number for period in found] == known
    assert f"{20:032x}" in problems[0] and "changed" in problems[0]


def test_a_deleted_version_is_not_told_of(registry: Registry) -> None:
    deleted = f"SET current_stage = 'Deleted_Internal' WHERE version = {LAST}"
    change(registry, f"UPDATE model_versions {deleted}")
    assert LAST not in numbers(Answers().catalogue.versions)


def test_a_server_and_the_database_say_the_same(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = Answers().catalogue
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:////{registry.root}/./mlflow.db")
    asked = Answers().catalogue
    assert type(asked.files) is not type(read.files)

    def plain(version: RegisteredVersion) -> dict:
        return version.to_dict() | {"tags": dict(version.tags), "run": version.run_id}

    assert [plain(v) for v in asked.versions] == [plain(v) for v in read.versions]
    run = str(read.versions[0].run_id)
    assert asked.files.read(run, "record.json") == read.files.read(run, "record.json")
    assert asked.files.read(run, "nothing") is read.files.read(run, "nothing") is None


def test_the_command_answers_and_refuses(registry: Registry) -> None:
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
        (Asked(), "nothing is given; give exactly one of"),
        (Asked(data="x", shard="y"), "--data and --shard is given"),
        (Asked(data="xyz"), "no digest of a version of the data"),
        (Asked(commit="nowhere"), "no digest of a commit"),
        (Asked(commit="--upload-pack=x"), "is no commit"),
        (Asked(commit="0" * 40), "fetch it"),
    ],
)
def test_questions_about_nothing_are_refused(made, monkeypatch, asked, message) -> None:
    monkeypatch.chdir(made.root)
    with pytest.raises(InputError, match=message):
        Answers().affected(asked)


@pytest.mark.parametrize(
    ("target", "message"),
    [("99", "not in the registry"), ("@", "expected the number of a version")],
)
def test_versions_that_are_not_there_are_refused(made, monkeypatch, target, message) -> None:
    monkeypatch.chdir(made.root)
    with pytest.raises(InputError, match=message):
        Answers().difference("1", target)
    with pytest.raises(InputError, match="known: mno-darcy"):
        Answers().production(target)


def test_nothing_registered_is_an_answer(registry: Registry) -> None:
    (registry.root / "mlflow.db").unlink()
    answers = Answers()
    assert answers.production(None) == ([], [])
    assert answers.models(Asked(data="abcdef")).versions == []
    with pytest.raises(InputError, match="not in the registry"):
        answers.difference("1", "2")
    assert not (registry.root / "mlflow.db").exists()


def test_a_second_question_reads_no_seal_and_a_changed_one_is_read_again(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, again = Answers().production(MODEL), Answers()
    read: list[str] = []
    files = type(again.catalogue.files)
    with monkeypatch.context() as patch:
        patch.setattr(files, "read", lambda self, run, path: read.append(path))
        assert (again.production(MODEL), read) == (first, [])
    for damage, said in ((byte, "changed"), (gone, "missing")):
        with damage(seal_of(registry, 20)):  # size and time of the content are as before
            assert said in Answers().production(MODEL)[1][0]
    assert Answers().production(MODEL) == first


@pytest.mark.parametrize("damage", [b"", b"1 0\n{}", b"\xff", None])
def test_an_index_that_is_damaged_or_cannot_be_written_changes_no_answer(
    registry: Registry, damage: bytes | None
) -> None:
    commit = registry.commits[5]
    first = Answers().affected(Asked(commit=commit))
    folder = registry.root / "build/lineage"
    (path,) = folder.iterdir()
    if damage is None:
        path.unlink()
        folder.rmdir()
        folder.write_text("a file where a folder should be\n")
    else:
        path.write_bytes(damage)
    assert Answers().affected(Asked(commit=commit)) == first


def test_what_no_question_needs_is_not_loaded(registry: Registry) -> None:
    heavy = ["mlflow", "torch", "numpy", "pandas", "zarr", "prefect", "sqlalchemy", "httpx"]
    code = (
        "import sys; from flows.lineage import Answers;"
        f"Answers().production(None); print([m for m in {heavy} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
