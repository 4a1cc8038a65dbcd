"""What an endpoint says of the model behind it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from flows.audit import served_model
from mno.core.errors import InputError

SERVED = json.dumps({"model": "mno-darcy/3", "since": "2026-11-26T15:00:00+0000"})


@contextmanager
def endpoint(status: int, body: str, **headers: str) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Yield the address of a server that answers anything, and what it is asked for."""
    asked: list[tuple[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append((self.path, self.headers.get("Authorization", "")))
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", asked
        finally:
            server.shutdown()
            thread.join()


def test_names_the_version_that_it_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MNO_SERVE_TOKEN", "a-long-secret")
    with endpoint(200, SERVED) as (address, asked):
        for target in (address, f"{address}/", f"{address}/invocations"):
            model, said = served_model(target)
            assert model == "models:/mno-darcy/3"
            assert said == f"{address} serves mno-darcy/3 since 2026-11-26T15:00:00+0000"
    assert asked == [("/model", "Bearer a-long-secret")] * 3


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (200, "2.22.0", "answered 200: '2.22.0'"),
        (200, "[]", "expected a version"),
        (200, '{"model": "mno-darcy@champion"}', "expected a version"),
        (200, '{"model": "../../x/3"}', "expected a version"),
        (200, '{"model": 3}', "expected a version"),
        (200, "x" * 2**20, "expected a version"),
        (404, "Not\x1b[31m Found", "answered 404: 'Not"),
        (401, "", "set MNO_SERVE_TOKEN"),
        (200, "", "'nothing'"),
    ],
)
def test_says_what_it_was_answered_if_that_is_no_version(status: int, body: str, said: str) -> None:
    with endpoint(status, body) as (address, _), pytest.raises(InputError) as raised:
        served_model(address)
    assert said in str(raised.value)
    assert len(str(raised.value)) < 600
    assert "\x1b" not in str(raised.value)


def test_is_not_sent_elsewhere() -> None:
    with (
        endpoint(200, SERVED) as (there, asked),
        endpoint(302, "", Location=f"{there}/model") as (address, _),
        pytest.raises(InputError, match="answered 302"),
    ):
        served_model(address)
    assert asked == []


@pytest.mark.parametrize(
    "address",
    [
        "ftp://127.0.0.1/x",
        "file:///etc/passwd",
        "sqlite:///mlflow.db",
        "http://",
        "http://[::1",
        "http://me:word@127.0.0.1",
    ],
)
def test_what_is_no_address_of_a_service_is_refused(address: str) -> None:
    with pytest.raises(InputError, match="expected http"):
        served_model(address)


def test_nobody_there_is_one_line() -> None:
    with endpoint(200, SERVED) as (address, _):
        pass
    with pytest.raises(InputError, match="does not answer"):
        served_model(address)
