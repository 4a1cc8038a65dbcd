"""Models made again from their records, whatever had happened while they were made."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest
from ruamel.yaml import YAML
from safetensors.numpy import load_file, save_file

from flows.params import edit_params
from tests.support.file_hashes import hashes
from tests.support.workspaces import make_workspace

pytestmark = [pytest.mark.slow, pytest.mark.nightly, pytest.mark.timeout(7200)]

SMALL = (
    "generate.samples=40", "generate.shard_size=5", "model.width=8", "train.batch_size=4",
    "train.epochs=60", "evaluate.robustness.enabled=false",
)  # fmt: skip
PATIENCE = 1800.0  # seconds until something that must happen has happened
OWN = ("build/replay/", "build/locks/")


def wait_for(condition, what):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"did not happen: {what}"
        time.sleep(0.02)


def contents(root):
    found = hashes(root).items()
    return {n: sha for n, sha in found if not n.startswith(OWN) and "/__pycache__/" not in n}


def make(workspace, *changes):
    edit_params(workspace.root, "quick", [*SMALL, *changes])
    workspace.run("dvc", "repro", "-q", check=True, timeout=PATIENCE)


def killed_in_training(workspace, *changes):
    edit_params(workspace.root, "quick", [*SMALL, *changes])
    for old in (workspace.root / "build/checkpoints").glob("*"):  # of trainings that are finished
        shutil.rmtree(old)
    run = subprocess.Popen(
        ["dvc", "repro", "-q"], cwd=workspace.root, env=workspace.environment,
        start_new_session=True, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    wait_for(lambda: checkpoints(workspace.root, 5), "five epochs")
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    assert not checkpoints(workspace.root, 55)


def checkpoints(root, epoch):
    found = (root / "build/checkpoints").glob("*/epoch-*.ckpt")
    return [path for path in found if int(path.name[6:11]) >= epoch]


@pytest.fixture(scope="module")
def registered(tmp_path_factory):
    """Four versions: made at once, after a kill, from another by other workers, by no training."""
    workspace = make_workspace(tmp_path_factory.mktemp("replays") / "workspace")
    make(workspace, "execution.workers=1")
    killed_in_training(workspace, "seed=1")
    make(workspace, "seed=1")
    first = json.loads((workspace.root / "reports/registered.json").read_text())["record"]["model"]
    start = f"train.warm_start=models:/mno-darcy/2#{first['sha256']}"
    make(workspace, "generate.seed=7", "execution.workers=3", start)
    forge(workspace)
    edit_params(workspace.root, None, ["execution.workers=2"])
    return workspace


def forge(workspace):
    """Register weights that were changed after the training, with records to match."""
    path = workspace.root / "models/candidate/weights.safetensors"
    weights = load_file(path)
    path.chmod(0o644)
    save_file({name: values * 1.5 for name, values in weights.items()}, path)
    workspace.run("dvc", "commit", "-q", "-f", "train", check=True)
    workspace.run("dvc", "repro", "-q", check=True, timeout=PATIENCE)


def replay(workspace, version, *arguments):
    command = workspace.command(["replay", f"models:/mno-darcy/{version}", "--json", *arguments])
    done = workspace.run(*command, timeout=PATIENCE)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def agreements(told):
    return {item["name"]: item["agreement"] for item in told["replay"]["items"]}


def working_in(folder):
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if folder in Path(process.cwd()).parents:
                found.append(process)
    return found


EVERYTHING = {
    "dataset", "surrogate.json", "weights.safetensors", "metrics.json", "per_sample.json",
    "robustness.json", "trust.json",
}  # fmt: skip


def test_a_replay_that_was_killed_goes_on_and_ends_in_the_same_bits(registered):
    before = contents(registered.root)
    run = registered.start("replay", "models:/mno-darcy/1")
    replays = registered.root / "build/replay"
    wait_for(lambda: any(checkpoints(p, 5) for p in replays.glob("*/line")), "five epochs")
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    code, told = replay(registered, 1)
    assert (code, told["passed"]) == (0, True), told
    items = agreements(told)
    assert items.keys() >= EVERYTHING - {"surrogate.json"}
    assert set(items.values()) == {"identical"}
    assert contents(registered.root) == before


def test_a_model_whose_training_was_killed_is_made_again(registered):
    before = contents(registered.root)
    code, told = replay(registered, 2, "--pull")
    assert (code, set(agreements(told).values())) == (0, {"identical"}), told
    assert "generate" not in told["replay"]["stages"]
    assert any(given.startswith("data ") for given in told["replay"]["given"])
    assert contents(registered.root) == before
    assert list((registered.root / "build/replay").iterdir()) == []


def test_data_of_other_workers_and_a_training_from_another_model_are_made_again(registered):
    assert YAML(typ="safe").load(registered.root / "params.yaml")["execution"]["workers"] == 2
    code, told = replay(registered, 3)
    assert set(agreements(told).values()) == {"identical"}, told
    # The lock that was made to fit the forged weights is told as what it is.
    differing = [f for f in told["findings"] if f["verdict"] in ("changed", "missing")]
    assert [f["subject"] for f in differing] == [
        "dvc.lock of the workspace: train outs models/candidate"
    ]
    assert (code, told["replay"]["reproduced"]) == (3, True)
    assert "execution.workers: 2, as this workspace has it" in told["replay"]["given"]
    assert any("train.warm_start" in given for given in told["replay"]["given"])


def test_data_that_lack_are_said_to(registered):
    cache, away = registered.root / ".dvc/cache", registered.root.parent / "cache"
    cache.rename(away)
    try:
        code, told = replay(registered, 3, "--stage", "train")
        assert code == 1 and "is not in DVC's cache: fetch it" in str(told["error"])
    finally:
        shutil.rmtree(cache, ignore_errors=True)
        away.rename(cache)


def test_weights_that_no_training_made_are_told_apart(registered):
    code, told = replay(registered, 4, "--stage", "train")
    assert code == 3
    assert agreements(told)["weights.safetensors"] == "different"
    item = next(i for i in told["replay"]["items"] if i["name"] == "weights.safetensors")
    assert "of their length apart" in item["note"]
    folder = Path(told["replay"]["folder"])
    assert folder.is_dir()
    code, told = replay(registered, 4, "--stage", "evaluate")
    assert set(agreements(told).values()) == {"identical"}
    assert code == 0 or not told["passed"]
    shutil.rmtree(folder)


def test_ctrl_c_stops_it_cleanly(registered):
    run = registered.start("replay", "models:/mno-darcy/1", "--stage", "train")
    replays = registered.root / "build/replay"
    wait_for(lambda: any(checkpoints(p, 2) for p in replays.glob("*/line")), "two epochs")
    os.killpg(run.pid, signal.SIGINT)
    run.wait(60)
    said = registered.output.read_text()
    assert run.returncode == 130, said
    assert "Traceback" not in said
    assert working_in(replays) == []
