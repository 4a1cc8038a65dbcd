"""Training on samples that stay in their files: the same as on samples in memory, bit for bit."""

import numpy as np
import pytest
import torch

from mno.core.errors import InputError
from mno.data import reading as blocks
from mno.data.config import ExecutionConfig, GenerateConfig, SplitConfig
from mno.data.generate.plan import DatasetPlan
from mno.data.generate.run import generate
from mno.data.normalise import Normaliser
from mno.data.reading import StoredSplit, open_split, read_split
from mno.nn.config import ModelConfig
from mno.scenarios.base import scenario_class
from mno.training.config import TrainConfig
from mno.training.fit import train
from mno.training.problem import check_split

MODEL = ModelConfig(width=8, layers=1, d_state=2, path="bidirectional")
CASES = {
    "darcy": ({}, {"augment": True}),
    "diffusion_reaction": ({"frames": 5}, {"unroll": 2, "input_noise": 0.01}),
    "darcy_ring": ({}, {}),
}


def released(folder, name):
    scenario = scenario_class(name)
    config = GenerateConfig(
        samples=20,
        resolution=8,
        shard_size=6,
        seed=0,
        split=SplitConfig(train=0.7, validation=0.2, test=0.1),
    )
    parameters = scenario.Parameters.model_validate(CASES[name][0])
    plan = DatasetPlan(scenario, parameters, config, code="code")
    generate(plan, folder / "made", folder / "data", ExecutionConfig(workers=1))
    return folder / "data"


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 5 * 8 * 8 * 4)


@pytest.mark.parametrize("name", CASES)
def test_the_result_is_that_of_samples_in_memory(name, tmp_path, small_blocks):
    store = released(tmp_path, name)
    options = {"epochs": 3, "batch_size": 4, "patience": 3, "threads": 1, **CASES[name][1]}
    config = TrainConfig.model_validate(options)

    def trained(opened, work):
        splits = opened(store, "train"), opened(store, "validation")
        assert isinstance(splits[0], StoredSplit) == (opened is open_split)
        assert len(list(blocks.blocks(next(iter(splits[0].fields.values()))))) > 2
        return train(*splits, model=MODEL, config=config, seed=3, work=work, quiet=True)

    expected, expected_history = trained(read_split, tmp_path / "memory")
    ours, history = trained(open_split, tmp_path / "files")
    assert ours.description == expected.description
    weights = expected.operator.state_dict()
    for key, weight in ours.operator.state_dict().items():
        assert torch.equal(weight, weights[key]), key
    assert history == expected_history
    # What was trained in memory is not trained again from files.
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "memory").rglob("*")}
    trained(open_split, tmp_path / "memory")
    after = {path: path.stat().st_mtime_ns for path in (tmp_path / "memory").rglob("*")}
    assert before == after and before


def test_a_normaliser_of_several_blocks_is_that_of_the_whole(small_blocks):
    rng = np.random.default_rng(0)
    values = rng.normal(5, 3, size=(50, 8, 8)).astype(np.float32)
    values[20:] *= 10
    gaps = np.where(rng.random(values.shape) < 0.3, np.float32(np.nan), values)
    gaps[5:10] = np.nan
    ours = Normaliser.fit({"values": values, "gaps": gaps}, about_zero=["values"])
    assert ours.mean["values"] == 0
    assert ours.std["values"] == pytest.approx(np.sqrt(np.mean(values**2.0)), rel=1e-6)
    assert ours.mean["gaps"] == pytest.approx(np.nanmean(gaps.astype(np.float64)), rel=1e-12)
    present = gaps[~np.isnan(gaps)].astype(np.float64)
    assert ours.std["gaps"] == pytest.approx(present.std(), rel=1e-12)


def test_a_value_that_is_not_finite_is_found_in_any_block(tmp_path, small_blocks):
    split = read_split(released(tmp_path, "darcy"), "train")
    split.fields["pressure"][12, 3, 3] = np.inf
    with pytest.raises(
        InputError, match=r"pressure of the train split .* \(first in its sample 12"
    ):
        check_split(split)
