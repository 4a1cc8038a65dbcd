"""Simple peers: exact where the problem is theirs, given what a model is given, and honest."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from small_lines import darcy_splits, rings

from mno.core.absent import Absent
from mno.core.errors import InputError
from mno.core.fields import Axis, Field
from mno.data.normalise import Normaliser
from mno.data.reading import Schema, Split
from mno.evaluation import simple_peers
from mno.evaluation.evaluator import mean_fields, split_error
from mno.evaluation.simple_peers import Peer, fit_peer
from tests.support.untrained import untrained

NAMES = ("mean", "persistence", "ridge", "quadratic", "gaussian_process")
SHAPE, FRAMES, HISTORY = (6, 5), 5, 2


def axis(name, points, end=1.0):
    return Axis(name, "m", name, (np.arange(points) + 0.5) / points * end, (0.0, end))


SCHEMA = Schema(
    "plant",
    (
        Field("cover", "m", "cover", "input", ("x", "y")),
        Field("heat", "W", "heat", "input", ("time", "x", "y")),
        Field("ambient", "K", "ambient", "input", ()),
        Field("temperature", "K", "temperature", "state", ("time", "x", "y")),
        Field("pressure", "Pa", "pressure", "state", ("time", "x", "y")),
    ),
    (
        Axis("time", "s", "time", np.arange(FRAMES) * 0.5, (0.0, 2.5)),
        axis("x", SHAPE[0]),
        axis("y", SHAPE[1]),
    ),
)


def plant(samples, seed, coupling=0.0, gaps=0.0):
    """Two states that follow what is given linearly, but for a product of two of the inputs."""
    rng = np.random.default_rng(seed)
    shapes = np.random.default_rng(99).normal(size=(4, 3, *SHAPE))

    def drawn(kind, *more):
        return np.einsum("...k,kxy->...xy", rng.normal(size=(samples, *more, 3)), shapes[kind])

    cover, heat = drawn(0), drawn(1, FRAMES)
    ambient = 290 + 5 * rng.normal(size=samples)
    warm = ambient[:, None, None]
    temperature, pressure = [warm + 10 + drawn(2)], [1e5 + 100 * drawn(3)]
    for k in range(FRAMES - 1):
        unseen = coupling if k >= HISTORY - 1 else 0.0  # in the frames that are given
        gained = heat[:, k] + 0.3 * cover + unseen * (warm - 290) * cover
        temperature.append(warm + 0.8 * (temperature[-1] - warm) + gained)
        pressure.append(pressure[-1] + 30 * (temperature[-1] - warm - 10))
    fields = {
        "cover": cover,
        "heat": heat,
        "ambient": ambient,
        "temperature": np.stack(temperature, axis=1),
        "pressure": np.stack(pressure, axis=1),
    }
    fields = {name: field.astype(np.float32) for name, field in fields.items()}
    for name in ("cover", "temperature") if gaps else ():
        fields[name][rng.random(fields[name].shape) < gaps] = math.nan
    return Split(f"plant {seed}", SCHEMA, fields, np.arange(samples))


def fitted(name, training, validation, description=None):
    description = description or described(training)
    peer = fit_peer(name, training, validation, description)
    assert isinstance(peer, Peer), peer
    return peer, description


def described(split):
    gaps = any(np.isnan(field).any() for field in split.fields.values())
    return untrained(
        split.schema, split.fields, HISTORY, gaps=("cover", "temperature") if gaps else ()
    ).description


def relative(peer, description, split):
    """Return the largest error of each output, by its standard deviation."""
    found, truth = peer.predict(description.given(split.fields)), description.truth(split.fields)
    assert {n: f.shape for n, f in found.items()} == {n: f.shape for n, f in truth.items()}
    return {n: np.nanmax(np.abs(found[n] - f)) / np.nanstd(f) for n, f in truth.items()}


def test_a_linear_plant_is_ridges():
    peer, description = fitted("ridge", plant(120, 0), plant(30, 1))
    assert max(relative(peer, description, plant(40, 2)).values()) < 2e-3
    assert peer.samples == 120
    assert peer.seconds > 0.0


def test_a_product_of_inputs_is_quadratic():
    splits = [plant(n, seed, coupling=0.3) for seed, n in enumerate((400, 50, 50))]
    ridge, quadratic = (fitted(n, *splits[:2])[0] for n in ("ridge", "quadratic"))
    description = described(splits[0])
    assert relative(ridge, description, splits[2])["temperature"] > 0.3
    assert max(relative(quadratic, description, splits[2]).values()) < 1e-2


@pytest.mark.parametrize("samples", [40, 90])  # fewer and more than values of a field
def test_a_gaussian_process_is_what_its_formula_says(samples):
    training, validation, test = darcy_splits()
    training = Split("train", training.schema, first(training, samples), np.arange(samples))
    description = untrained(training.schema, training.fields).description
    peer, _ = fitted("gaussian_process", training, validation, description)

    def rows(name, split):
        field = split.fields[name].astype(np.float64).reshape(len(split), -1)
        return (field - trained[name].mean(axis=0)) / trained[name].std()

    trained = {n: f.astype(np.float64).reshape(samples, -1) for n, f in training.fields.items()}
    known, asked, y = (
        *(rows("permeability", s) for s in (training, test)),
        rows("pressure", training),
    )
    settings = peer.settings
    u, s, v = np.linalg.svd(known, full_matrices=False)
    count = min(int(settings["components"]), int((s > 1e-6 * s[0]).sum()))
    spread = s[:count] / math.sqrt(samples)
    at, to = (x @ v[:count].T / spread ** settings["power"] for x in (known, asked))
    unit = settings["length"] * math.sqrt(2 * np.square(at).sum(axis=1).mean())
    near, far = (math.sqrt(5) * cdist(a, at) / unit for a in (at, to))
    noisy = (1 + near + near**2 / 3) * np.exp(-near) + settings["noise"] * np.eye(samples)
    expected = (1 + far + far**2 / 3) * np.exp(-far) @ np.linalg.solve(noisy, y)
    expected = expected * trained["pressure"].std() + trained["pressure"].mean(axis=0)
    found = peer.predict({"permeability": test.fields["permeability"]})["pressure"]
    np.testing.assert_allclose(found.reshape(len(test), -1), expected, atol=2e-4 * expected.max())


def first(split, samples):
    return {name: field[:samples] for name, field in split.fields.items()}


def test_regressions_are_ahead_of_the_mean_and_of_each_other():
    training, validation, test = darcy_splits()
    description = untrained(training.schema, training.fields).description
    names = ("mean", "ridge", "gaussian_process")
    peers = [fitted(name, training, validation, description)[0] for name in names]
    mean, ridge, process = (split_error(peer.predict, test, 64).value() for peer in peers)
    assert 0 < process < 0.8 * ridge < 0.4 * mean


@pytest.mark.parametrize("name", NAMES)
def test_a_peer_sees_what_a_model_is_given_and_no_more(name):
    training, test = plant(40, 0), plant(8, 2)
    peer, description = fitted(name, training, plant(20, 1))
    given = description.given(test.fields)
    found = peer.predict(given)
    assert all(field.dtype == np.float32 for field in found.values())
    unseen = given | {"heat": np.concatenate([given["heat"], given["heat"][:, -1:] + 9], axis=1)}
    for key, field in peer.predict(unseen).items():
        np.testing.assert_array_equal(field, found[key])
    one = peer.predict({key: field[3:4] for key, field in given.items()})
    for key, field in one.items():
        np.testing.assert_allclose(field, found[key][3:4], rtol=1e-5)
    assert split_error(peer.predict, test, 3, HISTORY, HISTORY).value() < 0.1


def test_fields_are_on_the_scales_of_the_normaliser():
    splits = [plant(n, seed) for seed, n in enumerate((120, 30, 40))]
    for split in splits:
        split.fields["cover"] = np.exp(split.fields["cover"])
        split.fields["pressure"] = np.exp(split.fields["pressure"] / 1e3 - 100)
    description = described(splits[0])
    scales = {"cover": "log", "temperature": "less ambient", "pressure": "log"}
    fit = Normaliser.fit(splits[0].fields, scales=scales)
    on_scales = replace(description, normaliser=fit)
    training, validation, test = splits
    peers = [fitted("ridge", training, validation, d)[0] for d in (on_scales, description)]
    found = [max(relative(peer, description, test).values()) for peer in peers]
    assert found[0] < 5e-3 < 0.1 * found[1]


def test_guesses_are_the_mean_field_and_the_last_frame():
    training, test = plant(12, 0), plant(5, 1)
    peers = {name: fitted(name, training, test)[0] for name in ("mean", "persistence")}
    given = described(training).given(test.fields)
    for name, mean in mean_fields(training).items():
        found = {key: peer.predict(given)[name] for key, peer in peers.items()}
        expected = np.broadcast_to(mean[HISTORY:].astype(np.float32), found["mean"].shape)
        np.testing.assert_array_equal(found["mean"], expected)
        last = np.broadcast_to(test.fields[name][:, HISTORY - 1 : HISTORY], expected.shape)
        np.testing.assert_array_equal(found["persistence"], last)
    assert peers["mean"].settings == {}


def test_the_penalty_is_chosen_by_the_validation_split():
    clean, validation = plant(60, 0), plant(30, 1)
    noise = np.random.default_rng(5).normal(size=clean.fields["temperature"].shape)
    noisy = Split("noisy", SCHEMA, dict(clean.fields), clean.indices)
    noisy.fields["temperature"] = clean.fields["temperature"] + np.float32(20) * noise
    noisy.fields["temperature"] = noisy.fields["temperature"].astype(np.float32)
    chosen = [fitted("ridge", s, validation)[0].settings["penalty"] for s in (clean, noisy)]
    assert chosen[0] < 1e-2 * chosen[1]


def test_a_gaussian_process_is_made_of_some_of_many_samples_and_says_so(monkeypatch):
    monkeypatch.setattr(simple_peers, "MOST_SAMPLES", 30)
    peer, _ = fitted("gaussian_process", plant(70, 0), plant(10, 1))
    assert peer.samples == 30
    assert fitted("ridge", plant(70, 0), plant(10, 1))[0].samples == 70


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.filterwarnings("error")
def test_missing_values_are_predicted_and_not_learned_from(name):
    training, test = plant(150, 0, gaps=0.1), plant(20, 2, gaps=0.1)
    for key in ("temperature", "pressure"):
        training.fields[key][4, HISTORY:] = math.nan  # a sample that says nothing
    training.fields["temperature"][:, :, 2, 3] = math.nan  # a point that is never measured
    peer, description = fitted(name, training, plant(40, 1, gaps=0.1))
    found = peer.predict(description.given(test.fields))
    assert all(np.isfinite(field).all() for field in found.values())
    if name == "ridge":
        assert peer.samples == 149
        mean = fitted("mean", training, test, description)[0]
        errors = [split_error(p.predict, test, 32, HISTORY, HISTORY).value() for p in (peer, mean)]
        assert errors[0] < 0.7 * errors[1]


@pytest.mark.parametrize("name", NAMES[2:])
def test_what_never_varies_says_nothing(name):
    training, test = plant(30, 0), plant(6, 2)
    for split in (training, test):
        for key in ("cover", "heat", "ambient"):
            split.fields[key][...] = 3.0
    peer, description = fitted(name, training, test)
    assert all(np.isfinite(f).all() for f in peer.predict(description.given(test.fields)).values())
    for split in (training, test):
        split.fields["temperature"][...] = 300.0
        split.fields["pressure"][...] = 1e5
    peer, description = fitted(name, training, test)
    for key, field in peer.predict(description.given(test.fields)).items():
        np.testing.assert_allclose(field, description.truth(test.fields)[key], rtol=1e-6)


def test_what_no_peer_can_do_is_said():
    training, validation, _ = darcy_splits()
    description = untrained(training.schema, training.fields).description
    none = fit_peer("persistence", training, validation, description)
    assert none == Absent("robustness.no_states")
    surrogate, (scattered, *_) = rings()
    none = fit_peer("ridge", scattered, scattered, surrogate.description)
    assert none == Absent("peers.points")
    with pytest.raises(
        InputError, match="'forest' is no peer; choose one of mean, persistence, ri"
    ):
        fit_peer("forest", training, validation, description)
    peer, _ = fitted("ridge", training, validation, description)
    with pytest.raises(InputError, match=r"permeability has shape \(1, 9, 8\); expected .* 8, 8\)"):
        peer.predict({"permeability": np.ones((1, 9, 8), np.float32)})
    with pytest.raises(InputError, match="permeability is missing; expected"):
        peer.predict({})
    coarse = replace(validation, fields={n: f[:, ::2] for n, f in validation.fields.items()})
    with pytest.raises(InputError, match=r"\(150, 4, 8\)"):
        fit_peer("ridge", training, coarse, description)
