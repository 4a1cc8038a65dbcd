"""Tests can be interrupted wherever they are started, and end what they have started."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[2]

LEFT = """
import subprocess, sys
import pytest
from tests.support.workspaces import Workspace

@pytest.fixture
def deaf(tmp_path):
    return Workspace(tmp_path)

def test_leaves_something_at_work(tmp_path, deaf):
    code = "import time; print(1, flush=True); time.sleep(600)"
    child = subprocess.Popen([sys.executable, "-c", code], cwd=deaf.root, stdout=subprocess.PIPE)
    child.stdout.readline()
    open({record!r}, "w").write(str(child.pid))
    assert False
"""


def test_what_a_failed_test_has_started_ends_with_it(tmp_path: Path) -> None:
    record = tmp_path / "pid"
    (tmp_path / "test_left.py").write_text(LEFT.format(record=str(record)))
    options = ["-q", "-p", "tests.conftest", "-p", "no:cacheprovider", "-c", "/dev/null"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(tmp_path / "test_left.py")],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    pid = int(record.read_text())
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_tests_and_their_children_hear_ctrl_c_where_the_shell_ignores_it() -> None:
    code = (
        "import signal, subprocess, sys\n"
        "assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN\n"
        "import tests.conftest\n"
        "look = 'import signal; print(signal.getsignal(signal.SIGINT) is signal.SIG_IGN)'\n"
        "print(subprocess.run([sys.executable, '-c', look], capture_output=True).stdout)\n"
    )

    def ignore() -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True,
        preexec_fn=ignore,
    )  # fmt: skip
    assert "False" in done.stdout
