"""The compiled kernels against a loop over time in float64: values and every gradient."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scan_cases import DIFFERENTIABLE, RULES, TOLERANCE, differences, flat, laid_out, random_inputs
from torch import Tensor

from mno.scan import cpu
from mno.scan.cpu import launch

pytestmark = pytest.mark.skipif(cpu.unavailable() is not None, reason=str(cpu.unavailable()))


def run(inputs, layout, dy, rule="simplified"):
    scan = flat(*inputs.values(), layout, True, rule)
    y, states, _ = launch.arranged_forward(scan.tensors, scan.how, save=True)
    gradients = launch.arranged_backward(scan.tensors, scan.how, states, dy)[:-1]
    return [y, states, *(g for g in gradients if g is not None)]


@st.composite
def cases(draw: st.DrawFn) -> tuple[dict[str, Any], list[int], bool, str]:
    groups, batch = draw(st.integers(1, 4)), draw(st.integers(0, 3))
    factors = [draw(st.integers(0 if i == 0 else 1, 6)) for i in range(3)]
    points = math.prod(factors)
    layout = []
    for _ in range(groups):
        period, stride = draw(st.permutations(factors[1:]))
        line = draw(st.sampled_from([n for n in range(1, points + 1) if points % n == 0] or [1]))
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
def test_kernels_equal_a_loop_over_time_in_values_and_gradients(case):
    inputs, layout, softplus, rule = case
    errors = differences(inputs, layout, softplus=softplus, rule=rule)
    assert max(errors.values()) < TOLERANCE, errors


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("how", ["channels", "points"])
def test_wide_inputs_of_many_tiles_and_splits(how, rule):
    inputs = random_inputs(3, batch=2, points=100, groups=2, channel=200, state=16, scaled=True)
    for name in ("u", "delta", "B", "C"):
        inputs[name] = laid_out(inputs[name], how)
    errors = differences(inputs, [100, 100, 1, 0, 10, 10, 10, 1], rule=rule)
    assert max(errors.values()) < TOLERANCE, errors


def test_one_order_may_serve_all_samples():
    inputs = random_inputs(4, batch=3, points=37, groups=2, channel=16, state=4, ordered=True)
    inputs["order"] = inputs["order"][:1]
    inputs["scale"] = torch.rand(1, 2, 37)
    spread = inputs | {name: inputs[name].expand(3, 2, 37) for name in ("order", "scale")}
    layout = [37, 37, 1, 0, 37, 37, 1, 1]
    dy = torch.randn(3, 37, 2, 16)
    for ours, wanted in zip(run(inputs, layout, dy), run(spread, layout, dy), strict=True):
        assert torch.equal(ours, wanted)


def test_a_known_layout_brings_nothing_of_earlier_scans_along():
    layout = [12, 12, 1, 0, 4, 4, 3, 1]
    given = [random_inputs(s, batch=2, points=12, groups=2, channel=20, state=3) for s in (1, 2)]
    dy = torch.randn(2, 12, 2, 20)
    wanted = [run(inputs, layout, dy) for inputs in given]
    for length in range(1, 100):  # more layouts than are kept
        run(random_inputs(0, batch=1, points=length, groups=1, channel=1, state=1), [length] * 2
            + [1, 0], torch.ones(1, length, 1, 1))  # fmt: skip
    moved = [inputs | {"B": laid_out(inputs["B"], "points")} for inputs in given]
    for inputs in (*given, *moved):
        for cotangent in (dy, laid_out(dy, "points")):
            expected = wanted[inputs["u"] is given[1]["u"]]
            for ours, theirs in zip(run(inputs, layout, cotangent), expected, strict=True):
                assert torch.equal(ours, theirs)


def test_points_are_checked_in_a_known_layout_too():
    inputs = random_inputs(0, batch=1, points=6, groups=1, channel=2, state=1, ordered=True)
    run(inputs, [6, 6, 1, 0], torch.ones(1, 6, 1, 2))
    inputs["order"] = inputs["order"] + 1
    with pytest.raises(ValueError, match="order names points from 1 to 6 of 6"):
        run(inputs, [6, 6, 1, 0], torch.ones(1, 6, 1, 2))


def test_output_and_gradients_are_laid_out_like_their_inputs():
    inputs = random_inputs(5, batch=2, points=12, groups=2, channel=20, state=3)
    inputs["delta"] = laid_out(inputs["delta"], "points")
    layout = [12, 12, 1, 0] * 2
    y, states, du, ddelta, *_ = run(inputs, layout, torch.randn(2, 12, 2, 20))
    assert y.is_contiguous() and du.is_contiguous()
    assert ddelta.permute(0, 2, 3, 1).is_contiguous()
    assert states.shape == (2, cpu.num_states(12), 3, 40)
    scan = flat(*inputs.values(), layout, True, "simplified")
    _, none, _ = launch.arranged_forward(scan.tensors, scan.how, save=False)
    assert none.shape == (2, 0, 3, 40)


@pytest.mark.parametrize("rule", RULES)
def test_results_do_not_depend_on_the_number_of_threads(rule):
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
def test_a_nan_in_any_input_reaches_the_output_and_the_gradients(name, rule):
    inputs = random_inputs(7, batch=1, points=8, groups=1, channel=17, state=3, rank=2)
    inputs[name].view(-1)[0] = math.nan
    y, _, du, *_ = run(inputs, [8, 8, 1, 0], torch.ones(1, 8, 1, 17), rule)
    assert y.isnan().any()
    assert name == "u" or du.isnan().any()


def test_a_nan_stays_on_its_line():
    inputs = random_inputs(8, batch=1, points=12, groups=1, channel=16, state=2)
    inputs["u"][0, 5] = math.nan
    y, _, du, ddelta, *_ = run(inputs, [4, 4, 1, 0], torch.ones(1, 12, 1, 16))
    for values in (y, ddelta):
        assert values[0, 5].isnan().all()
        assert not values[0, :4].isnan().any() and not values[0, 8:].isnan().any()
    assert not du.isnan().any()


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("softplus", [False, True])
def test_steps_of_extreme_size(softplus, rule):
    steps = torch.tensor([-200.0, -30.0, -1e-6, 0.0, 1e-6, 1e-3, 0.5, 1.0, 30.0, 200.0])
    if not softplus:
        steps = steps.clamp(min=-20.0)
    inputs = random_inputs(9, batch=1, points=10, groups=1, channel=1, state=4, optional=False)
    inputs["A"] = -torch.tensor([[[0.0], [1e-4], [1.0], [4.0]]])
    inputs["delta"] = steps.reshape(1, 10, 1, 1)
    errors = differences(inputs, [1, 10, 1, 0], softplus=softplus, rule=rule)
    assert max(errors.values()) < TOLERANCE, errors


@pytest.mark.parametrize(("rule", "points", "groups"), [
    *((rule, 2048, 2) for rule in RULES),
    pytest.param("simplified", 65_536, 1, marks=[pytest.mark.slow, pytest.mark.nightly]),
])  # fmt: skip
def test_long_sequences_stay_accurate(rule, points, groups):
    inputs = random_inputs(10, batch=1, points=points, groups=groups, channel=16, state=4)
    inputs["delta"] -= 4.0
    layout = [points, points, 1, 0, points, points, 1, 1][: 4 * groups]
    errors = differences(inputs, layout, rule=rule)
    assert max(errors.values()) < 5e-6, errors


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(("channel", "state", "rank"), [(20, 5, 0), (7, 3, 2), (48, 2, 3)])
def test_no_memory_is_read_before_it_was_written(monkeypatch, rule, channel, state, rank):
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
