"""Losses, against formulas written out in numpy, also where the truth is missing."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch

from mno.core.grid import Grid
from mno.data.normalise import Normaliser
from mno.training.objective import NORM_FLOOR, relative_h1, relative_l2, samples_with_truth

NORMALISER = Normaliser(mean={"u": 7.0, "v": -1.0}, std={"u": 3.0, "v": 0.5})
# A domain of 2 by 1 in some unit: steps of 1/4 and 1/10 of its longest side.
GRID = Grid((4, 5), (0.5, 0.2))
SHAPE = (6, 4, 5)
Fields = dict[str, np.ndarray]


def encoded(fields: Fields) -> dict[str, torch.Tensor]:
    return {n: torch.from_numpy(NORMALISER.encode(n, field)) for n, field in fields.items()}


def make_fields(seed: int, share: float = 0.0) -> Fields:
    rng = np.random.default_rng(seed)
    fields = {name: 3 * rng.standard_normal(SHAPE) for name in "uv"}
    for field in fields.values():
        field[rng.random(SHAPE) < share] = np.nan
    return fields


PREDICTED, TRUTH = make_fields(0), make_fields(1, share=0.4)
TRUTH["u"][2] = np.nan  # a sample without this field
for field in TRUTH.values():
    field[4] = np.nan  # a sample without any
FLOORED = 5  # a sample too weak to be measured by itself
TRUTH["u"][FLOORED] = np.where(np.isnan(TRUTH["u"][FLOORED]), np.nan, 0.001)


def l2_terms(values: np.ndarray) -> list[float]:
    return [value**2 for value in values.ravel() if not np.isnan(value)]


def h1_terms(values: np.ndarray) -> list[float]:
    terms = l2_terms(values)
    for i, j in product(range(4), range(5)):
        if i < 3:
            terms += [((values[i + 1, j] - values[i, j]) / 0.25) ** 2]
        if j < 4:
            terms += [((values[i, j + 1] - values[i, j]) / 0.1) ** 2]
    return [term for term in terms if not np.isnan(term)]


def expected(terms, truth: Fields) -> list[float]:
    errors = []
    for sample in range(SHAPE[0]):
        ratios = []
        for name in "uv":
            p, t = PREDICTED[name][sample], truth[name][sample]
            present = int((~np.isnan(t)).sum())
            if present:
                floor = NORM_FLOOR * NORMALISER.std[name] * np.sqrt(present)
                norm = max(np.sqrt(sum(terms(t))), floor)
                ratios.append(np.sqrt(sum(terms(p - t))) / norm)
        errors.append(float(np.mean(ratios)) if ratios else 0.0)
    return errors


def l2(predicted, truth, grid=GRID):
    return relative_l2(predicted, truth, NORMALISER)


def h1(predicted, truth, grid=GRID):
    return relative_h1(predicted, truth, NORMALISER, grid)


both = pytest.mark.parametrize(("loss", "terms"), [(l2, l2_terms), (h1, h1_terms)])


@both
@pytest.mark.parametrize("truth", [make_fields(1), TRUTH], ids=["whole", "gaps"])
def test_it_is_the_error_over_what_is_present_in_physical_units(loss, terms, truth):
    found = loss(encoded(PREDICTED), encoded(truth)).numpy()
    np.testing.assert_allclose(found, expected(terms, truth), rtol=1e-12)
    assert (found[4] == 0.0) == (truth is TRUTH)


@both
def test_an_exact_prediction_has_no_error_and_a_finite_gradient(loss, terms):
    truth = encoded(make_fields(0))
    predicted = {name: field.clone().requires_grad_() for name, field in truth.items()}
    error = loss(predicted, truth)
    error.sum().backward()
    assert error.tolist() == pytest.approx([0.0] * 6)
    assert all(torch.isfinite(field.grad).all() for field in predicted.values())


def test_a_field_of_zeros_is_measured_against_the_floor():
    truth, predicted = encoded({"u": np.zeros((1, 4))}), encoded({"u": np.full((1, 4), 0.3)})
    np.testing.assert_allclose(l2(predicted, truth).numpy(), 0.3 / (NORM_FLOOR * 3.0), rtol=1e-12)


def test_h1_does_not_depend_on_the_unit_of_length():
    predicted, truth = encoded(make_fields(0)), encoded(make_fields(1))
    in_millimetres = h1(predicted, truth, Grid((4, 5), (500.0, 200.0)))
    np.testing.assert_allclose(in_millimetres, h1(predicted, truth), rtol=1e-12)


def test_h1_takes_frames_and_unequal_cells():
    truth = {"u": np.random.default_rng(0).standard_normal((2, 3, 4))}
    predicted = {"u": np.random.default_rng(1).standard_normal((2, 3, 4))}

    def norm(field: np.ndarray) -> np.ndarray:
        slopes = np.diff(field, axis=2) / (np.array([1.0, 1.5, 3.0]) / 8.0)
        return np.sqrt((field**2).sum(axis=(1, 2)) + (slopes**2).sum(axis=(1, 2)))

    ratio = norm(predicted["u"] - truth["u"]) / norm(truth["u"])
    found = h1(encoded(predicted), encoded(truth), Grid((4,), ((1.0, 1.0, 2.0, 4.0),)))
    np.testing.assert_allclose(found, ratio, rtol=1e-12)


def test_h1_minds_a_ripple_that_l2_hardly_sees():
    x = (np.arange(32) + 0.5) / 32
    truth = {"u": np.sin(np.pi * x)[None]}
    ripple = 0.01 * np.cos(np.pi * 32 * x)[None] + 0.01 * (-1.0) ** np.arange(32)
    predicted = {"u": truth["u"] + ripple}
    assert l2(encoded(predicted), encoded(truth)).item() < 0.02
    assert h1(encoded(predicted), encoded(truth), Grid((32,), (1 / 32,))).item() > 0.1


@both
def test_gradients_are_finite_and_vanish_where_the_truth_is_missing(loss, terms):
    predicted = {name: field.requires_grad_() for name, field in encoded(PREDICTED).items()}
    loss(predicted, encoded(TRUTH)).sum().backward()
    for name, field in predicted.items():
        missing = torch.from_numpy(np.isnan(TRUTH[name]))
        assert field.grad is not None and field.grad.isfinite().all()
        assert (field.grad[missing] == 0).all()
        assert (field.grad[~missing] != 0).all()


@both
def test_what_is_predicted_where_the_truth_is_missing_does_not_matter(loss, terms):
    other = {n: np.where(np.isnan(TRUTH[n]), 1e6, field) for n, field in PREDICTED.items()}
    found = loss(encoded(other), encoded(TRUTH))
    assert torch.equal(found, loss(encoded(PREDICTED), encoded(TRUTH)))


@both
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_gap_elsewhere_changes_no_bit_of_a_whole_sample(loss, terms, dtype):
    predicted, truth = (
        {name: field.to(dtype) for name, field in encoded(make_fields(seed)).items()}
        for seed in (3, 4)
    )
    before = loss(predicted, truth)
    truth["u"][0, 1, 1] = torch.nan
    after = loss(predicted, truth)
    assert torch.equal(after[1:], before[1:]) and after[0] != before[0]


@both
def test_a_prediction_that_is_no_number_is_not_hidden(loss, terms):
    broken = {name: field.copy() for name, field in PREDICTED.items()}
    broken["v"][0][~np.isnan(TRUTH["v"][0])] = np.nan
    assert loss(encoded(broken), encoded(TRUTH))[0].isnan()


def test_samples_without_truth_are_not_counted():
    assert samples_with_truth(encoded(TRUTH)) == 5
    assert samples_with_truth(encoded(PREDICTED)) == 6
