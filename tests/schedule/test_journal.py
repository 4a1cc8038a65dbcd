"""What a workspace knows of its scheduled runs without Prefect."""

from __future__ import annotations

import os
import time
from datetime import timedelta
from pathlib import Path

import pytest

from flows import schedule as journal
from flows.retrain import TooLongError, at_most
from flows.schedule import PLAN, Plan, read_plan, write_plan
from mno.core.files import locked


@pytest.fixture
def planned(tmp_path: Path) -> Path:
    write_plan(tmp_path, Plan(cron="0 3 * * *", since=journal.now().isoformat()))
    return tmp_path


def test_a_run_that_is_due_and_neither_begins_nor_is_paused_is_overdue(planned: Path) -> None:
    for early in (timedelta(hours=1), -journal.GRACE / 2):  # late by seconds is not overdue
        journal.set_due(planned, journal.now() + early)
        assert journal.overdue(planned) is None
    journal.set_due(planned, journal.now() - timedelta(hours=1))
    said = journal.overdue(planned)
    assert said is not None and "should have run at" in said and "no mno schedule serve" in said
    with locked(planned / journal.RETRAIN_LOCK, "a retraining"):
        assert journal.overdue(planned) is None
    assert journal.overdue(planned) is not None
    plan = read_plan(planned)
    assert plan is not None
    write_plan(planned, plan.model_copy(update={"paused": True}))
    assert journal.overdue(planned) is None


def test_runs_are_kept_up_to_a_number_and_in_order(tmp_path: Path) -> None:
    for number in range(130):
        journal.begin(tmp_path, {"id": str(number)}, None)
        journal.end(tmp_path, {"id": str(number), "outcome": "nothing changed"})
    runs = journal.read_journal(tmp_path).runs
    assert [run["id"] for run in runs] == [str(number) for number in range(30, 130)]
    assert runs[-1]["pid"] == os.getpid()


def test_a_run_whose_process_was_killed_is_set_crashed_once(tmp_path: Path) -> None:
    journal.begin(tmp_path, {"id": "1"}, None)
    assert [run["id"] for run in journal.end_crashed(tmp_path)] == ["1"]
    assert journal.read_journal(tmp_path).runs[0]["outcome"] == "crashed"
    assert journal.end_crashed(tmp_path) == []


@pytest.mark.parametrize("text", ["", "{", "[]", '{"runs": 3}', '{"cron": 5}'])
def test_damaged_files_are_as_none(tmp_path: Path, text: str) -> None:
    (tmp_path / PLAN).parent.mkdir(parents=True)
    (tmp_path / PLAN).write_text(text)
    (tmp_path / journal.JOURNAL).write_text(text)
    assert read_plan(tmp_path) is None
    assert journal.read_journal(tmp_path).runs == []
    assert journal.overdue(tmp_path) is None


def test_what_takes_too_long_is_stopped_in_its_sleep() -> None:
    with pytest.raises(TooLongError, match="--max-hours"), at_most(0.2 / 3600):
        time.sleep(60)
    with pytest.raises(TooLongError), at_most(0.2 / 3600):
        try:
            time.sleep(60)
        except Exception as error:  # as libraries do
            raise ValueError("something else") from error
    with at_most(0.2 / 3600):
        pass
    time.sleep(0.3)  # the limit has ended with its body
