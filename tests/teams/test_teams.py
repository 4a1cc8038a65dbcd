"""A team: PostgreSQL behind MLflow and Prefect, an object store, two people's clones.

One person makes and registers a model; the other, in a clone on another day, audits it, trains the
next by two processes, promotes and serves it. Nothing but settings differs from one person's use.
"""

import json
import re
import shutil
import signal
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest
from team_servers import (
    S3,
    Postgres,
    answers_at,
    free_port,
    run_mlflow,
    run_object_store,
    run_postgres,
    run_prefect,
)

from tests.support.workspaces import Workspace, make_workspace

pytestmark = [pytest.mark.slow, pytest.mark.nightly, pytest.mark.timeout(3000)]
BUCKET = "mno"


@dataclass(frozen=True)
class Team:
    postgres: Postgres
    endpoint: str
    first: Workspace
    second: Workspace

    def stored(self, prefix: str) -> list[str]:
        client = pytest.importorskip("boto3").client(
            "s3", endpoint_url=self.endpoint, region_name=S3["AWS_DEFAULT_REGION"],
            aws_access_key_id=S3["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=S3["AWS_SECRET_ACCESS_KEY"],
        )  # fmt: skip
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
        return [item["Key"] for page in pages for item in page.get("Contents", [])]


@pytest.fixture(scope="module")
def team(tmp_path_factory):
    home = tmp_path_factory.mktemp("team")
    with ExitStack() as stack:
        postgres = stack.enter_context(run_postgres(["mlflow", "direct", "prefect"]))
        endpoint = stack.enter_context(run_object_store(home, [BUCKET]))
        mlflow = stack.enter_context(
            run_mlflow(home, postgres.url("psycopg", "mlflow"), f"s3://{BUCKET}/mlflow", endpoint)
        )
        prefect = stack.enter_context(run_prefect(home, postgres.url("asyncpg", "prefect")))
        settings = {**S3, "MLFLOW_TRACKING_URI": mlflow, "PREFECT_API_URL": prefect}
        first = Workspace(make_workspace(home / "first").root, settings)
        _share_first(first, home / "origin.git", endpoint)
        second = Workspace(home / "second", settings)
        _clone(second, home / "origin.git")
        yield Team(postgres, endpoint, first, second)


def _share_first(first, origin, endpoint):
    """Make a model in the first clone, and hand on all that others need."""
    for command in (
        ("git", "init", "-q", "--bare", "-b", "main", str(origin)),
        ("git", "remote", "add", "origin", str(origin)),
        ("dvc", "remote", "add", "-d", "team", f"s3://{BUCKET}/dvc"),
        ("dvc", "remote", "modify", "team", "endpointurl", endpoint),
        ("git", "commit", "-qam", "Where the data are"),
        Workspace.command(["run", "--preset", "quick"]),
        ("git", "commit", "-qam", "A small model"),
        ("dvc", "push", "-q"),
        ("git", "push", "-q", "origin", "main", "refs/mno/*:refs/mno/*"),
    ):
        first.run(*command, check=True)


def _clone(second, origin):
    place = Workspace(second.root.parent, second.variables)
    place.run("git", "clone", "-q", str(origin), second.root.name, check=True)
    for command in (
        ("git", "config", "user.name", "Colleague"),
        ("git", "config", "user.email", "colleague@localhost"),
        ("git", "fetch", "-q", "origin", "refs/mno/*:refs/mno/*"),
        ("dvc", "pull", "-q"),
    ):
        second.run(*command, check=True)


def test_what_is_made_lies_on_the_servers(team):
    files = team.stored("mlflow/")
    assert any(name.endswith("record.json") for name in files)
    assert any(name.endswith("candidate/weights.safetensors") for name in files)
    assert team.stored("dvc/files/md5/")
    for clone in (team.first, team.second):
        assert not (clone.root / "mlflow.db").exists() and not (clone.root / "mlartifacts").exists()


def test_a_colleague_audits_asks_and_tidies(team):
    audit = team.second.mno("audit", "models:/mno-darcy@champion", "--json")
    assert audit.returncode == 0, audit.stdout + audit.stderr
    assert json.loads(audit.stdout)["verdicts"]["changed"] == 0
    status = team.second.mno("status", "--json")
    assert [model["version"] for model in json.loads(status.stdout)["registry"]] == [1]
    tidied = team.second.mno("gc")
    assert tidied.returncode == 0 and "its runs and models stay" in tidied.stdout
    pages = team.second.mno("ui")
    assert pages.returncode == 2 and "is a server, which has pages" in pages.stderr


def test_a_colleague_trains_by_two_processes_promotes_and_serves(team):
    second = team.second
    made = second.mno("run", "--set", "train.processes=2", "--set", "train.epochs=6")
    assert made.returncode == 0, made.stdout + made.stderr
    assert json.loads((second.root / "reports/registered.json").read_text())["version"] == 2
    second.mno("promote", "2", "--reason", "Tried by two", check=True)
    history = second.mno("promote", "--history", "--json", check=True)
    assert json.loads(history.stdout)["champion"] == 2
    port = free_port()
    service = second.start("serve", "--port", str(port))
    try:
        address = f"http://127.0.0.1:{port}"
        ask, deadline = answers_at(f"{address}/ping"), time.monotonic() + 300
        while not ask():
            assert service.poll() is None and time.monotonic() < deadline, second.output.read_text()
            time.sleep(0.5)
        body = {"inputs": {"permeability": [[[1.0] * 16] * 16]}}
        answer = httpx.post(f"{address}/invocations", json=body, timeout=60).json()
        assert answer["model"] == "mno-darcy/2"
        assert len(answer["predictions"]["pressure"][0]) == 16
    finally:
        service.send_signal(signal.SIGTERM)
        service.wait(60)
    audit = second.mno("audit", "models:/mno-darcy/2")
    assert audit.returncode == 0, audit.stdout + audit.stderr


def test_a_helper_that_is_killed_ends_the_training_with_one_line(team):
    shutil.copytree(team.second.root, root := team.second.root.with_name("killed"), symlinks=True)
    clone = Workspace(root, team.second.variables)
    longer = ("train", "--set", "train.processes=2", "--set", "train.epochs=24")
    training = clone.start(*longer)
    try:
        helper = _helper(training.pid)
        while "epoch 1/24" not in clone.output.read_text():
            assert training.poll() is None, clone.output.read_text()
            time.sleep(0.1)
        helper.kill()
        assert training.wait(120) == 1
    finally:
        training.kill()
    said = clone.output.read_text()
    assert "process 2 of 2 of the training ended (exit code -9)" in said
    assert "Traceback" not in said
    again = clone.mno(*longer)
    assert again.returncode == 0, again.stdout + again.stderr
    assert re.search(r"continuing after epoch \d+ of 24", again.stdout + again.stderr)


def _helper(pid):
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        for child in psutil.Process(pid).children(recursive=True):
            with suppress(psutil.Error):  # it has ended meanwhile
                if "--multiprocessing-fork" in child.cmdline():
                    return child
        time.sleep(0.1)
    raise AssertionError("no second process was started")


def test_a_database_without_a_server_of_mlflows(team):
    root = team.second.root.with_name("direct")
    shutil.copytree(team.first.root, root, symlinks=True)
    settings = {
        **team.first.variables,
        "MLFLOW_TRACKING_URI": team.postgres.url("psycopg", "direct"),
        "MLFLOW_S3_ENDPOINT_URL": team.endpoint,
    }
    refused = Workspace(root, settings).mno("run", "--set", "train.epochs=2")
    assert refused.returncode and "MLFLOW_DEFAULT_ARTIFACT_ROOT" in refused.stderr
    assert "line-secret" not in refused.stdout + refused.stderr
    place = {"MLFLOW_DEFAULT_ARTIFACT_ROOT": f"s3://{BUCKET}/direct"}
    direct = Workspace(root, {**settings, **place})
    made = direct.mno("run", "--set", "train.epochs=2")
    assert made.returncode == 0, made.stdout + made.stderr
    assert any(n.endswith("candidate/weights.safetensors") for n in team.stored("direct/"))
    audit = direct.mno("audit", "models:/mno-darcy@champion")
    assert audit.returncode == 0, audit.stdout + audit.stderr
    assert "line-secret" not in Path(root / "reports/registered.json").read_text()


def test_a_schedule_is_kept_by_the_teams_server_and_models_by_everybody(team):
    second = team.second
    second.mno("schedule", "--cron", "* * * * *", "--timezone", "Asia/Tokyo", check=True)
    server = second.start("schedule", "serve")
    listed, ended, deadline = {}, [], time.monotonic() + 300
    try:
        while not ended:
            assert server.poll() is None and time.monotonic() < deadline, second.output.read_text()
            listed = json.loads(second.mno("schedule", "list", "--json", check=True).stdout)
            ended = [run for run in listed["runs"] if run["ended"]]
        assert listed["serving"] and listed["plan"]["schedule"]["timezone"] == "Asia/Tokyo"
        asked = httpx.get(f"{second.variables['PREFECT_API_URL']}/flow_runs/{ended[0]['id']}")
        assert asked.json()["state"]["type"] == "COMPLETED"
    finally:
        server.send_signal(signal.SIGTERM)
        assert server.wait(120) == 0
    second.mno("schedule", "remove", check=True)
    doctor = second.mno("doctor", "--versions", "--json")
    assert doctor.returncode == 0, doctor.stdout + doctor.stderr
    replay = second.mno("replay", "models:/mno-darcy/2", "--json")
    assert replay.returncode == 0, replay.stdout + replay.stderr
    assert json.loads(replay.stdout)["verdicts"]["changed"] == 0
