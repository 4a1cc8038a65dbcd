"""A flow run whose process was killed does not stay running for ever."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from prefect import flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import State
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Completed, Running

from flows.pipeline import FILE, at_work, set_silent_crashed


@pytest.fixture
def client(prefect_api: str) -> Iterator[SyncPrefectClient]:
    with temporary_settings({PREFECT_API_URL: prefect_api}), get_client(sync_client=True) as made:
        yield made


@flow
def some_work() -> None:
    """What a run is of."""


def a_run(client: SyncPrefectClient, state: State) -> str:
    return str(client.create_flow_run(some_work, state=state).id)


def state_of(client: SyncPrefectClient, run: str) -> tuple[str, str | None]:
    state = client.read_flow_run(UUID(run)).state
    return (state.type.value, state.message) if state else ("", None)


def die_at_work(root: Path, run: str) -> None:
    with pytest.raises(KeyboardInterrupt), at_work(root, run, pytest.fail):
        raise KeyboardInterrupt


def test_the_next_run_sets_a_killed_one_crashed_and_leaves_a_finished_one(
    client: SyncPrefectClient, tmp_path: Path
) -> None:
    killed, done = a_run(client, Running()), a_run(client, Completed())
    die_at_work(tmp_path, killed)
    assert state_of(client, killed)[0] == "RUNNING"
    with at_work(tmp_path, done, pytest.fail):
        kind, said = state_of(client, killed)
        assert kind == "CRASHED" and "was killed" in str(said)
        assert json.loads((tmp_path / FILE).read_text()) == {"id": done}
    assert not (tmp_path / FILE).exists()
    die_at_work(tmp_path, done)
    with at_work(tmp_path, None, pytest.fail):
        assert state_of(client, done)[0] == "COMPLETED"


@pytest.mark.parametrize("left", [{"id": str(uuid4())}, {}, []])
def test_a_run_of_another_server_stops_nothing(
    client: SyncPrefectClient, tmp_path: Path, left: object
) -> None:
    (tmp_path / FILE).parent.mkdir(parents=True)
    (tmp_path / FILE).write_text(json.dumps(left))
    with at_work(tmp_path, None, pytest.fail):
        pass
    assert not (tmp_path / FILE).exists()


def test_an_id_that_is_none_and_a_server_that_is_gone_are_told(tmp_path: Path) -> None:
    said: list[str] = []
    (tmp_path / FILE).parent.mkdir(parents=True)
    (tmp_path / FILE).write_text(json.dumps({"id": "nonsense"}))
    nobody = {PREFECT_API_URL: "http://127.0.0.1:9/api"}
    with temporary_settings(nobody), at_work(tmp_path, None, said.append):
        pass
    assert len(said) == 1 and "Prefect was not told" in said[0]


def test_runs_of_a_deployment_that_died_without_a_trace_are_set_crashed(
    client: SyncPrefectClient, tmp_path: Path
) -> None:
    flow_id = client.create_flow(some_work)
    deployment = client.create_deployment(flow_id, name=f"nightly {uuid4()}")

    def running() -> str:
        made = client.create_flow_run_from_deployment(deployment)
        client.set_flow_run_state(made.id, Running(), force=True)
        return str(made.id)

    dead, asking, of_no_deployment = running(), running(), a_run(client, Running())
    set_silent_crashed(str(deployment), asking, pytest.fail)  # it may still come to the lock
    assert state_of(client, dead)[0] == "RUNNING"
    set_silent_crashed(str(deployment), asking, pytest.fail, grace=timedelta(0))
    assert state_of(client, dead)[0] == "CRASHED"
    for alive in (asking, of_no_deployment):
        assert state_of(client, alive)[0] == "RUNNING"
    set_silent_crashed(None, asking, pytest.fail)  # a run by hand
    said: list[str] = []
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        set_silent_crashed(str(deployment), asking, said.append)
    assert len(said) == 1 and "was not asked" in said[0]
