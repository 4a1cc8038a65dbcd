from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from heat import Heat

from mno.data.config import ExecutionConfig, GenerateConfig, SplitConfig
from mno.data.generate.plan import DatasetPlan
from mno.data.generate.report import DatasetReport
from mno.data.generate.run import generate
from tests.support.file_hashes import hashes

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
ALONE = ExecutionConfig(workers=1)


def make_plan(
    samples: int = 10, shard_size: int = 4, resolution: int = 16, seed: int = 1, **parameters
) -> DatasetPlan:
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


def make(folder: Path, plan: DatasetPlan, execution: ExecutionConfig = ALONE) -> Made:
    report = generate(plan, folder / "work", folder / "data", execution)
    return Made(plan, report, folder / "data", hashes(folder / "data"))


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A dataset of three shards, made in this process; not to be altered."""
    return make(tmp_path_factory.mktemp("made"), make_plan())


@pytest.fixture
def copy(tmp_path: Path) -> Made:
    """The same dataset, to be altered."""
    return make(tmp_path, make_plan())


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[str]]]:
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
