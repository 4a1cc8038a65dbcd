"""The Mamba mixer as a whole: against softmax attention, and on the many short lines of `axial`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn

from benchmarks.page import Section, Table, figure
from benchmarks.timing import in_turn, median_ms, median_ratio
from mno.nn.mixers.attention import SoftmaxMixer
from mno.nn.mixers.mamba import MambaMixer
from mno.scan.arguments import ScanArguments
from mno.scan.backends import compute

THREADS = 2
WIDTH, HEADS, BATCH = 192, 6, 2
GRIDS = ((16, 16), (16, 32), (32, 32), (32, 64), (64, 64), (64, 128))
AXIAL_BATCH = 16
AXIAL_CASES = tuple(
    (shape, width, state) for shape in ((24, 24), (32, 32)) for width, state in ((48, 2), (64, 8))
)
PAUSE = 0.01
SETTLE = 0.1
ABOUT = f"""Forward and backward pass with the gradients of the input and of all parameters,
float32, projections included. Each side is called for {SETTLE * 1e3:.0f} ms, at least once, before
each call that is timed. Outside the scan is the share of the mixer's time that the scan, timed by
itself on the same tensors, does not take."""
AGAINST_ATTENTION = f"""**Against softmax attention.** Width {WIDTH}, batch {BATCH}. Ours is
`MambaMixer` with path `bidirectional`, expansion 2, state size 16; the peer is `SoftmaxMixer`,
torch's `scaled_dot_product_attention` with {HEADS} heads of {WIDTH // HEADS} features between its
projections. To be faster from 1,024 points on is asked for."""
AXIAL = f"""**Path `axial`**, expansion 1, batch {AXIAL_BATCH}, at the sizes of the project's own
training: every row and column is a scan by itself, both ways. The other side is the same mixer with
the `chunked` backend, plain torch."""


def run() -> Section:
    rows, lengths, ratios = [], [], []
    for shape in GRIDS:
        row, ratio = _against_attention(shape)
        rows.append(row)
        lengths.append(math.prod(shape))
        ratios.append(ratio)
    columns = ("points", "ours, ms", "softmax, ms", "ratio", "outside the scan")
    axial_columns = (
        "grid",
        "width",
        "state size",
        "`cpu`, ms",
        "`chunked`, ms",
        "ratio",
        "outside the scan",
    )
    return Section(
        "Mamba mixer",
        (
            ABOUT,
            AGAINST_ATTENTION,
            Table(columns, rows),
            _crossover_in_words(lengths, ratios),
            AXIAL,
            Table(axial_columns, [_axial(*case) for case in AXIAL_CASES]),
        ),
    )


def crossover(lengths: Sequence[int], ratios: Sequence[float]) -> float:
    """Return the length from which on all ratios are above one.

    Between two lengths the logarithm of the ratio is taken as linear in that of the length. It is
    the first length where all ratios are above one, and infinity where the last one is not.
    """
    last_slower = max((i for i, ratio in enumerate(ratios) if ratio <= 1), default=None)
    if last_slower is None:
        return float(lengths[0])
    if last_slower == len(ratios) - 1:
        return math.inf
    (a, b), (p, q) = (
        [math.log(x) for x in values[last_slower : last_slower + 2]] for values in (lengths, ratios)
    )
    return math.exp(a + (b - a) * p / (p - q))


def _crossover_in_words(lengths: Sequence[int], ratios: Sequence[float]) -> str:
    length = crossover(lengths, ratios)
    if length == lengths[0]:
        return f"Ours is faster at every length measured: they cross below {lengths[0]} points."
    if length == math.inf:
        return f"Ours is not faster at {lengths[-1]:,} points yet."
    return f"Ours is faster from about {length:,.0f} points on, interpolated."


def _against_attention(shape: tuple[int, ...]) -> tuple[tuple[str, ...], float]:
    torch.manual_seed(0)
    x = torch.randn(BATCH, math.prod(shape), WIDTH, requires_grad=True)
    mixer = MambaMixer(WIDTH, d_state=16, expand=2, path="bidirectional", backend="cpu")
    functions = {
        "ours": partial(_both_passes, mixer, x, shape),
        "scan": _scan_alone(mixer, x, shape),
        "softmax": partial(_both_passes, SoftmaxMixer(WIDTH, heads=HEADS), x, shape),
    }
    # Attention's time grows with the square of the points.
    times = in_turn(functions, 15 if len(x[0]) <= 2048 else 5, pause=PAUSE, settle=SETTLE)
    ratio = median_ratio(times, "softmax", "ours")
    row = (
        f"{len(x[0]):,}",
        figure(median_ms(times, "ours")),
        figure(median_ms(times, "softmax")),
        figure(ratio),
        f"{1 - median_ratio(times, 'scan', 'ours'):.0%}",
    )
    return row, ratio


def _axial(shape: tuple[int, ...], width: int, state: int) -> tuple[str, ...]:
    torch.manual_seed(0)
    x = torch.randn(AXIAL_BATCH, math.prod(shape), width, requires_grad=True)
    fast, plain = (
        MambaMixer(width, d_state=state, expand=1, path="axial", backend=backend)
        for backend in ("cpu", "chunked")
    )
    functions = {
        "ours": partial(_both_passes, fast, x, shape),
        "scan": _scan_alone(fast, x, shape),
        "chunked": partial(_both_passes, plain, x, shape),
    }
    times = in_turn(functions, 7, pause=PAUSE, settle=SETTLE)
    return (
        f"{shape[0]} x {shape[1]}",
        str(width),
        str(state),
        figure(median_ms(times, "ours")),
        figure(median_ms(times, "chunked")),
        figure(median_ratio(times, "chunked", "ours")),
        f"{1 - median_ratio(times, 'scan', 'ours'):.0%}",
    )


def _both_passes(mixer: nn.Module, x: Tensor, shape: tuple[int, ...]) -> object:
    y = mixer(x, shape)
    return torch.autograd.grad(y, [x, *mixer.parameters()], torch.ones_like(y))


def _scan_alone(mixer: MambaMixer, x: Tensor, shape: tuple[int, ...]) -> Callable[[], object]:
    """Return the forward and backward pass of the scan inside a mixer, as a function."""
    scan, _ = mixer.prepare(x, shape)
    names = [name for name, value in vars(scan).items() if isinstance(value, Tensor)]
    leaves = {name: getattr(scan, name).detach().requires_grad_() for name in names}
    return partial(_scan_both_passes, replace(scan, **leaves), tuple(leaves.values()))


def _scan_both_passes(scan: ScanArguments, leaves: tuple[Tensor, ...]) -> object:
    y = compute(scan, "cpu")
    return torch.autograd.grad(y, leaves, torch.ones_like(y))
