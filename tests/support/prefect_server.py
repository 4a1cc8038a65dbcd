"""A Prefect server for the runs of many tests."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.support.workspaces import BINARIES

PATIENCE = 120.0  # seconds until it answers


@contextmanager
def serve_prefect(home: Path) -> Iterator[str]:
    """Run a server that keeps its database in a folder, and give the address of its API."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    command = [BINARIES / "prefect", "server", "start", "--host", "127.0.0.1", "--port", port]
    settings = {
        "PREFECT_HOME": str(home),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
    }
    with (home / "server.log").open("w") as log:
        server = subprocess.Popen(
            [*command, "--no-ui", "--no-services"], cwd=home, env={**os.environ, **settings},
            stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
        )  # fmt: skip
    address = f"http://127.0.0.1:{port}/api"
    try:
        deadline = time.monotonic() + PATIENCE
        while not _answers(address):
            said = (home / "server.log").read_text()
            assert server.poll() is None and time.monotonic() < deadline, said
            time.sleep(0.1)
        yield address
    finally:
        server.terminate()
        server.wait()


def _answers(address: str) -> bool:
    try:
        return httpx.get(f"{address}/health", timeout=5).status_code == 200
    except httpx.TransportError:
        return False
