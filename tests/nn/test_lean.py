"""The lean form of an operator is the operator: backbones, mixers, paths, and places."""

import pytest
import torch
from backbone_cases import build, points, random, unit_grid

from mno.data import Batch
from mno.nn import Grid
from mno.nn.backbones import BACKBONES
from mno.nn.lean import lean
from mno.nn.mixers import MIXERS

UNEVEN = Grid((6, 5), ((0.1, 0.2, 0.3, 0.1, 0.2, 0.1), 0.2))
CASES = [(name, "own") for name in BACKBONES] + [("plain", name) for name in MIXERS]


def answers(operator, batch):
    with torch.inference_mode():
        return operator(batch).fields["p"]


@pytest.mark.parametrize(("backbone", "mixer"), CASES)
@pytest.mark.parametrize("place", [unit_grid(6, 5), UNEVEN], ids=["even", "uneven"])
def test_its_answers_are_those_of_the_operator(backbone, mixer, place):
    if place is UNEVEN and backbone in ("galerkin", "fno", "latent"):
        pytest.skip("a Fourier transform, and a spline between grids, needs equal cells")
    operator = build(backbone, mixer, dropout=0.3, scalars=("s",), walls="zero").eval()
    batch = Batch({"a": random(3, 6, 5)}, place, {"s": random(3, seed=2)})
    given = batch.fields["a"].clone()
    expected = answers(operator, batch)
    form = lean(operator)
    for _ in range(2):  # what is kept between two answers does not change them
        torch.testing.assert_close(answers(form, batch), expected, rtol=1e-5, atol=1e-6)
    assert torch.equal(batch.fields["a"], given)
    torch.testing.assert_close(answers(operator, batch), expected, rtol=0, atol=0)


@pytest.mark.parametrize("path", ["axial", "bidirectional", "hilbert", "zigzag", "cross"])
def test_it_scans_along_every_path_and_with_unscaled_steps(path):
    for scaled in (True, False):
        operator = build("plain", path=path, scale_delta=scaled).eval()
        batch = Batch({"a": random(2, 6, 5)}, Grid((6, 5), (0.1, 0.2), (0.2, 0.2)))
        torch.testing.assert_close(answers(lean(operator), batch), answers(operator, batch))


def test_it_takes_points_and_double_precision_the_operators_own_way():
    operator = build("plain", path="hilbert").eval()
    batch = Batch({"a": random(2, 9)}, points(9))
    torch.testing.assert_close(answers(lean(operator), batch), answers(operator, batch))
    operator = build("latent", layers=2).double().eval()
    batch = Batch({"a": random(2, 8, 8).double()}, unit_grid(8, 8))
    told = answers(lean(operator), batch), answers(operator, batch)
    torch.testing.assert_close(*told, rtol=1e-12, atol=1e-14)
