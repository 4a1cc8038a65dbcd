"""Normalisers: fields as they are, as logarithms and as differences; there, back, and refused."""

import numpy as np
import pytest
import torch

from mno.core.errors import InputError
from mno.core.fields import difference_from
from mno.data import reading
from mno.data.normalise import Normaliser
from mno.data.statistics import Decades

RNG = np.random.default_rng(0)
FIELDS = {
    "kappa": (10.0 ** RNG.uniform(-1, 2, (6, 4, 5))).astype(np.float32),
    "ambient": RNG.uniform(280, 310, 6).astype(np.float32),
    "lining": RNG.uniform(280, 310, (6, 4, 5)).astype(np.float32),
    "heat": RNG.normal(900, 300, (6, 3, 4, 5)).astype(np.float32),
    "wall": RNG.normal(900, 300, (6, 3, 4, 5)).astype(np.float32),
    "bath": RNG.normal(900, 300, (6, 4, 5)).astype(np.float32),
}
FIELDS["kappa"][2, 1] = FIELDS["heat"][1, 2, 3] = np.nan
SCALES = {"kappa": "log", "heat": "less ambient", "wall": "less lining", "bath": "less 273.15"}
ON_SCALE = {
    "kappa": np.log(FIELDS["kappa"].astype(np.float64)),
    "heat": FIELDS["heat"] - FIELDS["ambient"][:, None, None, None].astype(np.float64),
    "wall": FIELDS["wall"] - FIELDS["lining"][:, None].astype(np.float64),
    "bath": FIELDS["bath"] - 273.15,
    "ambient": FIELDS["ambient"].astype(np.float64),
}
OURS = Normaliser.fit(FIELDS, scales=SCALES)


@pytest.mark.parametrize("name", ON_SCALE)
def test_mean_and_deviation_are_those_of_what_is_on_the_scale(name):
    assert OURS.mean[name] == pytest.approx(np.nanmean(ON_SCALE[name]), rel=1e-5)
    assert OURS.std[name] == pytest.approx(np.nanstd(ON_SCALE[name]), rel=1e-5)


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
@pytest.mark.parametrize("name", ON_SCALE)
def test_a_field_is_encoded_on_its_scale_and_comes_back_with_its_gaps(name, kind):
    fields = {n: kind(f) for n, f in FIELDS.items()}
    encoded = OURS.encode(name, fields[name], fields)
    expected = (ON_SCALE[name] - np.nanmean(ON_SCALE[name])) / np.nanstd(ON_SCALE[name])
    np.testing.assert_allclose(np.asarray(encoded), expected, rtol=1e-4, atol=1e-5)
    back = OURS.decode(name, encoded, fields)
    largest = np.nanmax(np.abs(FIELDS[name]))
    np.testing.assert_allclose(np.asarray(back), FIELDS[name], rtol=2e-6, atol=1e-7 * largest)


def test_what_others_are_less_comes_back_from_normalised_fields():
    encoded = {name: OURS.encode(name, field, FIELDS) for name, field in FIELDS.items()}
    found = OURS.references(encoded)
    assert sorted(found) == ["ambient", "lining"]
    np.testing.assert_allclose(found["lining"], FIELDS["lining"], rtol=1e-6)


def test_noise_on_a_logarithm_multiplies():
    by = np.full(FIELDS["kappa"].shape, 0.5, np.float32)
    moved = OURS.moved("kappa", FIELDS["kappa"], by)
    np.testing.assert_allclose(np.log(moved), np.log(FIELDS["kappa"]) + 0.5, rtol=1e-4, atol=1e-5)
    assert np.array_equal(OURS.moved("bath", FIELDS["bath"], by[0, 0, 0]), FIELDS["bath"] + 0.5)


@pytest.mark.parametrize("value", [0.0, -3.0])
def test_a_logarithm_of_what_is_not_positive_is_one_line(value, monkeypatch):
    monkeypatch.setattr(reading, "BLOCK_BYTES", 3 * FIELDS["kappa"][0].nbytes)
    field = FIELDS["kappa"].copy()
    field[4, 3, 2] = value
    with pytest.raises(InputError, match=rf"kappa has the value {value:g} in its sample 4.*plain"):
        OURS.encode("kappa", field)
    with pytest.raises(InputError, match="in its sample 4.* expected numbers above 0"):
        Normaliser.fit({"kappa": field}, scales=SCALES)


def test_what_a_field_is_less_has_to_be_given():
    with pytest.raises(ValueError, match="heat is taken less ambient, which is not among"):
        OURS.encode("heat", FIELDS["heat"])


@pytest.mark.parametrize("scale", ["", "logarithm", "less", "less 1e999", "less a b", "less -x"])
def test_what_is_no_scale_is_refused(scale):
    with pytest.raises(ValueError, match="is no scale of a field; expected plain, log"):
        difference_from(scale)


def test_spans_of_parts_add_up_and_leave_outliers_out():
    values = 10.0 ** RNG.uniform(-1.0, 1.0, 40_000)
    values[:20] = 1e9
    values[20:30] = np.nan
    low, high = sum(map(Decades.of, np.split(values, 8)), Decades({})).span(0.001, 0.999)
    assert low == pytest.approx(0.1) and high == pytest.approx(10.0)
    assert Decades.of(np.array([1.0, 3.0, 0.0])).span(0.001, 0.999) is None
