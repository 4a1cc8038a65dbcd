"""Training on unordered points, and on data with gaps: sensors at places of their own."""

import dataclasses
import math
from dataclasses import replace

import numpy as np
import pytest
from rod_problem import make_split as make_rod
from rod_problem import run as run_rod
from runner import CONFIG
from scattered_problem import MODEL, TRAINING, VALIDATION, make_split, run, schema
from smoothing_problem import make_split as make_smoothing
from smoothing_problem import run as run_smoothing

from mno.core.errors import InputError
from mno.core.fields import Axis
from mno.core.forecast import TaskConfig
from mno.data.reading import Split
from mno.evaluation.config import EvaluateConfig
from mno.evaluation.evaluator import evaluate, mean_fields
from mno.nn.config import ModelConfig
from mno.report.examples import draw_example
from mno.report.language import Words

GIVEN = ("x", "y", "load")


@pytest.fixture(scope="module")
def surrogate(tmp_path_factory):
    return run(tmp_path_factory.mktemp("plate"))[0]


def inputs(split=VALIDATION):
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
    history = run(tmp_path, model=model, epochs=40)[1]
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
        (ModelConfig(backbone="latent"), "unordered points.*set model.cells=8"),
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


SHARE = 0.3


def with_gaps(split, *names, share=SHARE, seed=7):
    """Declare that fields may have gaps, and take a share of their values away."""
    rng = np.random.default_rng(seed)
    fields = dict(split.fields)
    for name in names:
        holes = rng.random(fields[name].shape) < share
        fields[name] = np.where(holes, np.float32(math.nan), fields[name])
    declared = tuple(replace(f, gaps=f.gaps or f.name in names) for f in split.schema.fields)
    return replace(split, fields=fields, schema=replace(split.schema, fields=declared))


def plate(name, samples, seed):
    return with_gaps(make_split(name, samples, seed), "load", "deflection", seed=seed)


@pytest.fixture(scope="module")
def gappy(tmp_path_factory):
    data = {"training": plate("train", 24, 1), "validation": plate("validation", 8, 2)}
    return run(tmp_path_factory.mktemp("gaps"), epochs=40, **data)[0]


def test_what_is_missing_is_told_of_inputs_alone(gappy):
    assert gappy.description.gaps == ("load",)
    assert gappy.operator.input_sizes == [2]


def test_a_model_learns_and_beats_the_mean_field(gappy):
    test = plate("test", 10, 5)
    metrics = evaluate(gappy, test, mean_fields(plate("train", 24, 1)), EvaluateConfig()).metrics()
    assert metrics["relative_l2"] < 0.5 * metrics["baseline_relative_l2"]
    whole = make_split("test", 10, 5).fields["deflection"]  # also where it was never measured
    predicted = gappy.predict(gappy.description.given(test.fields))["deflection"]
    errors = np.linalg.norm(predicted - whole, axis=1) / np.linalg.norm(whole, axis=1)
    assert errors.mean() < 0.5 * metrics["baseline_relative_l2"]


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("x", math.nan, r"field x has a value that is missing \(NaN\), first in sample 2"),
        ("x", math.inf, "field x has a value that is infinite, first in sample 2"),
        ("load", math.inf, "infinite.*finite numbers, or NaN where one is missing"),
    ],
)
def test_a_model_refuses_what_it_was_not_trained_on(gappy, name, value, words):
    given = {n: f.copy() for n, f in gappy.description.given(plate("t", 4, 5).fields).items()}
    given[name][2, 3] = value
    with pytest.raises(InputError, match=words) as caught:
        gappy.predict(given)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("scheme", "change"),
    [
        ("horizon", {}),
        ("rollout", {}),
        ("rollout", {"unroll": 3}),
    ],
)
def test_states_and_forcings_with_gaps_are_continued(tmp_path, scheme, change):
    names = ("power", "temperature")
    training = with_gaps(make_rod("train", 12, 1), *names)
    validation = with_gaps(make_rod("validation", 5, 2), *names, seed=8)
    gappy, history = run_rod(
        tmp_path,
        TaskConfig(history=2, scheme=scheme),
        epochs=12,
        **change,
        training=training,
        validation=validation,
    )
    assert gappy.description.gaps == names
    assert history.best.validation_relative_l2 < history.records[0].validation_relative_l2
    predicted = gappy.predict(gappy.description.given(validation.fields))
    assert np.isfinite(predicted["temperature"]).all()


def test_an_outage_neither_stops_a_training_nor_counts_as_a_success(tmp_path):
    def data(samples_lost: int) -> dict[str, Split]:
        splits = {}
        for name, samples, seed in (("training", 12, 1), ("validation", 6, 2)):
            split = with_gaps(make_split(name, samples, seed), "deflection", share=0.0)
            split.fields["deflection"][:samples_lost] = math.nan
            splits[name] = split
        return splits

    whole, lost = (run(tmp_path / str(k), epochs=1, **data(k))[1] for k in (0, 5))
    for name in ("train_relative_l2", "validation_relative_l2"):
        assert getattr(lost.records[0], name) > 0.5 * getattr(whole.records[0], name)


def test_the_h1_loss_trains_between_gaps(tmp_path):
    names = ("source", "temperature")
    data = {
        "training": with_gaps(make_smoothing("train", 12, 1), *names),
        "validation": with_gaps(make_smoothing("validation", 5, 2), *names),
    }
    _, history = run_smoothing(tmp_path, epochs=8, loss="h1", **data)
    losses = [record.train_loss for record in history.records]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize(
    ("make", "train", "gappy", "at", "value", "words"),
    [
        (make_split, run, ("load", "x"), ("load", (3, 2)), math.inf,
         "field load of the train split has a value that is not finite.*its sample 3"),
        (make_split, run, ("load", "x"), ("x", (3, 2)), math.nan,
         "field x of the train split has a value that is not finite.*its sample 3"),
        (make_rod, run_rod, ("loss",), ("loss", 4), math.nan,
         "field loss of the train split .*its sample 4"),
        (make_split, run, ("load",), ("load", ...), math.nan,
         "field load of the train split has no value at all"),
        (make_rod, run_rod, ("temperature",), ("temperature", np.s_[:, 1:]), math.nan,
         "train split has no value of temperature to compare"),
    ],
)  # fmt: skip
def test_values_that_must_not_be_missing_are_refused(
    tmp_path, make, train, gappy, at, value, words
):
    training = with_gaps(make("train", 6, 1), *gappy, share=0.0)
    training.fields[at[0]][at[1]] = value
    with pytest.raises(InputError, match=words):
        train(tmp_path, TaskConfig(history=1), training=training)


def test_a_residual_needs_all_inputs(tmp_path):
    data = {
        "training": with_gaps(make_smoothing("train", 6, 1), "source"),
        "validation": make_smoothing("validation", 3, 2),
    }
    with pytest.raises(InputError, match="train.residual_weight=0.1 needs all values of the input"):
        run_smoothing(tmp_path, residual_weight=0.1, **data)


def test_a_warm_start_must_know_the_gaps(tmp_path, gappy):
    plain, _ = run(tmp_path / "plain", epochs=1)
    data = {"training": plate("train", 8, 1), "validation": plate("validation", 4, 2)}
    with pytest.raises(InputError, match=r"gaps=\[\]; expected .*gaps=\['load'\]"):
        run(tmp_path / "refused", initial=plain, **data)
    whole = make_split("train", 24, 1)  # none is missing, at the same places
    again, history = run(tmp_path / "whole", initial=gappy, training=whole)
    assert history.best.validation_relative_l2 < 1.0
    assert again.description.gaps == ("load",)
