"""What a team's servers are: PostgreSQL, an object store, MLflow and Prefect, each a real one."""

import glob
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

BINARIES = Path(sys.executable).parent
HOST = "127.0.0.1"
PATIENCE = 120.0  # seconds until a server answers
USER, PASSWORD = "mno", "line-secret"
S3 = {
    "AWS_ACCESS_KEY_ID": "tester",
    "AWS_SECRET_ACCESS_KEY": "store-secret",
    "AWS_DEFAULT_REGION": "us-east-1",
}


@dataclass(frozen=True)
class Postgres:
    port: int

    def url(self, driver: str, database: str) -> str:
        return f"postgresql+{driver}://{USER}:{PASSWORD}@{HOST}:{self.port}/{database}"


def free_port():
    with socket.create_server((HOST, 0)) as free:
        return free.getsockname()[1]


def postgres_binaries():
    """Return where PostgreSQL's programs are; skip the test where it is not installed."""
    found = shutil.which("initdb") or next(
        iter(sorted(glob.glob("/usr/lib/postgresql/*/bin/initdb"), reverse=True)), None
    )
    if found is None:
        pytest.skip("PostgreSQL is not installed: apt install postgresql")
    return Path(found).resolve().parent


@contextmanager
def run_postgres(databases):
    """Run a cluster in a folder of its own, with these databases in it.

    It refuses to run as root, and does then as `postgres`.
    """
    binaries, user = postgres_binaries(), None
    home = Path(tempfile.mkdtemp(prefix="mno-postgres-"))
    if os.geteuid() == 0:
        try:
            user = pwd.getpwnam("postgres").pw_name
        except KeyError:
            pytest.skip("PostgreSQL refuses to run as root, and there is no user postgres")
        shutil.chown(home, user)

    def call(name: str, *arguments: str) -> None:
        done = subprocess.run(
            [binaries / name, *arguments], cwd=home, user=user, capture_output=True, text=True,
            env={**os.environ, "PGPASSWORD": PASSWORD, "HOME": str(home), "LC_ALL": "C.UTF-8"},
            stdin=subprocess.DEVNULL, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr

    data, secret, port = home / "data", home / "secret", free_port()
    secret.write_text(PASSWORD)
    secret.chmod(0o644)
    try:
        call("initdb", "-D", str(data), "-U", USER, "-A", "scram-sha-256", "--pwfile", str(secret))
        settings = f"-h {HOST} -p {port} -k {home} -c fsync=off"
        call("pg_ctl", "-D", str(data), "-w", "-l", str(home / "log"), "-o", settings, "start")
        for name in databases:
            call("createdb", "-h", HOST, "-p", str(port), "-U", USER, name)
        yield Postgres(port)
    finally:
        if (data / "postmaster.pid").exists():
            call("pg_ctl", "-D", str(data), "-m", "immediate", "-w", "stop")
        shutil.rmtree(home, ignore_errors=True)


@contextmanager
def run_server(command, log, variables, answers):
    """Run a server until the body ends, once it answers."""
    with log.open("w") as file:
        server = subprocess.Popen(
            [str(part) for part in command], cwd=log.parent, env={**os.environ, **variables},
            stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + PATIENCE
        while not answers():
            assert server.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
        yield server
    finally:
        server.terminate()
        try:
            server.wait(timeout=20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def answers_at(url):
    """Return what tells whether a server answers at an address."""

    def ask() -> bool:
        try:
            return httpx.get(url, timeout=5).status_code == 200
        except httpx.TransportError:
            return False

    return ask


@contextmanager
def run_object_store(home, buckets):
    """Run a server of S3's protocol with these buckets, and give its address."""
    pytest.importorskip("moto", reason="moto is not installed: pip install 'moto[s3]'")
    boto3 = pytest.importorskip("boto3", reason="the extra `scale` is not installed")
    port = free_port()
    address = f"http://{HOST}:{port}"
    command = [BINARIES / "moto_server", "-H", HOST, "-p", str(port)]
    with run_server(command, home / "s3.log", S3, answers_at(f"{address}/moto-api/data.json")):
        client = boto3.client(
            "s3", endpoint_url=address, region_name=S3["AWS_DEFAULT_REGION"],
            aws_access_key_id=S3["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=S3["AWS_SECRET_ACCESS_KEY"],
        )  # fmt: skip
        for bucket in buckets:
            client.create_bucket(Bucket=bucket)
        yield address


@contextmanager
def run_mlflow(home, database, artifacts, endpoint):
    """Run MLflow's server, which alone knows database and object store, and give its address."""
    port = free_port()
    command = [
        BINARIES / "mlflow", "server", "--host", HOST, "--port", str(port), "--workers", "1",
        "--backend-store-uri", database, "--artifacts-destination", artifacts,
    ]  # fmt: skip
    variables = {**S3, "MLFLOW_S3_ENDPOINT_URL": endpoint, "MLFLOW_DISABLE_TELEMETRY": "true"}
    address = f"http://{HOST}:{port}"
    with run_server(command, home / "mlflow.log", variables, answers_at(f"{address}/health")):
        yield address


@contextmanager
def run_prefect(home, database):
    """Run Prefect's server with its database in PostgreSQL, and give the address of its API."""
    port = free_port()
    command = [
        BINARIES / "prefect", "server", "start", "--host", HOST, "--port", str(port), "--no-ui",
    ]  # fmt: skip
    variables = {
        "PREFECT_HOME": str(home / "prefect"),
        "PREFECT_API_DATABASE_CONNECTION_URL": database,
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
    }
    address = f"http://{HOST}:{port}/api"
    with run_server(command, home / "prefect.log", variables, answers_at(f"{address}/health")):
        yield address
