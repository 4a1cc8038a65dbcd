"""A training interrupted in any way ends with the bits of one that was not."""

import dataclasses
import multiprocessing
import os
import pickle
import random
import resource
import signal
import sys
import time
from hashlib import sha256

import pytest
import torch
from reaction_problem import run as run_reaction
from runner import weights_of
from smoothing_problem import CONFIG, MODEL, TRAINING, run

from mno.core.errors import MnoError
from mno.core.forecast import TaskConfig
from mno.scenarios.base import SQUARE
from mno.training.checkpoint import checkpoints

# Children are forked from a server that has imported torch but never computed.
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["mno.training.fit", "smoothing_problem"])


LONG = CONFIG.model_copy(update={"epochs": 16, "patience": 16})


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    return run(tmp_path_factory.mktemp("uninterrupted"))


def assert_same(result, uninterrupted):
    assert result[1] == uninterrupted[1]
    assert weights_of(result[0]) == weights_of(uninterrupted[0])


def train_in_child(work, config):
    """Train in a process of its own, which a test may kill."""
    run(work, config=config)


class SignalAt:
    """An observer that sends its own process a signal in an epoch."""

    def __init__(self, number, epoch):
        self.number, self.epoch = number, epoch

    def __call__(self, epoch, metrics):
        if epoch == self.epoch:
            os.kill(os.getpid(), self.number)


def interrupt(work, epoch):
    with pytest.raises(KeyboardInterrupt):
        run(work, observers=[SignalAt(signal.SIGINT, epoch)])


def kill_after(work, epoch, delay):
    """Train in a process, kill it `delay` seconds after an epoch is saved; whether it was alive."""
    process = CONTEXT.Process(target=train_in_child, args=(work, LONG))
    process.start()
    while process.is_alive() and not list(work.glob(f"epoch-{epoch:05d}.*.ckpt")):
        time.sleep(0.001)
    time.sleep(delay)
    process.kill()
    process.join()
    return process.exitcode == -signal.SIGKILL


@pytest.mark.slow
def test_killed_processes_leave_what_a_resumed_one_completes(tmp_path):
    uninterrupted = run(tmp_path / "uninterrupted", config=LONG)
    rng, work = random.Random(0), tmp_path / "killed"
    work.mkdir()
    for epochs in ((1, 3), (4, 6), (7, 9)):
        assert kill_after(work, rng.randint(*epochs), rng.uniform(0, 0.05))
        assert checkpoints(work)
    assert_same(run(work, config=LONG), uninterrupted)


def test_a_process_killed_before_its_first_checkpoint_starts_over(tmp_path, uninterrupted):
    process = CONTEXT.Process(target=train_in_child, args=(tmp_path, CONFIG))
    process.start()
    time.sleep(0.2)
    process.kill()
    process.join()
    assert_same(run(tmp_path), uninterrupted)


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [None, truncate, flip_a_bit])
def test_ctrl_c_is_passed_on_and_the_next_call_continues_after_what_is_whole(
    tmp_path, uninterrupted, damage, capfd
):
    interrupt(tmp_path, epoch=4)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if damage:
        damage(checkpoints(tmp_path)[0])
    assert_same(run(tmp_path), uninterrupted)
    out = capfd.readouterr().out
    assert ("checkpoint of epoch 4 is damaged" in out) == (damage is not None)
    assert f"continuing after epoch {3 if damage else 4} of 6" in out


def test_damaged_checkpoints_only_mean_a_new_start(tmp_path, uninterrupted):
    interrupt(tmp_path, epoch=4)
    for path in checkpoints(tmp_path):
        truncate(path)
    assert_same(run(tmp_path), uninterrupted)


def test_a_request_to_end_is_an_error_and_the_next_call_continues(tmp_path, uninterrupted):
    with pytest.raises(MnoError, match="run it again"):
        run(tmp_path, observers=[SignalAt(signal.SIGTERM, 2)])
    assert_same(run(tmp_path), uninterrupted)


def test_the_last_two_checkpoints_are_kept_and_hold_tensors_and_plain_values_only(tmp_path):
    tmp_path.joinpath("epoch-00003.ckpt.partial").write_bytes(b"half")  # of a killed writer
    run(tmp_path)
    names = sorted(path.name.split(".")[0] for path in tmp_path.iterdir())
    assert names == ["epoch-00005", "epoch-00006"]
    for path in checkpoints(tmp_path):
        content = torch.load(path, weights_only=True)
        assert {"module", "optimizers", "history", "best_weights"} <= set(content)


@pytest.mark.parametrize("damage", [truncate, flip_a_bit])
def test_a_damaged_result_is_made_again(tmp_path, uninterrupted, damage):
    run(tmp_path)
    damage(checkpoints(tmp_path)[0])
    assert_same(run(tmp_path), uninterrupted)


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_checkpoint_that_would_run_code_is_not_loaded(tmp_path, uninterrupted):
    work, sprung = tmp_path / "work", tmp_path / "sprung"
    interrupt(work, epoch=4)
    trap = tmp_path / "trap"
    torch.save({"state_dict": Trap(sprung)}, trap)
    with pytest.raises(pickle.UnpicklingError):
        torch.load(trap, weights_only=True)
    digest = sha256(trap.read_bytes()).hexdigest()
    trap.rename(work / f"epoch-00005.{digest}.ckpt")
    assert_same(run(work), uninterrupted)
    assert not sprung.exists()


def train_with_little_room(work, connection):
    sys.dont_write_bytecode = True  # half of a compiled module would be put in place
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
    try:
        run(work)
    except MnoError as error:
        connection.send(str(error))


def test_a_disk_without_room_stops_training_in_one_line(tmp_path, uninterrupted):
    interrupt(tmp_path, epoch=2)
    receiver, sender = CONTEXT.Pipe(duplex=False)
    process = CONTEXT.Process(target=train_with_little_room, args=(tmp_path, sender))
    process.start()
    sender.close()
    message = receiver.recv()
    process.join()
    assert "epoch-00003.ckpt" in message
    assert "run again" in message
    assert "\n" not in message
    assert not list(tmp_path.glob("*.partial"))
    assert_same(run(tmp_path), uninterrupted)


SYMMETRIC = dataclasses.replace(
    TRAINING, schema=dataclasses.replace(TRAINING.schema, symmetries=SQUARE)
)
DROPPING = MODEL.model_copy(update={"dropout": 0.2})
EVERYTHING = {
    "loss": "h1", "augment": True, "input_noise": 0.1, "input_mask": 0.1, "ema_decay": 0.9,
    "accumulate": 2,
}  # fmt: skip
ROLLOUT = {
    "batch_size": 4, "unroll": 2, "augment": True, "input_noise": 0.05, "residual_weight": 0.01,
    "ema_decay": 0.9, "accumulate": 2,
}  # fmt: skip


def train(work, options, model=MODEL, **others):
    config = CONFIG.model_copy(update={"epochs": 4, **options})
    if "unroll" in options:
        return run_reaction(work, TaskConfig(history=2), config=config, **others)
    return run(work, config=config, model=model, training=SYMMETRIC, **others)


@pytest.mark.parametrize(
    ("options", "model"),
    [
        pytest.param({}, DROPPING, id="dropout"),
        pytest.param({"accumulate": 3, "batch_size": 2, "precision": "bf16"}, MODEL, id="bf16"),
        pytest.param(ROLLOUT, MODEL, id="rollout"),
    ],
)
def test_whatever_is_drawn_an_interrupted_training_ends_as_one_that_was_not(
    tmp_path, options, model
):
    uninterrupted = train(tmp_path / "whole", options, model)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "broken", options, model, observers=[SignalAt(2, epoch=2)])
    assert_same(train(tmp_path / "broken", options, model), uninterrupted)


def train_everything(work):
    train(work, EVERYTHING, DROPPING, observers=[SignalAt(9, epoch=2)])


def test_a_killed_training_with_everything_on_ends_as_one_that_was_not(tmp_path):
    process = CONTEXT.Process(target=train_everything, args=(tmp_path / "killed",))
    process.start()
    process.join()
    assert process.exitcode == -9
    assert checkpoints(tmp_path / "killed")[0].name.startswith("epoch-00002")
    uninterrupted = train(tmp_path / "whole", EVERYTHING, DROPPING)
    assert_same(train(tmp_path / "killed", EVERYTHING, DROPPING), uninterrupted)
