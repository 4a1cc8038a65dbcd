"""The SSD mixers: as their recurrence, on grids that are refined, and what they refuse."""

import math
from functools import partial

import pytest
import torch

from mno.nn import Grid, ModelConfig, Points, SsdCrossMixer, SsdMixer
from mno.nn.kernel_view import effective_kernel
from mno.scan.backends import compute
from mno.scan.paths import PATHS

WIDTH = 6


def made(cls=SsdMixer, path="axial", dims=2, dtype=torch.float64, **options):
    """A mixer whose steps are long, so that every part of its scans matters."""
    torch.manual_seed(0)
    options = {"heads": 3, "d_state": 4, "discretization": "centred"} | options
    mixer = cls(WIDTH, path=path, dims=dims, **options)
    with torch.no_grad():
        mixer.dt_projs_bias.uniform_(-3.0, -1.0)
        mixer.A_logs.uniform_(-1.0, 1.0)
    return mixer.to(dtype)


def features(*shape, seed=1, dtype=torch.float64):
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=draw, dtype=torch.float64).to(dtype)


def by_steps(mixer, *given):
    """The mixer with its scans run step by step."""
    mixer._compute = lambda scan: compute(scan.by_channel(), "reference")
    try:
        return mixer(*given)
    finally:
        del mixer._compute


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("cls", [SsdMixer, SsdCrossMixer])
def test_it_is_its_recurrence_in_values_and_gradients(cls, path):
    grid = Grid((4, 5), (0.1, 0.3), (0.2, 0.2))
    inputs = [features(2, 20, WIDTH, seed=i).requires_grad_() for i in range(2)]
    inputs = inputs[: 1 + (cls is SsdCrossMixer)]
    for dtype, bound, rule in (  # A is float32 in both
        (torch.float64, 1e-6, "centred"),
        (torch.float32, 2e-5, "centred"),
        (torch.float64, 1e-6, "trapezoidal"),
    ):
        mixer = made(cls, path, dtype=dtype, discretization=rule)
        found = []
        for run in (mixer, partial(by_steps, mixer)):
            given = [x.detach().to(dtype).requires_grad_() for x in inputs]
            y = run(*given, grid)
            weights = features(*y.shape, seed=3, dtype=dtype)
            wanted = [*given, *mixer.parameters()]
            found.append((y, *torch.autograd.grad((y * weights).sum(), wanted)))
        for fast, plain in zip(*found, strict=True):
            assert (fast - plain).abs().max() < bound * plain.abs().max()


@torch.no_grad()
def test_on_scattered_points_and_without_a_place():
    x, places = features(2, 11, WIDTH), torch.rand(2, 11, 2)
    for path, domain in (("hilbert", Points(places, 0.1)), ("bidirectional", None)):
        mixer = made(path=path)
        torch.testing.assert_close(mixer(x, domain), by_steps(mixer, x, domain))


@torch.no_grad()
def test_applying_its_kernel_is_its_scan():
    mixer, x = made(), features(2, 20, WIDTH)
    scan, gate = mixer.prepare(x, (4, 5))
    y = effective_kernel(mixer, x, (4, 5)).apply(scan.u[:, :, 0])
    torch.testing.assert_close(mixer.out_proj(mixer.out_norm(y) * gate), mixer(x, (4, 5)))


@pytest.mark.parametrize(("rule", "expected"), [("simplified", 1), ("centred", 2)])
@torch.no_grad()
def test_it_converges_as_its_grid_is_refined(rule, expected):
    mixer = made(dims=1, discretization=rule)
    mixer.Ds.zero_()
    answers = []
    for n in (9, 27, 81, 243):
        grid, ratio = Grid((n,), (1 / n,), (1 / 9,)), n // 9
        x = torch.tensor(grid.centres(0), dtype=torch.float64)
        k = torch.arange(WIDTH)
        y = mixer(torch.sin((k + 1) * x[:, None] + k)[None], grid)
        answers.append(y[0, ratio // 2 :: ratio])
    found = [(b - a).norm() for a, b in zip(answers, answers[1:], strict=False)]
    assert expected - 0.25 < math.log(found[-2] / found[-1], 3) < expected + 0.35


def test_under_autocast_it_scans_in_float32():
    mixer, x = made(dtype=torch.float32, dims=1), features(2, 100, WIDTH, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = mixer(x, (100,))
        y.square().sum().backward()
    torch.testing.assert_close(y.float(), mixer(x, (100,)), rtol=0.1, atol=0.05)
    assert all(p.grad.isfinite().all() for p in mixer.parameters())


def test_heads_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"heads=5 does not divide the 12 channels .* example 15"):
        SsdMixer(WIDTH, heads=5, expand=2)
    with pytest.raises(ValueError, match=r"width=6, expand=1 cannot be divided among heads=4 of"):
        ModelConfig(mixer="ssd", width=6, heads=4)
    assert ModelConfig(mixer="ssd", width=6, heads=4, expand=2).expand == 2
