"""Training on fields on other scales than plain: what is minimised, what is predicted, refusals."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from runner import CONFIG, encoded, runner

from mno.core.errors import InputError
from mno.core.fields import Field
from mno.core.forecast import TaskConfig
from mno.core.grid import Grid
from mno.data.normalise import Normaliser
from mno.data.reading import Schema, Split
from mno.data.samples import Samples
from mno.evaluation.trial import Trial, under_noise, without_sensors
from mno.nn.config import ModelConfig
from mno.scenarios.base import make_scenario
from mno.surrogate.surrogate import DESCRIPTION_FILE, Surrogate
from mno.training.config import scales_of
from mno.training.objective import relative_error

MODEL = ModelConfig(width=8, layers=1, d_state=2)
PARAMETERS = {"frames": 4, "steps_per_frame": 1}
DECLARED = {
    "conductivity": "log",
    "heat_capacity": "log",
    "temperature": "less ambient_temperature",
}


def make_furnace_split(name, samples, seed):
    scenario = make_scenario("furnace", 16, PARAMETERS)
    rng = np.random.default_rng(seed)
    drawn = [scenario.sample(rng) for _ in range(samples)]
    solved = [given | scenario.solve(given) for given in drawn]
    fields = {f.name: np.stack([one[f.name] for one in solved]) for f in scenario.fields}
    return Split(
        name, Schema("furnace", scenario.fields, scenario.axes), fields, np.arange(samples)
    )


TRAINING, VALIDATION, run = runner(make_furnace_split, 8, MODEL)


@pytest.fixture(scope="module")
def furnace(tmp_path_factory):
    return run(tmp_path_factory.mktemp("work"), epochs=30)


def relative_l2(predicted, truth):
    gap, size = (np.sqrt(np.square(x).sum((1, 2, 3))) for x in (predicted - truth, truth))
    return float(np.mean(gap / size))


def test_a_furnace_is_trained_on_its_scales_and_predicts_kelvin(furnace, tmp_path):
    surrogate, history = furnace
    assert dict(surrogate.description.normaliser.scales) == DECLARED
    given = surrogate.description.given(VALIDATION.fields)
    predicted = surrogate.predict(given)["temperature"]
    truth = VALIDATION.fields["temperature"][:, 1:]
    error = relative_l2(predicted, truth)
    assert error == pytest.approx(history.best.validation_relative_l2, rel=1e-4)
    assert error < 0.7 * relative_l2(np.broadcast_to(truth.mean(), truth.shape), truth)
    surrogate.save(tmp_path)
    content = json.loads((tmp_path / DESCRIPTION_FILE).read_text())
    assert content["format"] == 6 and content["normaliser"]["scales"] == DECLARED
    again = Surrogate.load(tmp_path)
    assert again.description == surrogate.description
    assert np.array_equal(again.predict(given)["temperature"], predicted)


def test_what_a_field_is_less_is_added_to_what_an_operator_answers(furnace):
    description = furnace[0].description
    operator = description.build()
    with torch.no_grad():
        for weight in operator.parameters():
            weight.zero_()
    given = description.given(VALIDATION.fields)
    found = Surrogate(description, operator).predict(given)["temperature"]
    expected = given["ambient_temperature"] + description.normaliser.mean["temperature"]
    np.testing.assert_allclose(found, np.zeros_like(found) + expected[:, None, None, None], 1e-6)


def test_noise_and_missing_sensors_are_on_the_scales_of_a_model(furnace):
    trial = Trial(furnace[0], {n: f.mean(0) for n, f in TRAINING.fields.items()}, 4)
    for found in (
        under_noise(trial, VALIDATION, [0.1, 0.5], seed=0),
        without_sensors(trial, VALIDATION, [0.3], seed=0)["random"],
    ):
        errors = found["relative_l2"]["model"]["mean"]
        assert np.isfinite(errors).all() and errors[0] < errors[-1] < 1.0


def test_scales_can_be_chosen_for_a_training(tmp_path, furnace):
    chosen = dict.fromkeys(DECLARED, "plain") | {"ambient_temperature": "log"}
    surrogate, _ = run(tmp_path / "new", epochs=1, scales=chosen)
    assert dict(surrogate.description.normaliser.scales) == {"ambient_temperature": "log"}
    with pytest.raises(InputError, match=r"temperature: plain.*less ambient_temperature; leave"):
        run(tmp_path / "on", initial=furnace[0], scales={"temperature": "plain"})
    still = CONFIG.model_copy(update={"learning_rate": 1e-30, "weight_decay": 0.0, "epochs": 1})
    again, _ = run(tmp_path / "again", initial=surrogate, config=still)
    assert again.description.normaliser == surrogate.description.normaliser


@pytest.mark.parametrize("name", ["train", "validation"])
def test_a_logarithm_of_a_field_that_is_not_positive_is_one_line(tmp_path, name):
    with pytest.raises(InputError) as error:
        run(tmp_path, scales={"power": "log"})
    assert "field power of the train split has the value 0 in its sample 0" in str(error.value)
    split = TRAINING if name == "train" else VALIDATION
    kappa = split.fields["conductivity"].copy()
    kappa[3, 2, 2] = -1.0
    bad = dataclasses.replace(split, fields=split.fields | {"conductivity": kappa})
    with pytest.raises(InputError) as error:
        run(tmp_path, **{"training" if name == "train" else name: bad})
    told = f"field conductivity of the {name} split has the value -1 in its sample 3"
    assert told in str(error.value) and "train.scales={conductivity: plain}" in str(error.value)
    assert "\n" not in str(error.value) and error.value.exit_code == 2


def test_what_is_asked_of_a_model_must_have_a_logarithm(furnace):
    given = dict(furnace[0].description.given(VALIDATION.fields))
    given["heat_capacity"] = given["heat_capacity"].copy()
    given["heat_capacity"][4, 0, 0] = 0.0
    with pytest.raises(InputError, match="heat_capacity has the value 0 in sample 4; this model"):
        furnace[0].predict(given, batch_size=2)


SPACE = ("x", "y")
KNOWN = (
    Field("x", "m", "x", "coordinate", ("point",)),
    Field("a", "1", "a", "input", SPACE),
    Field("g", "1", "g", "input", SPACE, gaps=True),
    Field("f", "1", "f", "input", ("time", *SPACE)),
    Field("n", "1", "n", "input", ()),
    Field("u", "1", "u", "output", SPACE),
)


@pytest.mark.parametrize(
    ("chosen", "words"),
    [
        ({"v": "log"}, "names v, which the data do not have; they have x, a, g"),
        ({"x": "log"}, "says where points are"),
        ({"u": "less v"}, "there is no such field"),
        ({"u": "less f"}, "f is an input with axes (time, x, y); expected an input that is"),
        ({"a": "less u"}, "u is an output"),
        ({"n": "less a"}, "a is an input with axes (x, y)"),
        ({"u": "less g"}, "values of g may be missing"),
        ({"u": "less a", "a": "less n"}, "a is itself taken less n"),
        ({"a": "less a"}, "a is itself taken less a"),
    ],
)
def test_a_scale_that_does_not_fit_is_refused(chosen, words):
    with pytest.raises(InputError) as error:
        scales_of(KNOWN, chosen, "free")
    assert words in str(error.value) and "\n" not in str(error.value)


def test_an_output_that_is_zero_at_the_walls_is_plain(tmp_path, furnace):
    for scale in ("log", "less n"):
        with pytest.raises(InputError, match="model.walls=zero has it vanish"):
            scales_of(KNOWN, {"u": scale}, "zero")
    assert scales_of(KNOWN, {"a": "log"}, "zero") == {"a": "log"}
    furnace[0].save(tmp_path)
    path = tmp_path / DESCRIPTION_FILE
    path.write_text(path.read_text().replace('"walls": "free"', '"walls": "zero"'))
    with pytest.raises(InputError, match="on which zero is not zero"):
        Surrogate.load(tmp_path)


@pytest.mark.parametrize("scale", ["plain", "log", "less v", "less 2.5"])
@pytest.mark.parametrize("norm", ["l2", "h1"])
def test_the_error_is_of_physical_fields_whatever_the_scale(scale, norm):
    rng = np.random.default_rng(0)
    fields = {n: np.exp(rng.normal(0, 1, (5, 4, 6))) for n in "uv"}
    wrong = {"u": fields["u"] * np.exp(rng.normal(0, 0.3, (5, 4, 6)))}
    fields["u"][2, 1, 1] = np.nan
    ours = Normaliser.fit(fields, scales={"u": scale, "v": "log"})
    plain = Normaliser.fit(fields)
    grid = Grid((4, 6), (0.5, 0.2)) if norm == "h1" else None

    def error(normaliser):
        truth, predicted = (
            {n: torch.from_numpy(normaliser.encode(n, f, fields)) for n, f in given.items()}
            for given in (fields, wrong)
        )
        truth["u"].requires_grad_(), predicted["u"].requires_grad_()
        found = relative_error(predicted, truth, normaliser, grid, truth)
        found.sum().backward()
        assert predicted["u"].grad.isfinite().all() and predicted["u"].grad.abs().max() > 0
        return found.detach()

    torch.testing.assert_close(error(ours), error(plain), rtol=1e-9, atol=0.0)


def test_one_field_is_read_with_what_it_is_less(furnace):
    normaliser, whole = furnace[0].description.normaliser, encoded(furnace[0].description, TRAINING)
    alone = Samples(TRAINING, fields=["temperature"], normaliser=normaliser)
    batch = alone.batch(np.arange(3))
    assert list(batch) == ["temperature"]
    assert torch.equal(batch["temperature"], whole["temperature"][:3])
    for field in (whole["temperature"], whole["conductivity"]):
        assert field.mean().item() == pytest.approx(0.0, abs=1e-4)
        assert field.std().item() == pytest.approx(1.0, rel=1e-3)


def test_states_are_rolled_out_and_predicted_at_once_alike_in_physical_units(tmp_path):
    surrogate, _ = run(tmp_path, TaskConfig(scheme="horizon"), epochs=1)
    predicted = surrogate.predict(surrogate.description.given(VALIDATION.fields))["temperature"]
    assert 250 < np.median(predicted) < 2000
