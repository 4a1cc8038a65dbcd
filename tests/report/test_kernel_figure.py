"""The figure of a kernel shows where it is, and refuses axes that are not its own."""

from __future__ import annotations

import io

import matplotlib.image
import numpy as np
import pytest
import torch

from mno.core.fields import Axis, Field
from mno.nn.kernel_view import EffectiveKernel, effective_kernel
from mno.nn.mixers.mamba import MambaMixer
from mno.report.examples import draw_kernel


def axes(*shape: int) -> list[Axis]:
    return [
        Axis(name, "1", name, (np.arange(n) + 0.5) / n, (0.0, 1.0))
        for name, n in zip("xyz", shape, strict=False)
    ]


def kernel(*shape: int) -> EffectiveKernel:
    torch.manual_seed(0)
    mixer = MambaMixer(4, d_state=2, path="axial", dims=len(shape), backend="reference")
    num_points = int(np.prod(shape))
    return effective_kernel(mixer, torch.randn(1, num_points, 4), shape, points=[1, num_points - 1])


def size(png: bytes) -> tuple[int, ...]:
    return matplotlib.image.imread(io.BytesIO(png)).shape[:2]


def test_a_kernel_is_drawn_on_a_plane_and_on_a_line():
    plane, line = draw_kernel(kernel(5, 4), axes(5, 4)), draw_kernel(kernel(6), axes(6))
    assert size(plane)[0] > 1.5 * size(line)[0]  # two rows for five panels, one for three


def test_the_drawing_depends_on_the_target_alone_among_targets():
    drawn = kernel(5, 4)
    first, second = (draw_kernel(drawn, axes(5, 4), target=t) for t in (0, 1))
    assert first != second
    assert first == draw_kernel(drawn, axes(5, 4))


def test_a_field_is_drawn_beside_it():
    field = Field("permeability", "1", "permeability", "input", ("x", "y"))
    values = np.random.default_rng(0).random((5, 4))
    names = ["a", "b", "c", "d"]
    with_field = draw_kernel(
        kernel(5, 4), axes(5, 4), shown=(field, values), directions=names, columns=6
    )
    assert size(with_field)[1] > size(draw_kernel(kernel(5, 4), axes(5, 4), columns=6))[1]


def test_a_kernel_of_zero_is_drawn():
    nothing = EffectiveKernel(torch.zeros(1, 2, 1, 6, 3), torch.tensor([2]))
    assert draw_kernel(nothing, axes(6)).startswith(b"\x89PNG")


@pytest.mark.parametrize("shape", [(4, 4), (5, 2, 2)])
def test_axes_that_are_not_those_of_the_kernel_are_refused(shape):
    with pytest.raises(ValueError, match="expected one or two axes with as many points"):
        draw_kernel(kernel(5, 4), axes(*shape))
