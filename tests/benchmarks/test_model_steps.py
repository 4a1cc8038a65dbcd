"""The benchmark of whole models: that every model steps, and how the results are told."""

from __future__ import annotations

import copy
import mmap

import pytest
import torch

from benchmarks.memory import extra_peak, is_told
from benchmarks.model_cases import (
    ATTENTION,
    BUDGET,
    MODELS,
    REFERENCE,
    Problem,
    Training,
    installed_models,
    model_name,
    num_parameters,
)
from benchmarks.model_memory import extra_memory
from benchmarks.model_report import NO_REFERENCE, Measured, against_attention, against_fno, report
from benchmarks.model_times import ROUNDS, step_times
from benchmarks.page import Table
from mno.nn.operator import count_parameters

SQUARE, LINE = Problem((8, 8), 2), Problem((32,), 2)
MIB = 2**20


@pytest.mark.parametrize("problem", [SQUARE, LINE], ids=str)
@pytest.mark.parametrize("model", MODELS)
def test_every_model_has_the_budget_and_steps_on_its_relative_error(
    model: str, problem: Problem
) -> None:
    if MODELS[model]["backbone"] == "fno":
        pytest.importorskip("neuralop")
    dims = len(problem.shape)
    training, batch = Training(model, dims), problem.batch()
    count = count_parameters(training.operator)
    assert count == num_parameters(model, dims) == pytest.approx(BUDGET, rel=0.05)
    before = copy.deepcopy(training.operator)
    with torch.no_grad():
        predicted, truth = (x.fields["out"].flatten(1) for x in (before(batch), batch))
    error = (predicted - truth).norm(dim=1) / truth.norm(dim=1)
    assert training.step(batch) == pytest.approx(error.mean().item(), rel=1e-5)
    pairs = zip(before.named_parameters(), training.operator.parameters(), strict=True)
    assert not [name for (name, old), new in pairs if torch.equal(old, new)]


def test_attention_is_never_mamba_and_each_backbone_has_both() -> None:
    assert "mamba" not in ATTENTION.values()
    pairs = [model_name(name, mixer) for name, own in ATTENTION.items() for mixer in ("mamba", own)]
    assert set(pairs) < set(MODELS)


@pytest.mark.parametrize("problem", [SQUARE, LINE], ids=str)
def test_a_problem_comes_back_from_its_arguments(problem: Problem) -> None:
    assert Problem.from_arguments(*problem.arguments()) == problem


@pytest.mark.skipif(not is_told(), reason="this system does not tell of peaks")
def test_extra_peak_holds_what_was_freed_again() -> None:
    def write_and_free() -> None:
        with mmap.mmap(-1, 64 * MIB) as pages:  # not from an allocator that may hold some already
            for start in range(0, len(pages), mmap.PAGESIZE):
                pages[start] = 1

    assert extra_peak(write_and_free) == pytest.approx(64 * MIB, rel=0.1)


@pytest.mark.slow
def test_models_are_timed_in_turn_in_a_process_of_their_own() -> None:
    times = step_times(LINE, 1)
    assert list(times) == installed_models()
    assert all(len(seconds) == ROUNDS and min(seconds) > 0 for seconds in times.values())


@pytest.mark.slow
@pytest.mark.skipif(not is_told(), reason="this system does not tell of peaks")
def test_memory_of_a_step_grows_with_the_points() -> None:
    small, large = (extra_memory("U-Net", Problem((n, n), 1), 1) for n in (64, 128))
    assert small is not None and large is not None
    # At least what the four convolutions and norms of the finest grid keep, 18 features each.
    assert large > 8 * 18 * 128**2 * 4
    assert 2 < large / small < 6


def test_ratios_are_medians_over_rounds() -> None:
    measured = _measured(SQUARE, {"plain/mamba": [1.0, 6.0, 9.0], REFERENCE: [1.0, 2.0, 4.5]}, {})
    assert measured.ratio("time", "plain/mamba", REFERENCE) == 2.0
    assert measured.ratio("time", "plain/mamba", "U-Net") is None
    assert measured.ratio("memory", "plain/mamba", REFERENCE) is None


def test_who_loses_is_said_for_time_and_memory() -> None:
    words = against_attention(_results())
    assert words == (
        "Mamba takes more time than attention in: gnot (everywhere), galerkin (32 points). Less "
        "in: plain (8 x 8). Mamba takes more memory than attention in: none. Less in: plain "
        "(everywhere). Elsewhere they are within 5% of each other."
    )
    assert against_fno(_results()) == (
        "Models with mamba take 1.5 to 6 times the time of FNO. Less time than FNO takes: U-Net "
        "(everywhere). Models with mamba take 2 to 4 times the memory of FNO. Less memory than FNO "
        "takes: none."
    )


def test_without_fno_and_without_memory_the_rest_is_told() -> None:
    times = {name: s for name, s in _results()[0].times.items() if "FNO" not in name}
    measured = _measured(SQUARE, times, {})
    assert against_fno([measured]) == NO_REFERENCE
    assert "memory" not in against_attention([measured])
    tables = [part for part in report([measured]).parts if isinstance(part, Table)]
    assert ("U-Net", "150,000", "500", "", "not told by this system", "") in tables[0].rows


def test_tables_have_a_row_for_each_model_and_backbone() -> None:
    section = report(_results())
    square, line, backbones = (part for part in section.parts if isinstance(part, Table))
    assert [row[0] for row in square.rows] == [row[0] for row in line.rows] == list(MODELS)
    assert [row[:2] for row in backbones.rows] == list(ATTENTION.items())
    assert ("gnot/mamba", "150,000", "6000", "6", "4", "4") in square.rows
    assert ("plain", "softmax", "0.75", "0.96", "0.5", "0.5") in backbones.rows
    assert "**32 points**, 2 in a batch." in section.parts


def _results() -> list[Measured]:
    """Figures made up so that each outcome occurs; times are in proportion in each round."""
    times = {name: 3.0 for name in MODELS} | {REFERENCE: 1.0, "padded FNO": 1.0, "U-Net": 0.5}
    memory = {name: 4 * MIB for name in MODELS} | {"plain/mamba": 2 * MIB, REFERENCE: MIB}
    square = times | {"plain/mamba": 2.25, "gnot/mamba": 6.0}
    line = times | {"plain/mamba": 1.5, "plain/softmax": 1.5625, "gnot/mamba": 6.0}
    line |= {"galerkin/mamba": 3.3, "oformer/mamba": 3.1}
    rounds = (0.5, 4.0, 1.0)
    return [
        _measured(problem, {name: [s * r for r in rounds] for name, s in each.items()}, memory)
        for problem, each in ((SQUARE, square), (LINE, line))
    ]


def _measured(problem: Problem, times: dict[str, list[float]], memory: dict[str, int]) -> Measured:
    return Measured(
        problem,
        dict.fromkeys(times, 150_000),
        times,
        {name: memory.get(name) for name in times},
    )
