"""`mno audit` as a person or a program calls it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from flows.audit import Places, audit_model
from mno.core.errors import InputError
from mno.registry.catalogue import known_models
from tests.support.audited_line import MODEL, Line
from tests.support.undone_damage import byte
from tests.support.workspaces import Workspace


def test_says_what_it_verified_and_exits_with_0_or_3(line: Line) -> None:
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


def test_an_audit_loads_neither_torch_nor_mlflow(line: Line) -> None:
    heavy = ["mlflow", "torch", "numba", "pandas", "prefect", "sqlalchemy", "lightning"]
    code = (
        "import sys; from flows.audit import Places, audit_model;"
        f"found = audit_model('models:/{MODEL}@champion', Places(), quiet=True);"
        f"print(found.passed, [m for m in {heavy} if m in sys.modules])"
    )
    done = Workspace(line.root).run(sys.executable, "-c", code, check=True)
    assert done.stdout == "True []\n"


def test_a_model_is_found_by_all_its_names(there: Line, tmp_path: Path) -> None:
    copy = tmp_path / "copied"
    shutil.copytree(there.package() / "artifacts/candidate", copy)
    run = there.record()["ids"]["mlflow_run"]
    places = (there.root / "models/candidate", copy / "weights.safetensors", there.package())
    second = f"models:/{MODEL}/2"
    for target in (f"models:/{MODEL}@champion", second, f"runs:/{run}", *map(str, places)):
        audit = audit_model(target, Places(), quiet=True)
        assert (audit.model, audit.passed) == (second, True), target
    with byte(copy / "weights.safetensors"), pytest.raises(InputError, match="changed since"):
        audit_model(str(copy), Places(), quiet=True)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("models:/mno-darcy/99", "not in the registry"),
        ("models:/mno-darcy@nobody", "not in the registry"),
        ("models:/mno-other/1", "not in the registry"),
        ("models:mno-darcy", "expected models:/NAME/VERSION"),
        ("runs:/00ff", "no registered version is of this run"),
        ("nowhere", "holds no model"),
        ("ftp://127.0.0.1/mno-darcy", "expected http"),
    ],
)
def test_what_is_no_model_is_wrong_use(there: Line, target: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        audit_model(target, Places(), quiet=True)
    with pytest.raises(InputError, match="not a folder"):
        audit_model(target, Places([Path("nowhere")]), quiet=True)


def test_names_are_offered_for_completion(line: Line) -> None:
    offered = known_models(line.root)
    assert {f"models:/{MODEL}@champion", f"models:/{MODEL}/1"} <= set(offered)


def test_another_checkout_says_what_it_lacks_and_is_content_with_the_rest(
    line: Line, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", str(line.root), str(clone)], check=True)
    monkeypatch.chdir(clone)
    target = f"models:/{MODEL}/2"
    with pytest.raises(InputError, match="MLFLOW_TRACKING_URI"):
        audit_model(target, Places(), quiet=True)
    assert not (clone / "mlflow.db").exists()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{line.database}")
    lacking = audit_model(target, Places(), quiet=True)
    assert {f.link for f in lacking.findings if f.verdict.is_difference} == {"data", "snapshot"}
    assert all(f.advice for f in lacking.findings if f.verdict == "missing")
    fetch = ["git", "fetch", "-q", "origin", "refs/mno/*:refs/mno/*"]
    subprocess.run(fetch, cwd=clone, check=True)
    audit = audit_model(target, Places([line.cache]), quiet=True)
    assert [f for f in audit.findings if f.verdict.is_difference] == []


def test_the_copy_in_a_remote_is_audited_without_the_cache(there: Line, tmp_path: Path) -> None:
    workspace, remote = Workspace(there.root), tmp_path / "remote"
    target, places = f"models:/{MODEL}/2", Places(remote="store")
    with pytest.raises(InputError, match="known: none"):
        audit_model(target, places, quiet=True)
    config = there.root / ".dvc/config.local"
    config.write_text(f"['remote \"store\"']\n    url = {remote}\n")
    try:
        workspace.run("dvc", "push", "-q", "-r", "store", "data.dvc", check=True)
        assert audit_model(target, places, quiet=True).passed
        objects = [path for path in remote.rglob("*") if path.is_file() and path.suffix != ".dir"]
        objects[0].unlink()
        audit = audit_model(target, places, quiet=True)
        found = [f for f in audit.findings if f.verdict.is_difference]
        assert {(f.link, f.verdict) for f in found} == {("data", "missing")}
        assert audit_model(target, Places(), quiet=True).passed
    finally:
        config.unlink()


def test_help_teaches() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "flows.cli", "audit", "--help"], capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    options = ("--cache", "--remote", "--originals", "--all")
    for word in ("models:/mno-darcy@champion", "Exit code 3", *options):
        assert word in done.stdout
