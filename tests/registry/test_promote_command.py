"""`mno promote` and `mno doctor --notify` as a person types them."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from registry_shop import Shop
from typer.testing import CliRunner, Result

from flows.cli import app
from flows.notify import read_settings, who_is_told
from mno.core.errors import InputError, MnoError

ROOT = Path(__file__).parents[2]
HUMAN = {"scenario": "darcy", "seed": 1, "promotion": {"approval": "human"}}


@pytest.fixture
def stand(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> Shop:
    """A shop that the command takes for a workspace, with the person's shell in it."""
    (shop.root / "dvc.yaml").write_text("stages: {}\n")
    shop.git("add", "dvc.yaml")
    shop.git("commit", "-q", "-m", "The line")
    shop.git("config", "user.name", "Anna")
    shop.git("config", "user.email", "anna@plant.test")
    (shop.root / "notify.yaml").write_text("file: told.jsonl\n")
    for key in ("PREFECT_HOME", "PATH"):  # set by the command for all that it starts
        monkeypatch.setenv(key, os.environ.get(key, ""))
    monkeypatch.chdir(shop.root)
    return shop


def mno(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


def answer(*arguments: str) -> dict:
    done = mno(*arguments, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def told(shop: Shop) -> list[dict]:
    return [json.loads(line) for line in (shop.root / "told.jsonl").read_text().splitlines()]


def test_what_waits_is_listed_approved_with_a_name_and_told(stand: Shop) -> None:
    evaluated = stand.train(1)
    stand.register(evaluated)
    better = dataclasses.replace(stand.train(2), relative_l2=0.05)
    stand.register(better, params=HUMAN)
    (waits,) = answer("promote", "--waiting")["waiting"]
    assert (waits["version"], waits["judged"]["champion"]) == (2, 1)
    assert "mno promote 2 --refuse" in mno("promote", "--waiting").stdout
    with pytest.raises(InputError, match="needs a reason"):
        raise mno("promote", "2").exception or AssertionError
    done = answer("promote", "2", "--reason", "agrees with furnace 2")
    assert (done["how"], done["by"]) == ("approval", "Anna <anna@plant.test>")
    assert done["not_told"] == []
    (event,) = told(stand)
    assert event["kind"] == "promotion"
    assert "agrees with furnace 2\nDecided by Anna <anna@plant.test>." in event["text"]
    shown = mno("promote", "--history").stdout
    assert "Anna <anna@plant.test> (approval)" in shown
    assert "agrees with furnace 2" in shown
    back = mno("promote", "--rollback")
    assert "version 1 is champion now, in place of version 2" in back.stdout
    assert "Next: mno promote --history" in back.stdout
    reigns = answer("promote", "--history")["reigns"]
    assert [(r["version"], r["how"]) for r in reigns] == [
        (1, "rule"), (2, "approval"), (1, "rollback"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "nothing given; expected one of VERSION, --rollback, --waiting and --history"),
        (["2", "--rollback"], "VERSION and --rollback given"),
        (["--history", "--refuse"], "expected: mno promote VERSION --refuse"),
        (["--history", "--reason", "x"], "--reason given with --history"),
        (["two"], "'two': expected the number of a version"),
        (["1"], "no registry"),
        (["--history"], "no registry"),
    ],
)
def test_wrong_use_is_one_line(stand: Shop, arguments: list[str], said: str) -> None:
    (stand.root / "mlflow.db").unlink()
    error = mno("promote", *arguments).exception
    assert isinstance(error, InputError)
    assert said in str(error)
    assert "\n" not in str(error)
    assert not (stand.root / "mlflow.db").exists()


def test_what_is_not_registered_is_said(stand: Shop) -> None:
    for arguments in (["7"], ["--history"], ["--rollback"], ["models:/mno-other/1"]):
        error = mno("promote", *arguments).exception
        assert isinstance(error, MnoError), arguments
        assert "mno-" in str(error)


def test_a_test_event_reaches_the_receiver_or_says_why_not(stand: Shop) -> None:
    done = mno("doctor", "--notify")
    assert done.exit_code == 0 and "file " in done.stdout and "told of a test" in done.stdout
    assert [event["kind"] for event in told(stand)] == ["test"]
    assert who_is_told(read_settings(stand.root)).startswith("told: file; of: failure, promotion")
    (stand.root / "notify.yaml").write_text("file: .\n")
    done = mno("doctor", "--notify")
    assert done.exit_code == 1
    assert "PROBLEM  file " in done.stdout
    (stand.root / "notify.yaml").unlink()
    assert "nobody is told" in who_is_told(read_settings(stand.root))
    assert isinstance(mno("doctor", "--notify").exception, InputError)


def test_a_refused_command_ends_with_2_and_no_traceback(stand: Shop) -> None:
    (stand.root / "notify.yaml").write_text("fiel: told.jsonl\n")
    done = subprocess.run(
        [sys.executable, "-m", "flows.cli", "doctor", "--notify"],
        cwd=stand.root, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr == (
        "error: notify.yaml: fiel is not a parameter "
        "(known here: events, timeout, file, webhook, email)\n"
    )
