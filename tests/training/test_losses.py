"""The relative H1 error, against formulas written out in numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mno.core.grid import Grid
from mno.data.normalise import Normaliser
from mno.training.objective import relative_h1, relative_l2

NORMALISER = Normaliser(mean={"u": 7.0, "v": -1.0}, std={"u": 3.0, "v": 0.5})
# A domain of 2 by 1 in some unit.
GRID = Grid((4, 5), (0.5, 0.2))


def encoded(fields: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    return {n: torch.from_numpy(NORMALISER.encode(n, field)) for n, field in fields.items()}


def h1(predicted: dict[str, np.ndarray], truth: dict[str, np.ndarray], grid: Grid) -> np.ndarray:
    return relative_h1(encoded(predicted), encoded(truth), NORMALISER, grid).numpy()


def square(field: np.ndarray) -> np.ndarray:
    """Each sample's squared norm: longest side 2, so steps are 1/4 and 1/10 of it."""
    along_x, along_y = np.diff(field, axis=1) / 0.25, np.diff(field, axis=2) / 0.1
    return sum((part**2).sum(axis=(1, 2)) for part in (field, along_x, along_y))


def make_fields(seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {name: rng.standard_normal((3, 4, 5)) for name in "uv"}


def test_h1_counts_values_and_slopes_in_longest_sides():
    predicted, truth = make_fields(0), make_fields(1)
    ratios = [np.sqrt(square(predicted[n] - truth[n]) / square(truth[n])) for n in "uv"]
    np.testing.assert_allclose(h1(predicted, truth, GRID), np.mean(ratios, axis=0), rtol=1e-12)


def test_h1_does_not_depend_on_the_unit_of_length():
    predicted, truth = make_fields(0), make_fields(1)
    in_millimetres = Grid((4, 5), (500.0, 200.0))
    np.testing.assert_allclose(
        h1(predicted, truth, in_millimetres), h1(predicted, truth, GRID), rtol=1e-12
    )


def test_h1_takes_frames_and_unequal_cells():
    truth = {"u": np.random.default_rng(0).standard_normal((2, 3, 4))}
    predicted = {"u": np.random.default_rng(1).standard_normal((2, 3, 4))}
    grid = Grid((4,), ((1.0, 1.0, 2.0, 4.0),))

    def norm(field: np.ndarray) -> np.ndarray:
        slopes = np.diff(field, axis=2) / (np.array([1.0, 1.5, 3.0]) / 8.0)
        return np.sqrt((field**2).sum(axis=(1, 2)) + (slopes**2).sum(axis=(1, 2)))

    expected = norm(predicted["u"] - truth["u"]) / norm(truth["u"])
    np.testing.assert_allclose(h1(predicted, truth, grid), expected, rtol=1e-12)


def test_h1_minds_a_ripple_that_l2_hardly_sees():
    x = (np.arange(32) + 0.5) / 32
    truth = {"u": np.sin(np.pi * x)[None]}
    ripple = 0.01 * np.cos(np.pi * 32 * x)[None] + 0.01 * (-1.0) ** np.arange(32)
    predicted = {"u": truth["u"] + ripple}
    grid = Grid((32,), (1 / 32,))
    l2 = relative_l2(encoded(predicted), encoded(truth), NORMALISER)
    assert l2.item() < 0.02
    assert h1(predicted, truth, grid).item() > 0.1


def test_an_exact_prediction_has_no_h1_error_and_a_finite_gradient():
    truth = encoded(make_fields(0))
    predicted = {name: field.clone().requires_grad_() for name, field in truth.items()}
    error = relative_h1(predicted, truth, NORMALISER, GRID)
    error.sum().backward()
    assert error.tolist() == pytest.approx([0.0] * 3)
    assert all(torch.isfinite(field.grad).all() for field in predicted.values())
