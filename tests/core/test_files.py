"""Files appear whole, digests are those of others, and a lock has one live holder."""

import hashlib
import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import Future

import psutil
import pytest

from mno.core.files import (
    LockedError,
    file_md5,
    file_sha256,
    folder_sha256,
    json_sha256,
    lock_holder,
    locked,
    md5,
    names_sha256,
    replacing,
    replacing_folder,
    sha256,
    write_bytes,
    write_json,
    write_text,
)
from mno.core.workers import LostError, Worker, keep_busy

HOLD = """
import sys, time, pathlib
from mno.core.files import locked
with locked(pathlib.Path(sys.argv[1]), "the other run"):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def other(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "lock")], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_a_second_holder_is_told_who_holds_it_and_since_when(tmp_path, other):
    with pytest.raises(LockedError) as refusal, locked(tmp_path / "lock", "this run"):
        pass
    assert "the other run" in str(refusal.value)
    assert f"process {other.pid}" in str(refusal.value)
    assert "since 20" in str(refusal.value)
    found = lock_holder(tmp_path / "lock")
    assert found is not None
    assert found["pid"] == other.pid


def test_a_killed_holder_holds_nothing(tmp_path, other):
    os.kill(other.pid, signal.SIGKILL)
    other.wait()
    with locked(tmp_path / "lock", "this run"):
        pass
    assert lock_holder(tmp_path / "lock") is None


def test_patience_waits_for_the_holder_to_end(tmp_path, other):
    with pytest.raises(LockedError), locked(tmp_path / "lock", "this run", patience=0.3):
        pass
    subprocess.Popen(["sh", "-c", f"sleep 0.5; kill -9 {other.pid}"]).wait()
    other.wait()
    start = time.monotonic()
    with locked(tmp_path / "lock", "this run", patience=30):
        assert time.monotonic() - start < 30


def test_the_lock_is_free_after_an_error_inside(tmp_path):
    with pytest.raises(RuntimeError), locked(tmp_path / "lock", "a run"):
        raise RuntimeError
    assert lock_holder(tmp_path / "lock") is None


def test_a_file_is_replaced_whole_or_stays_as_it_was(tmp_path):
    path = tmp_path / "new" / "file"
    write_text(path, "größer\n")
    assert path.read_bytes() == "größer\n".encode()
    write_json(path, {"b": [1], "a": None})
    assert path.read_text() == json.dumps({"b": [1], "a": None}, indent=2) + "\n"
    write_bytes(path, b"kept", durable=True)
    with pytest.raises(RuntimeError), replacing(path) as partial:
        partial.write_bytes(b"half")
        raise RuntimeError
    assert path.read_bytes() == b"kept"
    assert list(path.parent.iterdir()) == [path]


def test_a_folder_is_replaced_whole_or_stays_as_it_was(tmp_path):
    path = tmp_path / "new" / "folder"
    for name in ("first", "second"):
        with replacing_folder(path) as fresh:
            (fresh / name).write_text(name)
    with pytest.raises(RuntimeError), replacing_folder(path) as fresh:
        (fresh / "third").write_text("half")
        raise RuntimeError
    assert [file.name for file in path.iterdir()] == ["second"]
    assert list(path.parent.iterdir()) == [path]


def test_digests_are_those_of_the_standard_library(tmp_path):
    content = bytes(range(256)) * 5000  # more than one piece
    path = tmp_path / "sub" / "file"
    write_bytes(path, content)
    assert file_sha256(path) == sha256(content) == hashlib.sha256(content).hexdigest()
    assert file_md5(path) == md5(content) == hashlib.md5(content).hexdigest()
    assert json_sha256({"b": 1, "a": 2}) == sha256('{"a": 2, "b": 1}')
    assert folder_sha256(tmp_path) == names_sha256({"sub/file": sha256(content)})


PATIENCE = 120.0


@pytest.fixture
def worker():
    made = Worker()
    yield made
    made.end()


def test_what_a_call_returns_or_raises_comes_back_from_one_other_process(worker):
    first, second = (worker.submit(os.getpid).result(PATIENCE) for _ in range(2))
    assert first == second != os.getpid()
    with pytest.raises(ValueError, match="math domain error"):
        worker.submit(math.sqrt, -1.0).result(PATIENCE)


def test_a_process_that_was_lost_is_replaced_by_the_next_call(worker):
    with pytest.raises(LostError):
        worker.submit(os._exit, 1).result(PATIENCE)
    assert worker.submit(math.sqrt, 4.0).result(PATIENCE) == 2.0


def test_a_call_that_hangs_is_ended_with_its_process(worker):
    pid = worker.submit(os.getpid).result(PATIENCE)
    hanging = worker.submit(time.sleep, 1e6)
    assert worker.is_running
    worker.end()
    with pytest.raises(LostError):
        hanging.result(PATIENCE)
    assert not worker.is_running
    with pytest.raises(psutil.NoSuchProcess):
        psutil.Process(pid).wait(PATIENCE)
        psutil.Process(pid)


def test_so_many_calls_are_made_at_a_time_until_there_is_none_left():
    waiting, at_work, most, ended = list(range(7)), set[int](), [], []

    def begin() -> tuple[int, Future[int]] | None:
        if not waiting:
            return None
        item, future = waiting.pop(0), Future()
        at_work.add(item)
        most.append(len(at_work))
        threading.Timer(0.01, future.set_result, (item,)).start()
        return item, future

    def end(item: int, future: Future[int]) -> None:
        at_work.remove(item)
        ended.append(future.result())

    keep_busy(begin, end, 3)
    assert sorted(ended) == list(range(7))
    assert max(most) == 3 and not at_work
