"""The parts of the benchmarks: that the sides compute the same, and how results are told."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
import torch

from benchmarks.bench_mixer import crossover
from benchmarks.exponentials import exp2_repeatedly
from benchmarks.page import Section, Table, write_page
from benchmarks.scan_peers import (
    channels_first,
    channels_last,
    lean_loop,
    mambapy_loop,
    mambapy_scan,
)
from benchmarks.scan_problem import both_passes, make_cotangent, make_inputs, relative_error
from benchmarks.timing import in_turn, median_ms, median_ratio
from mno.scan import selective_scan

LENGTH = 13


@pytest.mark.parametrize("peer", [lean_loop, mambapy_loop, mambapy_scan])
def test_every_peer_computes_the_same_values_and_gradients(peer) -> None:
    if peer is mambapy_scan:
        pytest.importorskip("mambapy")
    inputs, cotangent = make_inputs(LENGTH), make_cotangent(LENGTH)
    reference = both_passes(partial(selective_scan, backend="reference"), inputs, cotangent)
    results = channels_first(both_passes(peer, channels_last(inputs), cotangent.mT.contiguous()))
    assert [x.shape for x in results] == [x.shape for x in reference]
    assert max(relative_error(a, b) for a, b in zip(results, reference, strict=True)) < 5e-6


def test_steps_of_the_measured_scan_are_those_of_fresh_weights() -> None:
    *_, bias = make_inputs(LENGTH)
    steps = torch.nn.functional.softplus(bias)
    assert 0.99e-3 < steps.min() < 2e-3 and 5e-2 < steps.max() < 1.01e-1


def test_exponentials_of_the_floor_are_accurate() -> None:
    x = np.linspace(-120, 120, 4001, dtype=np.float32)
    out = np.empty_like(x)
    exp2_repeatedly(x, out, 1)
    assert np.abs(out / np.exp2(x.astype(np.float64)) - 1).max() < 4e-7


def test_functions_are_called_in_turn_and_warm_up_is_not_counted() -> None:
    calls: list[str] = []
    times = in_turn({name: partial(calls.append, name) for name in ("a", "b")}, rounds=2, warm_up=1)
    assert calls == ["a", "b"] * 3
    assert {name: len(seconds) for name, seconds in times.items()} == {"a": 2, "b": 2}


def test_medians_are_over_rounds() -> None:
    times = {"slow": [4.0, 6.0, 80.0], "fast": [2.0, 1.0, 10.0]}
    assert median_ms(times, "slow") == 6000.0
    assert median_ratio(times, "slow", "fast") == 6.0


@pytest.mark.parametrize(
    ("ratios", "expected"),
    [
        ([2.0, 3.0, 4.0], 256.0),  # faster everywhere
        ([0.5, 2.0, 4.0], 512.0),  # halfway between 256 and 1024, both as powers of two
        ([2.0, 0.25, 4.0], 2048.0),  # only the last crossing counts
        ([2.0, 3.0, 0.9], math.inf),
    ],
)
def test_crossover_is_where_ours_stays_faster(ratios: list[float], expected: float) -> None:
    assert crossover([256, 1024, 4096], ratios) == pytest.approx(expected)


def test_page_holds_every_section_with_its_threads_and_tables(tmp_path) -> None:
    table = Table(("what", "ms"), [("this", "1.5")])
    page = tmp_path / "docs" / "benchmarks.md"
    write_page(page, [Section("Thing", ("About it.", table)).markdown(2)])
    text = page.read_text(encoding="utf-8")
    expected = "## Thing\n\n2 threads on every side.\n\nAbout it.\n\n| what | ms |\n| --- | --- |\n"
    assert expected + "| this | 1.5 |\n\n## Machine" in text
    assert [path.name for path in page.parent.iterdir()] == ["benchmarks.md"]
