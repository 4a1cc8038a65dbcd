"""Evaluating on data with gaps: numpy's own formulas over what is present, and nothing else."""

import json
import math
import re
import warnings
from dataclasses import replace

import numpy as np
import pytest
from small_lines import line, solved_split

from mno.core.absent import Absent, as_json
from mno.core.errors import InputError
from mno.core.fields import Axis, Field
from mno.core.times import Seconds
from mno.core.words import LANGUAGES
from mno.data.reading import Schema, Split
from mno.evaluation.config import EconomicsConfig, EvaluateConfig, KpiConfig, RobustnessConfig
from mno.evaluation.cost import measure_cost, spent
from mno.evaluation.decision import decide
from mno.evaluation.evaluator import evaluate, mean_fields, split_error
from mno.evaluation.influence import influence
from mno.evaluation.metrics import METRICS
from mno.evaluation.robustness import measure_robustness
from mno.evaluation.solver import physical_consistency
from mno.evaluation.statistics import NO_GRID, Statistics
from mno.evaluation.trust import calibrated_trust
from mno.report.page import Results
from mno.surrogate.surrogate import Surrogate
from mno.surrogate.trust import TrustConfig
from tests.evaluation.made import figures_of, render_report, results_of
from tests.support.untrained import broken, untrained

FRAMES, HISTORY, N = 6, 3, 9
ALL = "point"


def make_split(name, samples, seed, share=0.3):
    """Sensors at places of their own, with a share of the readings of two fields missing."""
    rng = np.random.default_rng(seed)
    schema = Schema(
        "plant",
        (
            Field("x", "m", "x", "coordinate", (ALL,)),
            Field("y", "m", "y", "coordinate", (ALL,)),
            Field("cover", "m", "cover", "input", (ALL,), gaps=True),
            Field("load", "kW", "load", "input", ()),
            Field("temperature", "K", "temperature", "state", ("time", ALL), gaps=True),
            Field("pressure", "Pa", "pressure", "state", ("time", ALL), gaps=True),
        ),
        (
            Axis("time", "s", "time", np.arange(FRAMES) * 0.5, (0.0, 2.5)),
            Axis(ALL, "1", "point", np.arange(N, dtype=float), (0.0, float(N))),
        ),
    )
    growth = np.exp(0.1 * np.arange(FRAMES))[:, None]
    fields = {
        "x": rng.random((samples, N)),
        "y": rng.random((samples, N)),
        "cover": rng.random((samples, N)),
        "load": rng.random(samples),
        "temperature": (1 + rng.random((samples, 1, N))) * growth,
        "pressure": (2 + rng.random((samples, 1, N))) / growth,
    }
    for gappy in ("cover", "temperature", "pressure"):
        fields[gappy][rng.random(fields[gappy].shape) < share] = math.nan
    arrays = {key: field.astype(np.float32) for key, field in fields.items()}
    return Split(name, schema, arrays, np.arange(samples) * 2 + 1)


NO_EPOCHS = {"best_epoch": None, "epochs": []}
TRAIN = make_split("train", 6, 1)
TRAIN.fields["temperature"][:, :, 4] = math.nan  # a sensor that was added later
TEST = make_split("test", 8, 2)
TEST.fields["temperature"][1, HISTORY:] = math.nan
for name in ("temperature", "pressure"):
    TEST.fields[name][3, HISTORY:] = math.nan  # an outage: nothing to compare with
    TEST.fields[name][:, 4] = math.nan  # a time at which no one measured
    TEST.fields[name][5, :HISTORY, 2] = math.nan  # a point of which nothing is given


def make_surrogate():
    return untrained(TRAIN.schema, TRAIN.fields, HISTORY, nudged=True, reference_spacing=(0.3,))


@pytest.fixture(scope="module")
def surrogate():
    return make_surrogate()


@pytest.fixture(scope="module")
def evaluation(surrogate):
    return evaluate(surrogate, TEST, mean_fields(TRAIN), EvaluateConfig(batch_size=3))


def truth(name):
    return TEST.fields[name][:, HISTORY:].astype(np.float64)


def per_sample(predicted):
    """Relative L2 of each sample over what is present, the mean over fields that have truth."""
    ratios = []
    for name, field in predicted.items():
        t = truth(name)
        squares = [np.nansum((a) ** 2, axis=(1, 2)) for a in (field - t, t)]
        with np.errstate(invalid="ignore"):
            ratios.append(np.sqrt(squares[0] / squares[1]))
    present = [r[~np.isnan(r)] for r in np.array(ratios).T]
    return np.array([np.mean(r) if r.size else math.nan for r in present])


@pytest.fixture(scope="module")
def predicted(surrogate):
    return surrogate.predict(surrogate.description.given(TEST.fields))


@pytest.fixture(scope="module")
def means():
    found = {}
    for name in ("temperature", "pressure"):
        values = TRAIN.fields[name].astype(np.float64)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # of a point that was never measured
            mean = np.nanmean(values, axis=0)
        mean = np.where(np.isnan(mean), np.nanmean(values), mean)
        found[name] = np.broadcast_to(mean[HISTORY:], truth(name).shape)
    return found


def test_errors_are_numpys_over_what_is_present(evaluation, predicted):
    assert all(np.isfinite(field).all() for field in predicted.values())
    expected = per_sample(predicted)
    np.testing.assert_allclose(evaluation.relative_l2, expected, rtol=1e-5)
    assert np.flatnonzero(np.isnan(expected)).tolist() == [3]
    assert evaluation.measured.tolist() == [True] * 3 + [False] + [True] * 4
    metrics = evaluation.metrics()
    assert metrics["relative_l2"] == pytest.approx(np.nanmean(expected), rel=1e-5)
    for name, field in predicted.items():
        error, found = field - truth(name), metrics["fields"][name]
        assert found["rmse"] == pytest.approx(np.sqrt(np.nanmean(error**2)), rel=1e-5)
        assert found["max_error"] == pytest.approx(np.nanmax(np.abs(error)), rel=1e-5)
        pooled = np.sqrt(np.nansum(error**2) / np.nansum(truth(name) ** 2))
        assert found["nrmse"] == pytest.approx(pooled, rel=1e-5)


def test_what_was_compared_is_counted(surrogate, evaluation):
    for name, found in evaluation.metrics()["fields"].items():
        missing = np.isnan(truth(name))
        assert (found["values"], found["missing"]) == ((~missing).sum(), missing.sum())
        counts = evaluation.per_sample()["fields"][name]["values"]
        assert counts == (~missing).sum(axis=(1, 2)).tolist()
    json.dumps([evaluation.metrics(), evaluation.per_sample()], default=as_json)
    score = split_error(surrogate.predict, TEST, 3, HISTORY, HISTORY).value()
    assert score == evaluation.metrics()["relative_l2"], "a registered model is scored alike"


def test_guesses_are_the_mean_of_what_was_measured_and_the_last_given_value(evaluation, means):
    np.testing.assert_allclose(evaluation.baseline_relative_l2, per_sample(means), rtol=1e-9)
    kept = {}
    for name, mean in means.items():
        kept[name] = np.empty_like(truth(name))
        for sample, point in np.ndindex(len(TEST), N):
            given = TEST.fields[name][sample, :HISTORY, point]
            known = given[~np.isnan(given)]
            value = known[-1] if known.size else mean[sample, 0, point]
            kept[name][sample, :, point] = value
    metrics = evaluation.metrics()
    expected = np.nanmean(per_sample(kept))
    assert metrics["persistence_relative_l2"] == pytest.approx(expected, rel=1e-9)


def test_the_error_over_time_leaves_out_what_is_missing(evaluation, predicted):
    curve = evaluation.over_time.model
    for frame in range(FRAMES - HISTORY):
        ratios = []
        for name, field in predicted.items():
            t = truth(name)[:, frame]
            squares = [np.nansum(a**2, axis=1) for a in (field[:, frame] - t, t)]
            known = ~np.isnan(t).all(axis=1)
            if known.any():
                ratios.append(np.sqrt(squares[0][known] / squares[1][known]).mean())
        expected = np.mean(ratios) if ratios else math.nan
        assert curve[frame] == pytest.approx(expected, rel=1e-5, nan_ok=True)
    assert np.isnan(curve).tolist() == [False, True, False]


def test_samples_are_ranked_among_those_that_were_measured(evaluation):
    shown = {rank: e.index for e in evaluation.examples for rank in e.ranks}
    order = np.argsort(evaluation.relative_l2)[:-1]  # NaN, not measured, is sorted last
    expected = {"best": order[0], "median": order[3], "worst": order[-1]}
    assert shown == {rank: TEST.indices[position] for rank, position in expected.items()}


def test_a_prediction_that_is_no_number_still_counts():
    values = np.array([[1.0, 2.0, math.nan]])
    for where, finite in ((0, False), (2, True)):
        broken = np.ones((1, 3))
        broken[0, where] = math.nan
        statistics = Statistics.of(broken, values)
        found = {metric.name: metric.value(statistics) for metric in METRICS}
        numbers = {name: value for name, value in found.items() if value != NO_GRID}
        assert set(numbers) == {"relative_l2", "rmse", "nrmse", "max_error"}
        assert all(math.isfinite(value) == finite for value in numbers.values())


def test_nothing_missing_changes_no_bit(surrogate):
    whole = make_split("test", 5, 3, share=0.0)
    fields = tuple(replace(field, gaps=False) for field in whole.schema.fields)
    without = replace(whole, schema=replace(whole.schema, fields=fields))
    found, declared = (
        evaluate(surrogate, split, mean_fields(whole), EvaluateConfig(batch_size=2)).metrics()
        for split in (whole, without)
    )
    for field in found["fields"].values():
        assert field.pop("missing") == 0 and field.pop("values") == 5 * (FRAMES - HISTORY) * N
    assert found == declared


def test_a_split_without_any_truth_is_refused(surrogate):
    fields = {name: field.copy() for name, field in TEST.fields.items()}
    for name in ("temperature", "pressure"):
        fields[name][:, HISTORY:] = math.nan
    with pytest.raises(InputError, match="test split has no value of pressure, temperature"):
        evaluate(surrogate, replace(TEST, fields=fields), mean_fields(TRAIN), EvaluateConfig())


def test_a_model_that_knows_no_gaps_is_refused():
    description = replace(make_surrogate().description, gaps=("temperature", "pressure"))
    other = Surrogate(description, description.build())
    with pytest.raises(InputError, match=r"cover has a value that is missing \(NaN\)"):
        evaluate(other, TEST, mean_fields(TRAIN), EvaluateConfig())


@pytest.fixture(scope="module")
def figures(evaluation):
    return figures_of(results_of(evaluation, TEST.schema, NO_EPOCHS))


def test_figures_say_that_gaps_are_blank(figures):
    by_name = {figure.name: figure for figure in figures}
    assert "left blank" in by_name["example_worst"].caption
    assert all(figure.png.startswith(b"\x89PNG") for figure in figures)


def test_the_report_says_which_samples_cannot_be_compared(evaluation):
    html = render_report(results_of(evaluation, TEST.schema, NO_EPOCHS))
    assert "1 samples have no true value" in html


def test_the_report_counts_the_values(evaluation):
    cover = {"min": 0.0, "max": 1.0, "mean": 0.5, "std": 0.1, "missing": 12}
    dataset = {"fields": {"cover": cover}}
    html = render_report(results_of(evaluation, TEST.schema, NO_EPOCHS, dataset=dataset))
    known = (~np.isnan(truth("temperature"))).sum()
    assert f"{known} of {truth('temperature').size}" in html.replace("\u202f", "")
    assert "12 missing" in html


ROBUSTNESS = RobustnessConfig(samples=3, solved_samples=1, noise=[0.1], missing=[0.25])
ECONOMICS = EconomicsConfig(comparison_seconds=0.2, queries_per_day=100.0)
KPIS = KpiConfig(relative_l2=0.03, latency_ms=50.0)
TAKEN = Seconds(seconds=2.0, cpu_seconds=3.0, attempts=1, cores=2)


def all_results_of(surrogate, train, validation, test):
    mean = mean_fields(train)
    evaluation = evaluate(surrogate, test, mean, EvaluateConfig())
    physics = physical_consistency(surrogate, test, 3, 8)
    trust = calibrated_trust(surrogate, train, validation, test, TrustConfig(), "0" * 64, 8)
    cost = measure_cost(surrogate, test, ECONOMICS) | {
        "peak_memory_mib": 300.0,
        "solver_memory_mib": 170.0,
        "spent": spent(dict.fromkeys(("generate", "train", "evaluate"), TAKEN), 12.0),
    }
    metrics = {**evaluation.metrics(), "physics": physics}
    measured = trust.to_json()
    counts = {"train": len(train), "all": len(train) + len(validation) + len(test)}
    return Results(
        scenario="darcy",
        schema=test.schema,
        evaluation=evaluation,
        metrics=metrics,
        cost=cost,
        decision=decide(
            KPIS, ECONOMICS, metrics=metrics, cost=cost, samples=counts, trust=measured
        ),
        robustness=measure_robustness(surrogate, test, mean, ROBUSTNESS, 8),
        trust=measured,
        influence=influence(surrogate, evaluation.example("median")),
    )


def texts(results):
    pages = {language: render_report(results, language) for language in LANGUAGES}
    return {
        language: re.sub(r"<[^>]*>", " ", re.sub(r"<style.*?</style>", "", page, flags=re.S))
        for language, page in pages.items()
    }


@pytest.fixture(scope="module")
def small():
    return line("darcy")


@pytest.fixture(scope="module")
def splits():
    train, validation, test = (
        solved_split(name, "darcy", count, seed, 16)
        for seed, (name, count) in enumerate({"train": 16, "validation": 12, "test": 4}.items())
    )
    return train, validation, test


def told(results):
    """The words of the report, by language, among which no number is odd."""
    said = texts(results)
    for text in said.values():
        assert re.findall(r"\b(?:nan|inf|None|NaN %)\b", text) == []
    return said


@pytest.mark.slow
def test_a_model_that_predicts_no_numbers_gets_a_verdict(small, splits):
    results = all_results_of(broken(small.surrogate), *splits)
    assert results.decision["verdict"] == "not_worth_it"
    assert results.decision["reasons"][0]["code"] == "unusable"
    (accuracy,) = (kpi for kpi in results.decision["kpis"] if kpi["name"] == "relative_l2")
    assert accuracy["status"] == "missed"
    said = told(results)
    assert "not a number" in said["en"] and "非数" in said["ja"]


@pytest.mark.slow
@pytest.mark.nightly
@pytest.mark.parametrize("value", [0.0, 3.0])
def test_data_without_any_variation_get_a_report(small, splits, value):
    flat = [
        replace(split, fields={n: np.full_like(field, value) for n, field in split.fields.items()})
        for split in splits
    ]
    results = all_results_of(small.surrogate, *flat)
    assert results.decision["verdict"] == "not_worth_it"
    told(results)


@pytest.mark.slow
@pytest.mark.nightly
def test_a_single_sample_in_each_split_gets_a_report(small, splits):
    results = all_results_of(small.surrogate, *(split.take(np.array([0])) for split in splits))
    assert results.metrics["samples"] == 1
    assert isinstance(results.metrics["intervals"]["relative_l2"], Absent)
    told(results)
