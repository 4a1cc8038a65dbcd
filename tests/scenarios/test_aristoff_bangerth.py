"""The membrane of blocks: exact solution, published likelihood, symmetries, slopes, datasets."""

from pathlib import Path

import numpy as np
import pytest
from ruamel.yaml import YAML

from mno.core.forecast import TaskConfig
from mno.data.config import ExecutionConfig, GenerateConfig
from mno.data.generate.plan import make_plan
from mno.data.generate.run import generate
from mno.data.parts import seen
from mno.data.reading import read_split
from mno.nn.config import ModelConfig
from mno.scenarios.aristoff_bangerth import AristoffBangerth, AristoffBangerthParameters
from mno.scenarios.base import SQUARE, make_scenario
from mno.training.config import TrainConfig
from mno.training.fit import train
from tests.scenarios.contract import failed_checks, solved_sample, turned

PUBLISHED = Path(__file__).parents[2] / "benchmarks/aristoff_bangerth.yaml"


def readings(n, coefficient):
    scenario = make_scenario("aristoff_bangerth", n, {})
    return scenario.solve({"coefficient": np.ravel(coefficient)})["readings"].astype(np.float64)


def series(theta):
    """The exact readings of a constant coefficient, by sines."""
    k = np.arange(1.0, 400.0, 2.0)
    waves = np.sin(np.pi * np.outer(np.arange(1, 14) / 14, k))
    weights = 160.0 / (theta * np.pi**4 * np.outer(k, k) * np.add.outer(k**2, k**2))
    return waves @ weights @ waves.T


def test_a_constant_coefficient_is_solved_with_second_order():
    exact = series(2.5)
    errors = [np.abs(readings(n, np.full(64, 2.5)) - exact).max() for n in (56, 112)]
    assert 3.6 < errors[0] / errors[1] < 4.4  # at nodes, as 14 divides both
    assert np.abs(readings(32, np.full(64, 2.5)) - exact).max() < 3e-3 * exact.max()


def test_the_likelihood_is_the_published_one():
    published = YAML(typ="safe").load(PUBLISHED)
    apart = readings(32, published["coefficient"]) - published["readings"]
    found = -np.sum(apart**2) / (2 * published["noise"] ** 2)
    assert found == pytest.approx(published["likelihood"], rel=1e-7)
    true = np.ones((8, 8))
    true[1:3, 1:3], true[5:7, 5:7] = 0.1, 10.0
    errors = [np.abs(readings(n, true) - published["readings"]).max() for n in (32, 128)]
    assert errors[0] < 0.02 and errors[1] < 1e-3


@pytest.mark.parametrize("symmetry", SQUARE)
def test_the_square_has_its_symmetries(symmetry):
    blocks = np.exp(2.0 * np.random.default_rng(1).standard_normal((8, 8)))
    expected = turned(readings(32, blocks), symmetry)
    np.testing.assert_allclose(readings(32, turned(blocks, symmetry)), expected, rtol=2e-6)


@pytest.mark.parametrize("deviation", [0.1, 4.0])
def test_extreme_coefficients_pass_the_checks(deviation):
    scenario = make_scenario("aristoff_bangerth", 24, {"log_deviation": deviation})
    for seed in range(5):
        given, solved = solved_sample(scenario, seed)
        assert solved["readings"].min() > 0.0
        assert not failed_checks(scenario, given, solved)


def test_a_stream_draws_one_coefficient_on_any_grid():
    draws = [solved_sample(make_scenario("aristoff_bangerth", n, {}), 2)[0] for n in (8, 32)]
    np.testing.assert_array_equal(draws[0]["coefficient"], draws[1]["coefficient"])


def test_a_dataset_is_made_and_trained_on(tmp_path):
    split = {"train": 0.8, "validation": 0.1, "test": 0.1}
    config = GenerateConfig(samples=40, resolution=16, shard_size=20, seed=0, split=split)
    parameters = AristoffBangerthParameters(log_deviation=1.0)
    plan = make_plan(AristoffBangerth, parameters, config, "")
    generate(plan, tmp_path / "work", tmp_path / "data", ExecutionConfig(workers=1))
    whole = {name: read_split(tmp_path / "data", name) for name in split}
    training, validation, test = (seen(one, "both") for one in whole.values())
    surrogate, _ = train(
        training, validation, model=ModelConfig(width=16, layers=1, mixer=["softmax"]),
        task=TaskConfig(part="both"), seed=0, work=tmp_path / "fit", quiet=True,
        config=TrainConfig(epochs=2, batch_size=8, learning_rate=1e-2, threads=1),
    )  # fmt: skip
    given = surrogate.description.given({name: array[:] for name, array in test.fields.items()})
    predicted = surrogate.predict(given)["readings"][:, 64:].reshape(4, 13, 13)
    assert np.isfinite(predicted).all() and predicted.min() > 0.0
    assert whole["test"].fields["readings"].shape == predicted.shape
