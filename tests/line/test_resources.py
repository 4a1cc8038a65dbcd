"""Given clusters and full disks."""

import json
import subprocess
import sys
from contextlib import contextmanager

import pytest

from tests.support.workspaces import make_workspace


@pytest.fixture
def cluster(tmp_path):
    code = """
from distributed import LocalCluster
if __name__ == "__main__":
    cluster = LocalCluster(n_workers=2, threads_per_worker=1, host="127.0.0.1",
                           dashboard_address="127.0.0.1:0")
    print(cluster.scheduler_address, flush=True)
    input()
"""
    script = tmp_path / "cluster.py"
    script.write_text(code)
    process = subprocess.Popen(
        [sys.executable, str(script)], cwd=tmp_path, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    assert process.stdout is not None
    yield process.stdout.readline().strip()
    process.communicate("\n", timeout=30)


@pytest.mark.slow
@pytest.mark.nightly
def test_a_given_cluster_makes_the_same_dataset(finished, cluster, tmp_path):
    workspace = make_workspace(tmp_path / "workspace")
    workspace.mno(
        "generate", "--preset", "quick", "--set", f"execution.scheduler={cluster}", check=True
    )
    ours, theirs = (w.root / "data/zarr.json" for w in (workspace, finished))
    shards = json.loads(ours.read_text())["attributes"]["shards"]
    assert len(shards) > 8
    assert shards == json.loads(theirs.read_text())["attributes"]["shards"]


@contextmanager
def full_disk(folder):
    """Put a folder on a file system with room for next to nothing."""
    folder.mkdir(exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"a small file system cannot be mounted here: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True, capture_output=True)


@pytest.mark.slow
@pytest.mark.nightly
def test_a_full_disk_is_one_line_and_the_next_run_continues(workspace):
    with full_disk(workspace.root / "models"):
        failed = workspace.mno("run", "--set", "seed=1")
    assert failed.returncode == 1
    assert "error: train:" in failed.stderr
    assert "space" in failed.stderr
    assert "Traceback" not in failed.stderr
    continued = workspace.mno("run", check=True)
    assert "epoch 1/" not in continued.stderr, "what was trained is not trained again"
    assert "register   done" in continued.stderr


@pytest.mark.slow
@pytest.mark.nightly
def test_a_disk_full_of_the_registrys_files_registers_nothing_by_half(workspace):
    with full_disk(workspace.root / "mlartifacts"):
        failed = workspace.mno("run")
    assert failed.returncode == 1
    assert "error: register:" in failed.stderr and "space" in failed.stderr
    assert "Traceback" not in failed.stderr
    assert json.loads(workspace.mno("status", "--json", check=True).stdout)["registry"] == []
    workspace.mno("run", check=True)
    workspace.mno("audit", "models:/mno-darcy@champion", check=True)
