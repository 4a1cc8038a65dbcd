"""Robustness and physics of small trained surrogates: what must hold exactly, and what is said."""

import json
import math
import re
from copy import copy
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from small_lines import line, solved_split
from test_missing_truth import TEST, TRAIN, make_surrogate

from mno.core.absent import Absent, as_json
from mno.core.words import LANGUAGES, own_texts
from mno.data.reading import Split
from mno.evaluation.config import EvaluateConfig, RobustnessConfig
from mno.evaluation.evaluator import evaluate, mean_fields
from mno.evaluation.robustness import (
    AS_TRAINED,
    KINDS,
    at_resolutions,
    measure_robustness,
    outside_training,
    over_time,
)
from mno.evaluation.solver import physical_consistency, solved_anew
from mno.evaluation.trial import Trial, under_noise, without_sensors
from mno.report.language import Words
from mno.report.page import Results
from mno.report.sections import robustness
from mno.report.sections.robustness import section
from mno.scenarios.base import make_scenario
from mno.surrogate.surrogate import Surrogate
from tests.support.untrained import broken

CONFIG = RobustnessConfig(samples=6, solved_samples=3, noise=[0.05, 0.5], missing=[0.25])


def trial_of(line, batch_size=4):
    return Trial(line.surrogate, line.mean, batch_size)


def measured(line, config=CONFIG, batch_size=4):
    return measure_robustness(line.surrogate, line.test, line.mean, config, batch_size)


@cache
def found_of(scenario, **task):
    return measured(line(scenario, **task))


def means(curve, who="model"):
    return curve["relative_l2"][who]["mean"]


def plain_errors(line, split):
    """What the evaluation itself finds: of the model, the mean field, the last given frame."""
    found = evaluate(line.surrogate, split, line.mean, EvaluateConfig()).metrics()
    return found["relative_l2"], found["baseline_relative_l2"], found.get("persistence_relative_l2")


LINES = [
    ("darcy", {}),
    ("diffusion_reaction", {"history": 2}),
    *(
        pytest.param(scenario, {}, marks=pytest.mark.slow)
        for scenario in ("burgers", "darcy_ring", "furnace")
    ),
]


@pytest.mark.parametrize(("scenario", "task"), LINES)
def test_what_is_not_changed_has_the_error_of_the_evaluation_exactly(scenario, task):
    small = line(scenario, **task)
    found = measured(small, CONFIG.model_copy(update={"samples": len(small.test)}))
    expected = plain_errors(small, small.test)
    for curve in (found["noise"], found["missing"]["random"], found["missing"]["block"]):
        assert curve["level"][0] == 0.0
        firsts = [means(curve, who)[0] for who in curve["relative_l2"]]
        assert firsts == [value for value in expected if value is not None]

    fresh = solved_anew(small.test.schema, CONFIG.solved_samples, CONFIG.seed)
    assert isinstance(fresh, Split)
    expected = plain_errors(small, fresh)
    resolution, outside = found["resolution"], found["outside"]
    at = resolution["level"].index(resolution["trained"])
    assert means(resolution)[at] == expected[0]
    assert outside["level"][0] == AS_TRAINED
    assert [means(outside, who)[0] for who in outside["relative_l2"]] == [
        value for value in expected if value is not None
    ]


@pytest.mark.parametrize(("scenario", "task"), LINES)
def test_the_result_is_json_and_depends_on_neither_batches_nor_threads(scenario, task):
    small = line(scenario, **task)
    found, threads = [], torch.get_num_threads()
    try:
        for batch_size, count in ((4, 1), (64, 2)):
            torch.set_num_threads(count)
            text = json.dumps(measured(small, batch_size=batch_size), default=as_json)
            # Torch may add up in another order for another size of a batch.
            found.append(json.loads(text, parse_float=lambda x: f"{float(x):.3g}"))
    finally:
        torch.set_num_threads(threads)
    assert found[0] == found[1]
    assert set(found[0]) == set(KINDS)


def test_the_same_call_gives_the_same_bits():
    again = measured(line("darcy"))
    assert json.dumps(again, default=as_json) == json.dumps(found_of("darcy"), default=as_json)


def test_more_noise_and_fewer_sensors_bring_the_last_frame_further_from_the_truth():
    """Keeping the last frame has no weights that could happen to do better with them."""
    small = line("diffusion_reaction", history=2)
    kept = means(under_noise(trial_of(small), small.test, [0.1, 0.5, 2.0], seed=0), "persistence")
    assert kept == sorted(kept)
    assert kept[-1] > 1.5 * kept[0]
    missing = without_sensors(trial_of(small), small.test, [0.25, 0.5, 0.9], seed=0)
    for curve in (missing["random"], missing["block"]):
        assert len(set(means(curve))) == 4
        assert len(set(means(curve, "mean_field"))) == 1


def watched(small):
    """Return a trial, and all that its surrogate will have been asked."""
    seen: list[dict[str, np.ndarray]] = []

    class Asked(Surrogate):
        def predict(self, inputs, batch_size=32, steps=None):
            seen.append(inputs)
            return super().predict(inputs, batch_size, steps)

    trial = trial_of(small)
    trial.surrogate = Asked(small.surrogate.description, small.surrogate.operator)
    return trial, seen


def test_noise_has_the_deviation_of_the_training_data_times_its_level():
    small = line("darcy")
    trial, seen = watched(small)
    under_noise(trial, small.test, [0.2], seed=0)
    plain, noisy = (inputs["permeability"] for inputs in seen)
    added = noisy - plain
    deviation = small.surrogate.description.normaliser.std["permeability"]
    assert np.array_equal(plain, small.test.fields["permeability"])
    assert np.std(added) == pytest.approx(0.2 * deviation, rel=0.05)
    assert abs(np.mean(added)) < 0.02 * deviation
    assert not np.allclose(added[0], added[1])


def test_an_input_that_does_not_vary_gets_no_noise():
    """Its standard deviation is 0, in whose place the normaliser has 1."""
    small = line("navier_stokes")
    trial, seen = watched(small)
    under_noise(trial, small.test, [0.5], seed=0)
    plain, noisy = (inputs["viscosity"] for inputs in seen)
    assert np.array_equal(plain, noisy)


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5])
@pytest.mark.parametrize("scenario", ["darcy", "burgers", "darcy_ring"])
def test_missing_places_are_as_many_as_asked_for(scenario, share):
    small = line(scenario)
    description = small.surrogate.description
    name = description.fields[0]
    trial, seen = watched(small)
    found = without_sensors(trial, small.test, [share], seed=0)
    assert (found["told"], found["filled"]) == ([], list(description.fields))
    whole, random, _, block = (inputs[name] for inputs in seen)
    mean = np.float32(description.normaliser.mean[name])
    for changed in (random, block):
        holes = changed == mean
        assert np.array_equal(changed[~holes], whole[~holes])
        assert np.mean(holes) == pytest.approx(share, abs=0.12)
    assert np.mean(random == mean) == pytest.approx(share, abs=0.03)
    assert not np.array_equal(random == mean, block == mean)


def test_on_other_grids_the_solvers_own_error_falls_with_the_cells():
    small = line("darcy")
    found = at_resolutions(trial_of(small), small.test.schema, [0.5, 2.0, 4.0], 3, seed=0)
    assert found["level"] == [8, 16, 32, 64]
    solver = found["solver"]["mean"]
    assert all(finer < 0.6 * coarser for coarser, finer in zip(solver, solver[1:], strict=False))
    at = found["level"].index(16)
    assert means(found, "interpolated")[at] == means(found)[at]


def test_a_grid_that_the_solver_refuses_is_left_out_and_says_why():
    small = line("darcy")
    found = at_resolutions(trial_of(small), small.test.schema, [0.25, 2.0], 2, seed=0)
    assert found["level"] == [16, 32]
    assert "at least 8" in str(found["absent"]["4"])


def test_a_scenario_that_is_another_problem_on_every_grid_has_no_curve():
    small = line("diffusion_reaction", history=2)
    rough = solved_split("test", "diffusion_reaction", 2, 5, 16, sampling="pdebench", frames=7)
    found = at_resolutions(trial_of(small), rough.schema, [2.0], 2, seed=0)
    assert found == Absent("robustness.other_on_every_grid")


def test_neighbouring_problems_say_what_was_changed():
    small = line("darcy")
    found = outside_training(trial_of(small), small.test.schema, 2, seed=0)
    assert found["changed"]["twice the contrast"] == {"high_permeability": [12.0, 24.0]}
    assert len(found["level"]) == len(means(found)) == 4
    assert means(found, "mean_field")[1] > means(found, "mean_field")[0]


def test_frame_rates_of_a_model_that_is_given_several_frames():
    found = found_of("diffusion_reaction", history=2)["frame_rate"]
    assert found["half"]["level"] == [1.0, 0.5]
    assert found["double"]["level"] == [1.0, 2.0]
    half = means(found["half"])
    assert half[0] != half[1]
    # Neither the mean field nor the last frame, which is known, suffers.
    for who in ("mean_field", "persistence"):
        assert means(found["half"], who)[0] == means(found["half"], who)[1]
    one = found_of("diffusion_reaction")["frame_rate"]
    assert one["half"] == Absent("robustness.one_frame")
    assert isinstance(one["double"], dict)


def test_a_model_along_time_is_tried_like_others_and_told_of_other_frame_rates():
    found = found_of("diffusion_reaction", history=2, time="axis")
    rates = found["frame_rate"]
    assert rates["half"]["level"] == [1.0, 0.5]
    assert rates["double"]["level"] == [1.0, 2.0]
    for rate in rates.values():  # the last frame that is given is the same at both
        assert means(rate, "persistence")[0] == pytest.approx(means(rate, "persistence")[1])
        assert means(rate)[0] != means(rate)[1]
    assert isinstance(found["over_time"]["beyond"], dict)
    for kind in ("noise", "resolution"):
        assert len(means(found[kind])) == len(found[kind]["level"])


def test_growth_over_time_goes_on_beyond_the_trained_duration():
    small = line("diffusion_reaction", history=2)
    found = over_time(trial_of(small), small.test, small.test.schema, 3, 0, threshold=0.2)
    within, beyond = found["within"], found["beyond"]
    assert within["time"] == pytest.approx([0.5, 0.75, 1.0, 1.25, 1.5])
    assert beyond["time"][-1] == pytest.approx(2 * found["trained_until"])
    plain = evaluate(small.surrogate, small.test, small.mean, EvaluateConfig()).over_time
    assert means(within) == pytest.approx(plain.model)
    assert means(within, "persistence") == pytest.approx(plain.persistence)
    usable = within["usable"]["persistence"]
    assert usable["reached"] == 1.0
    assert usable["median"] == pytest.approx(0.25)


def test_a_threshold_that_is_not_reached_has_no_time():
    small = line("diffusion_reaction", history=2)
    found = over_time(trial_of(small), small.test, small.test.schema, 2, 0, threshold=9.0)
    assert found["within"]["usable"]["model"] == {
        "median": None, "low": None, "high": None, "reached": 0.0,
    }  # fmt: skip


def test_what_cannot_be_tried_over_time_says_so():
    found = found_of("darcy")
    assert found["frame_rate"] == found["over_time"] == Absent("robustness.no_states")
    forced = found_of("furnace")
    assert forced["over_time"]["beyond"] == Absent("robustness.forced")
    assert forced["frame_rate"]["half"]["level"] == [1.0, 0.5]
    assert forced["frame_rate"]["double"]["level"] == [1.0, 2.0]
    at_once = found_of("diffusion_reaction", scheme="horizon")["over_time"]
    assert at_once["beyond"] == Absent("robustness.fixed_frames")
    assert len(at_once["within"]["time"]) == 6


def test_imported_data_have_no_solver_and_are_tried_all_the_same():
    imported = copy(line("darcy"))
    schema = replace(
        imported.test.schema,
        scenario="plant",
        parameters={},
        resolution=None,
        sources=({"file": "plant.npz", "sha256": "0" * 64},),
    )
    imported.test = replace(imported.test, schema=schema)
    found = measured(imported)
    for kind in ("resolution", "outside"):
        assert "imported" in str(found[kind])
    assert found["noise"]["level"] == [0.0, 0.05, 0.5]
    assert found["missing"]["random"]["level"] == [0.0, 0.25]
    assert "imported" in str(consistency(imported))


def test_a_model_of_points_over_time_with_gaps_is_told_what_is_missing():
    surrogate, mean = make_surrogate(), mean_fields(TRAIN)
    config = CONFIG.model_copy(update={"samples": len(TEST)})
    found = measure_robustness(surrogate, TEST, mean, config, 4)
    plain = evaluate(surrogate, TEST, mean, EvaluateConfig()).metrics()["relative_l2"]
    assert means(found["noise"])[0] == means(found["missing"]["random"])[0] == plain
    assert found["over_time"]["within"]["time"] == [1.5, 2.0, 2.5]
    assert found["frame_rate"]["half"]["level"] == [1.0, 0.5]
    missing = found["missing"]
    assert missing["told"] == ["cover", "temperature", "pressure"]
    assert missing["filled"] == []
    assert all(math.isfinite(value) for value in means(missing["random"]))
    assert "imported" in str(found["outside"])


def test_intervals_hold_the_mean_and_narrow_with_more_samples():
    small, widths = line("darcy"), []
    for count in (1, 3, 10):
        config = CONFIG.model_copy(update={"samples": count, "solved_samples": 1})
        curve = measured(small, config)["noise"]
        assert curve["samples"] == count
        model = curve["relative_l2"]["model"]
        if count == 1:
            assert model["low"] == [None, None, None]
            continue
        for mean, low, high in zip(model["mean"], model["low"], model["high"], strict=True):
            assert low <= mean <= high
        widths.append(model["high"][0] - model["low"][0])
    assert widths[1] < 1.5 * widths[0]


@pytest.mark.parametrize("task", [{}, {"history": 2}])
def test_predictions_that_are_not_numbers_give_figures_that_are_not(task):
    small = line("diffusion_reaction" if task else "darcy", **task)
    useless = broken(small.surrogate)
    found = measure_robustness(useless, small.test, small.mean, CONFIG, 4)
    assert all(math.isnan(value) for value in means(found["noise"]))
    assert all(math.isfinite(value) for value in means(found["noise"], "mean_field"))
    physics = consistency(small, useless)
    for check in physics["checks"].values():
        assert math.isnan(check["prediction"]["largest"])
        assert math.isfinite(check["truth"]["largest"])
    assert math.isnan(physics["residual"]["prediction"]["median"])
    if task:
        usable = found["over_time"]["within"]["usable"]["model"]
        assert usable["reached"] == 1.0
        assert usable["median"] == pytest.approx(0.25)


def test_switched_off_it_says_so():
    found = measured(line("darcy"), RobustnessConfig(enabled=False))
    assert found == dict.fromkeys(KINDS, Absent("robustness.off"))


def consistency(small, surrogate=None):
    return physical_consistency(surrogate or small.surrogate, small.test, 4, 8)


@pytest.mark.parametrize(
    ("scenario", "history", "given"),
    [("darcy", 1, ""), ("diffusion_reaction", 2, "initial"), ("darcy_ring", 1, "mesh")],
)
def test_the_truth_keeps_tolerances_that_predictions_break(scenario, history, given):
    result = consistency(line(scenario, history=history))
    assert given not in result["checks"], "what was given is not checked"
    assert result["samples"] == 4
    assert result["checks"]
    for check in result["checks"].values():
        assert check["truth"]["largest"] <= check["tolerance"]
    assert any(c["prediction"]["median"] > c["tolerance"] for c in result["checks"].values())
    for check in result["checks"].values():
        low, high, most = (check["prediction"][key] for key in ("median", "p95", "largest"))
        assert low <= high <= most
    json.dumps(result, allow_nan=False, default=as_json)


def test_values_are_those_of_the_scenarios_own_check():
    small = line("darcy")
    scenario = make_scenario("darcy", 16, {})
    given = {"permeability": small.test.fields["permeability"][np.arange(4) * len(small.test) // 4]}
    answer = small.surrogate.predict(given)
    values = [
        scenario.check({"permeability": a}, {"pressure": p})["flux_balance"]
        for a, p in zip(given["permeability"], answer["pressure"], strict=True)
    ]
    check = consistency(small)["checks"]["flux_balance"]
    assert check["prediction"]["largest"] == max(values)
    assert check["prediction"]["median"] == pytest.approx(np.median(values))


def test_the_residual_of_the_truth_is_that_of_the_solver():
    residual = consistency(line("darcy"))["residual"]
    assert residual["truth"]["largest"] < 1e-4 < residual["prediction"]["median"]
    none = Absent("residual.none_written", {"scenario": "darcy_ring"})
    assert consistency(line("darcy_ring"))["residual"] == none


FEW = RobustnessConfig(samples=4, solved_samples=2, noise=[0.1], missing=[0.25])


def written(scenario, language, config=FEW, **changed):
    small = line(scenario, **({"history": 2} if scenario == "diffusion_reaction" else {}))
    results = Results(
        scenario=scenario,
        schema=small.test.schema,
        evaluation=evaluate(small.surrogate, small.test, small.mean, EvaluateConfig()),
        metrics={"physics": physical_consistency(small.surrogate, small.test, 4, 8)},
        robustness=dict(measure_robustness(small.surrogate, small.test, small.mean, config, 8))
        | changed,
    )
    return section(results, Words.of(language, "robustness"))


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("scenario", ["darcy", "diffusion_reaction"])
def test_every_kind_is_told(scenario, language):
    found = written(scenario, language)
    words = Words.of(language, "robustness")
    noise = words("noise.condition", level=words.percent(FEW.noise[-1]))
    assert noise in found.body and words("tried.caption") in found.body
    timed = ["robustness_over_time"] if scenario == "diffusion_reaction" else []
    assert [figure.name for figure in found.figures] == timed
    assert "None" not in re.sub(r'"data:[^"]*"', "", found.body)


def test_reasons_are_told_in_the_language():
    absent: dict[str, Any] = {
        "resolution": Absent("solver.imported", {"scenario": "plant"}),
        "over_time": Absent("robustness.no_states"),
    }
    found = written("darcy", "ja", **absent)
    assert "取り込みデータにはソルバーがないため" in found.body
    assert "時間発展する場を予測しないモデルであるため" in found.body


@pytest.mark.parametrize("language", LANGUAGES)
def test_of_an_empty_list_one_line_says_so(language):
    empty = RobustnessConfig(samples=4, solved_samples=2, noise=[], missing=[], resolutions=[])
    found, words = written("darcy", language, empty), Words.of(language, "robustness")
    assert found.body.count(words.why(Absent("robustness.nothing_listed"))) == 3


def test_nothing_measured_is_no_section():
    small = line("darcy")
    evaluation = evaluate(small.surrogate, small.test, small.mean, EvaluateConfig())
    results = Results("darcy", small.test.schema, evaluation, metrics={})
    assert section(results, Words.of("en", "robustness")) is None


@pytest.mark.parametrize(
    ("error", "text"),
    [(0.031, "3.1 % 1.3"), (0.24, "✗ 24 % 10"), (float("nan"), "✗ not a number not a number")],
)
def test_an_error_that_is_no_better_than_a_guess_is_marked(error, text):
    of = {"model": [0.024, error], "mean_field": [0.2, 0.2], "persistence": [0.3, 0.3]}
    ends = {"low": [float("nan")] * 2, "high": [float("nan")] * 2}
    curve = {"relative_l2": {who: {"mean": mean, **ends} for who, mean in of.items()}}
    trial, words = robustness.Trial("Noise", 0.024, curve, 1), Words.of("en", "robustness")
    row = list(robustness._trial_row(trial, words).values())
    assert " ".join(row[1:3]).replace("\u202f", " ") == text
    assert row[3].startswith("20") and row[3].endswith("(predicting the mean field)")


def test_all_known_reasons_have_words_of_their_own():
    texts = own_texts("mno.core.words", "en")
    known = {
        Absent(k) for k, text in texts.items() if k.startswith("robustness.") and "{" not in text
    }
    said = {Words.of("ja", "robustness").why(reason) for reason in known}
    assert len(said) == len(known)
    assert not said & {str(reason) for reason in known}
