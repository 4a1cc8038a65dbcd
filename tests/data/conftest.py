import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from heat import Heat

from mno.data.config import ExecutionConfig, GenerateConfig, SplitConfig
from mno.data.generate.plan import DatasetPlan
from mno.data.generate.run import DatasetReport, generate
from tests.support.file_hashes import hashes

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
ALONE = ExecutionConfig(workers=1)


def make_plan(samples=10, shard_size=4, resolution=16, seed=1, **parameters):
    config = GenerateConfig(
        samples=samples,
        resolution=resolution,
        shard_size=shard_size,
        seed=seed,
        split=SplitConfig(train=0.6, validation=0.2, test=0.2),
    )
    return DatasetPlan(Heat, Heat.Parameters(**parameters), config, code="code")


@dataclass
class Made:
    plan: DatasetPlan
    report: DatasetReport
    store: Path
    hashes: dict[str, str]


def make(folder, plan, execution=ALONE):
    report = generate(plan, folder / "work", folder / "data", execution)
    return Made(plan, report, folder / "data", hashes(folder / "data"))


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """A dataset of three shards, made in this process; not to be altered."""
    return make(tmp_path_factory.mktemp("made"), make_plan())


@pytest.fixture
def copy(tmp_path):
    return make(tmp_path, make_plan())


def flip(path, at=-20):
    """Flip one bit, as a disk does; size and times stay as they are."""
    times = path.stat()
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


@pytest.fixture
def start():
    """Start scripts of this folder as processes; whatever is left of them ends with the test."""
    started: list[subprocess.Popen[str]] = []

    def start_script(script: str, *args: object, path: tuple[Path, ...] = (ROOT, HERE), **kwargs):
        process = subprocess.Popen(
            [sys.executable, str(HERE / script), *map(str, args)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path))},
            text=True,
            **kwargs,
        )
        started.append(process)
        return process

    yield start_script
    for process in started:
        process.kill()
        process.wait()
        for pipe in filter(None, (process.stdin, process.stdout, process.stderr)):
            pipe.close()
