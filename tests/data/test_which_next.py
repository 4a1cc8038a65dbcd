"""Training samples that are chosen: reproducible, in rounds, and never for validation or test."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import xarray
import zarr
from heat import Heat

from mno.core.config import validate
from mno.core.errors import InputError
from mno.data.choosing import rounds
from mno.data.committee import Judged, judge, spread_out
from mno.data.config import ActiveConfig, ExecutionConfig, GenerateConfig
from mno.data.generate import generate
from mno.data.imported import Imported
from mno.data.plan import DatasetPlan
from mno.scenarios.darcy import Darcy, DarcyParameters
from tests.support.file_hashes import hashes

ALONE = ExecutionConfig(workers=1)
ACTIVE = {"initial": 16, "rounds": 2, "pool": 60, "members": 3, "features": 16, "components": 6}


def config_of(strategy: str = "active", **changes) -> GenerateConfig:
    values = {
        "samples": 50, "resolution": 8, "shard_size": 10, "seed": 4,
        "split": {"train": 0.8, "validation": 0.1, "test": 0.1},
        "strategy": strategy, "active": ACTIVE, **changes,
    }  # fmt: skip
    return validate(GenerateConfig, values, "generate")


def plan_of(**changes) -> DatasetPlan:
    return DatasetPlan(Darcy, validate(DarcyParameters, {}), config_of(**changes), code="code")


def test_random_datasets_say_nothing_of_choosing() -> None:
    """So the bytes of a dataset that is drawn at random are those of before there was a choice."""
    plan = plan_of(strategy="random")
    assert set(plan.content["generate"]) == {
        "samples", "resolution", "shard_size", "seed", "split"
    }  # fmt: skip
    assert plan.round_starts == [0]


def test_rounds_begin_with_a_shard_and_hold_all_samples() -> None:
    plan = plan_of()
    assert plan.round_starts == [0, 30, 40]  # 5 + 5 + 16, raised to three shards
    splits = plan.splits()
    assert {name: int((splits == name).sum()) for name in set(splits)} == {
        "train": 40, "validation": 5, "test": 5
    }  # fmt: skip
    assert set(splits[30:]) == {"train"}
    assert set(splits[:30]) == {"train", "validation", "test"}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"active": {**ACTIVE, "initial": 40}}, "leaves no shard to choose"),
        ({"active": {**ACTIVE, "pool": 10}}, "more than the 10 samples"),
        ({"strategy": "greedy"}, "strategy"),
        ({"active": {**ACTIVE, "by": "width"}}, "by is not a parameter"),
    ],
)
def test_what_cannot_be_chosen_is_refused(changes: dict, expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        config_of(**changes)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("chosen")
    generate(plan_of(), folder / "work", folder / "data", ALONE)
    return folder / "data"


def test_a_dataset_tells_which_samples_were_chosen_when_and_why(made: Path) -> None:
    data = xarray.open_zarr(made)
    assert data["round"].values.tolist() == [0] * 30 + [1] * 10 + [2] * 10
    scores = data["score"].values
    assert np.isnan(scores[:30]).all()
    assert (scores[30:] > 0).all()
    assert (data["split"].values[30:] == "train").all()
    assert json.loads((made / "zarr.json").read_text())["attributes"]["generate"]["strategy"]


def test_chosen_samples_are_the_solutions_of_candidates(made: Path, tmp_path: Path) -> None:
    """What is drawn at random is what it would be without a choice; the rest is from the pool."""
    generate(plan_of(strategy="random"), tmp_path / "work", tmp_path / "data", ALONE)
    chosen, drawn = (
        {name: data[name].values for name in ("permeability", "pressure")}
        for data in (xarray.open_zarr(made), xarray.open_zarr(tmp_path / "data"))
    )
    same = [bool((chosen["pressure"][k] == drawn["pressure"][k]).all()) for k in range(50)]
    assert same == [True] * 30 + [False] * 20
    plan = plan_of()
    scenario = plan.build()
    pool = [scenario.sample(plan.candidate(k))["permeability"] for k in range(120)]  # pyright: ignore
    for sample in range(30, 50):
        first = 0 if sample < 40 else 60
        found = [k for k in range(120) if (pool[k] == chosen["permeability"][sample]).all()]
        assert len(found) == 1
        assert first <= found[0] < first + 60


class Killed(Exception):
    """Stands for a kill between two shards."""


@pytest.mark.parametrize("shards", [2, 3, 4])
def test_a_killed_generation_chooses_the_same(made: Path, tmp_path: Path, shards: int) -> None:
    def kill(progress) -> None:
        if progress.shards_done == shards:
            raise Killed

    with pytest.raises(Killed):
        generate(plan_of(), tmp_path / "work", tmp_path / "data", ALONE, kill)
    for choice in (tmp_path / "work/choices").glob("1.json"):
        choice.write_text("{torn")
    generate(plan_of(), tmp_path / "work", tmp_path / "data", ALONE)
    assert hashes(tmp_path / "data") == hashes(made)


@pytest.mark.slow
def test_workers_choose_the_same(made: Path, tmp_path: Path) -> None:
    generate(plan_of(), tmp_path / "work", tmp_path / "data", ExecutionConfig(workers=2))
    assert hashes(tmp_path / "data") == hashes(made)


def test_validation_and_test_play_no_part_in_a_choice(tmp_path: Path, made: Path) -> None:
    """The choice is the same where the solutions of the other splits are ruined."""

    def stop(progress) -> None:
        if progress.shards_done == 3:
            raise Killed

    plan = plan_of()
    with pytest.raises(Killed):
        generate(plan, tmp_path / "work", tmp_path / "data", ALONE, stop)
    group = zarr.open_group(tmp_path / "work/store", mode="r+")
    others = np.flatnonzero(plan.splits()[:30] != "train")
    for name in ("permeability", "pressure"):
        values = np.asarray(group[name][:30])  # pyright: ignore
        values[others] = np.nan
        group[name][:30] = values  # pyright: ignore
    parts = rounds(plan, tmp_path / "other", tmp_path / "work/store")
    next(parts)
    chosen, _ = next(parts)
    scores = xarray.open_zarr(made)["score"].values[30:40]
    assert [chosen.chosen[k].score for k in range(30, 40)] == scores.tolist()


def test_a_committee_disagrees_where_nothing_was_solved() -> None:
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 0, (80, 2))
    solutions = np.stack([np.sin(3 * x[:, 0]) + 2, np.cos(3 * x[:, 1]) + 2], axis=1)
    near, far = rng.uniform(-1, 0, (40, 2)), rng.uniform(1.5, 2.5, (40, 2))
    judged = judge(x, solutions, np.concatenate([near, far]), ActiveConfig(), rng)
    assert np.median(judged.scores[40:]) > 3 * np.median(judged.scores[:40])


def test_of_two_candidates_that_are_alike_one_is_chosen() -> None:
    places = np.array([[0.0], [0.001], [5.0], [9.0]])
    scores = np.array([1.0, 0.99, 0.5, 0.2])
    assert spread_out(Judged(scores, places), 3).tolist() == [0, 2, 3]


def test_samples_that_are_there_already_cannot_be_chosen(tmp_path: Path) -> None:
    plan = DatasetPlan(Imported, Heat.Parameters(), config_of(), code="")  # pyright: ignore
    with pytest.raises(InputError, match="there already; set generate.strategy=random"):
        next(rounds(plan, tmp_path, tmp_path))
