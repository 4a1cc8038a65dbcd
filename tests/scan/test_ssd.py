"""The scan with one decay per head: by products of matrices as by the recurrence."""

import math
from dataclasses import fields, replace

import pytest
import torch
from torch import Tensor

from mno.core.grid import Grid
from mno.core.points import Points
from mno.scan import cpu
from mno.scan.arguments import Direction, ScanPath
from mno.scan.backends import compute
from mno.scan.paths import PATHS, scan_path
from mno.scan.ssd import HeadScan, ssd

RULES = ("simplified", "zoh", "centred", "trapezoidal")
TENSORS = ("u", "delta", "A", "B", "C", "D", "bias")


def problem(path, rule, *, points, batch=2, heads=2, channels=3, state=4, seed=0):
    """A scan in float64 whose decays are neither slow nor fast."""
    draw = torch.Generator().manual_seed(seed)
    groups = len(path.directions)

    def normal(*shape):
        return torch.randn(shape, generator=draw, dtype=torch.float64)

    tensors = {
        "u": normal(batch, points, 1, heads * channels),
        "delta": normal(batch, points, groups, heads) - 2,
        "A": -normal(groups, heads).exp(),
        "B": normal(batch, points, groups, state),
        "C": normal(batch, points, groups, state),
        "D": normal(groups, heads),
        "bias": normal(groups, heads),
    }
    if rule == "trapezoidal":
        tensors["end_weight"] = torch.sigmoid(normal(batch, points, groups, heads))
    return HeadScan(**tensors, path=path, discretization=rule)


def along_a_line(length, *ways):
    return ScanPath(tuple(Direction(length, length, 1, back) for back in ways))


def tensors(scan):
    return {f.name: x for f in fields(scan) if isinstance(x := getattr(scan, f.name), Tensor)}


def results(scan, run, dtype=torch.float64):
    """The output and the gradients of all tensors, for a cotangent that is the same for all."""
    given = {name: x.detach().to(dtype).requires_grad_() for name, x in tensors(scan).items()}
    y = run(replace(scan, **given))
    dy = torch.randn(y.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    grads = torch.autograd.grad(y, tuple(given.values()), dy.to(dtype), allow_unused=True)
    return dict(zip(("y", *given), (y, *grads), strict=True))


def by_steps(scan):
    return compute(scan.by_channel(), "reference")


def check(scan):
    """Both forms are the recurrence: torch's in float64, the compiled one in float32.

    The gradient by a step is a difference of sums over its block, and has an error of theirs.
    """
    exact = results(scan, by_steps)
    for dtype, bound in ((torch.float64, 1e-11), (torch.float32, 2e-5)):
        if dtype == torch.float32 and cpu.unavailable():
            continue
        for name, value in results(scan, ssd, dtype).items():
            size = max(exact[name].abs().max().item(), 1e-3)
            assert value.dtype == dtype
            assert (value - exact[name]).abs().max() < bound * size, (name, dtype)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("length", [1, 2, 7, 24, 33, 64, 65, 100, 161])
def test_products_of_matrices_are_the_recurrence(length, rule):
    check(problem(along_a_line(length, False, True), rule, points=length))


@pytest.mark.parametrize(
    ("heads", "channels", "state"), [(1, 1, 1), (3, 16, 16), (1, 37, 2), (5, 8, 33)]
)
def test_any_number_of_heads_channels_and_states(heads, channels, state):
    sizes = {"heads": heads, "channels": channels, "state": state, "batch": 1}
    check(problem(along_a_line(70, True, False), "centred", points=70, **sizes))


@pytest.mark.parametrize("shape", [(9,), (70,), (4, 6), (2, 3, 4)])
@pytest.mark.parametrize("path", PATHS)
def test_every_path_on_an_uneven_grid(path, shape):
    widths = tuple(tuple(0.1 + 0.05 * (i % 3) for i in range(n)) for n in shape)
    points = math.prod(shape)
    laid = scan_path(path, Grid(shape, widths, (0.1,) * len(shape)), points)
    check(problem(laid, "centred", points=points))


def test_many_lines_of_many_blocks():
    laid = scan_path("axial", (3, 150), 450)
    check(problem(laid, "centred", points=450, batch=5))


def test_scattered_points_of_every_sample():
    places = torch.rand(2, 90, 2, generator=torch.Generator().manual_seed(2))
    for domain in (Points(places, 0.1), Points(places[0])):
        check(problem(scan_path("hilbert", domain, 90), "simplified", points=90))


def test_directions_that_are_the_same_or_have_orders_of_their_own():
    check(problem(along_a_line(12, False, False, True), "simplified", points=12))
    orders = torch.stack([torch.randperm(12, dtype=torch.int32) for _ in range(2)])[None]
    ways = along_a_line(12, False, True).directions
    check(problem(ScanPath(ways, orders), "simplified", points=12))


@pytest.mark.parametrize("size", [3.0, 30.0])
def test_steps_that_forget_everything_are_exact_and_finite(size):
    scan = problem(along_a_line(130, False, True), "centred", points=130)
    check(replace(scan, bias=scan.bias + size))


@pytest.mark.parametrize("rule", RULES)
def test_beside_a_step_that_forgets_everything_the_others_keep_their_digits(rule):
    scan = problem(along_a_line(130, False, True), rule, points=130)
    scan.delta[:, 7] = 1e5
    scan.u[:, 7] = 0.0  # what is heard there would be larger than all else
    check(scan)


def test_a_step_of_no_length_changes_nothing():
    scan = problem(along_a_line(8, False), "simplified", points=8)
    scale = torch.ones(1, 1, 8)
    scale[..., 3] = 0.0
    scan = replace(scan, path=ScanPath(scan.path.directions, None, scale))
    found = results(scan, ssd)
    assert all(x.isfinite().all() for x in found.values())
    torch.testing.assert_close(found["y"], by_steps(scan))


def test_gradients_are_right_to_second_order():
    scan = problem(
        along_a_line(66, False, True), "centred", points=66, batch=1, channels=1, state=1
    )
    short = problem(along_a_line(5, False, True), "zoh", points=5, batch=1, channels=2)
    for given in (scan, short):
        wanted = tensors(given)
        inputs = tuple(x.requires_grad_() for x in wanted.values())

        def run(*values, given=given, names=tuple(wanted)):
            return ssd(replace(given, **dict(zip(names, values, strict=True))))

        assert torch.autograd.gradcheck(run, inputs)
        if given is short:
            assert torch.autograd.gradgradcheck(run, inputs)


@pytest.mark.skipif(cpu.unavailable() is not None, reason=str(cpu.unavailable()))
def test_a_gradient_of_the_compiled_gradient_is_that_of_the_plain_form():
    scan = problem(along_a_line(70, False, True), "centred", points=70)
    found = []
    for dtype in (torch.float32, torch.float64):
        given = {name: x.to(dtype).requires_grad_() for name, x in tensors(scan).items()}
        values = tuple(given.values())
        first = torch.autograd.grad(
            ssd(replace(scan, **given)).sin().sum(), values, create_graph=True
        )
        found.append(torch.autograd.grad(sum(g.square().sum() for g in first), values))
    for name, fast, plain in zip(TENSORS, *found, strict=True):
        assert (fast - plain).abs().max() < 1e-4 * plain.abs().max(), name


def test_nothing_in_is_nothing_out():
    scan = problem(along_a_line(6, False, True), "centred", points=6, batch=0)
    assert ssd(scan).shape == scan.u.shape


@pytest.mark.skipif(cpu.unavailable() is not None, reason=str(cpu.unavailable()))
@pytest.mark.parametrize("threads", [1, 2])
def test_bits_do_not_depend_on_threads(threads):
    before = torch.get_num_threads()
    scan = problem(along_a_line(160, False, True), "centred", points=160, heads=6, channels=16)
    try:
        torch.set_num_threads(threads)
        found = [results(scan, ssd, torch.float32) for _ in range(3)]
        torch.set_num_threads(3 - threads)
        found.append(results(scan, ssd, torch.float32))
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        assert all(torch.equal(found[0][name], other[name]) for name in found[0])
