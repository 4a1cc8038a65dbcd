"""What a person meets who has the line run by the clock."""

import json
from datetime import datetime

import httpx
import pytest


def listed(workspace):
    return json.loads(workspace.mno("schedule", "list", "--json", check=True).stdout)


@pytest.mark.slow
def test_a_schedule_is_made_paused_resumed_and_removed(workspace, prefect_api):
    assert listed(workspace)["plan"] is None
    refused = workspace.mno("schedule", "pause")
    assert refused.returncode == 2
    assert "begin with: mno schedule --cron" in refused.stderr

    made = workspace.mno("schedule", "--cron", "0 3 * * *", "--timezone", "Asia/Tokyo", check=True)
    assert "cron 0 3 * * * in Asia/Tokyo" in made.stdout
    assert "mno schedule serve" in made.stdout
    found = listed(workspace)
    assert datetime.fromisoformat(found["next"]).astimezone().timestamp() % 86400 == 18 * 3600
    assert found["overdue"] is None and found["serving"] is None

    workspace.mno("schedule", "pause", check=True)
    found = listed(workspace)
    assert found["plan"]["paused"] and found["next"] is None
    workspace.mno("schedule", "resume", check=True)
    found = listed(workspace)
    assert not found["plan"]["paused"] and found["next"]

    # A time that has passed, as after a night in which the machine was off.
    night = {"start_time": "2026-01-02T00:00:00Z", "end_time": "2026-01-02T23:00:00Z"}
    address = f"{prefect_api}/deployments/{found['plan']['deployment']}/schedule"
    httpx.post(address, json=night).raise_for_status()
    assert "should have run at 2026-01-02" in listed(workspace)["overdue"]
    status = workspace.mno("status", check=True).stdout
    assert "should have run at 2026-01-02" in status
    assert "Next: mno schedule serve" in status

    workspace.mno("schedule", "remove", check=True)
    assert listed(workspace)["plan"] is None
