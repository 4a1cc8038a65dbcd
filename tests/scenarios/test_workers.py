"""Every scenario gives the same bytes in this process and on two workers of Dask."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from distributed import LocalCluster

from mno.data.config import ExecutionConfig, GenerateConfig
from mno.data.generate.plan import DatasetPlan
from mno.data.generate.run import generate
from mno.scenarios.base import scenario_class, scenario_names
from tests.support.file_hashes import hashes

RESOLUTION = 16
OTHERS = {"burgers": {"viscosity_high": 0.1}, "shallow_water": {"frames": 5}}


@pytest.fixture(scope="module")
def cluster() -> Iterator[ExecutionConfig]:
    """Two worker processes, for all scenarios."""
    with LocalCluster(
        n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None,
        silence_logs=logging.CRITICAL,
    ) as cluster:  # fmt: skip
        yield ExecutionConfig(scheduler=cluster.scheduler_address)


def plan_of(name: str, shard_size: int) -> DatasetPlan:
    scenario = scenario_class(name)
    split = {"train": 0.5, "validation": 0.25, "test": 0.25}
    config = GenerateConfig.model_validate(
        {
            "samples": 6, "resolution": RESOLUTION, "shard_size": shard_size, "seed": 3,
            "split": split,
        }
    )  # fmt: skip
    parameters = scenario.Parameters.model_validate(OTHERS.get(name, {}))
    return DatasetPlan(scenario, parameters, config, code="code")


@pytest.mark.parametrize("name", scenario_names())
def test_two_workers_give_the_bytes_of_one_process(name, cluster, tmp_path):
    plan = plan_of(name, shard_size=2)
    alone = generate(plan, tmp_path / "a", tmp_path / "alone", ExecutionConfig(workers=1))
    shared = generate(plan, tmp_path / "b", tmp_path / "shared", cluster)
    assert alone.shards == shared.shards == 3
    assert hashes(tmp_path / "alone") == hashes(tmp_path / "shared")
    assert alone == shared
