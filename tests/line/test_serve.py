"""What a person meets who serves the model that `mno run` has registered."""

import os
import re
import signal
import socket
import time
from base64 import b64decode

import httpx
import numpy as np
import pytest
import xarray

from mno.serving.counts import read


@pytest.mark.slow
def test_the_champion_is_served_until_it_is_told_to_end(finished):
    server = finished.start("serve", "--port", "0")
    try:
        address = None
        while address is None:
            assert server.poll() is None, finished.output.read_text()
            address = re.search(r"http://\S+/invocations", finished.output.read_text())
            time.sleep(0.1)
        permeability = xarray.open_zarr(finished.root / "data")["permeability"][:2].values
        body = {"inputs": {"permeability": permeability.tolist()}}
        answer = httpx.post(address.group(), json=body, timeout=60)
        assert answer.status_code == 200, answer.text
        assert answer.json()["model"].startswith("mno-darcy/")
        assert np.shape(answer.json()["predictions"]["pressure"]) == permeability.shape
        trust = answer.json()["trust"]
        assert len(trust["relative_l2_bound"]) == len(trust["unlike_training"]) == 2
        _try(address.group().removesuffix("invocations"))
        httpx.post(address.group(), json=body, timeout=60).raise_for_status()
    finally:
        os.kill(server.pid, signal.SIGTERM)
        assert server.wait(60) == 0
    assert "Traceback" not in finished.output.read_text()
    seen = [version["samples"] for version in read(finished.root).values()]
    assert seen == [4]  # to the last request; what the page has tried is not among them


def _try(address):
    """Ask as the page does: for a stored sample, whose truth is what the solver answers."""
    assert "Try the model" in httpx.get(address).text
    setup = httpx.get(f"{address}try/setup", timeout=240).json()
    assert setup["samples"] > 0 and setup["no_solver"] is None
    found, solved = (
        httpx.post(address + path, json={"sample": 1}, timeout=240).json()
        for path in ("try/ask", "try/solve")
    )
    truth, again = (
        np.frombuffer(b64decode(part[0]["data"]), "<f4")
        for part in (found["truth"], solved["outputs"])
    )
    assert np.allclose(truth, again, atol=1e-5 * abs(truth).max())


def test_wrong_use_is_one_line(finished):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        cases = {
            ("--port", "0", "--alias", "best"): "is not in the registry",
            ("--port", str(taken.getsockname()[1])): "give another --port",
        }
        for arguments, why in cases.items():
            done = finished.mno("serve", *arguments)
            assert done.returncode == 2, done.stderr
            assert why in done.stderr
            assert len(done.stderr.strip().splitlines()) == 1
