"""Only what depends on a change is redone, and damage is mended or refused."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import httpx
import pytest


def actions(workspace, *arguments: str) -> dict[str, str]:
    done = workspace.mno("run", "--json", *arguments, check=True)
    return {stage["target"]: stage["action"] for stage in json.loads(done.stdout)["stages"]}


def registered(workspace) -> dict:
    return json.loads((workspace.root / "reports/registered.json").read_text())


def a_shard(folder: Path) -> Path:
    return min(path for path in (folder / "pressure/c").rglob("*") if path.is_file())


def flip_a_byte(path: Path) -> None:
    """Alter a file as a failing disk would: same size, same times."""
    before = path.stat()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.chmod(0o644)
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def told(workspace) -> list[dict]:
    text = (workspace.root / "build/told.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def test_a_parameter_of_training_redoes_training_and_what_follows(workspace, prefect_api) -> None:
    (workspace.root / "notify.yaml").write_text("file: build/told.jsonl\n")
    assert actions(workspace, "--set", "train.epochs=1") == {
        "generate": "reused",
        "data.dvc": "reused",
        "train": "ran",
        "learning_curve": "ran",
        "evaluate": "ran",
        "register": "ran",
    }
    # One epoch is worse than twenty, but the registry of this copy of the workspace is empty.
    assert registered(workspace)["alias"] == "champion"
    assert registered(workspace)["version"] == 1
    # Back to the parameters of before: DVC remembers, and the better model takes over.
    assert actions(workspace, "--set", "train.epochs=20") == {
        "generate": "reused",
        "data.dvc": "reused",
        "train": "restored",
        "learning_curve": "restored",
        "evaluate": "restored",
        "register": "ran",
    }
    assert registered(workspace)["version"] == 2
    assert registered(workspace)["alias"] == "champion"
    assert registered(workspace)["champion"] == 1
    _check_that_the_promotion_was_told(workspace, prefect_api)


def _check_that_the_promotion_was_told(workspace, prefect_api: str) -> None:
    """On the flow run, to the receiver, and in the history."""
    found = registered(workspace)
    first, second = told(workspace)
    assert (first["kind"], second["kind"]) == ("promotion", "promotion")
    assert second["figures"]["interval"][1] < 0
    flow_run = {"any_": [found["record"]["ids"]["prefect_flow_run"]]}
    body = {"artifacts": {"flow_run_id": flow_run, "key": {"any_": ["promotion"]}}}
    (artifact,) = httpx.post(f"{prefect_api}/artifacts/filter", json=body).json()
    assert artifact["data"].startswith("# mno-darcy version 2: champion")
    assert f"{found['judged']['difference']:+.3g}" in artifact["data"]
    assert found["reason"] in artifact["data"]
    beside = found["judged"]["beside"]
    for name in ("latency_ms", "peak_memory_mib", "physics.residual"):
        own, champion = (beside[name][side] for side in ("own", "champion"))
        assert f"| {own:.4g} against {champion:.4g}, " in artifact["data"]
    history = json.loads(workspace.mno("promote", "--history", "--json", check=True).stdout)
    assert [reign["version"] for reign in history["reigns"]] == [1, 2]
    assert history["note"] is None


@pytest.mark.slow
@pytest.mark.nightly
def test_a_changed_comment_in_the_solver_makes_no_other_data_or_model(workspace) -> None:
    kernel = workspace.root / "mno/scenarios/kernels/multigrid.py"
    kernel.write_text(kernel.read_text() + "\n# A remark.\n")
    workspace.run("git", "commit", "-qam", "Remark on the solver", check=True)
    done = actions(workspace)
    assert done["generate"] == "ran"
    after = ("data.dvc", "train", "learning_curve")
    assert [done[name] for name in after] == ["reused"] * 3
    assert done["evaluate"] == "ran"  # it asks the solver, too


@pytest.mark.parametrize("damage", ["missing", "truncated", "altered"])
def test_a_damaged_shard_is_put_back_and_said_so(workspace, damage: str) -> None:
    shard = a_shard(workspace.root / "data")
    content = shard.read_bytes()
    shard.chmod(0o644)
    if damage == "missing":
        shard.unlink()
    else:
        shard.write_bytes(content[:-9] if damage == "truncated" else bytes(len(content)))
    done = workspace.mno("generate", check=True)
    assert "data.dvc   restored" in done.stderr
    assert shard.read_bytes() == content


def test_a_byte_flipped_unseen_makes_training_refuse_and_repair_mends_it(workspace) -> None:
    shard = a_shard(workspace.root / "data")
    content = shard.read_bytes()
    workspace.run("dvc", "status", check=True)  # DVC looks at the files and remembers their times
    flip_a_byte(shard)
    assert workspace.run("dvc", "status", "data.dvc", check=True).stdout.startswith("Data and")
    done = workspace.mno("train", "--set", "train.epochs=1")
    assert done.returncode == 1
    assert f"pressure/{shard.relative_to(workspace.root / 'data/pressure')}" in done.stderr
    assert "mno generate --repair" in done.stderr
    assert "Traceback" not in done.stderr
    repaired = workspace.mno("generate", "--repair", check=True)
    assert shard.read_bytes() == content
    assert shard.name in repaired.stderr
    workspace.mno("train", check=True)


@pytest.mark.slow
@pytest.mark.nightly
def test_repair_mends_a_damaged_cache_too(workspace) -> None:
    content = a_shard(workspace.root / "data").read_bytes()
    size = len(content)
    cached = [p for p in (workspace.root / ".dvc/cache").rglob("*") if p.is_file()]
    (victim,) = [p for p in cached if p.stat().st_size == size and p.read_bytes() == content]
    flip_a_byte(victim)
    shutil.rmtree(workspace.root / "data")
    workspace.mno("generate", "--repair", check=True)
    assert a_shard(workspace.root / "data").read_bytes() == content
    assert victim.read_bytes() == content


@pytest.mark.slow
@pytest.mark.nightly
def test_a_lost_registry_is_made_again_and_marked(workspace) -> None:
    (workspace.root / "mlflow.db").unlink()
    done = actions(workspace)
    assert done == {
        "generate": "reused", "data.dvc": "reused", "train": "reused",
        "learning_curve": "reused", "evaluate": "reused", "register": "ran",
    }  # fmt: skip
    assert registered(workspace)["record"]["restored"] is True


@pytest.mark.slow
@pytest.mark.nightly
def test_uncommitted_code_is_trained_but_not_registered(workspace) -> None:
    surrogate = workspace.root / "mno/registry/config.py"
    surrogate.write_text(surrogate.read_text() + "\n# Not committed.\n")
    (workspace.root / "notify.yaml").write_text("file: build/told.jsonl\n")
    done = workspace.mno("run")
    assert done.returncode == 1
    (event,) = told(workspace)
    assert (event["kind"], event["title"]) == ("failure", "The run failed at register")
    assert "the code that made the model is not committed" in event["text"]
    assert "warning: uncommitted changes in mno/registry/config.py" in done.stderr
    assert "not registered: the code that made the model is not committed" in done.stderr
    workspace.mno("run", "--set", "registry.allow_uncommitted=true", check=True)
    assert registered(workspace)["uncommitted"] is True
