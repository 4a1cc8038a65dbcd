"""When a plan fires, and what is known of its runs, from Prefect's server or from its database."""

import asyncio
import json
import time
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from uuid import UUID, uuid4

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.schedules import CronSchedule
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Completed, Failed, Running, Scheduled

from flows import schedule, schedule_service
from flows.params import DriftConfig
from flows.pipeline import end_killed
from flows.retrain import TooLongError, at_most, drift, look, served
from flows.schedule import parse_interval, parse_timezone, read_schedule
from flows.schedule_service import change, check_cron, next_dates
from mno.core.errors import InputError, MnoError
from mno.core.files import locked
from tests.support.workspaces import make_workspace

MARCH = "2027-03-27T12:00:00+00:00"  # the day before clocks go forward in Europe
OCTOBER = "2026-10-24T12:00:00+00:00"  # and before they go back


@pytest.mark.parametrize(
    ("cron", "timezone", "after", "expected"),
    [
        # Three in the morning is three in the morning, whatever the offset.
        ("0 3 * * *", "Europe/Berlin", MARCH, ["03-28 01:00", "03-29 01:00"]),
        ("0 3 * * *", "Europe/Berlin", "2027-03-26T12:00:00+00:00", ["03-27 02:00", "03-28 01:00"]),
        ("0 3 * * *", "Europe/Berlin", OCTOBER, ["10-25 02:00", "10-26 02:00"]),
        # Half past two does not exist on 28 March: it runs an hour later, once.
        ("30 2 * * *", "Europe/Berlin", MARCH, ["03-28 01:30", "03-29 00:30"]),
        # It comes twice on 25 October: it runs the first time only.
        ("30 2 * * *", "Europe/Berlin", OCTOBER, ["10-25 00:30", "10-26 01:30"]),
        ("0 3 * * *", "Asia/Tokyo", MARCH, ["03-27 18:00", "03-28 18:00"]),
    ],
)
def test_a_cron_keeps_to_the_clock_of_its_time_zone(cron, timezone, after, expected):
    dates = next_dates({"cron": cron, "timezone": timezone}, 2, datetime.fromisoformat(after))
    assert [date.astimezone(UTC).strftime("%m-%d %H:%M") for date in dates] == expected


def test_an_interval_counts_on_across_a_change_of_clocks():
    since = {"anchor_date": "2027-03-27T15:00:00+00:00", "timezone": "Europe/Berlin"}
    after = datetime.fromisoformat("2027-03-27T16:00:00+00:00")
    dates = next_dates({"interval": 6 * 3600.0, **since}, 3, after)
    first, second, third = (date.timestamp() for date in dates)
    assert second - first == third - second == 6 * 3600


@pytest.mark.parametrize(("text", "seconds"), [("30m", 1800), ("1h", 3600), ("2d", 172800)])
def test_intervals_are_read_as_people_write_them(text, seconds):
    assert parse_interval(text) == seconds


@pytest.mark.parametrize("text", ["", "0s", "-1h", "1 fortnight", "900d", "h"])
def test_no_interval_says_what_one_is(text):
    with pytest.raises(InputError, match=r"--interval .*expected .*2d"):
        parse_interval(text)


@pytest.mark.parametrize("name", ["Mars/Phobos", "", "../../etc/passwd", "Europe"])
def test_no_time_zone_says_what_one_is(name):
    with pytest.raises(InputError, match="Asia/Tokyo"):
        parse_timezone(name)


@pytest.mark.parametrize("cron", ["", "x", "99 3 * * *", "0 0 30 2 *", "* * *", "0 0 3 * * *"])
def test_no_cron_says_what_one_is(cron):
    with pytest.raises(InputError, match="--cron .* expected"):
        check_cron({"cron": cron, "timezone": "UTC"})


@flow(name="retrain")
def some_work() -> None:
    """What a run is of."""


@pytest.fixture
def client(prefect_api):
    with temporary_settings({PREFECT_API_URL: prefect_api}), get_client(sync_client=True) as made:
        yield made


@pytest.fixture(params=["a server", "a database"])
def root(request, prefect_api, tmp_path, tmp_path_factory, monkeypatch):
    """A workspace whose Prefect is asked in one of the two ways."""
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    if request.param == "a server":
        monkeypatch.setenv("PREFECT_API_URL", prefect_api)
    else:
        (database,) = tmp_path_factory.getbasetemp().glob("prefect[0-9]*/prefect.db")
        monkeypatch.setenv("PREFECT_HOME", str(database.parent))
    return tmp_path


def deploy(client, name):
    clock = CronSchedule(cron="0 3 * * *", timezone="Asia/Tokyo")
    return client.create_deployment(
        client.create_flow(some_work), name=name, parameters={"max_hours": 6.0},
        schedules=[DeploymentScheduleCreate(schedule=clock)],
    )  # fmt: skip


def a_run(client, root, *states, **noted):
    made = client.create_flow_run(some_work, tags=[schedule.mark(root)] if root else [])
    if noted:
        client.update_flow_run_labels(made.id, {schedule.LABEL: json.dumps(noted)})
    for state in states:
        client.set_flow_run_state(made.id, state, force=True)
    return str(made.id)


def state_of(client, run):
    return client.read_flow_run(UUID(run)).state.type.value


def test_a_run_that_is_due_and_neither_begins_nor_is_paused_is_overdue(client, root):
    assert read_schedule(root)["plan"] is None
    identity = deploy(client, schedule.deployment_name(root))
    plan = {"deployment": str(identity)}
    change(plan, "resume")
    found = read_schedule(root)
    assert found["plan"]["words"] == "cron 0 3 * * * in Asia/Tokyo"
    assert (found["plan"]["max_hours"], found["plan"]["deployment"]) == (6.0, str(identity))
    assert datetime.fromisoformat(found["next"]).timestamp() % 86400 == 18 * 3600
    assert datetime.fromisoformat(found["next"]) > schedule.now()
    for late, overdue in ((schedule.GRACE / 2, False), (2 * schedule.GRACE, True)):
        due = Scheduled(scheduled_time=schedule.now() - late)
        client.create_flow_run_from_deployment(identity, state=due, tags=["auto-scheduled"])
        said = read_schedule(root)["overdue"]
        assert (said is not None) == overdue
    assert "should have run at" in str(said) and "no mno schedule serve" in str(said)
    with locked(root / schedule.RETRAIN_LOCK, "a retraining"):
        assert read_schedule(root)["overdue"] is None
    change(plan, "pause")
    found = read_schedule(root)
    assert found["plan"]["paused"] and found["next"] is None and found["overdue"] is None
    change(plan, "remove")
    change(plan, "remove")  # as by Prefect's page meanwhile
    assert read_schedule(root)["plan"] is None


def test_runs_are_in_order_with_what_they_noted_or_their_state(client, root):
    a_run(client, root, Running(), Completed(), outcome="trained", reasons=["data: new"], said="a")
    a_run(client, root, Running(), Failed(message="no room"))
    a_run(client, None, Running())  # that did not have the workspace
    first, second = read_schedule(root)["runs"]
    assert (first["outcome"], second["outcome"]) == ("trained", "failed")
    assert schedule.why_and_what(first) == "data: new → a"
    assert second["said"] == "no room" and second["reasons"] == []
    assert first["began"] <= first["ended"] <= second["ended"]


def test_a_run_whose_process_was_killed_is_crashed_and_set_so_once(client, root):
    killed = a_run(client, root, Running(), reasons=["data: new"])
    ending = a_run(client, root, Running(), outcome="nothing changed", said="")
    with locked(root / schedule.RETRAIN_LOCK, "a retraining"):
        assert read_schedule(root)["runs"][0]["outcome"] is None
    runs = read_schedule(root)["runs"]
    assert [run["outcome"] for run in runs] == ["crashed", "nothing changed"]
    assert runs[0]["reasons"] == ["data: new"] and "was killed" in runs[0]["said"]
    assert [str(run.id) for run in end_killed(root, "retrain", pytest.fail)] == [killed]
    assert (state_of(client, killed), state_of(client, ending)) == ("CRASHED", "RUNNING")
    assert read_schedule(root)["runs"][0]["outcome"] == "crashed"
    assert end_killed(root, "retrain", pytest.fail) == []


def test_runs_of_a_deployment_that_died_without_a_trace_are_set_crashed(client, tmp_path):
    deployment = deploy(client, f"nightly {uuid4()}")
    dead = client.create_flow_run_from_deployment(deployment).id
    client.set_flow_run_state(dead, Running(), force=True)
    other = a_run(client, None, Running())
    asked = tmp_path, "retrain", pytest.fail, str(deployment)
    assert end_killed(*asked) == []  # it may still come to the lock
    assert [run.id for run in end_killed(*asked, grace=timedelta(0))] == [dead]
    assert (state_of(client, str(dead)), state_of(client, other)) == ("CRASHED", "RUNNING")


def test_a_prefect_that_is_away_or_damaged_is_said_in_one_line(tmp_path, monkeypatch):
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    assert read_schedule(tmp_path)["plan"] is None
    (tmp_path / "prefect.db").write_text("not a database" * 100)
    with pytest.raises(MnoError, match="prefect.db.* cannot be read"):
        read_schedule(tmp_path)
    nowhere, said = "http://127.0.0.1:9/api", []
    with temporary_settings({PREFECT_API_URL: nowhere}):
        assert end_killed(tmp_path, "retrain", said.append) == []
    assert len(said) == 1 and "was not asked" in said[0]
    monkeypatch.setenv("PREFECT_API_URL", nowhere)
    with pytest.raises(MnoError, match="127.0.0.1:9.* does not answer"):
        read_schedule(tmp_path)


def test_a_server_that_does_not_start_is_said_once_and_tried_again(client, monkeypatch, capsys):
    monkeypatch.setattr(schedule_service, "LOOK", 0.01)
    tries, ended = [], asyncio.Event()

    def restart():
        tries.append(1)
        if len(tries) < 4:
            raise MnoError("the server did not start")

    async def watch():
        runner = SimpleNamespace(handle_sigterm=ended.set)
        async with get_client() as at_server:
            await schedule_service._watch(at_server, uuid4(), restart, runner)

    asyncio.run(watch())  # until there is no such deployment
    assert ended.is_set() and len(tries) == 4
    said = capsys.readouterr().out.splitlines()
    assert said == [
        "the server did not start; it is tried again until it does", "the schedule was removed",
    ]  # fmt: skip


@pytest.mark.timeout(30, method="thread")  # the alarm is for what is tested
def test_what_takes_too_long_is_stopped_in_its_sleep():
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


CONFIG = DriftConfig(flagged_share=0.2, mean_bound=0.1, least_samples=100)


def count(root, file, version, **counts):
    """Write a file as `mno serve` does."""
    folder = root / "build/serving"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / file).write_text(json.dumps({"format": 2, "versions": {version: counts}}))


def found(root, before=None, config=CONFIG):
    return drift(before or {}, served(root, "mno-darcy"), config)


def test_the_share_of_flagged_inputs_counts_over_all_services(tmp_path):
    assert found(tmp_path) is None
    count(tmp_path, "a.json", "mno-darcy/3", judged=60, flagged=10)
    count(tmp_path, "b.json", "mno-darcy/3", judged=60, flagged=20)
    reason = found(tmp_path)
    assert reason is not None and reason.kind == "drift"
    assert "25% of 120 inputs served by mno-darcy/3" in reason.text
    assert served(tmp_path, "mno-burgers") == {}


def test_few_samples_and_shares_below_the_threshold_are_none(tmp_path):
    for judged, flagged, drifted in ((99, 99, False), (100, 20, False), (100, 21, True)):
        count(tmp_path, "a.json", "mno-darcy/3", judged=judged, flagged=flagged)
        assert (found(tmp_path) is not None) == drifted
    assert found(tmp_path, config=DriftConfig(flagged_share=None)) is None


def test_large_bounds_on_the_error_are_drift(tmp_path):
    count(tmp_path, "a.json", "mno-darcy/3", judged=200, flagged=0, bounded=100, bound=12.0)
    assert "12.00%" in str(found(tmp_path))


def test_what_has_led_to_a_run_does_not_lead_to_another(tmp_path):
    count(tmp_path, "a.json", "mno-darcy/3", judged=100, flagged=50)
    seen = served(tmp_path, "mno-darcy")
    assert found(tmp_path, seen) is None
    count(tmp_path, "a.json", "mno-darcy/3", judged=210, flagged=160)
    assert found(tmp_path, seen) is not None
    # Another service, which counts from nothing.
    count(tmp_path, "a.json", "mno-darcy/3", judged=100, flagged=30)
    assert found(tmp_path, seen) is not None


def test_a_file_of_counts_that_is_none_counts_nothing(tmp_path):
    (tmp_path / "build/serving").mkdir(parents=True)
    for number, text in enumerate(("", "[]", '{"versions": 3}', '{"versions": {"m/1": 2}}')):
        (tmp_path / f"build/serving/{number}.json").write_text(text)
    count(tmp_path, "e.json", "mno-darcy/1", judged="many", flagged=None)
    assert found(tmp_path) is None


def test_a_run_that_fails_is_told_once_and_uses_up_no_drift(
    client, prefect_api, tmp_path, monkeypatch
):
    monkeypatch.setenv("PREFECT_API_URL", prefect_api)
    workspace = make_workspace(tmp_path / "workspace")
    root, version = workspace.root, "mno-batch_furnace-readings/1"
    (root / "notify.yaml").write_text("file: told.jsonl\n")
    (root / "build/done").mkdir(parents=True)
    (root / "build/done/register").touch()
    stages = (root / "dvc.yaml").read_text()
    (root / "dvc.yaml").write_text(stages.replace("python -m pipelines.generate", "'false'", 1))
    before = {version: {"judged": 100.0, "flagged": 90.0, "bounded": 0.0, "bound": 0.0}}
    a_run(client, root, Running(), Completed(), outcome="trained", said="", served=before)
    count(root, "a.json", version, judged=250, flagged=240)
    (unusable,) = (reason for reason in look(root)[0] if reason.kind == "registry")
    assert unusable.text == "register: there is no reports/registered.json that can be read"
    assert workspace.mno("schedule", "run", "--quiet").returncode == 1
    run = read_schedule(root)["runs"][-1]
    assert (run["outcome"], run["said"]) == ("failed", "generate: dvc repro failed")
    assert run["reasons"][-1].startswith(f"drift: 100% of 150 inputs served by {version}")
    assert run["served"] == before
    (event,) = (root / "told.jsonl").read_text().splitlines()
    assert "drift: 100%" in event
