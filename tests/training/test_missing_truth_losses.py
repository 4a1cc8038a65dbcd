"""Losses where the truth is missing: numpy's formulas over what is present, finite gradients."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch

from mno.core.grid import Grid
from mno.data.normalise import Normaliser
from mno.training.objective import NORM_FLOOR, relative_h1, relative_l2, samples_with_truth

NORMALISER = Normaliser(mean={"u": 7.0, "v": -1.0}, std={"u": 3.0, "v": 0.5})
GRID = Grid((4, 5), (0.5, 0.2))  # steps of 1/4 and 1/10 of its longest side
SHAPE = (6, 4, 5)


def encoded(fields: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    return {n: torch.from_numpy(NORMALISER.encode(n, field)) for n, field in fields.items()}


def make_fields(seed: int, share: float = 0.0) -> dict[str, np.ndarray]:
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


def expected(terms) -> list[float]:
    errors = []
    for sample in range(SHAPE[0]):
        ratios = []
        for name in "uv":
            p, t = PREDICTED[name][sample], TRUTH[name][sample]
            present = int((~np.isnan(t)).sum())
            if present:
                floor = NORM_FLOOR * NORMALISER.std[name] * np.sqrt(present)
                norm = max(np.sqrt(sum(terms(t))), floor)
                ratios.append(np.sqrt(sum(terms(p - t))) / norm)
        errors.append(float(np.mean(ratios)) if ratios else 0.0)
    return errors


def l2(predicted, truth):
    return relative_l2(predicted, truth, NORMALISER)


def h1(predicted, truth):
    return relative_h1(predicted, truth, NORMALISER, GRID)


both = pytest.mark.parametrize(("loss", "terms"), [(l2, l2_terms), (h1, h1_terms)])


@both
def test_it_is_the_error_over_what_is_present(loss, terms):
    found = loss(encoded(PREDICTED), encoded(TRUTH)).numpy()
    np.testing.assert_allclose(found, expected(terms), rtol=1e-12)
    assert found[4] == 0.0


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
    assert torch.equal(
        loss(encoded(other), encoded(TRUTH)), loss(encoded(PREDICTED), encoded(TRUTH))
    )


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
