"""One holder at a time; a dead one does not count."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipelines.lock import LockedError, hold, holder

HOLD = """
import sys, time, pathlib
from pipelines.lock import hold
with hold(pathlib.Path(sys.argv[1]), "the other run"):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def other(tmp_path: Path):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "lock")], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_a_second_holder_is_told_who_holds_it_and_since_when(tmp_path: Path, other) -> None:
    with pytest.raises(LockedError) as refusal, hold(tmp_path / "lock", "this run"):
        pass
    assert "the other run" in str(refusal.value)
    assert f"process {other.pid}" in str(refusal.value)
    assert "since 20" in str(refusal.value)
    found = holder(tmp_path / "lock")
    assert found is not None
    assert found["pid"] == other.pid


def test_a_killed_holder_holds_nothing(tmp_path: Path, other) -> None:
    os.kill(other.pid, signal.SIGKILL)
    other.wait()
    with hold(tmp_path / "lock", "this run"):
        pass
    assert holder(tmp_path / "lock") is None


def test_patience_waits_for_the_holder_to_end(tmp_path: Path, other) -> None:
    with pytest.raises(LockedError), hold(tmp_path / "lock", "this run", patience=0.3):
        pass
    subprocess.Popen(["sh", "-c", f"sleep 0.5; kill -9 {other.pid}"]).wait()
    other.wait()
    start = time.monotonic()
    with hold(tmp_path / "lock", "this run", patience=30):
        assert time.monotonic() - start < 30


def test_the_lock_is_free_after_an_error_inside(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), hold(tmp_path / "lock", "a run"):
        raise RuntimeError
    assert holder(tmp_path / "lock") is None
