"""Prefect's temporary server, when it does not come up in time."""

from __future__ import annotations

import os
import subprocess
import sys

CODE = """
from flows.pipeline import start_temporary_server
from mno.core.errors import MnoError

try:
    start_temporary_server()
except MnoError as error:
    print(error)
"""


def test_a_server_that_does_not_answer_in_time_is_said_in_one_line(tmp_path):
    settings = {
        "PREFECT_HOME": str(tmp_path),
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "1",  # no server is up so soon
        "DO_NOT_TRACK": "1",
    }
    environment = {k: v for k, v in os.environ.items() if k != "PREFECT_API_URL"} | settings
    done = subprocess.run(
        [sys.executable, "-c", CODE], env=environment, capture_output=True, text=True, check=True
    )
    (line,) = done.stdout.splitlines()
    assert line.startswith("Prefect's temporary server did not start (Timed out")
    assert "Run again" in line
    assert "Traceback" not in done.stderr
