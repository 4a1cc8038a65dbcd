"""A scan is the application of its kernel."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from mno.core.grid import Grid
from mno.core.points import Points
from mno.nn.kernel_view import EffectiveKernel, effective_kernel
from mno.nn.mixers.mamba import MambaCrossMixer, MambaMixer
from mno.scan.arguments import DISCRETIZATIONS, ScanArguments, ScanPath
from mno.scan.backends import compute
from mno.scan.paths import PATHS, Domain, num_directions

GRIDS = [(7,), (4, 5), (3, 2, 4)]


def mixer_for(path: str, dims: int, cls: type[MambaMixer] = MambaMixer, **options) -> MambaMixer:
    """A mixer in float64 whose steps are large enough for every part of its kernel to matter."""
    torch.manual_seed(0)
    mixer = cls(3, d_state=4, path=path, dims=dims, **options).double()
    with torch.no_grad():
        mixer.dt_projs_bias.uniform_(-2.0, 1.0)
        mixer.Ds.uniform_(0.5, 2.0)
    return mixer


def features(num_points: int, batch: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch, num_points, 3, dtype=torch.float64, generator=generator)


def uneven(shape: tuple[int, ...]) -> Domain:
    """A grid with cells of several widths along every axis."""
    widths = tuple(tuple(0.1 + 0.05 * (i % 3) for i in range(n)) for n in shape)
    return Grid(shape, widths, (0.1,) * len(shape))


def direction(scan: ScanArguments, k: int) -> ScanArguments:
    """One direction of a scan, alone."""
    one = slice(k, k + 1)
    path = scan.path
    order, scale = (None if x is None else x[:, one] for x in (path.order, path.scale))
    assert scan.D is not None and scan.bias is not None and scan.dt_weight is not None
    return replace(
        scan,
        delta=scan.delta[:, :, one],
        A=scan.A[one],
        B=scan.B[:, :, one],
        C=scan.C[:, :, one],
        D=scan.D[one],
        bias=scan.bias[one],
        dt_weight=scan.dt_weight[one],
        path=ScanPath(path.directions[one], order, scale),
    )


def check(kernel: EffectiveKernel, scan: ScanArguments) -> None:
    u, tight = scan.u[:, :, 0], {"rtol": 1e-11, "atol": 1e-12}
    torch.testing.assert_close(kernel.apply(u), compute(scan, "reference")[:, :, 0], **tight)
    assert kernel.directions.shape[1] == len(scan.path.directions)
    for k in range(len(scan.path.directions)):
        alone = EffectiveKernel(kernel.directions[:, k : k + 1], kernel.targets)
        expected = compute(direction(scan, k), "reference")[:, :, 0]
        torch.testing.assert_close(alone.apply(u), expected, **tight)


@pytest.mark.parametrize("discretization", DISCRETIZATIONS)
@pytest.mark.parametrize("shape", GRIDS, ids=str)
@pytest.mark.parametrize("path", PATHS)
@torch.no_grad()
def test_applying_the_kernel_is_the_scan(path, shape, discretization):
    mixer = mixer_for(path, len(shape), discretization=discretization)
    for domain in (shape, uneven(shape)):
        x = features(torch.Size(shape).numel())
        check(effective_kernel(mixer, x, domain), mixer.prepare(x, domain)[0])


@pytest.mark.parametrize("path", ["bidirectional", "hilbert"])
@torch.no_grad()
def test_applying_the_kernel_is_the_scan_on_scattered_points(path):
    places = torch.rand(2, 11, 2, generator=torch.Generator().manual_seed(2))
    mixer, x = mixer_for(path, 2), features(11)
    for domain in (Points(places, 0.1), Points(places[0])):
        check(effective_kernel(mixer, x, domain), mixer.prepare(x, domain)[0])


@torch.no_grad()
def test_applying_the_kernel_is_the_scan_of_a_cross_mixer():
    mixer = mixer_for("axial", 2, MambaCrossMixer)
    x, source = features(12), features(12).flip(1)
    kernel = effective_kernel(mixer, x, (3, 4), source=source)
    check(kernel, mixer.prepare(x, source, (3, 4))[0])
    assert not torch.equal(kernel.total, effective_kernel(mixer, x, (3, 4), source=x).total)


@torch.no_grad()
def test_the_mixer_is_its_kernel_between_projections():
    mixer, x = mixer_for("axial", 2), features(20)
    scan, gate = mixer.prepare(x, (4, 5))
    y = effective_kernel(mixer, x, (4, 5)).apply(scan.u[:, :, 0])
    torch.testing.assert_close(mixer.out_proj(mixer.out_norm(y) * gate), mixer(x, (4, 5)))


@torch.no_grad()
def test_a_few_targets_are_rows_of_the_whole_kernel():
    mixer, x = mixer_for("cross", 2), features(20)
    whole, rows = (effective_kernel(mixer, x, (4, 5), points=p) for p in (None, [17, 3]))
    assert rows.directions.shape == (2, 4, 2, 20, 6)
    torch.testing.assert_close(rows.directions, whole.directions[:, :, [17, 3]], rtol=0, atol=0)
    torch.testing.assert_close(rows.total, whole.directions.sum(1)[:, [17, 3]], rtol=0, atol=0)


@torch.no_grad()
def test_a_direction_hears_nothing_of_what_it_has_not_passed():
    forwards, backwards = effective_kernel(
        mixer_for("bidirectional", 2), features(20), (4, 5)
    ).directions.unbind(1)
    later = torch.ones(20, 20, dtype=torch.bool).triu(1)
    assert (forwards[:, later] == 0).all() and (backwards[:, later.T] == 0).all()
    assert (forwards[:, ~later] != 0).all() and (backwards[:, ~later.T] != 0).all()


@torch.no_grad()
def test_lines_of_an_axial_path_do_not_hear_each_other():
    kernel = effective_kernel(mixer_for("axial", 3), features(24), (3, 2, 4)).directions
    at = torch.cartesian_prod(torch.arange(3), torch.arange(2), torch.arange(4))
    differs = at[:, None] != at[None]
    for k, axis in enumerate((2, 2, 1, 1, 0, 0)):
        others = [a for a in range(3) if a != axis]
        elsewhere = differs[..., others].any(-1)
        heard = (kernel[:, k] != 0).any(-1)
        passed = (at[:, None] >= at[None]) if k % 2 == 0 else (at[:, None] <= at[None])
        assert (heard == (~elsewhere & passed[..., axis])).all()


@pytest.mark.parametrize("path", PATHS)
@torch.no_grad()
def test_the_direct_path_is_the_diagonal(path):
    mixer, x = mixer_for(path, 2), features(20)
    before = effective_kernel(mixer, x, (4, 5)).directions
    mixer.Ds += 10.0
    change = effective_kernel(mixer, x, (4, 5)).directions - before
    diagonal = torch.eye(20, dtype=torch.float64)[..., None].expand(20, 20, 6)
    expected = 10.0 * diagonal.expand(2, num_directions(path, 2), -1, -1, -1)
    torch.testing.assert_close(change, expected, rtol=0, atol=1e-12)


@torch.no_grad()
def test_far_along_a_line_the_kernel_is_as_exact_as_at_its_start():
    length = 3000
    mixer = mixer_for("bidirectional", 1)
    mixer.dt_projs_bias.fill_(3.0)  # so that steps add up to thousands, and decay within a few
    x = features(length, batch=1)
    exact = effective_kernel(mixer, x, (length,), points=[length - 1]).total
    assert torch.isfinite(exact).all()
    mixer.float()
    single = effective_kernel(mixer, x.float(), (length,), points=[length - 1]).total
    assert single.dtype == torch.float32
    assert (single - exact).abs().max() < 1e-5 * exact.abs().max()


def test_the_kernel_carries_no_graph():
    assert not effective_kernel(mixer_for("axial", 1), features(7), (7,)).total.requires_grad


@pytest.mark.parametrize("points", [[20], [0, -1], torch.tensor([[1, 2]])])
def test_a_target_that_is_no_point_is_refused(points):
    with pytest.raises(ValueError, match="expected a list of numbers of points, from 0 to 19"):
        effective_kernel(mixer_for("axial", 2), features(20), (4, 5), points=points)


def test_a_source_is_refused_or_asked_for():
    x = features(20)
    with pytest.raises(ValueError, match="only a cross mixer takes a source"):
        effective_kernel(mixer_for("axial", 2), x, (4, 5), source=x)
    with pytest.raises(ValueError, match="second input; give it as source"):
        effective_kernel(mixer_for("axial", 2, MambaCrossMixer), x, (4, 5))
