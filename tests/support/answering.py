"""A web server on this machine that answers everything alike, and keeps what it was asked."""

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple


class Asked(NamedTuple):
    """One request."""

    path: str
    headers: Mapping[str, str]
    body: bytes


class Answering(ThreadingHTTPServer):
    """Answers with `status`, `headers` and `body` after `delay` seconds."""

    def __init__(self, status=200, body="", delay=0.0, port=0, **headers: str) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.status, self.body, self.delay, self.headers = status, body.encode(), delay, headers
        self.asked: list[Asked] = []
        self.url = f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Answering

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.asked.append(Asked(self.path, self.headers, body))
        time.sleep(self.server.delay)
        self.send_response(self.server.status)
        length = {"Content-Length": str(len(self.server.body))}
        for name, value in {**length, **self.server.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(self.server.body)

    do_POST = do_GET

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def answering(**how) -> Iterator[Answering]:
    """Have such a server; see `Answering`."""
    with Answering(**how) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
