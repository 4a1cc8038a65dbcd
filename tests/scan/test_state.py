"""A state that goes into a scan and comes out of it: pieces, gradients, streams, refusals."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scan_cases import flat, random_inputs

from mno.scan import cpu, scan_step, selective_scan
from mno.scan.arguments import DISCRETIZATIONS
from mno.scan.backends import compute_and_carry

BACKENDS = [
    pytest.param("reference", torch.float64),
    pytest.param("chunked", torch.float64),
    pytest.param(
        "cpu",
        torch.float32,
        marks=pytest.mark.skipif(cpu.unavailable() is not None, reason=str(cpu.unavailable())),
    ),
]
ALONG = ("u", "delta", "B", "C", "delta_scale", "end_weight")
CLOSE = {torch.float64: 1e-12, torch.float32: 2e-6}  # of the largest value


def problem(rule, dtype, batch=2, groups=2, channels=3, state=4, length=9, seed=0, scale=None):
    """Arguments of a scan from a state, and that state; scaled by `time`, `group` or `sample`."""
    draw, wide = np.random.default_rng(seed), groups * channels
    shapes = {
        "u": (batch, wide, length), "delta": (batch, wide, length), "A": (wide, state),
        "B": (batch, groups, state, length), "C": (batch, groups, state, length),
        "D": (wide,), "delta_bias": (wide,), "initial_state": (batch, wide, state),
    }  # fmt: skip
    if rule == "trapezoidal":
        shapes |= {"initial_state": (batch, wide, 2 * state), "end_weight": shapes["u"]}
    args = {name: draw.standard_normal(shape) for name, shape in shapes.items()}
    args["A"] = -np.exp(args["A"])
    if "end_weight" in args:
        args["end_weight"] = draw.uniform(size=shapes["u"])
    if scale is not None:
        before = {"time": (), "group": (groups,), "sample": (batch, 1), "each": (batch, groups)}
        args["delta_scale"] = draw.uniform(0.1, 2.0, (*before[scale], length))
    tensors = {name: torch.from_numpy(np.asarray(x)).to(dtype) for name, x in args.items()}
    return tensors | {"u": tensors["u"].mT.contiguous().mT}


def scanned(args, **options):
    return selective_scan(**args, **options, return_state=True)


def in_pieces(args, cuts, back, **options):
    """Scan piece by piece, in the direction in which they are walked."""
    state, outputs = args["initial_state"], []
    ends = [0, *cuts, args["u"].shape[-1]]
    pieces = [slice(*ends[i : i + 2]) for i in range(len(ends) - 1)]
    for piece in reversed(pieces) if back else pieces:
        part = {k: x[..., piece] if k in ALONG else x for k, x in args.items()}
        y, state = scanned(part | {"initial_state": state}, **options)
        outputs.append(y)
    return torch.cat(outputs[::-1] if back else outputs, dim=-1), state


def assert_near(found, expected, tolerance, name):
    assert found.shape == expected.shape, name
    if expected.numel():
        largest = max(expected.abs().max().item(), 1e-3)
        assert (found.double() - expected.double()).abs().max() <= tolerance * largest, name


@pytest.mark.parametrize(("backend", "dtype"), BACKENDS)
@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    rule=st.sampled_from(DISCRETIZATIONS),
    batch=st.integers(0, 3),
    groups=st.integers(1, 3),
    channels=st.integers(1, 20),
    state=st.integers(1, 5),
    length=st.integers(0, 70),
    seed=st.integers(0, 10**6),
    back=st.booleans(),
    softplus=st.booleans(),
    scale=st.sampled_from([None, "time", "group", "sample", "each"]),
    data=st.data(),
)
def test_any_pieces_of_a_sequence_equal_the_whole(
    backend, dtype, rule, batch, groups, channels, state, length, seed, back, softplus, scale, data
):
    args = problem(rule, dtype, batch, groups, channels, state, length, seed, scale)
    if not softplus:
        args["delta"], args["delta_bias"] = args["delta"].abs(), args["delta_bias"].abs()
    cuts = sorted(data.draw(st.lists(st.integers(0, length), max_size=3)))
    options = {"backend": backend, "discretization": rule, "delta_softplus": softplus}
    options["reverse"] = [back] * groups
    whole, pieces = scanned(args, **options), in_pieces(args, cuts, back, **options)
    exact = {k: x.double() for k, x in args.items()}
    expected = scanned(exact, **options | {"backend": "reference"})
    for i, name in enumerate(("y", "state")):
        assert whole[i].dtype == dtype
        assert_near(pieces[i], whole[i], CLOSE[dtype], name)
        assert_near(whole[i], expected[i], max(CLOSE[dtype], 1e-11), name)
        if backend == "cpu" and rule != "trapezoidal":  # which rounds otherwise at an end
            assert torch.equal(pieces[i], whole[i])


@pytest.mark.parametrize(("backend", "dtype"), BACKENDS)
@pytest.mark.parametrize("rule", DISCRETIZATIONS)
@pytest.mark.parametrize("back", [False, True])
def test_pieces_have_the_gradients_of_the_whole(backend, dtype, rule, back):
    args = problem(rule, dtype, channels=20, state=5, length=70, scale="each")
    exact = {k: x.double() for k, x in args.items()}
    results = []
    for given_, cuts, by in (
        (exact, [], "reference"), (args, [], backend), (args, [1, 33, 34], backend),
    ):  # fmt: skip
        inputs = {k: x.clone().requires_grad_(k != "delta_scale") for k, x in given_.items()}
        options = {"backend": by, "discretization": rule, "reverse": [back] * 2}
        y, state = in_pieces(inputs, cuts, back, **options)
        loss = sum((x * torch.linspace(-1, 2, x.numel()).view_as(x)).sum() for x in (y, state))
        names = [k for k in inputs if k != "delta_scale"]
        results.append(torch.autograd.grad(loss, [inputs[k] for k in names]))
    for found in results[1:]:
        for name, ours, wanted in zip(names, found, results[0], strict=True):
            assert_near(ours, wanted, 1e-11 if dtype == torch.float64 else 1e-5, name)


@pytest.mark.parametrize("rule", DISCRETIZATIONS)
def test_gradients_with_a_state_are_right_to_second_order(rule):
    args = problem(rule, torch.float64, channels=1, state=2, length=3)
    names = list(args)

    def scan(*tensors):
        given_ = dict(zip(names, tensors, strict=True))
        return scanned(given_, discretization=rule, reverse=(False, True))

    tensors = tuple(x.requires_grad_() for x in args.values())
    assert torch.autograd.gradcheck(scan, tensors)
    assert torch.autograd.gradgradcheck(scan, tensors)


@pytest.mark.parametrize("heard", ["y", "state", "both"])
@pytest.mark.parametrize("rule", DISCRETIZATIONS)
def test_the_compiled_scan_hears_what_reaches_the_state(rule, heard):
    firsts, seconds = [], []
    for dtype in (torch.float32, torch.float64):
        args = {k: x.requires_grad_() for k, x in problem(rule, dtype, length=40).items()}
        y, state = scanned(args, discretization=rule, reverse=(True, False))
        parts = {"y": (y,), "state": (state,), "both": (y, state)}[heard]
        loss = sum(x.sin().sum() for x in parts)
        inputs = list(args.values())
        first = torch.autograd.grad(loss, inputs, allow_unused=True, retain_graph=True)
        pairs = zip(inputs, first, strict=True)
        firsts.append([torch.zeros_like(x) if g is None else g for x, g in pairs])
        (graph,) = torch.autograd.grad(loss, args["initial_state"], create_graph=True)
        seconds.append(torch.autograd.grad(graph.square().sum(), (args["delta"], args["A"])))
    for name, fast, plain in zip(args, *firsts, strict=True):
        assert_near(fast, plain, 1e-5, name)
    for fast, plain in zip(*seconds, strict=True):
        assert_near(fast, plain, 1e-4, "second order")


@pytest.mark.parametrize(("backend", "dtype"), BACKENDS)
@pytest.mark.parametrize("rule", DISCRETIZATIONS)
def test_each_group_carries_its_own_state_in_its_own_direction(backend, dtype, rule):
    args = problem(rule, dtype)
    options = {"backend": backend, "discretization": rule}
    y, state = scanned(args, reverse=(False, True), **options)
    for group, back in enumerate((False, True)):
        own = slice(3 * group, 3 * group + 3)
        alone = args | {k: args[k][:, [group]] for k in ("B", "C")}
        alone |= {k: args[k][own] for k in ("A", "D", "delta_bias")}
        alone |= {
            k: args[k][:, own] for k in ("u", "delta", "initial_state", "end_weight") if k in args
        }
        found = scanned(alone, reverse=(back,), **options)
        assert_near(found[0], y[:, own], CLOSE[dtype], "y")
        assert_near(found[1], state[:, own], CLOSE[dtype], "state")


@pytest.mark.parametrize(("backend", "dtype"), BACKENDS)
@pytest.mark.parametrize("rule", DISCRETIZATIONS)
def test_a_stream_followed_step_by_step_is_the_scan(backend, dtype, rule):
    args = problem(rule, dtype, scale="sample")
    del args["initial_state"]
    options = {"backend": backend, "discretization": rule}
    y, last = scanned(args, **options)
    state = None
    for t in range(9):
        now = {k: x[..., t] if k in ALONG else x for k, x in args.items()}
        now |= {f"{k}_t": now.pop(k) for k in ("u", "delta", "B", "C")}
        y_t, state = scan_step(state, **now, **options)
        assert_near(y_t, y[..., t], CLOSE[dtype], t)
    assert_near(state, last, CLOSE[dtype], "state")


@pytest.mark.parametrize(("backend", "dtype"), BACKENDS)
@pytest.mark.parametrize("rule", DISCRETIZATIONS)
@pytest.mark.parametrize("t", [0, 31, 40])
def test_a_later_input_changes_no_bit_of_an_earlier_answer(backend, dtype, rule, t):
    args = problem(rule, dtype, channels=20, length=70, scale="sample")
    # The trapezoidal rule reads ahead to the step, and takes it back again: but for rounding.
    later = ("u", "B", "C") if rule == "trapezoidal" else tuple(k for k in ALONG if k in args)
    changed = {k: x.clone() for k, x in args.items()}
    for name in later:
        changed[name][..., t + 1 :] *= 7.0
    options = {"backend": backend, "discretization": rule}
    before, after = (scanned(x, **options)[0][..., : t + 1] for x in (args, changed))
    assert torch.equal(before, after)
    if rule == "trapezoidal":
        changed["delta"][..., t + 1 :] += 1.0
        assert_near(scanned(changed, **options)[0][..., : t + 1], before, CLOSE[dtype], "y")


@pytest.mark.parametrize("rule", DISCRETIZATIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_state_of_zero_is_the_beginning_of_every_scan(rule, dtype):
    args = problem(rule, dtype)
    args["initial_state"].zero_()
    with_state = scanned(args, discretization=rule)
    del args["initial_state"]
    assert torch.equal(selective_scan(**args, discretization=rule), with_state[0])
    assert torch.equal(scanned(args, discretization=rule)[1], with_state[1])


@pytest.mark.parametrize("shape", ["sample", "each"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_each_sample_may_have_steps_of_its_own(shape, dtype):
    args = problem("zoh", dtype, batch=2, groups=2, scale=shape)  # two samples and two groups
    y = selective_scan(**args, discretization="zoh", reverse=(False, True))
    for i in range(2):
        one = {k: x[i : i + 1] if k in (*ALONG, "initial_state") else x for k, x in args.items()}
        one["delta_scale"] = args["delta_scale"][i].expand(2, -1)
        alone = selective_scan(**one, discretization="zoh", reverse=(False, True))
        assert_near(alone[0], y[i], CLOSE[dtype], i)


def of_points(line=70, dtype=torch.float32, rule="zoh", shared=True):
    """A wide scan in the form of the backends, from a state, along an order of each sample."""
    inputs = random_inputs(
        0, batch=2, points=70, groups=2, channel=200, state=5, shared=shared, rank=3, scaled=True,
        ordered=True,
    )  # fmt: skip
    inputs = {k: x if k == "order" else x.to(dtype) for k, x in inputs.items()}
    kept = 10 if rule == "trapezoidal" else 5
    state = torch.randn(2, 2, kept, 200, generator=torch.Generator().manual_seed(1)).to(dtype)
    given_ = [x.requires_grad_() for k, x in inputs.items() if k not in ("scale", "order")]
    scan = flat(*inputs.values(), [line, line, 1, 0, line, line, 1, 1], True, rule)
    return replace(scan, initial=state.requires_grad_()), [*given_, state]


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("rule", DISCRETIZATIONS)
def test_wide_inputs_that_share_their_input_and_have_an_order(rule, shared):
    results = []
    for dtype in (torch.float32, torch.float64):
        scan, given_ = of_points(dtype=dtype, rule=rule, shared=shared)
        y, state = compute_and_carry(scan)
        loss = sum((x * torch.linspace(-1, 2, x.numel()).view_as(x)).sum() for x in (y, state))
        results.append((y, state, *torch.autograd.grad(loss, given_)))
    for i, (fast, plain) in enumerate(zip(*results, strict=True)):
        assert_near(fast, plain, 1e-5, i)


def test_a_state_is_refused_where_lines_start_from_rest():
    with pytest.raises(
        ValueError, match=r"^a state is given for 70 points in lines of \[35\][^\n]*$"
    ):
        compute_and_carry(of_points(line=35)[0])


def test_a_state_of_narrow_numbers_is_kept_in_float32():
    args = problem("simplified", torch.float32)
    low = {k: args[k].bfloat16() for k in ("u", "delta", "B", "C", "initial_state")}
    y, state = scanned(args | low)
    assert (y.dtype, state.dtype) == (torch.bfloat16, torch.float32)
    assert torch.equal(state, scanned(args | {k: x.float() for k, x in low.items()})[1])


def test_the_state_that_was_given_is_left_as_it_was():
    args = problem("simplified", torch.float32)
    before = args["initial_state"].clone()
    _, state = scanned(args)
    state.zero_()
    assert torch.equal(args["initial_state"], before)


@pytest.mark.slow
def test_a_scan_with_a_state_can_be_traced():
    # In a process without the checks of shapes, which cannot be traced.
    command = [sys.executable, "-m", "tests.scan.run_traced", "states"]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == list(DISCRETIZATIONS)


@pytest.mark.parametrize(("rule", "shape", "options", "message"), [
    ("centred", (2, 6, 5), {}, r"^initial_state has shape \(2, 6, 5\); expected \(2, 6, 4\), which "
     r"are \(batch, channels, state\)[^\n]*$"),
    ("centred", (6, 4), {}, r"initial_state has shape \(6, 4\)"),
    ("trapezoidal", (2, 6, 4), {}, r"expected \(2, 6, 8\), which are \(batch, channels, 2 state\)"),
    ("simplified", (2, 6, 4), {"backend": "mamba_ssm"}, "takes no state in and hands none on"),
    ("simplified", (2, 6, 4), {"delta_scale": torch.ones(3, 1, 9)},
     r"delta_scale has shape \(3, 1, 9\); [^\n]*\(9,\)[^\n]*\(2, 9\)[^\n]*\(2, 2, 9\)$"),
])  # fmt: skip
def test_what_does_not_fit_a_state_is_refused(rule, shape, options, message):
    args = problem(rule, torch.float32) | {"initial_state": torch.ones(shape)}
    with pytest.raises(ValueError, match=message):
        scanned(args, discretization=rule, **options)


def test_a_stream_cannot_be_followed_backwards():
    x, weights = torch.ones(1, 2), torch.ones(1, 2, 1)
    with pytest.raises(ValueError, match=r"^reverse=\(False, True\): a reversed group[^\n]*$"):
        scan_step(None, x, x, -torch.ones(2, 1), weights, weights, reverse=(False, True))
