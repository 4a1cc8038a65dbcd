"""Training on unordered points: places are given with each sample, in any order and number."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from runner import CONFIG
from scattered_problem import MODEL, TRAINING, VALIDATION, make_split, run, schema

from mno.core.errors import InputError
from mno.core.fields import Axis
from mno.evaluation.config import EvaluateConfig
from mno.evaluation.evaluator import evaluate, mean_fields
from mno.nn.config import ModelConfig
from mno.report.examples import draw_example
from mno.report.language import Words
from mno.surrogate.surrogate import Surrogate

GIVEN = ("x", "y", "load")


@pytest.fixture(scope="module")
def surrogate(tmp_path_factory) -> Surrogate:
    return run(tmp_path_factory.mktemp("plate"))[0]


def inputs(split=VALIDATION) -> dict[str, np.ndarray]:
    return {name: split.fields[name] for name in GIVEN}


@pytest.mark.parametrize(
    "model",
    [
        MODEL,
        ModelConfig(width=8, layers=1, d_state=2, path="bidirectional", scale_delta=False),
        ModelConfig(backbone="gnot", mixer="own", width=8, layers=1, heads=2),
        ModelConfig(backbone="oformer", mixer="own", width=8, layers=1, heads=2),
    ],
    ids=["plain", "unscaled", "gnot", "oformer"],
)
def test_a_model_learns_from_where_its_points_are(tmp_path, model):
    config = CONFIG.model_copy(update={"epochs": 40})
    history = run(tmp_path, model=model, config=config)[1]
    first = history.to_dict()["epochs"][0]["validation_relative_l2"]
    assert history.best.validation_relative_l2 < min(0.5, first / 1.5)


def test_the_order_of_points_does_not_matter(surrogate):
    order = np.random.default_rng(0).permutation(40)
    whole = surrogate.predict(inputs())["deflection"]
    assert whole.shape == (5, 40)
    turned = surrogate.predict({name: field[:, order] for name, field in inputs().items()})
    np.testing.assert_allclose(turned["deflection"], whole[:, order], rtol=1e-4, atol=1e-5)


def test_other_points_and_another_number_of_them_are_taken(surrogate):
    other = make_split("test", 3, seed=5, points=61)
    assert surrogate.predict(inputs(other))["deflection"].shape == (3, 61)


def test_places_are_normalised_and_their_typical_distance_is_kept(surrogate):
    description = surrogate.description
    assert description.coordinates == {"x": "m", "y": "m"}
    assert description.extent == pytest.approx((2.0, 1.0), abs=0.05)
    # A uniform interval has a standard deviation of its length over the root of 12.
    assert description.reference_spacing == pytest.approx(((12 / 40) ** 0.5,), rel=0.05)


def test_a_saved_model_predicts_the_same(surrogate, tmp_path):
    surrogate.save(tmp_path)
    expected = surrogate.predict(inputs())["deflection"]
    np.testing.assert_array_equal(
        Surrogate.load(tmp_path).predict(inputs())["deflection"], expected
    )


def test_an_evaluation_measures_and_draws_points(surrogate):
    test = make_split("test", 6, seed=7)
    result = evaluate(surrogate, test, mean_fields(TRAINING), EvaluateConfig(batch_size=4))
    error = surrogate.predict(inputs(test))["deflection"] - test.fields["deflection"]
    expected = np.linalg.norm(error, axis=1) / np.linalg.norm(test.fields["deflection"], axis=1)
    np.testing.assert_allclose(result.relative_l2, expected, rtol=1e-5)
    words = Words.of("en", "figures")
    pictures = [draw_example(example, test.schema, words) for example in result.examples]
    assert all(png.startswith(b"\x89PNG") for pair in pictures for png in pair)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"loss": "h1"}, "train.loss=h1 takes differences between neighbours on a grid"),
        ({"residual_weight": 0.1}, "train.residual_weight=0.1 takes differences"),
        ({"augment": True}, "declares no symmetry"),
    ],
)
def test_what_needs_a_grid_is_refused(tmp_path, change, words):
    with pytest.raises(InputError, match=words):
        run(tmp_path, config=CONFIG.model_copy(update=change))


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (ModelConfig(width=8, layers=1, d_state=2), "path='axial' needs a grid"),
        (ModelConfig(backbone="fno", mixer="own", width=8, layers=1), "grid"),
        (MODEL.model_copy(update={"walls": "zero"}), "walls='zero' needs a grid"),
    ],
)
def test_models_that_need_a_grid_are_refused(tmp_path, model, words):
    with pytest.raises(InputError, match=words):
        run(tmp_path, model=model)


def test_coordinates_without_points_are_refused(tmp_path):
    grid = (Axis("x", "m", "x", np.arange(40.0), (0.0, 40.0)),)
    fields = tuple(dataclasses.replace(f, dims=("x",)) for f in schema().fields)
    split = dataclasses.replace(
        TRAINING, schema=dataclasses.replace(schema(), axes=grid, fields=fields)
    )
    with pytest.raises(InputError, match="expected coordinates with the one axis point"):
        run(tmp_path, training=split)


@pytest.mark.parametrize("name", ["x", "load"])
def test_places_that_do_not_fit_are_refused(surrogate, name):
    given = inputs()
    given[name] = given[name][:, :-1]
    with pytest.raises(InputError, match="at the same places"):
        surrogate.predict(given)
    del given[name]
    with pytest.raises(InputError, match="takes exactly"):
        surrogate.predict(given)
