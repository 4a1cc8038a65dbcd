"""An MLflow server that is down, hangs, or is started anew."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mno.core.errors import MnoError
from mno.registry import settings as reachable
from mno.registry.settings import require_answer
from tests.support.answering import Answering


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    """A socket at which nobody answers."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        yield found


def url(at: socket.socket) -> str:
    return f"http://127.0.0.1:{at.getsockname()[1]}"


def test_databases_and_folders_are_no_servers(tmp_path: Path) -> None:
    for uri in (f"sqlite:///{tmp_path}/mlflow.db", str(tmp_path), "databricks"):
        require_answer(uri, patience=0)


def test_a_server_that_is_down_is_one_line(listening: socket.socket) -> None:
    uri = url(listening)
    listening.close()
    with pytest.raises(MnoError, match="does not answer .*refused.*is it running") as raised:
        require_answer(uri, patience=0)
    assert "\n" not in str(raised.value) and uri in str(raised.value)


def test_a_server_that_hangs_is_not_waited_for_for_ever(
    listening: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reachable, "_EACH", 0.2)
    start = time.monotonic()
    with pytest.raises(MnoError, match="timed out"):
        require_answer(url(listening), patience=0.5)
    assert 0.5 < time.monotonic() - start < 30


@pytest.mark.parametrize(("status", "answers"), [(200, True), (401, True), (503, False)])
def test_one_that_starts_anew_is_waited_for(
    listening: socket.socket, status: int, answers: bool
) -> None:
    port, uri = listening.getsockname()[1], url(listening)
    listening.close()
    with Answering(status, port=port) as server:
        serving = threading.Thread(target=server.serve_forever, daemon=True)
        threading.Timer(0.6, serving.start).start()
        if answers:
            require_answer(uri, patience=60)
        else:
            with pytest.raises(MnoError, match="HTTP 503"):
                require_answer(uri, patience=0)
        server.shutdown()
