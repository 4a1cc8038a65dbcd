"""Parts of the benchmarks: both sides compute the same, how results are told, truths of studies."""

import copy
import json
import math
import mmap
from functools import partial
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import __main__ as runner
from benchmarks import headlines, scan_llama
from benchmarks.bench_mixer import crossover
from benchmarks.bench_stream import CachedAttention
from benchmarks.exponentials import exp2_repeatedly
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
from benchmarks.page import RESULTS, Section, Table
from benchmarks.resolution import Sampled, Task, cells, in_space, in_time, page
from benchmarks.scan_peers import (
    channels_first,
    channels_last,
    lean_loop,
    mambapy_loop,
    mambapy_scan,
)
from benchmarks.scan_problem import (
    both_passes,
    by_heads,
    heads_by_steps,
    make_cotangent,
    make_inputs,
    make_pair,
    relative_error,
)
from benchmarks.timing import in_turn, median_ms, median_ratio
from mno.core.grid import Grid
from mno.nn.operator import count_parameters
from mno.scan import selective_scan

LENGTH = 13
FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.parametrize("peer", [lean_loop, mambapy_loop, mambapy_scan])
def test_every_peer_computes_the_same_values_and_gradients(peer):
    if peer is mambapy_scan:
        pytest.importorskip("mambapy")
    inputs, cotangent = make_inputs(LENGTH), make_cotangent(LENGTH)
    reference = both_passes(partial(selective_scan, backend="reference"), inputs, cotangent)
    results = channels_first(both_passes(peer, channels_last(inputs), cotangent.mT.contiguous()))
    assert [x.shape for x in results] == [x.shape for x in reference]
    assert max(relative_error(a, b) for a, b in zip(results, reference, strict=True)) < 5e-6


def test_the_forward_pass_of_llama_cpp_has_the_same_values():
    pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed (extra llama)")
    u, delta, A, B, C, *_ = (x.detach() for x in make_inputs(LENGTH))
    given = u.mT, delta.mT, A, *(x.permute(0, 3, 1, 2) for x in (B, C))
    scan, found = scan_llama.prepared_scan(*given, threads=2)
    scan()
    reference = selective_scan(u, delta, A, B, C, backend="reference")
    assert relative_error(found.mT, reference) < 1e-5


def test_the_scan_by_heads_that_is_measured_is_its_recurrence():
    _, inputs = make_pair(4, LENGTH)
    cotangent = make_cotangent(LENGTH).mT[:, :, None]
    runs = (both_passes(run, inputs, cotangent) for run in (by_heads, heads_by_steps))
    assert max(relative_error(a, b) for a, b in zip(*runs, strict=True)) < 2e-5


def test_steps_of_the_measured_scan_are_those_of_fresh_weights():
    *_, bias = make_inputs(LENGTH)
    steps = torch.nn.functional.softplus(bias)
    assert 0.99e-3 < steps.min() < 2e-3 and 5e-2 < steps.max() < 1.01e-1


def test_exponentials_of_the_floor_are_accurate():
    x = np.linspace(-120, 120, 4001, dtype=np.float32)
    out = np.empty_like(x)
    exp2_repeatedly(x, out, 1)
    assert np.abs(out / np.exp2(x.astype(np.float64)) - 1).max() < 4e-7


@pytest.mark.parametrize("name", [path.stem for path in FOLDER.glob("bench_*.py")])
def test_every_benchmark_can_be_started(name):
    benchmark = import_module(f"benchmarks.{name}")
    assert benchmark.THREADS in (1, 2) and callable(benchmark.run)


def test_functions_are_called_in_turn_and_warm_up_is_not_counted():
    calls: list[str] = []
    times = in_turn({name: partial(calls.append, name) for name in ("a", "b")}, rounds=2, warm_up=1)
    assert calls == ["a", "b"] * 3
    assert {name: len(seconds) for name, seconds in times.items()} == {"a": 2, "b": 2}


def test_medians_are_over_rounds():
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
def test_crossover_is_where_ours_stays_faster(ratios, expected):
    assert crossover([256, 1024, 4096], ratios) == pytest.approx(expected)


def test_a_file_of_results_holds_threads_tables_and_the_machine():
    table = Table(("what", "ms"), [("this", "1.5")])
    text = Section("Thing", ("About it.", table)).markdown("thing", 2)
    assert text.startswith("# Thing\n\nWritten by `python -m benchmarks thing`;")
    expected = "2 threads on every side.\n\nAbout it.\n\n| what | ms |\n| --- | --- |\n"
    assert expected + "| this | 1.5 |\n\n## Machine\n\n- processor: " in text


def test_the_page_has_every_headline_of_the_committed_results_losses_first():
    rows = headlines.measured(RESULTS)
    assert len(rows) == len(headlines.HEADLINES)
    ratios = [ratio for _, ratio, _ in rows]
    assert ratios == sorted(ratios) and ratios[0] < 1 < ratios[-1]
    text = headlines.PAGE.read_text(encoding="utf-8")
    assert headlines.filled(text, rows) == text, "run: python -m benchmarks.headlines"
    assert headlines.CHART.is_file()


def test_a_headline_whose_peer_is_not_there_is_left_out(tmp_path):
    text = (RESULTS / "darcy.md").read_text(encoding="utf-8")
    (tmp_path / "darcy.md").write_text(text)
    ((headline, ratio, processor),) = headlines.measured(tmp_path)
    assert headline.benchmark == "darcy" and ratio == headlines.reader(text)("128 x 128", "ratio")
    assert processor in ("Xeon", "EPYC")
    (tmp_path / "darcy.md").write_text(text.replace("128 x 128", "96 x 96"))
    assert headlines.measured(tmp_path) == []


@pytest.mark.slow
def test_running_a_benchmark_writes_its_file_and_the_page(tmp_path, monkeypatch, capsys):
    written_to = tmp_path / "page.md"
    written_to.write_text("before\n" + "".join(headlines.MARKS) + "\nafter\n")
    (tmp_path / "darcy.md").write_text((RESULTS / "darcy.md").read_text(encoding="utf-8"))
    for module, name in ((runner, "RESULTS"), (headlines, "RESULTS")):
        monkeypatch.setattr(module, name, tmp_path)
    monkeypatch.setattr(headlines, "PAGE", written_to)
    monkeypatch.setattr(headlines, "CHART", tmp_path / "chart.png")
    runner.main(["lining_wear"])  # tells what is kept in its JSON, and measures nothing
    written, kept = (folder / "lining_wear.md" for folder in (tmp_path, RESULTS))
    before_the_machine = kept.read_text(encoding="utf-8").partition("## Machine")[0]
    assert written.read_text(encoding="utf-8").startswith(before_the_machine)
    assert before_the_machine.strip() in capsys.readouterr().out
    text = written_to.read_text(encoding="utf-8")
    assert "| Darcy, 128 × 128 |" in text and text.endswith("after\n")
    assert (tmp_path / "chart.png").stat().st_size > 1000


def test_the_page_on_resolution_has_the_numbers_of_its_cells(tmp_path, monkeypatch):
    found = [json.loads(path.read_text()) for path in sorted(cells.RESULTS.glob("*.json"))]
    committed = {name: getattr(page, name) for name in ("PAGE", "ALL")}
    for name, path in committed.items():
        (tmp_path / name).write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
        monkeypatch.setattr(page, name, tmp_path / name)
    monkeypatch.setattr(page, "FIGURE", tmp_path / "figure.png")
    in_order = {names: i for i, names in enumerate(cells.names())}
    key = ("task", "model", "seed")
    page.write(sorted(found, key=lambda cell: in_order[tuple(cell[name] for name in key)]))
    for name, path in committed.items():
        assert (tmp_path / name).read_text(encoding="utf-8") == path.read_text(encoding="utf-8")
    assert page.FIGURE.stat().st_size > 1000


@pytest.mark.parametrize("size", in_space.SIZES)
def test_values_at_the_points_of_a_coarse_grid_are_exact_for_linear_functions(size):
    def plane(n):
        x = (np.arange(n) + 0.5) / n
        return 3 * x[:, None] - 2 * x

    np.testing.assert_allclose(
        in_space.at_points(plane(in_space.FINE), size), plane(size), atol=1e-14
    )


def test_every_grid_sees_the_same_permeability_and_pressure():
    task = in_space.make(1, 2, 1)
    coarse, _, fine = (kinds[0] for kinds in task.validation.values())
    corners = [fine.targets[:, i::4, j::4] for i in (1, 2) for j in (1, 2)]
    around = [fine.inputs[:, i::4, j::4] for i in (1, 2) for j in (1, 2)]
    agree = (coarse.inputs == sum(around) / 4).float().mean()
    assert ((coarse.targets - sum(corners) / 4).norm() / coarse.targets.norm()) < 0.01
    assert agree > 0.8  # the four neighbours differ only where a jump passes between them


def test_models_that_are_told_of_the_walls_answer_zero_there_in_physical_units():
    pytest.importorskip("neuralop", reason="the FNO that the study compares with is its own")
    from benchmarks.resolution.models import MODELS, build
    from benchmarks.resolution.training import Normalised

    # A square that is all wall: a tenth of a cell of training wide.
    grid = Grid((16, 16), (1 / 16,) * 2, reference_spacing=(10.0, 10.0))
    samples = Sampled(grid, torch.randn(2, 16, 16), 5 + torch.randn(2, 16, 16))

    def largest(options):
        torch.manual_seed(0)
        with torch.no_grad():
            return Normalised(build(options), Task(samples, {}, {}))(samples).abs().max()

    for name, options in MODELS["walls"].items():
        assert largest(options) < 0.2 < 4 < largest(MODELS["space"][name]), name


def test_the_driven_field_is_solved_with_order_two():
    source = in_time.draw_source(np.random.default_rng(0), 3)
    ends = [in_time.solve(source, steps)[-1] for steps in (64, 128, 256, 1024)]
    errors = [np.abs(end - ends[-1]).max() for end in ends[:-1]]
    assert 1.75 < math.log2(errors[0] / errors[1]) < 2.25, errors


def test_frames_are_steps_of_the_solution_and_irregular_ones_lie_within_it():
    task = in_time.make(1, 5, 5)
    few, many = (task.test[str(n)][0] for n in (in_time.FRAMES // 2, 2 * in_time.FRAMES))
    assert few.grid.shape == (16, in_time.CELLS) and many.grid.shape == (64, in_time.CELLS)
    assert len(task.test["irregular"]) == in_time.IRREGULAR
    for sampled in task.test["irregular"]:
        widths = sampled.grid.spacing[0]
        assert isinstance(widths, tuple) and len(widths) == in_time.FRAMES
        assert max(widths) > 1.5 * min(widths)
        assert 0.9 < sum(widths) / in_time.DURATION < 1.1


SQUARE, LINE = Problem((16, 16), 2), Problem((32,), 2)
MIB = 2**20


@pytest.mark.parametrize("problem", [SQUARE, LINE], ids=str)
@pytest.mark.parametrize("model", MODELS)
def test_every_model_has_the_budget_and_steps_on_its_relative_error(model, problem):
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


def test_attention_is_never_mamba_and_each_backbone_has_both():
    assert "mamba" not in ATTENTION.values()
    pairs = [model_name(name, mixer) for name, own in ATTENTION.items() for mixer in ("mamba", own)]
    assert set(pairs) < set(MODELS)


@pytest.mark.parametrize("problem", [SQUARE, LINE], ids=str)
def test_a_problem_comes_back_from_its_arguments(problem):
    assert Problem.from_arguments(*problem.arguments()) == problem


@pytest.mark.skipif(not is_told(), reason="this system does not tell of peaks")
def test_extra_peak_holds_what_was_freed_again():
    def write_and_free() -> None:
        with mmap.mmap(-1, 64 * MIB) as pages:  # not from an allocator that may hold some already
            for start in range(0, len(pages), mmap.PAGESIZE):
                pages[start] = 1

    assert extra_peak(write_and_free) == pytest.approx(64 * MIB, rel=0.1)


@pytest.mark.slow
def test_models_are_timed_in_turn_in_a_process_of_their_own():
    times = step_times(LINE, 1)
    assert list(times) == installed_models()
    assert all(len(seconds) == ROUNDS and min(seconds) > 0 for seconds in times.values())


@pytest.mark.slow
@pytest.mark.skipif(not is_told(), reason="this system does not tell of peaks")
def test_memory_of_a_step_grows_with_the_points():
    small, large = (extra_memory("U-Net", Problem((n, n), 1), 1) for n in (64, 128))
    assert small is not None and large is not None
    # At least what the four convolutions and norms of the finest grid keep, 18 features each.
    assert large > 8 * 18 * 128**2 * 4
    assert 2 < large / small < 6


def test_ratios_are_medians_over_rounds():
    measured = _measured(SQUARE, {"plain/mamba": [1.0, 6.0, 9.0], REFERENCE: [1.0, 2.0, 4.5]}, {})
    assert measured.ratio("time", "plain/mamba", REFERENCE) == 2.0
    assert measured.ratio("time", "plain/mamba", "U-Net") is None
    assert measured.ratio("memory", "plain/mamba", REFERENCE) is None


def test_who_loses_is_said_for_time_and_memory():
    assert against_attention(_results()) == (
        "Mamba takes more time than attention in: gnot (everywhere), galerkin (32 points). Less "
        "in: plain (16 x 16). Mamba takes more memory than attention in: none. Less in: plain "
        "(everywhere). Elsewhere they are within 5% of each other."
    )
    assert against_fno(_results()) == (
        "Models with mamba take 1.5 to 6 times the time of FNO. Less time than FNO takes: U-Net "
        "(everywhere). Models with mamba take 2 to 4 times the memory of FNO. Less memory than FNO "
        "takes: none."
    )


def test_without_fno_and_without_memory_the_rest_is_told():
    times = {name: s for name, s in _results()[0].times.items() if "FNO" not in name}
    measured = _measured(SQUARE, times, {})
    assert against_fno([measured]) == NO_REFERENCE
    assert "memory" not in against_attention([measured])
    tables = [part for part in report([measured]).parts if isinstance(part, Table)]
    assert ("U-Net", "150,000", "500", "", "not told by this system", "") in tables[0].rows


def test_attention_with_a_cache_is_causal_attention_along_time():
    torch.manual_seed(0)
    layer, x = CachedAttention(3, 8, 2), torch.randn(3, 9, 8)
    with torch.no_grad():
        steps = torch.cat([layer(x[:, t : t + 1], None, None)[0] for t in range(9)], dim=1)
        heads = layer.projection(layer.norm(x)).unflatten(-1, (3, 2, -1)).permute(2, 0, 3, 1, 4)
        mixed = torch.nn.functional.scaled_dot_product_attention(*heads, is_causal=True)
        whole = x + layer.out_proj(mixed.transpose(1, 2).flatten(-2))
    torch.testing.assert_close(steps, whole)
    assert layer.cache.shape == (2, 3, 2, 16, 4)
    layer.fill(17)
    assert layer.length == 17
    assert layer.cache.shape[3] == 32


def test_tables_have_a_row_for_each_model_and_backbone():
    section = report(_results())
    square, line, backbones = (part for part in section.parts if isinstance(part, Table))
    assert [row[0] for row in square.rows] == [row[0] for row in line.rows] == list(MODELS)
    assert [row[:2] for row in backbones.rows] == list(ATTENTION.items())
    assert ("gnot/mamba", "150,000", "6000", "6", "4", "4") in square.rows
    assert ("plain", "softmax", "0.75", "0.96", "0.5", "0.5") in backbones.rows
    assert "**32 points**, 2 in a batch." in section.parts


def _results():
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


def _measured(problem, times, memory):
    return Measured(
        problem, dict.fromkeys(times, 150_000), times, {name: memory.get(name) for name in times}
    )
