"""The child in which files are read: what it may take, and how it ends."""

from __future__ import annotations

import ctypes
import os
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mno.core.errors import InputError, MnoError
from mno.imports import cage as cages
from mno.imports.cage import Cage
from mno.imports.collection import caged_import, import_files
from tests.imports import test_cage as known  # by the name that the child knows, too
from tests.support.file_hashes import hashes

FILE = Path("strange.h5")


def add(a: int, b: int, progress: Callable) -> int:
    progress({"so": "far"})
    print("not a word of the answer")
    return a + b


def take(gib: int, progress: Callable) -> int:
    return len(bytearray(gib * 2**30))


def crash(progress: Callable) -> None:
    ctypes.string_at(0)


def wait(progress: Callable) -> None:
    time.sleep(600)


def refuse(kind: str, progress: Callable) -> None:
    raise {"input": InputError, "other": MnoError}[kind]("so it is")


def call_out(address: list, progress: Callable) -> str:
    try:
        socket.create_connection(address, timeout=5)
    except OSError as error:
        return type(error).__name__
    return "connected"


def interfaces(progress: Callable) -> list[str]:
    return [name for _, name in socket.if_nameindex()]


def test_a_call_answers_and_tells_its_progress() -> None:
    told: list = []
    with Cage() as cage:
        assert cage.call(known.add, {"a": 1, "b": 2}, [FILE], told.append) == 3
        assert cage.call(known.add, {"a": 3, "b": 4}, [FILE]) == 7
    assert told == [{"so": "far"}]


def test_more_memory_than_allowed_is_one_line_and_what_follows_goes_on() -> None:
    with Cage() as cage:
        with pytest.raises(InputError, match="strange.h5 .*1024 MiB of memory"):
            cage.call(known.take, {"gib": 2}, [FILE])
        assert cage.call(known.add, {"a": 1, "b": 2}, [FILE]) == 3


def test_a_crash_is_one_line_and_what_follows_goes_on() -> None:
    with Cage() as cage:
        with pytest.raises(InputError, match="strange.h5 cannot be read: .*SIGSEGV") as caught:
            cage.call(known.crash, {}, [FILE])
        assert "\n" not in str(caught.value)
        assert cage.call(known.add, {"a": 1, "b": 2}, [FILE]) == 3


def test_what_takes_too_long_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cages, "_SECONDS", 3)
    with Cage() as cage, pytest.raises(InputError, match="took more than 3 s"):
        cage.call(known.wait, {}, [FILE])


@pytest.mark.parametrize(("kind", "error"), [("input", InputError), ("other", MnoError)])
def test_errors_come_back_as_they_are(kind: str, error: type[MnoError]) -> None:
    with Cage() as cage, pytest.raises(error, match="^so it is$") as caught:
        cage.call(known.refuse, {"kind": kind}, [FILE])
    assert type(caught.value) is error


def test_there_is_no_network() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, Cage() as cage:
        address = list(server.getsockname())
        assert cage.call(known.call_out, {"address": address}, [FILE]) != "connected"
        if sys.platform == "linux" and os.geteuid() == 0:  # C libraries, too
            assert cage.call(known.interfaces, {}, [FILE]) == ["lo"]


def test_an_import_in_a_cage_makes_the_same_bytes(tmp_path: Path) -> None:
    coeff = np.random.default_rng(0).random((20, 6, 6), dtype=np.float32)
    np.savez(tmp_path / "a.npz", coeff=coeff, sol=2 * coeff)
    steps: list = []
    here = import_files(tmp_path / "here/plant", [tmp_path / "a.npz"], "npz", None)
    there = caged_import(tmp_path / "there/plant", [tmp_path / "a.npz"], "npz", None, steps.append)
    assert there == here and steps[-1].done == steps[-1].total == 20
    assert hashes(tmp_path / "there") == hashes(tmp_path / "here")


def test_an_interrupt_ends_the_child(tmp_path: Path) -> None:
    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    with Cage() as cage:
        with pytest.raises(KeyboardInterrupt):
            cage.call(known.add, {"a": 1, "b": 2}, [FILE], interrupt)
        assert cage.call(known.add, {"a": 1, "b": 2}, [FILE]) == 3
