"""The whole line on logs that were read at irregular times, each sample's own."""

import numpy as np
import pytest
import zarr

from tests.support.workspaces import Workspace, make_workspace

pytestmark = [pytest.mark.slow, pytest.mark.nightly]

MAPPING = "sensors: {interval: readings, frames: 8}\n"


def write(path, seed):
    """Write runs of two bodies that cool, read at random times; return these."""
    rng, begin, rows, moments = np.random.default_rng(seed), 0.0, [], []
    for _ in range(40):
        times = begin + 10.0 * rng.choice([0.1, 0.5, 2.0], 8).cumsum()
        first = rng.uniform(1.0, 2.0, 2)
        for time in times:
            heat = first * np.exp(-(time - times[0]) / 30.0)
            rows += [
                f"{time:.3f},{x},temperature,{h:.6f},K"
                for x, h in zip((0.25, 0.75), heat, strict=True)
            ]
        moments.append(times)
        begin = times[-1] + 2000.0
    path.write_text("time,x,quantity,value,unit\n" + "\n".join(rows) + "\n")
    return np.array(moments)


def test_a_log_is_learned_and_predicted_at_the_times_it_was_read(tmp_path, prefect_api):
    made = make_workspace(tmp_path / "workspace")
    workspace = Workspace(made.root, variables={"PREFECT_API_URL": prefect_api})
    moments = np.concatenate([write(tmp_path / f"{n}.csv", n) for n in (0, 1)])
    (tmp_path / "mapping.yaml").write_text(MAPPING)
    logs = (str(tmp_path / "0.csv"), str(tmp_path / "1.csv"))
    mapping = ("--mapping", str(tmp_path / "mapping.yaml"))
    workspace.mno("import", "csv", *logs, "--name", "bodies", *mapping, check=True)
    workspace.mno("generate", check=True)
    data = zarr.open_group(workspace.root / "data", mode="r")
    elapsed = np.asarray(data["elapsed"][:])
    np.testing.assert_allclose(elapsed, moments - moments[:, :1], atol=2e-3)
    workspace.mno("inspect", "data", check=True)

    sets = ("train.epochs=30", "train.learning_rate=0.01", "train.batch_size=4", "task.history=2")
    options = [word for each in sets for word in ("--set", each)]
    done = workspace.mno("run", *options, "--set", "task.time=frames")
    assert done.returncode == 2 and "(elapsed), at unequal distances: set task.time" in done.stderr
    workspace.mno("run", *options, check=True)
    workspace.mno("predict", "models:/mno-bodies@champion", "data", "found.zarr", check=True)
    found = zarr.open_group(workspace.root / "found.zarr", mode="r")
    assert np.array_equal(found["elapsed"][:], elapsed[:, 2:])
    truth = np.asarray(data["temperature"][:])[:, 2:]
    wrong = np.linalg.norm(found["temperature"][:] - truth) / np.linalg.norm(truth)
    assert wrong < 0.1
