"""The selective scan: speed, memory, accuracy, and the first call."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec

import torch

from benchmarks import scan_llama
from benchmarks.exponentials import exponential_loops
from benchmarks.page import Section, Table, figure
from benchmarks.scan_first_call import first_calls
from benchmarks.scan_kept_memory import times_with_kept_memory
from benchmarks.scan_memory import extra_memory
from benchmarks.scan_peers import PEERS, channels_first, channels_last, is_installed
from benchmarks.scan_problem import (
    BATCH,
    CHANNELS,
    GROUPS,
    HEADS,
    NAMES,
    STATE,
    both_passes,
    by_heads,
    heads_by_steps,
    make_cotangent,
    make_inputs,
    make_pair,
    ours,
    relative_error,
)
from benchmarks.timing import in_turn, median_ms, median_ratio
from mno.scan.interface import selective_scan

THREADS = 2
LENGTH = 1024
LENGTHS = tuple(4**i for i in range(4, 9))
ERROR_LENGTHS = (LENGTH, 8 * LENGTH)
MEMORY_LENGTH = 16384
PAUSE = 0.01
SETTLE = 0.05
ASKED_FOR = dict(zip(PEERS, ("50", "40", "40"), strict=True))
ABOUT = f"""Forward and backward pass with the gradients of all seven inputs, float32, {CHANNELS}
channels in {GROUPS} groups, state size {STATE}, batch {BATCH}, inputs of shape (batch, channels,
length). The peers get theirs in the layout that suits them, (batch, length, channels). The lean
loop makes each step's decay and drive inside the loop, which is the fastest in plain torch that was
found; mambapy's, of a package that has had no release since 2024, makes them for all steps
beforehand. Each side is called for {SETTLE * 1e3:.0f}
ms, at least once, before each call that is timed: repeated calls are what is compared. The first
call after something else costs ours one to two milliseconds more."""

BY_HEADS = f"""**One decay per head** (`ssd`): {HEADS} heads of {CHANNELS // HEADS} channels, by
products of matrices, against the scan with as many channels and states. One line of length
{LENGTH}, one way, batch {BATCH}. The difference is that of `ssd` from the `reference` backend in
float64."""


def run() -> Section:
    return Section(
        "Selective scan",
        (
            ABOUT,
            f"**Speed at length {LENGTH}.** The difference is the largest, over the output and all "
            "gradients, in units of the largest value.",
            *_speed(),
            "**The same, freed memory being kept.** By default glibc gives large tensors back to "
            "the system when they are freed, and new ones cost page faults. The scan keeps its "
            "results' memory itself; the peers gain when the C library is told to keep theirs "
            "(`MALLOC_TRIM_THRESHOLD_`, `MALLOC_MMAP_THRESHOLD_`), as the production line does.",
            _with_kept_memory(),
            f"**Forward pass alone, length {LENGTH}**, beside llama.cpp's `ggml_ssm_scan` in its "
            "package for Python: without gradients, which it has none of, and without the direct "
            "path and the bias. Its graph is ready to run and holds its tensors; ours checks its "
            "arguments and makes its output in the time that is measured.",
            _forward_alone(),
            "**Distance from the floor.** A scan needs an exponential per channel, state and step, "
            "and again in the backward pass.",
            _floor(),
            "**Time by length.** An element is one channel at one step.",
            *_by_length(),
            BY_HEADS,
            _by_heads(),
            "**Extra memory**: the peak beyond the inputs, in multiples of the bytes of the "
            "inputs. It holds the output and all gradients, which are about 1.5 by themselves.",
            _memory(),
            "**Accuracy**: max |difference| / max |value| against the `reference` backend in "
            "float64; at most 5e-6 is asked for.",
            _accuracy(),
            "**First call**, forward and backward, in a fresh process; imports are those of torch "
            "and `mno.scan`. At most 20 s is asked for with an empty cache, 2 s later.",
            _first_call(),
        ),
    )


def _speed() -> list[str | Table]:
    inputs = make_inputs(LENGTH)
    cotangent = make_cotangent(LENGTH)
    moved, moved_cotangent = channels_last(inputs), cotangent.mT.contiguous()
    known = {name: scan for name, scan in PEERS.items() if is_installed(scan)}
    functions: dict[str, Callable[[], object]] = {}
    differences = {}
    results = both_passes(ours, inputs, cotangent)
    for name, scan in known.items():
        functions[name] = partial(both_passes, scan, moved, moved_cotangent)
        others = channels_first(both_passes(scan, moved, moved_cotangent))
        pairs = zip(results, others, strict=True)
        differences[name] = max(relative_error(a, b) for a, b in pairs)
    functions["ours"] = partial(both_passes, ours, inputs, cotangent)
    times = in_turn(functions, 9, pause=PAUSE, settle=SETTLE)
    rows = [
        (
            name,
            figure(median_ms(times, "ours")),
            figure(median_ms(times, name)),
            figure(median_ratio(times, name, "ours")),
            ASKED_FOR[name],
            f"{differences[name]:.0e}",
        )
        for name in known
    ]
    columns = ("peer", "ours, ms", "peer, ms", "ratio", "asked for", "difference")
    missing = [] if len(known) == len(PEERS) else [_missing()]
    return [Table(columns, rows), *missing]


def _with_kept_memory() -> Table:
    times = times_with_kept_memory(THREADS)
    rows = [
        (
            name,
            figure(median_ms(times, "ours")),
            figure(median_ms(times, name)),
            figure(median_ratio(times, name, "ours")),
        )
        for name in times
        if name != "ours"
    ]
    return Table(("peer", "ours, ms", "peer, ms", "ratio"), rows)


def _forward_alone() -> str | Table:
    if not scan_llama.is_installed():
        return (
            'llama-cpp-python is not installed, so it is not compared; `pip install -e ".[llama]"` '
            "adds it, which compiles it for some minutes."
        )
    u, delta, A, B, C, *_ = make_inputs(LENGTH)
    theirs, found = scan_llama.prepared_scan(
        u.mT, delta.mT, A, *(x.permute(0, 3, 1, 2) for x in (B, C)), threads=THREADS
    )
    ours_alone = torch.no_grad()(partial(ours, u, delta, A, B, C))
    theirs()
    difference = relative_error(found.mT, ours_alone())
    times = in_turn({"theirs": theirs, "ours": ours_alone}, 31, pause=PAUSE, settle=SETTLE)
    row = (
        figure(median_ms(times, "ours")),
        figure(median_ms(times, "theirs")),
        figure(median_ratio(times, "theirs", "ours")),
        "1.5",
        f"{difference:.0e}",
    )
    return Table(("ours, ms", "llama.cpp, ms", "ratio", "asked for", "difference"), [row])


def _missing() -> str:
    return 'mambapy is not installed, so it is not compared; `pip install -e ".[bench]"` adds it.'


def _floor() -> Table:
    inputs = make_inputs(LENGTH)
    scan = partial(both_passes, ours, inputs, make_cotangent(LENGTH))
    count = 2 * BATCH * CHANNELS * STATE * LENGTH
    loops = exponential_loops(count, THREADS)
    times = in_turn({"ours": scan, **loops}, 31, pause=PAUSE, settle=SETTLE)
    floor = min(loops, key=lambda name: median_ms(times, name))
    row = (
        f"{count / 1e6:.1f} million",
        floor,
        figure(median_ms(times, floor)),
        figure(median_ms(times, "ours")),
        figure(median_ratio(times, "ours", floor)),
    )
    return Table(("exponentials", "fastest by", "floor, ms", "ours, ms", "ours / floor"), [row])


def _by_length() -> list[str | Table]:
    functions: dict[str, Callable[[], object]] = {}
    for length in LENGTHS:
        inputs = make_inputs(length)
        functions[str(length)] = partial(both_passes, ours, inputs, make_cotangent(length))
    times = in_turn(functions, 11, pause=PAUSE, settle=SETTLE)
    per_element = {
        length: statistics.median(times[str(length)]) / (BATCH * CHANNELS * length)
        for length in LENGTHS
    }
    rows = [
        (f"{length:,}", figure(median_ms(times, str(length))), figure(seconds * 1e9))
        for length, seconds in per_element.items()
    ]
    spread = max(per_element.values()) / min(per_element.values()) - 1
    return [
        Table(("length", "ms", "ns per element"), rows),
        f"The largest time per element is {spread:.0%} above the smallest; at most 25% is asked "
        "for.",
    ]


def _by_heads() -> Table:
    rows = []
    for state, asked in ((16, "1.5"), (64, "4")):
        of_scan, of_heads = make_pair(state, LENGTH)
        dy = make_cotangent(LENGTH)
        by_points = dy.mT[:, :, None].contiguous()
        functions = {
            "scan": partial(both_passes, ours, of_scan, dy),
            "ssd": partial(both_passes, by_heads, of_heads, by_points),
        }
        exact = [x.detach().double().requires_grad_() for x in of_heads]
        reference = both_passes(heads_by_steps, exact, by_points.double())
        pairs = zip(functions["ssd"](), reference, strict=True)
        difference = max(relative_error(a, b) for a, b in pairs)
        times = in_turn(functions, 31, pause=PAUSE, settle=SETTLE)
        rows.append(
            (
                str(state),
                figure(median_ms(times, "ssd")),
                figure(median_ms(times, "scan")),
                figure(median_ratio(times, "scan", "ssd")),
                asked,
                f"{difference:.0e}",
            )
        )
    columns = ("state size", "`ssd`, ms", "scan, ms", "ratio", "asked for", "difference")
    return Table(columns, rows)


def _memory() -> Table:
    rows = []
    for side, name, length in (
        ("ours", "ours", LENGTH),
        ("ours", "ours", MEMORY_LENGTH),
        ("loop", "torch loop over time, lean", LENGTH),
        ("mambapy", "mambapy's `pscan`", LENGTH),
    ):
        if side == "mambapy" and find_spec("mambapy") is None:
            continue
        multiple = extra_memory(side, length, THREADS)
        told = "not told by this system" if multiple is None else figure(multiple)
        rows.append((name, f"{length:,}", told, "3" if side == "ours" else ""))
    return Table(("who", "length", "extra / inputs", "asked for, below"), rows)


def _accuracy() -> Table:
    columns = []
    for length in ERROR_LENGTHS:
        inputs = make_inputs(length)
        cotangent = make_cotangent(length)
        exact = [x.detach().double().requires_grad_() for x in inputs]
        plain = partial(selective_scan, backend="reference")
        reference = both_passes(plain, exact, cotangent.double())
        results = both_passes(ours, inputs, cotangent)
        columns.append([relative_error(a, b) for a, b in zip(results, reference, strict=True)])
    names = ("output", *(f"gradient of {name}" for name in NAMES))
    rows = [
        (name, *(f"{error:.1e}" for error in errors))
        for name, *errors in zip(names, *columns, strict=True)
    ]
    return Table(("", *(f"length {length:,}" for length in ERROR_LENGTHS)), rows)


def _first_call() -> Table:
    rows = [
        (name, figure(call.imports), figure(call.first), figure(call.second * 1e3))
        for name, call in first_calls(THREADS).items()
    ]
    return Table(("", "imports, s", "first call, s", "second call, ms"), rows)
