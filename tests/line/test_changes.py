"""Only what depends on a change is redone, and damage is mended or refused."""

import json
import os
import shutil

import pytest

LINE = ("generate", "data.dvc", "train", "evaluate", "learning_curve", "register", "report")


def actions(workspace, *arguments):
    done = workspace.mno("run", "--json", *arguments, check=True)
    return {stage["target"]: stage["action"] for stage in json.loads(done.stdout)["stages"]}


def registered(workspace):
    return json.loads((workspace.root / "reports/registered.json").read_text())


def a_shard(folder):
    return min(path for path in (folder / "pressure/c").rglob("*") if path.is_file())


def flip_a_byte(path):
    """Alter a file as a failing disk would: same size, same times."""
    before = path.stat()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.chmod(0o644)
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def told(workspace):
    text = (workspace.root / "build/told.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def test_a_parameter_of_training_redoes_training_and_what_follows(workspace, prefect_api):
    (workspace.root / "notify.yaml").write_text("file: build/told.jsonl\n")
    picture = workspace.root / "reports/figures/plant.png"  # of another model
    picture.write_bytes(b"")
    done = actions(workspace, "--set", "train.epochs=1")
    assert not picture.exists() and any(picture.parent.glob("*.png"))
    assert [done[name] for name in LINE] == ["reused"] * 2 + ["ran"] * 5
    # One epoch is worse than twenty, but the registry of this copy of the workspace is empty.
    assert registered(workspace)["alias"] == "champion"
    assert registered(workspace)["version"] == 1
    # Back to the parameters of before: DVC remembers, and the better model takes over.
    done = actions(workspace, "--set", "train.epochs=20")
    assert [done[name] for name in LINE] == ["reused"] * 2 + ["restored"] * 3 + ["ran"] * 2
    assert registered(workspace)["version"] == 2
    assert registered(workspace)["alias"] == "champion"
    assert registered(workspace)["champion"] == 1
    _check_that_the_promotion_was_told(workspace)
    # The same weights from other parameters are another version, which the audit agrees with.
    done = actions(workspace, "--set", "train.patience=30")
    assert [done[name] for name in LINE[2:]] == ["ran", "reused", "ran", "ran", "ran"]
    assert registered(workspace)["version"] == 3
    workspace.mno("audit", "models:/mno-darcy/3", check=True)
    # The report is no output of DVC's; that it is gone is seen all the same.
    (workspace.root / "reports/report.html").unlink()
    stages = json.loads(workspace.mno("status", "--json", check=True).stdout)["stages"]
    assert [s["name"] for s in stages if s["state"] != "current"] == ["report"]
    assert stages[-1]["reasons"] == ["reports/report.html is not there"]


def _check_that_the_promotion_was_told(workspace):
    found = registered(workspace)
    first, second = told(workspace)
    assert (first["kind"], second["kind"]) == ("promotion", "promotion")
    assert second["figures"]["interval"][1] < 0
    assert "mno-darcy version 2 is champion" in second["title"]
    assert found["reason"] in second["text"]
    history = json.loads(workspace.mno("promote", "--history", "--json", check=True).stdout)
    assert [reign["version"] for reign in history["reigns"]] == [1, 2]
    assert history["note"] is None


@pytest.mark.slow
@pytest.mark.nightly
def test_a_changed_comment_in_the_solver_makes_no_other_data_or_model(workspace):
    kernel = workspace.root / "mno/scenarios/kernels/multigrid.py"
    kernel.write_text(kernel.read_text() + "\n# A remark.\n")
    workspace.run("git", "commit", "-qam", "Remark on the solver", check=True)
    done = actions(workspace)
    # The evaluation asks the solver, too.
    assert [done[name] for name in LINE[:4]] == ["ran"] + ["reused"] * 2 + ["ran"]


@pytest.mark.parametrize(
    "damage",
    ["missing", *(pytest.param(how, marks=pytest.mark.slow) for how in ("truncated", "altered"))],
)
def test_a_damaged_shard_is_put_back_and_said_so(workspace, damage):
    shard = a_shard(workspace.root / "data")
    content = shard.read_bytes()
    shard.chmod(0o644)
    if damage == "missing":
        shard.unlink()
    else:
        shard.write_bytes(content[:-9] if damage == "truncated" else bytes(len(content)))
    assert "data.dvc   restored" in workspace.mno("generate", check=True).stderr
    assert shard.read_bytes() == content


@pytest.mark.slow
def test_a_byte_flipped_unseen_makes_training_refuse_and_repair_mends_it(workspace):
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
def test_repair_mends_a_damaged_cache_too(workspace):
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
def test_a_lost_registry_is_made_again_and_marked(workspace):
    (workspace.root / "mlflow.db").unlink()
    done = actions(workspace)
    assert [done[name] for name in LINE] == ["reused"] * 5 + ["ran"] * 2
    assert registered(workspace)["record"]["restored"] is True


@pytest.mark.slow
@pytest.mark.nightly
def test_uncommitted_code_is_trained_but_not_registered(workspace):
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
