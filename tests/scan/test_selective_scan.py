"""The selective scan: formula, gradients, refusals; the compiled one as an operator of torch."""

import multiprocessing as mp
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, Dataset

from mno.nn import MambaMixer
from mno.scan import cpu, selective_scan
from mno.scan.arguments import DISCRETIZATIONS

GRADIENTS = ("u", "delta", "A", "B", "C", "D", "delta_bias")


def problem(batch, groups, channels, state, length, seed=0, dtype=torch.float64):
    """Random arguments of a scan with `channels` channels in each of `groups` groups."""
    rng = np.random.default_rng(seed)

    def normal(*shape):
        return torch.from_numpy(rng.standard_normal(shape)).to(dtype)

    wide = groups * channels
    return {
        "u": normal(batch, wide, length),
        "delta": normal(batch, wide, length),
        "A": -normal(wide, state).exp(),
        "B": normal(batch, groups, state, length),
        "C": normal(batch, groups, state, length),
        "D": normal(wide),
        "delta_bias": normal(wide),
    }


def by_steps(u, delta, A, B, C, D, delta_bias, *, delta_softplus, delta_scale, reverse,
             discretization, end_weight=None):  # fmt: skip
    """The scan's formula, one number at a time, in numpy."""
    u, delta, A, B, C, D, bias = (x.numpy() for x in (u, delta, A, B, C, D, delta_bias))
    batch, wide, length = u.shape
    groups, state = B.shape[1:3]
    y = np.zeros_like(u)
    for b, c in np.ndindex(batch, wide):
        group = c // (wide // groups)
        h, before = np.zeros(state), np.zeros(state)
        for t in reversed(range(length)) if reverse[group] else range(length):
            dt = delta[b, c, t] + bias[c]
            dt = np.logaddexp(0, dt) if delta_softplus else dt
            if delta_scale is not None:
                dt *= np.broadcast_to(delta_scale.numpy(), (groups, length))[group, t]
            decay = np.exp(dt * A[c])
            weight = (decay - 1) / A[c] if discretization == "zoh" else dt
            drive = weight * B[b, group, :, t] * u[b, c, t]
            seen = decay * h + drive
            if discretization == "centred":  # half a step before the output, half behind it
                seen = np.sqrt(decay) * h + drive / 2
                h = np.sqrt(decay) * (seen + drive / 2)
            elif discretization == "trapezoidal":  # the input of the step before at its start
                end = 0.5 if end_weight is None else end_weight[b, c, t].item()
                seen = h = decay * (h + (1 - end) * dt * before) + end * drive
                before = B[b, group, :, t] * u[b, c, t]
            else:
                h = seen
            y[b, c, t] = C[b, group, :, t] @ seen + D[c] * u[b, c, t]
    return torch.from_numpy(y)


@pytest.mark.parametrize("backend", ["reference", "chunked"])
@settings(max_examples=40, deadline=None)
@given(
    batch=st.integers(0, 3),
    groups=st.integers(1, 3),
    channels=st.integers(1, 3),
    state=st.integers(1, 4),
    length=st.integers(0, 9),
    seed=st.integers(0, 10**6),
    data=st.data(),
)
def test_equals_the_formula_for_any_shape(
    backend, batch, groups, channels, state, length, seed, data
):
    args = problem(batch, groups, channels, state, length, seed)
    shape = data.draw(st.sampled_from([None, (length,), (groups, length)]))
    scale = None if shape is None else np.random.default_rng(seed).uniform(0.2, 2.0, shape)
    options = {
        "reverse": data.draw(st.lists(st.booleans(), min_size=groups, max_size=groups)),
        "delta_softplus": data.draw(st.booleans()),
        "discretization": data.draw(st.sampled_from(DISCRETIZATIONS)),
        "delta_scale": None if scale is None else torch.from_numpy(scale),
    }
    if options["discretization"] == "trapezoidal" and data.draw(st.booleans()):
        ends = np.random.default_rng(seed).uniform(0.0, 1.0, tuple(args["u"].shape))
        options["end_weight"] = torch.from_numpy(ends)
    y = selective_scan(**args, **options, backend=backend)
    assert y.shape == args["u"].shape
    torch.testing.assert_close(y, by_steps(**args, **options), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("discretization", "softplus", "optional"), [
    *((rule, softplus, True) for rule in DISCRETIZATIONS for softplus in (True, False)),
    ("simplified", True, False),
])  # fmt: skip
def test_gradients_are_right_to_second_order(discretization, softplus, optional):
    args = problem(2, 2, 2, 3, 5)
    if not softplus:  # a step must stay positive, or the state grows
        args |= {"delta": args["delta"].abs() + 0.1, "delta_bias": args["delta_bias"].abs()}
    args = {k: x.detach().requires_grad_() for k, x in args.items()}
    scale = torch.linspace(0.5, 1.5, 10, dtype=torch.float64).view(2, 5)

    options = {"delta_scale": scale, "reverse": (False, True), "discretization": discretization}
    scan = partial(selective_scan, delta_softplus=softplus, **options)
    tensors = tuple(args[k] for k in (GRADIENTS if optional else GRADIENTS[:5]))
    assert torch.autograd.gradcheck(scan, tensors)
    assert torch.autograd.gradgradcheck(scan, tensors)


def test_gradients_reach_only_the_arguments_that_want_them_at_second_order():
    args = problem(1, 1, 2, 2, 4)
    args["A"].requires_grad_()
    args["D"].requires_grad_()
    grads = torch.autograd.grad(
        selective_scan(**args).square().sum(), (args["A"], args["D"]), create_graph=True
    )
    (second,) = torch.autograd.grad(grads[1].sum(), (args["A"],))
    assert second.abs().sum() > 0


@pytest.mark.parametrize("discretization", DISCRETIZATIONS)
@pytest.mark.parametrize("length", [31, 33, 64, 65, 130, 1100])
def test_chunks_equal_single_steps_in_values_and_gradients(length, discretization):
    results = []
    for backend in ("reference", "chunked"):
        args = {k: x.requires_grad_() for k, x in problem(2, 2, 2, 3, length).items()}
        y = selective_scan(
            **args, reverse=(False, True), discretization=discretization, backend=backend
        )
        results.append((y, *torch.autograd.grad(y.square().sum(), tuple(args.values()))))
    for name, plain, chunked in zip(("y", *GRADIENTS), *results, strict=True):
        torch.testing.assert_close(chunked, plain, rtol=1e-9, atol=1e-9, msg=name)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])  # as read, and compiled
def test_the_trapezoidal_rule_is_the_centred_one_for_a_constant_step_and_a_weight_of_one_half(
    dtype,
):
    args = problem(2, 2, 3, 4, 9, dtype=dtype)
    args |= {"delta": torch.full((2, 6, 9), 0.3, dtype=dtype), "delta_bias": args["delta_bias"]}
    options = {"reverse": (False, True)}
    centred = selective_scan(**args, **options, discretization="centred")
    half = torch.full_like(args["u"], 0.5)
    for weight in (None, half):
        found = selective_scan(**args, **options, discretization="trapezoidal", end_weight=weight)
        torch.testing.assert_close(found, centred)
    args["delta"][..., 4] += 1.0  # and no other
    found, centred = (
        selective_scan(**args, **options, discretization=rule)
        for rule in ("trapezoidal", "centred")
    )
    assert (found - centred).abs().max() > 0.01 * centred.abs().max()


def test_the_trapezoidal_rule_with_all_weight_at_the_end_is_the_simplified_one():
    args = problem(2, 2, 3, 4, 9)
    found = selective_scan(
        **args, discretization="trapezoidal", end_weight=torch.ones_like(args["u"])
    )
    torch.testing.assert_close(found, selective_scan(**args))


def test_the_compiled_trapezoidal_rule_has_the_gradients_of_the_plain_one():
    found, given = [], problem(2, 2, 3, 4, 40)
    given["delta"][..., 5] = -60.0  # nearly no step
    for dtype in (torch.float32, torch.float64):
        args = {k: x.to(dtype).requires_grad_() for k, x in given.items()}
        ends = torch.linspace(0.1, 0.9, 480).view(2, 6, 40).to(dtype).requires_grad_()
        y = selective_scan(
            **args, reverse=(False, True), discretization="trapezoidal", end_weight=ends
        )
        weight = torch.linspace(-1, 2, y.numel(), dtype=dtype).view_as(y)
        found.append((y, *torch.autograd.grad((y * weight).sum(), (*args.values(), ends))))
    for name, fast, plain in zip(("y", *GRADIENTS, "end_weight"), *found, strict=True):
        assert (fast - plain).abs().max() < 2e-5 * plain.abs().max(), name


def test_zero_order_hold_equals_the_matrix_exponential():
    # exp(dt [[A, B u], [0, 0]]) carries (h, 1) over one step under a constant input.
    state, length = 3, 6
    args = problem(1, 1, 1, state, length)
    y = selective_scan(**args, discretization="zoh")
    h = torch.zeros(state, dtype=torch.float64)
    for t in range(length):
        dt = torch.nn.functional.softplus(args["delta"][0, 0, t] + args["delta_bias"][0])
        matrix = torch.zeros(state + 1, state + 1, dtype=torch.float64)
        matrix[:state, :state] = torch.diag(args["A"][0])
        matrix[:state, state] = args["B"][0, 0, :, t] * args["u"][0, 0, t]
        h = (torch.matrix_exp(dt * matrix) @ torch.cat([h, torch.ones(1)]))[:state]
        expected = args["C"][0, 0, :, t] @ h + args["D"][0] * args["u"][0, 0, t]
        torch.testing.assert_close(y[0, 0, t], expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("size", [0.0, 1e-30, 1e-12, 1e-6, 0.0999999, 0.1000001])
def test_zero_order_hold_is_exact_as_the_decay_vanishes(size):
    args = problem(1, 1, 1, 1, 1)
    args["A"] = torch.full((1, 1), -size, dtype=torch.float64, requires_grad=True)
    args |= {"D": None, "delta_bias": None, "delta": torch.ones(1, 1, 1, dtype=torch.float64)}
    y = selective_scan(**args, delta_softplus=False, discretization="zoh")
    weight = float((args["u"] * args["B"][0] * args["C"][0]).sum())
    z = -size
    phi = np.expm1(z) / z if z else 1.0
    assert y.item() == pytest.approx(weight * phi, rel=1e-14)
    slope = (1 / 2 + z / 3 + z**2 / 8 + z**3 / 30 + z**4 / 144 + z**5 / 840 + z**6 / 5760) * weight
    (gradient,) = torch.autograd.grad(y.sum(), args["A"])
    assert gradient.item() == pytest.approx(slope, rel=1e-9)


def test_one_step_size_and_its_scale_are_interchangeable():
    args = problem(2, 2, 3, 4, 7)
    delta = args.pop("delta").exp()
    del args["delta_bias"]
    scale = torch.linspace(0.5, 2.0, 7, dtype=torch.float64)
    inside = selective_scan(delta=delta * scale, **args, delta_softplus=False)
    outside = selective_scan(delta=delta, **args, delta_softplus=False, delta_scale=scale)
    torch.testing.assert_close(inside, outside)


def test_a_scale_is_taken_to_where_the_input_is():
    args, scale = problem(2, 2, 3, 4, 7, dtype=torch.float32), torch.ones(7)
    there = {name: x.to("meta") for name, x in args.items()}
    assert selective_scan(**there, delta_scale=scale).is_meta
    with pytest.raises(NotImplementedError, match="no data"):  # what lies there has no values
        selective_scan(**args, delta_scale=scale.to("meta"))


def test_a_low_precision_input_keeps_a_float32_state():
    args = problem(2, 2, 4, 8, 200, dtype=torch.float32)
    args["delta_bias"] = args["delta_bias"] - 4
    low = {k: args[k].bfloat16() for k in ("u", "delta", "B", "C")}
    y = selective_scan(**{**args, **low})
    exact = selective_scan(**{**args, **{k: x.float() for k, x in low.items()}})
    assert y.dtype == torch.bfloat16
    assert torch.equal(y, exact.bfloat16())


def test_float32_is_close_to_float64_in_values_and_gradients():
    args = problem(2, 2, 16, 16, 300)
    results = []
    for dtype in (torch.float32, torch.float64):
        values = {k: x.to(dtype).requires_grad_() for k, x in args.items()}
        y = selective_scan(**values, reverse=(False, True))
        weight = torch.linspace(-1, 2, y.numel(), dtype=dtype).view_as(y)
        results.append((y, *torch.autograd.grad((y * weight).sum(), tuple(values.values()))))
    for name, single, double in zip(("y", *GRADIENTS), *results, strict=True):
        error = (single - double).abs().max() / double.abs().max()
        assert error < 5e-6, name


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])  # as read, and compiled
@pytest.mark.parametrize("name", GRADIENTS)
def test_a_nan_in_any_argument_reaches_the_output(name, dtype):
    args = problem(1, 1, 2, 2, 4, dtype=dtype)
    args[name].view(-1)[0] = float("nan")
    assert selective_scan(**args).isnan().any()


@pytest.mark.parametrize("shape", [(1, 1, 1, 1, 1), (1, 2, 3, 2, 6)])
def test_arguments_are_left_as_they_were(shape):
    args = problem(*shape)
    before = {k: x.clone() for k, x in args.items()}
    y = selective_scan(**{k: x.requires_grad_() for k, x in args.items()}, delta_softplus=False)
    y.sum().backward()
    assert all(torch.equal(args[k], before[k]) for k in args)


def test_two_runs_give_the_same_bits():
    def run():
        args = {k: x.requires_grad_() for k, x in problem(8, 2, 32, 4, 64).items()}
        y = selective_scan(**args)
        return y, *torch.autograd.grad(y.sum(), tuple(args.values()))

    assert all(torch.equal(a, b) for a, b in zip(run(), run(), strict=True))


def replaced(**changes):
    return {**problem(2, 2, 3, 4, 5), **changes}


@pytest.mark.parametrize(
    ("args", "options", "message"),
    [
        (replaced(u=torch.ones(6, 5)), {}, r"u has shape \(6, 5\).*\(batch, channels, length\)"),
        (replaced(delta=torch.ones(2, 6, 4)), {}, r"delta has shape.*expected \(2, 6, 5\)"),
        (replaced(A=torch.ones(4, 6)), {}, r"A has shape \(4, 6\); expected \(6, 6\)"),
        (replaced(A=torch.ones(6, 0), B=torch.ones(2, 2, 0, 5), C=torch.ones(2, 2, 0, 5)), {},
         "state size of 0; use at least 1"),
        (replaced(B=torch.ones(2, 2, 3, 5)), {}, r"B has shape.*expected \(2, 2, 4, 5\)"),
        (replaced(C=torch.ones(2, 1, 4, 5)), {}, r"C has shape.*expected \(2, 2, 4, 5\)"),
        (replaced(B=torch.ones(2, 4, 4, 5), C=torch.ones(2, 4, 4, 5)), {},
         "6 channels cannot be divided among 4 groups"),
        (replaced(D=torch.ones(5)), {}, r"D has shape \(5,\).*\(6,\)"),
        (replaced(delta_bias=torch.ones(2, 3)), {}, r"delta_bias has shape.*\(6,\)"),
        (replaced(), {"delta_scale": torch.ones(2, 4)}, r"delta_scale.*\(5,\).*\(2, 5\)"),
        (replaced(), {"reverse": [True]}, "names 1 groups, but B and C have 2"),
        (replaced(), {"backend": "cuda"}, "backend='cuda' does not exist; choose.*reference"),
        (replaced(), {"backend": "cpu"}, "backend='cpu' cannot.*float64; leave the backend out"),
        (replaced(), {"backend": "mamba_ssm"}, "backend='mamba_ssm' cannot.*not installed"),
        (replaced(), {"end_weight": torch.ones(2, 6, 5)}, "discretization='simplified', which has"),
        (replaced(), {"discretization": "trapezoidal", "end_weight": torch.ones(6, 5)},
         r"end_weight has shape \(6, 5\); expected.*\(2, 6, 5\)"),
        (replaced(), {"discretization": "euler"}, "choose one of simplified, zoh, centred"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_with_the_remedy(args, options, message):
    with pytest.raises(ValueError, match=message):
        selective_scan(**args, **options)


pytestmark = pytest.mark.skipif(cpu.unavailable() is not None, reason=str(cpu.unavailable()))

NAMES = ("u", "delta", "A", "B", "C", "D", "delta_bias")


def sequences(batch=2, groups=2, channels=3, state=4, length=7, seed=0):
    draw = torch.Generator().manual_seed(seed)
    wide = groups * channels
    shapes = [
        (batch, wide, length),
        (batch, wide, length),
        (wide, state),
        (batch, groups, state, length),
        (batch, groups, state, length),
        (wide,),
        (wide,),
    ]
    args = {n: torch.randn(s, generator=draw) for n, s in zip(NAMES, shapes, strict=True)}
    return args | {"A": -args["A"].exp()}


def test_it_is_what_runs_on_a_processor_in_float32():
    args = sequences()
    y = selective_scan(**args)
    assert torch.equal(y, selective_scan(**args, backend="cpu"))
    assert not torch.equal(y, selective_scan(**args, backend="reference"))  # other last bits


def test_torch_s_default_type_is_the_user_s_to_change():
    args = [x.requires_grad_() for x in sequences().values()]
    before = torch.autograd.grad(selective_scan(*args).sum(), args)
    torch.set_default_dtype(torch.float64)
    try:
        after = torch.autograd.grad(selective_scan(*args).sum(), args)
    finally:
        torch.set_default_dtype(torch.float32)
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


@pytest.mark.slow
@pytest.mark.slow
def test_mixers_compile_and_export_with_their_gradients():
    # In a process without the checks of shapes, which cannot be traced.
    command = [sys.executable, "-m", "tests.scan.run_traced", "mixers"]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["compiled", "exported", "saved"]


def test_checkpointing_changes_nothing():
    results = []
    for wrap in (
        lambda scan, *args: scan(*args),
        partial(checkpoint, use_reentrant=False),
        partial(checkpoint, use_reentrant=True),
    ):
        args = [x.requires_grad_() for x in sequences().values()]
        y = wrap(selective_scan, *args)
        y.square().sum().backward()
        results.append((y.detach(), *(x.grad for x in args)))
    for others in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], others, strict=True))


def test_a_gradient_of_the_gradient_is_that_of_the_plain_form():
    results = []
    for backend in ("cpu", "reference"):
        args = [x.requires_grad_() for x in sequences().values()]
        y = selective_scan(*args, backend=backend, reverse=(True, False))
        first = torch.autograd.grad(y.sin().sum(), args, create_graph=True)
        results.append(torch.autograd.grad(sum(g.square().sum() for g in first), args))
    for name, fast, plain in zip(NAMES, *results, strict=True):
        assert (fast - plain).abs().max() < 1e-4 * plain.abs().max(), name


def test_so_it_is_where_one_argument_was_made_of_another():
    results = []
    for backend in ("cpu", "reference"):
        torch.manual_seed(0)
        mixer = MambaMixer(8, d_state=3, backend=backend)
        x = torch.randn(2, 12, 8, generator=torch.Generator().manual_seed(1)).requires_grad_()
        (first,) = torch.autograd.grad(mixer(x, None).sin().sum(), x, create_graph=True)
        results.append(torch.autograd.grad(first.square().sum(), [x, *mixer.parameters()]))
    for fast, plain in zip(*results, strict=True):
        assert (fast - plain).abs().max() <= 1e-4 * plain.abs().max()


def test_under_autocast_the_mixer_scans_in_float32():
    torch.manual_seed(0)
    mixer, x = MambaMixer(16), torch.randn(2, 12, 16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = mixer(x, None)
        y.square().sum().backward()
    torch.testing.assert_close(y.float(), mixer(x, None), rtol=0.1, atol=0.05)
    assert all(p.grad.isfinite().all() for p in mixer.parameters())


class Scans(Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        return selective_scan(**sequences(seed=index))


@pytest.mark.slow
@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_it_works_in_the_workers_of_a_loader_however_they_start(context):
    if context not in mp.get_all_start_methods():
        pytest.skip(f"this system cannot {context} a process")
    here = [Scans()[i] for i in range(4)]  # the kernels have run in this process before
    loader = DataLoader(Scans(), num_workers=2, multiprocessing_context=context, timeout=120)
    there = [batch[0] for batch in loader]
    assert all(torch.equal(a, b) for a, b in zip(here, there, strict=True))


SCAN = """
import sys, torch
from mno.scan import selective_scan
x = torch.ones(1, 2, 3)
args = (x, x, -torch.ones(2, 1), torch.ones(1, 1, 1, 3), torch.ones(1, 1, 1, 3))

def refusal(backend):
    try:
        selective_scan(*args, backend=backend)
    except ValueError as error:
        return str(error)
"""


def printed(code, *paths):
    root = str(Path(__file__).parents[2])
    return subprocess.run(
        [sys.executable, "-c", SCAN + code],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([*map(str, paths), root])},
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def test_without_numba_a_scan_falls_back_and_says_why_it_must():
    code = """
sys.modules["numba"] = None
assert torch.equal(selective_scan(*args), selective_scan(*args, backend="chunked"))
print(refusal("cpu"))
"""
    assert "numba is not installed; leave the backend out" in printed(code)


def test_mamba_ssm_without_its_kernel_is_not_usable(tmp_path):
    (tmp_path / "mamba_ssm").mkdir()
    (tmp_path / "mamba_ssm/__init__.py").touch()
    said = printed("print(refusal('mamba_ssm'))", tmp_path)
    assert "selective_scan_cuda" in said and "not installed" in said
