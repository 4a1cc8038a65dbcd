"""Processes that share out each batch end with the weights of one, and continue after a kill."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from smoothing_problem import CONFIG, TRAINING, run

from mno.core.errors import InputError
from mno.training.processes import Rank, joined, started_by_torchrun

HERE = Path(__file__).parent
# The last batch of an epoch holds one sample, of which the second process has no share.
ONE = CONFIG.model_copy(update={"batch_size": 13, "epochs": 5, "ema_decay": 0.9})
TWO = ONE.model_copy(update={"processes": 2})
SMALL = ONE.model_copy(update={"batch_size": 3, "accumulate": 2})
SHARED = SMALL.model_copy(update={"processes": 2})
# Sums of numbers of 24 bits, in another order, in a dozen steps.
TOLERANCE = 1e-5


def torchrun(config, folder, **variables):
    """Train by two processes of torchrun, which meet on the loopback interface."""
    folder.mkdir(exist_ok=True)
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
        "--local-addr", "127.0.0.1", str(HERE / "shared_training.py"),
        config.model_dump_json(), str(folder / "work"), str(folder / "result"),
    ]  # fmt: skip
    paths = os.pathsep.join([str(HERE), str(HERE.parents[1])])
    environment = {"PYTHONPATH": paths, "GLOO_SOCKET_IFNAME": "lo", **variables}
    return subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=500,
        check=False,
    )  # fmt: skip


def assert_close(folder, one):
    surrogate, history = one
    epochs = json.loads((folder / "result").read_text())["epochs"]
    assert len(epochs) == len(history)
    for shared, alone in zip(epochs, history.to_dict()["epochs"], strict=True):
        assert shared == pytest.approx(alone, rel=TOLERANCE)
    weights = load_file(folder / "result.safetensors")
    for name, value in surrogate.operator.state_dict().items():
        torch.testing.assert_close(weights[name], value, rtol=TOLERANCE, atol=TOLERANCE)


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_the_parts_of_a_batch_are_all_of_it(size):
    for samples in range(1, 8):
        batch, ranks = torch.arange(samples) + 10, [Rank(number, size) for number in range(size)]
        parts = [rank.of(batch) for rank in ranks]
        counted = [part for rank, part in zip(ranks, parts, strict=True) if rank.count(samples)]
        assert torch.equal(torch.cat(counted).sort().values, batch)
        assert sum(rank.count(samples) for rank in ranks) == samples
        assert all(len(part) for part in parts), "everybody takes part in every step"


def test_processes_that_were_not_started_are_refused(tmp_path):
    with pytest.raises(InputError, match="torchrun --nproc-per-node 2"):
        run(tmp_path, config=TWO)
    assert not list(tmp_path.iterdir())
    with pytest.raises(InputError, match="not started by torchrun"), started_by_torchrun():
        pass


def test_on_the_processor_devices_are_not_counted(tmp_path, monkeypatch):
    monkeypatch.setenv("MNO_DEVICE", "cpu")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with joined(Rank(), f"file://{tmp_path}/meet"):
        assert torch.distributed.get_backend() == "gloo"


@pytest.mark.slow
@pytest.mark.nightly
@pytest.mark.parametrize(("alone", "shared"), [(ONE, TWO), (SMALL, SHARED)], ids=["ema", "sums"])
def test_two_processes_train_as_one(tmp_path, alone, shared):
    assert len(TRAINING) % alone.batch_size, "the last batch is shorter"
    done = torchrun(shared, tmp_path / "two")
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("epoch ")]
    assert len(lines) == alone.epochs, "the first process alone says how far it is"
    assert_close(tmp_path / "two", run(tmp_path / "one", config=alone))


@pytest.mark.slow
@pytest.mark.nightly
def test_a_killed_process_ends_all_and_the_next_call_continues(tmp_path):
    killed = torchrun(SHARED, tmp_path / "two", KILLED_RANK="0")
    assert killed.returncode and not (tmp_path / "two/result").exists()
    done = torchrun(SHARED, tmp_path / "two")
    assert done.returncode == 0, done.stderr
    assert "continuing after epoch 2 of 5" in done.stdout
    assert_close(tmp_path / "two", run(tmp_path / "one", config=SMALL))


@pytest.mark.slow
@pytest.mark.nightly
def test_more_processes_than_samples_in_a_batch_are_refused(tmp_path):
    done = torchrun(TWO.model_copy(update={"batch_size": 1}), tmp_path / "two")
    assert done.returncode
    assert "more than the 1 samples of a batch" in done.stderr
