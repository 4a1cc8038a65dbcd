"""Drift through the real service: inputs unlike the training data are served, and lead to a run."""

from __future__ import annotations

import json
import os
import re
import signal
import time

import httpx
import numpy as np
import pytest
import xarray

from mno.serving.counts import read
from tests.support.workspaces import Workspace

pytestmark = [pytest.mark.slow, pytest.mark.nightly, pytest.mark.timeout(1500)]
BATCH, UNLIKE, LIKE = 32, 4, 1  # samples per request; requests
FACTOR = 30.0  # of the permeability: far outside of what the model was trained on


def ask(address: str, permeability: np.ndarray) -> None:
    body = {"inputs": {"permeability": permeability.tolist()}}
    httpx.post(address, json=body, timeout=120).raise_for_status()


def serve_drifted_inputs(workspace: Workspace) -> None:
    server = workspace.start("serve", "--port", "0")
    try:
        address = None
        while address is None:
            assert server.poll() is None, workspace.output.read_text()
            address = re.search(r"http://\S+/invocations", workspace.output.read_text())
            time.sleep(0.1)
        usual = xarray.open_zarr(workspace.root / "data")["permeability"][:BATCH].values
        for factor in (FACTOR,) * UNLIKE + (1.0,) * LIKE:
            ask(address.group(), factor * usual)
    finally:
        os.kill(server.pid, signal.SIGTERM)
        server.wait(60)


def scheduled_run(workspace: Workspace) -> dict:
    return json.loads(workspace.mno("schedule", "run", "--json", check=True).stdout)


def test_inputs_unlike_the_training_data_lead_to_one_retraining(workspace: Workspace) -> None:
    # The copy has an empty registry: the model is registered, and nothing is left to do.
    assert scheduled_run(workspace)["outcome"] == "updated"
    serve_drifted_inputs(workspace)
    (seen,) = read(workspace.root).values()
    assert seen["judged"] == BATCH * (UNLIKE + LIKE)
    assert BATCH * UNLIKE <= seen["flagged"] <= BATCH * UNLIKE + BATCH // 4

    # There is a reason, and nothing that another training would do otherwise.
    found = scheduled_run(workspace)
    (reason,) = found["reasons"]
    assert re.match(r"drift: \d+% of 160 inputs served by mno-darcy/1 are unlike", reason)
    assert found["outcome"] == "nothing changed" and "import new data" in found["said"]

    params = workspace.root / "params.yaml"
    text = params.read_text().replace("    set: {}", "    set: {seed: 5}")
    params.write_text(text.replace("  tidy: false", "  tidy: true"))
    assert scheduled_run(workspace)["outcome"] == "nothing changed"  # that drift has been noted
    serve_drifted_inputs(workspace)
    found = scheduled_run(workspace)
    assert found["reasons"][0].startswith("drift: ")
    assert found["outcome"] == "trained" and found["model"] == "models:/mno-darcy/2"
    assert "tidied: " in found["said"]
    assert "seed: 5" in params.read_text()
