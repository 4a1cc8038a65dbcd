"""`mno ui`: MLflow's and Prefect's pages, served on the loopback interface only."""

import errno
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Annotated

import psutil
import typer

from flows.workspace import find_workspace, prepare_environment, program, read_json
from mno.core.errors import InputError, MnoError

HOST = "127.0.0.1"
STARTUP = 90.0  # seconds


def ui(
    mlflow_port: Annotated[int, typer.Option(
        help="Port of MLflow's pages; 0 takes a free one.")] = 5000,
    prefect_port: Annotated[int, typer.Option(
        help="Port of Prefect's pages; 0 takes a free one.")] = 4200,
) -> None:  # fmt: skip
    """Serve MLflow's and Prefect's pages on this machine only, until Ctrl-C."""
    root = find_workspace()
    prepare_environment(root)
    from mno.registry.settings import registry_uri

    registry, served = registry_uri(root), os.environ.get("PREFECT_API_URL")
    if registry.startswith("http"):
        raise InputError(
            f"MLFLOW_TRACKING_URI={registry} is a server, which has pages: open it in a browser"
            + (f", and {served.removesuffix('/api')} for Prefect's" if served else "")
        )
    mlflow_port = free_port(mlflow_port, "--mlflow-port")
    prefect_port = free_port(prefect_port, "--prefect-port")
    ports = {"MLflow": mlflow_port, "Prefect": prefect_port}
    mlflow = [
        program("mlflow"), "server", "--host", HOST, "--port", str(mlflow_port),
        "--artifacts-destination", str(root / "mlartifacts"), "--workers", "1",
    ]  # fmt: skip
    prefect = [program("prefect"), "server", "start", "--host", HOST, "--port", str(prefect_port)]
    # Not on the command line, which every user of the machine may read: it may hold a password. And
    # without the processes that would run jobs of MLflow's own, which are 1.4 GiB.
    store = {"MLFLOW_BACKEND_STORE_URI": registry, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    # Prefect's page asks its server at the address it is told here.
    api = {"PREFECT_UI_API_URL": f"http://{HOST}:{prefect_port}/api"}
    # A plain kill must end the servers too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with ExitStack() as stack:
        servers = {
            "MLflow": stack.enter_context(run_server(mlflow, root, "mlflow", store)),
            "Prefect": stack.enter_context(run_server(prefect, root, "prefect", api)),
        }
        for name, server in servers.items():
            wait_until_it_answers(name, server, ports[name])
            print(f"{name:<8} http://{HOST}:{ports[name]}{_first_page(root, name)}", flush=True)
        print("Neither sends anything anywhere: telemetry is off. Ctrl-C stops both.", flush=True)
        with suppress(KeyboardInterrupt):
            while all(server.poll() is None for server in servers.values()):
                time.sleep(0.5)
            ended = next(name for name, server in servers.items() if server.poll() is not None)
            log = f"build/logs/{ended.lower()}.log"
            raise MnoError(f"{ended}'s server ended by itself; see {log}")


def _first_page(root: Path, name: str) -> str:
    """Return what to add to a server's address for the page that a user looks for."""
    if name == "Prefect":
        return "/runs"
    registered = read_json(root / "reports/registered.json") or {}
    named = "/#/models/{name}/versions/{version}"
    return named.format(**registered) if registered.get("version") else ""


@contextmanager
def run_server(
    command: list[str], root: Path, name: str, extra: dict[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server, its output in `build/logs/NAME.log`, until the body ends."""
    log = root / "build" / "logs" / f"{name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as file:
        process = subprocess.Popen(
            command, cwd=root, env={**os.environ, **extra}, stdin=subprocess.DEVNULL,
            stdout=file, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def free_port(wanted: int, option: str = "--port") -> int:
    """Return a port of this machine that is free: the wanted one, or any if that is 0."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, wanted))
        except (OSError, OverflowError) as error:
            raise port_refused(HOST, wanted, option, error) from None
        return probe.getsockname()[1]


def port_refused(host: str, port: int, option: str, error: Exception) -> InputError:
    """Return what is said of a port that cannot be had: whose it is, and the option for another."""
    whose = getattr(error, "strerror", None) or "expected a number up to 65535"
    used = getattr(error, "errno", None) == errno.EADDRINUSE
    with suppress(psutil.Error, OSError):
        for taken in psutil.net_connections("tcp") if used else ():
            listens = taken.status == psutil.CONN_LISTEN and tuple(taken.laddr)[1:] == (port,)
            if listens and taken.pid:
                words = psutil.Process(taken.pid).cmdline()
                whose = f"process {taken.pid} has it: {' '.join(words)[:80]}"
    return InputError(
        f"cannot listen at {host}, port {port} ({whose}); give another {option}, 0 for "
        "a free one, or another address"
    )


def wait_until_it_answers(name: str, server: subprocess.Popen[bytes], port: int) -> None:
    """Wait until a server that was started takes connections, or fail with an `MnoError`."""
    deadline = time.monotonic() + STARTUP
    while time.monotonic() < deadline and server.poll() is None:
        with suppress(OSError), socket.create_connection((HOST, port), timeout=1):
            return
        time.sleep(0.2)
    raise MnoError(f"{name}'s server did not start; see build/logs/{name.lower()}.log")
