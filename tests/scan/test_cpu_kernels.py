"""The compiled kernels against a loop over time in float64: values and every gradient."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mno.scan import cpu
from mno.scan.cpu import launch

pytestmark = pytest.mark.skipif(cpu.unavailable() is not None, reason=str(cpu.unavailable()))

NAMES = ("u", "delta", "A", "B", "C", "D", "bias", "dt_weight", "scale", "order")
DIFFERENTIABLE = NAMES[:8]
RULES = ["simplified", "zoh", "centred"]
# Of the largest value; long sequences are allowed 5e-6.
TOLERANCE = 3e-6


def visited(layout: list[int], points: int, order: Tensor | None, batch: int) -> np.ndarray:
    """Return the points in the order of every direction, (batch, groups, points)."""
    paths = np.zeros((batch, len(layout) // 4, points), int)
    for k in range(len(layout) // 4):
        _, period, stride, reverse = layout[4 * k : 4 * k + 4]
        position = np.arange(points)[:: -1 if reverse else 1]
        if order is None:
            q, s = np.divmod(position, period)
            paths[:, k] = (q // stride) * period * stride + q % stride + s * stride
        else:
            paths[:, k] = order.numpy()[:, k][:, position]
    return paths


def loop(inputs: dict[str, Any], layout: list[int], *, softplus: bool, rule: str) -> Tensor:
    """Run the recurrence as it is written, one step after the other."""
    u, delta, A, B, C, D, bias, dt_weight, scale, order = (inputs[name] for name in NAMES)
    raw = delta if dt_weight is None else torch.einsum("bpkr,krc->bpkc", delta, dt_weight)
    raw = raw if bias is None else raw + bias
    dt = torch.nn.functional.softplus(raw) if softplus else raw
    dt = dt if scale is None else dt * scale.transpose(1, 2)[..., None]
    batch, points = u.shape[:2]
    paths = visited(layout, points, order, batch)
    samples = torch.arange(batch)[:, None]
    outputs = []
    for k in range(A.shape[0]):
        drive = u[:, :, 0 if u.shape[2] == 1 else k]
        path = torch.from_numpy(paths[:, k])
        walked = [x[samples, path].unbind(1) for x in (drive, dt[:, :, k], B[:, :, k], C[:, :, k])]
        h = u.new_zeros(batch, *A.shape[1:])
        rows = []
        for t, (x, step, b, c) in enumerate(zip(*walked, strict=True)):
            step = step[:, None]
            z = step * A[k]
            gain = step.expand_as(z)
            if rule == "zoh":
                near = z.abs() < 1e-4
                far = torch.where(near, 1.0, z)
                series = 1 + z / 2 + z * z / 6 + z * z * z / 24
                gain = gain * torch.where(near, series, torch.expm1(far) / far)
            h = torch.zeros_like(h) if t % layout[4 * k] == 0 else h
            added = gain * b[..., None] * x[:, None]
            if rule == "centred":
                seen = torch.exp(z / 2) * h + added / 2
                h = torch.exp(z / 2) * (seen + added / 2)
            else:
                seen = h = torch.exp(z) * h + added
            y = (c[..., None] * seen).sum(1)
            rows.append(y if D is None else y + D[k] * x)
        back = torch.from_numpy(np.argsort(paths[:, k], axis=1))
        outputs.append(torch.stack(rows, 1)[samples, back] if rows else drive * 0.0)
    y = torch.stack(outputs, 2)
    return y.sum(2, keepdim=True) if u.shape[2] == 1 else y


def random_inputs(
    seed: int,
    *,
    batch: int,
    points: int,
    groups: int,
    channel: int,
    state: int,
    shared: bool = False,
    rank: int = 0,
    optional: bool = True,
    scaled: bool = False,
    ordered: bool = False,
) -> dict[str, Any]:
    """Return random inputs in float32, contiguous."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    orders = [torch.randperm(points, generator=generator) for _ in range(batch * groups)]
    wide = rank or channel
    return {
        "u": normal(batch, points, 1 if shared else groups, channel),
        "delta": normal(batch, points, groups, wide),
        "A": -3 * torch.rand(groups, state, channel, generator=generator),
        "B": normal(batch, points, groups, state),
        "C": normal(batch, points, groups, state),
        "D": normal(groups, channel) if optional else None,
        "bias": normal(groups, channel) if optional else None,
        "dt_weight": normal(groups, rank, channel) * 0.5 if rank else None,
        "scale": torch.rand(batch, groups, points, generator=generator) if scaled else None,
        "order": torch.stack(orders).reshape(batch, groups, points).int()
        if ordered and orders
        else None,
    }


def laid_out(x: Tensor, how: str) -> Tensor:
    """Return a copy of (batch, points, group, channel) with other strides."""
    if how == "points":
        return x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    if how == "odd":
        return torch.stack([x, x], -1)[..., 0]
    if how == "sliced":
        return torch.cat([x, x], -1)[..., : x.shape[-1]]
    return x


def differences(
    inputs: dict[str, Any], layout: list[int], *, softplus: bool = True, rule: str = "simplified"
) -> dict[str, float]:
    """Return the errors of the output and of every gradient, relative to the largest value."""
    exact = {
        name: value.double().requires_grad_(name in DIFFERENTIABLE)
        if value is not None and name != "order"
        else value
        for name, value in inputs.items()
    }
    expected = loop(exact, layout, softplus=softplus, rule=rule)
    generator = torch.Generator().manual_seed(1)
    dy = torch.randn(expected.shape, generator=generator)
    given_names = [name for name in DIFFERENTIABLE if inputs[name] is not None]
    gradients = torch.autograd.grad(
        expected, [exact[name] for name in given_names], dy.double(), allow_unused=True
    )
    y, states = launch.forward(
        *inputs.values(), layout, softplus=softplus, discretization=rule, save=True
    )
    found = launch.backward(
        *inputs.values(), states, dy, layout, softplus=softplus, discretization=rule
    )
    by_name = dict(zip(DIFFERENTIABLE, found, strict=True))
    assert [name for name in DIFFERENTIABLE if by_name[name] is not None] == given_names
    pairs = {"y": (y, expected)}
    for name, gradient in zip(given_names, gradients, strict=True):
        wanted = torch.zeros_like(exact[name]) if gradient is None else gradient
        pairs[f"d{name}"] = (by_name[name], wanted)
    errors = {}
    for name, (ours, wanted) in pairs.items():
        assert ours.shape == wanted.shape, name
        largest = wanted.abs().max().item() if wanted.numel() else 0.0
        error = (ours.double() - wanted).abs().max().item() if wanted.numel() else 0.0
        errors[name] = error / max(largest, 1e-6)
    return errors


def run(
    inputs: dict[str, Any], layout: list[int], dy: Tensor, rule: str = "simplified"
) -> list[Tensor]:
    """Return the output, the states and all gradients."""
    y, states = launch.forward(
        *inputs.values(), layout, softplus=True, discretization=rule, save=True
    )
    gradients = launch.backward(
        *inputs.values(), states, dy, layout, softplus=True, discretization=rule
    )
    return [y, states, *(g for g in gradients if g is not None)]


@st.composite
def cases(draw: st.DrawFn) -> tuple[dict[str, Any], list[int], bool, str]:
    """Draw inputs, their layout, whether to use softplus, and the discretisation."""
    groups, batch = draw(st.integers(1, 4)), draw(st.integers(0, 3))
    factors = [draw(st.integers(0 if i == 0 else 1, 6)) for i in range(3)]
    points = math.prod(factors)
    layout = []
    for _ in range(groups):
        period, stride = draw(st.permutations(factors[1:]))
        lines = [n for n in range(1, points + 1) if points % n == 0]
        line = draw(st.sampled_from(lines or [1]))
        layout += [line, period, stride, draw(st.integers(0, 1))]
    inputs = random_inputs(
        draw(st.integers(0, 2**31)),
        batch=batch,
        points=points,
        groups=groups,
        channel=draw(st.integers(1, 40)),
        state=draw(st.integers(1, 9)),
        shared=draw(st.booleans()),
        rank=draw(st.integers(0, 3)),
        optional=draw(st.booleans()),
        scaled=draw(st.booleans()),
        ordered=draw(st.booleans()),
    )
    for name in ("u", "delta", "B", "C"):
        inputs[name] = laid_out(
            inputs[name], draw(st.sampled_from(["channels", "points", "odd", "sliced"]))
        )
    softplus = draw(st.booleans())
    if not softplus:
        # Steps of either sign, few of them negative: a state that grows overflows in the end.
        inputs["delta"] = inputs["delta"] * 0.1
        inputs["bias"] = 0.3 + 0.1 * torch.ones_like(inputs["A"][:, 0])
    return inputs, layout, softplus, draw(st.sampled_from(RULES))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(cases())
def test_kernels_equal_a_loop_over_time_in_values_and_gradients(
    case: tuple[dict[str, Any], list[int], bool, bool],
) -> None:
    inputs, layout, softplus, rule = case
    errors = differences(inputs, layout, softplus=softplus, rule=rule)
    assert max(errors.values()) < TOLERANCE, errors


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("how", ["channels", "points"])
def test_wide_inputs_of_many_tiles_and_splits(how: str, rule: str) -> None:
    inputs = random_inputs(3, batch=2, points=100, groups=2, channel=200, state=16, scaled=True)
    for name in ("u", "delta", "B", "C"):
        inputs[name] = laid_out(inputs[name], how)
    errors = differences(inputs, [100, 100, 1, 0, 10, 10, 10, 1], rule=rule)
    assert max(errors.values()) < TOLERANCE, errors


def test_one_order_may_serve_all_samples() -> None:
    inputs = random_inputs(4, batch=3, points=37, groups=2, channel=16, state=4, ordered=True)
    inputs["order"] = inputs["order"][:1]
    inputs["scale"] = torch.rand(1, 2, 37)
    spread = inputs | {name: inputs[name].expand(3, 2, 37) for name in ("order", "scale")}
    layout = [37, 37, 1, 0, 37, 37, 1, 1]
    dy = torch.randn(3, 37, 2, 16)
    for ours, wanted in zip(run(inputs, layout, dy), run(spread, layout, dy), strict=True):
        assert torch.equal(ours, wanted)


def test_output_and_gradients_are_laid_out_like_their_inputs() -> None:
    inputs = random_inputs(5, batch=2, points=12, groups=2, channel=20, state=3)
    inputs["delta"] = laid_out(inputs["delta"], "points")
    layout = [12, 12, 1, 0] * 2
    y, states, du, ddelta, *_ = run(inputs, layout, torch.randn(2, 12, 2, 20))
    assert y.is_contiguous() and du.is_contiguous()
    assert ddelta.permute(0, 2, 3, 1).is_contiguous()
    assert states.shape == (2, cpu.num_states(layout, 12), 3, 40)
    _, none = launch.forward(*inputs.values(), layout, softplus=True, save=False)
    assert none.shape == (2, 0, 3, 40)


@pytest.mark.parametrize("rule", RULES)
def test_results_do_not_depend_on_the_number_of_threads(rule: str) -> None:
    inputs = random_inputs(6, batch=2, points=300, groups=2, channel=192, state=6)
    layout = [300, 300, 1, 0, 300, 300, 1, 1]
    dy = torch.randn(2, 300, 2, 192)
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append(run(inputs, layout, dy, rule))
    finally:
        torch.set_num_threads(before)
    for others in results[1:]:
        for ours, wanted in zip(others, results[0], strict=True):
            assert torch.equal(ours, wanted)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_a_nan_in_any_input_reaches_the_output_and_the_gradients(name: str, rule: str) -> None:
    inputs = random_inputs(7, batch=1, points=8, groups=1, channel=17, state=3, rank=2)
    inputs[name].view(-1)[0] = math.nan
    y, _, du, *_ = run(inputs, [8, 8, 1, 0], torch.ones(1, 8, 1, 17), rule)
    assert y.isnan().any()
    assert name == "u" or du.isnan().any()


def test_a_nan_stays_on_its_line() -> None:
    inputs = random_inputs(8, batch=1, points=12, groups=1, channel=16, state=2)
    inputs["u"][0, 5] = math.nan
    y, _, du, ddelta, *_ = run(inputs, [4, 4, 1, 0], torch.ones(1, 12, 1, 16))
    for values in (y, ddelta):
        assert values[0, 5].isnan().all()
        assert not values[0, :4].isnan().any() and not values[0, 8:].isnan().any()
    assert not du.isnan().any()


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("softplus", [False, True])
def test_steps_of_extreme_size(softplus: bool, rule: str) -> None:
    steps = torch.tensor([-200.0, -30.0, -1e-6, 0.0, 1e-6, 1e-3, 0.5, 1.0, 30.0, 200.0])
    if not softplus:
        steps = steps.clamp(min=-20.0)
    inputs = random_inputs(9, batch=1, points=10, groups=1, channel=1, state=4, optional=False)
    inputs["A"] = -torch.tensor([[[0.0], [1e-4], [1.0], [4.0]]])
    inputs["delta"] = steps.reshape(1, 10, 1, 1)
    errors = differences(inputs, [1, 10, 1, 0], softplus=softplus, rule=rule)
    assert max(errors.values()) < TOLERANCE, errors


@pytest.mark.parametrize("rule", RULES)
def test_long_sequences_stay_accurate(rule: str) -> None:
    inputs = random_inputs(10, batch=1, points=2048, groups=2, channel=16, state=4)
    inputs["delta"] -= 4.0
    errors = differences(inputs, [2048, 2048, 1, 0, 2048, 2048, 1, 1], rule=rule)
    assert max(errors.values()) < 5e-6, errors


@pytest.mark.slow
@pytest.mark.nightly
def test_the_longest_sequences_stay_accurate() -> None:
    inputs = random_inputs(11, batch=1, points=65_536, groups=1, channel=16, state=4)
    inputs["delta"] -= 4.0
    errors = differences(inputs, [65_536, 65_536, 1, 0])
    assert max(errors.values()) < 5e-6, errors


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(("channel", "state", "rank"), [(20, 5, 0), (7, 3, 2), (48, 2, 3)])
def test_no_memory_is_read_before_it_was_written(monkeypatch, rule, channel, state, rank) -> None:
    # Whatever the kernels work in is full of NaN when they begin.
    inputs = random_inputs(
        0, batch=2, points=70, groups=2, channel=channel, state=state, rank=rank, shared=True
    )
    layout = [70, 70, 1, 0, 7, 7, 10, 1]
    empty = torch.empty

    def full_of_nan(*shape: Any, **options: Any) -> Tensor:
        made = empty(*shape, **options)
        return made.fill_(255 if made.dtype == torch.uint8 else math.nan)

    monkeypatch.setattr(torch, "empty", full_of_nan)
    results = run(inputs, layout, torch.ones(2, 70, 1, channel), rule)
    assert all(result.isfinite().all() for result in results)
