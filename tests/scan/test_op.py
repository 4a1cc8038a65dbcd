"""The compiled scan as an operator of torch."""

from __future__ import annotations

import multiprocessing as mp
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, Dataset

from mno.nn import MambaMixer
from mno.scan import cpu, selective_scan

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


def points(shared=True, low_rank=True, seed=0):
    """Arguments of the operator itself: 12 points, two directions, rows and columns of 3 x 4."""
    draw = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(shape, generator=draw).requires_grad_()

    groups, channels, state, rank = 2, 5, 3, 2
    return (
        normal(2, 12, 1 if shared else groups, channels),
        normal(2, 12, groups, rank if low_rank else channels),
        (-normal(groups, state, channels).exp()).detach().requires_grad_(),
        normal(2, 12, groups, state),
        normal(2, 12, groups, state),
        normal(groups, channels),
        normal(groups, channels),
        normal(groups, rank, channels) if low_rank else None,
        torch.rand(1, groups, 12, generator=draw) + 0.5,
        None,
        [4, 4, 1, 0, 3, 3, 4, 1],
        True,
    )


@pytest.mark.parametrize(("shared", "low_rank", "discretization"), [
    (True, True, "centred"), (False, False, "simplified"), (True, False, "zoh"),
])  # fmt: skip
def test_torch_accepts_it_as_an_operator(shared, low_rank, discretization):
    # Schema, autograd registration, fake tensors, and AOT dispatch with static and dynamic shapes.
    torch.library.opcheck(
        torch.ops.mno.selective_scan.default, (*points(shared, low_rank), discretization, True)
    )


def test_it_is_what_runs_on_a_processor_in_float32():
    args = sequences()
    y = selective_scan(**args)
    assert torch.equal(y, selective_scan(**args, backend="cpu"))
    assert not torch.equal(y, selective_scan(**args, backend="reference"))  # other last bits


@pytest.mark.parametrize(
    ("position", "name", "change"),
    [
        (1, "delta", lambda x: x[:, :-1]),
        (2, "A", lambda x: x.double()),
        (3, "B", lambda x: x[..., :-1]),
        (6, "bias", lambda x: x[:1]),
        (8, "scale", lambda x: x[..., :-1]),
        (9, "order", lambda _: torch.full((1, 2, 12), 12, dtype=torch.int32)),
        (9, "order", lambda _: torch.zeros(1, 2, 12, dtype=torch.int64)),
        (10, "layout", lambda _: [5, 4, 1, 0, 3, 3, 4, 1]),
        (10, "layout", lambda _: [4, 4, 1, 0]),
    ],
)
def test_the_operator_itself_refuses_what_would_read_beyond_the_memory(position, name, change):
    arguments = [x.detach() if isinstance(x, torch.Tensor) else x for x in points()]
    arguments[position] = change(arguments[position])
    with pytest.raises(ValueError, match=name):
        torch.ops.mno.selective_scan(*arguments, "simplified", True)


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
    """What a process prints that has a scan's arguments."""
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", SCAN + code],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([*map(str, paths), root])},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


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
