"""Workspaces for tests: checkouts of their own, in which the line runs as a person would run it."""

import fcntl
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil

ROOT = Path(__file__).parents[2]
BINARIES = Path(sys.executable).parent


@dataclass(frozen=True)
class Workspace:
    """A checkout in which tests run the line as a person would, who may have set variables."""

    root: Path
    variables: Mapping[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        """The tests' environment, without what a surrounding run may have set."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("MNO_", "DVC_EXP"))}
        kept.pop("DVC_ROOT", None)
        return {
            **kept,
            "PATH": f"{BINARIES}{os.pathsep}{os.environ['PATH']}",
            "DVC_NO_ANALYTICS": "1",
            "COLUMNS": "200",
            **self.variables,
        }

    def run(
        self, *command: str, check: bool = False, timeout: float = 540
    ) -> subprocess.CompletedProcess[str]:
        """Run a program in the workspace."""
        done = subprocess.run(
            command, cwd=self.root, env=self.environment, capture_output=True, text=True,
            timeout=timeout, stdin=subprocess.DEVNULL, check=False,
        )  # fmt: skip
        assert not check or done.returncode == 0, f"{command}:\n{done.stdout}\n{done.stderr}"
        return done

    def mno(self, *arguments: str, check: bool = False) -> subprocess.CompletedProcess[str]:
        """Run the `mno` command with the code of this workspace."""
        return self.run(*self.command(arguments), check=check)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start the `mno` command in a session of its own, its output into a file.

        Not into a pipe: what a killed run leaves behind would keep that open.
        """
        with self.output.open("w") as file:
            return subprocess.Popen(
                self.command(arguments), cwd=self.root, env=self.environment, text=True,
                stdout=file, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                start_new_session=True,
            )  # fmt: skip

    def prepare_registry(self) -> None:
        """Make an empty registry, which a first run would wait for."""
        code = "import pathlib, mno.registry.settings as r; r.prepare(pathlib.Path.cwd())"
        self.run(sys.executable, "-c", code, check=True)

    @property
    def output(self) -> Path:
        """What the command started last has printed."""
        return self.root.parent / "output.txt"

    @staticmethod
    def command(arguments: Sequence[str]) -> list[str]:
        """Return the command line of `mno` with these arguments."""
        return [sys.executable, "-m", "flows.cli", *arguments]


def make_workspace(root: Path, checkout: Path = ROOT, **variables: str) -> Workspace:
    """Copy the files of a checkout, as they are now, into a repository of their own."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "-c", "-o", "--exclude-standard"],
        cwd=checkout, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    for name in filter(None, listed.split("\0")):
        if (checkout / name).is_file() and not name.startswith(("docs/", "tests/")):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(checkout / name, root / name)
    workspace = Workspace(root, variables)
    for command in (
        ("git", "init", "-q", "-b", "main"),
        ("git", "config", "user.name", "Tester"),
        ("git", "config", "user.email", "tester@localhost"),
        ("git", "add", "-A"),
        ("git", "commit", "-q", "-m", "The project"),
    ):
        workspace.run(*command, check=True)
    return workspace


def copy_without_registry(root: Path, target: Path) -> Workspace:
    """Copy a workspace, but for its registry: MLflow's database names the folder it is in."""
    lost = shutil.ignore_patterns("mlflow.db", "mlartifacts")
    shutil.copytree(root, target, symlinks=True, ignore=lost)
    return Workspace(target)


@contextmanager
def alone(lock: Path) -> Iterator[None]:
    """Keep the other processes of a test session waiting."""
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def end_processes_in(folder: Path) -> None:
    """Kill what works in a folder, but for this process, which a test may have sent there."""
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            here = Path(process.cwd())
            if process.pid != os.getpid() and (here == folder or folder in here.parents):
                process.kill()


@contextmanager
def serve_prefect(home: Path) -> Iterator[str]:
    """Run a Prefect server that keeps its database in a folder, and give the address of its API."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    command = [BINARIES / "prefect", "server", "start", "--host", "127.0.0.1", "--port", port]
    settings = {"PREFECT_HOME": str(home), "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
    with (home / "server.log").open("w") as log:
        server = subprocess.Popen(
            [*command, "--no-ui", "--no-services"], cwd=home, stdin=subprocess.DEVNULL, stdout=log,
            env={**os.environ, **settings, "DO_NOT_TRACK": "1"}, stderr=subprocess.STDOUT,
        )  # fmt: skip
    address = f"http://127.0.0.1:{port}/api"
    try:
        deadline = time.monotonic() + 120
        while not _answers(address):
            said = (home / "server.log").read_text()
            assert server.poll() is None and time.monotonic() < deadline, said
            time.sleep(0.1)
        yield address
    finally:
        server.terminate()
        server.wait()


def _answers(address: str) -> bool:
    with suppress(httpx.TransportError):
        return httpx.get(f"{address}/health", timeout=5).status_code == 200
    return False
