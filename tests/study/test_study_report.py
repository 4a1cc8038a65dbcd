"""What studies say of their cells: statistics, learning curves, reports and pages."""

import json
import math
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from study_records import ROOT, SPEC, answers_with, cells, found_with, keep, record, spec

from flows.study import load_study, report_study
from mno.core.errors import InputError
from mno.study.answers import Reported, StudyAnswers, fill, reported
from mno.study.design import StudySpec
from mno.study.findings import front, is_undertrained
from mno.study.report import (
    samples_section,
    scenario_section,
    sections_of,
    write_study_report,
)
from mno.study.results import Code, Found, Identity, Results, Study, record_of
from mno.study.statistics import (
    _usual_scatter,
    compare,
    holm,
    mean_with_interval,
    samples_of,
)
from tests.report.japanese import english_in

SCALES = {"plain-axial": 0.02, "plain-softmax": 0.04}


def test_findings_hold_means_comparisons_and_a_verdict(tmp_path):
    def finished(cell):
        if cell.scenario == "burgers":  # where seeds matter more than models
            return record((0.03, 0.02, 0.05)[(cell.seed + ("axial" in cell.model.name)) % 3])
        error = SCALES[cell.model.name] * (1 + 0.02 * cell.seed)
        noisy = {"level": [0.0, 0.1], "relative_l2": {"model": {"mean": [error, 3 * error]}}}
        return record(error, noise=noisy)

    found = answers_with(tmp_path, finished).findings
    assert found["darcy"].best.model == "plain-axial"
    assert found["darcy"].verdict.startswith("plain-axial wins: the lowest error is that of")
    assert found["burgers"].verdict.startswith("nobody wins: ")
    row = found["darcy"].rows[0]
    assert row.mean.value == pytest.approx(0.02 * 1.02)
    assert (row.finer_ratio, row.finer) == (2.0, pytest.approx(2 * 0.02 * 1.02))
    assert row.break_even == 8000  # (8 s of data + 8 s of training) / (4 ms - 2 ms)
    assert row.undertrained == ()
    assert row.noisy.value == pytest.approx(3 * 0.02 * 1.02)
    assert row.noisy.low < row.noisy.value < row.noisy.high
    assert found["burgers"].rows[0].noisy is None  # where no noise was tried


def test_the_front_holds_what_no_other_beats_in_both():
    points = [("slow", 9.0, 0.1), ("best", 2.0, 0.1), ("cheap", 1.0, 0.3), ("bad", 3.0, 0.2)]
    assert front(points) == ["cheap", "best"]


@pytest.mark.parametrize(
    ("solver", "said"),
    [("it was imported", "–"), ({"ms": 2.0}, "never"), ({"ms": 4.0}, "8\u202f000")],
)
def test_a_report_of_one_seed_holds_what_is_known_alone(tmp_path, solver, said):
    def finished(cell):
        known = record(0.02)
        return None if cell.seed else {**known, "cost": known["cost"] | {"solver": solver}}

    answers = answers_with(tmp_path, finished)
    models, _ = scenario_section(answers.findings["darcy"]).tables
    assert models.rows[0]["break-even, solves"] == said
    study = Study(tmp_path, "small", spec(), cells(), Results(tmp_path, "small"))
    write_study_report(tmp_path, study, answers.found, answers.findings, list)
    numbers = json.loads((tmp_path / "report.json").read_text(), parse_constant=pytest.fail)
    (compared,) = numbers["scenarios"]["darcy"]["comparisons"]
    assert compared["freedom"] is None and compared["verdict"] == "unknown"


@pytest.fixture(scope="module")
def study_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("study") / "reported.yaml"
    path.write_text(json.dumps({**SPEC, "scenarios": {"darcy": {}}}))
    return path


@pytest.fixture
def kept(study_file, tmp_path, monkeypatch):
    """Finished cells of the study, but for one; results lie outside of the checkout."""
    monkeypatch.setattr("mno.study.results.FOLDER", tmp_path)
    study, code = load_study(str(study_file), ROOT), Code(ROOT)
    for cell in study.cells[:-1]:
        keep(study.results, cell, code, record(SCALES[cell.model.name] + 0.001 * cell.seed))
    return study.results


def test_a_report_is_a_page_with_figures(kept, study_file, tmp_path):
    html = Path(report_study(str(study_file), tmp_path / "out")["page"]).read_text()
    assert "1 of 6 cells have not been made." in html
    assert "plain-axial has a lower error than plain-softmax" in html
    assert "the solver" in html and "Holm" in html
    assert 'src="http' not in html
    for title in ("darcy: test error", "darcy: error against time of a prediction, ms"):
        assert title in html
    assert english_in((tmp_path / "out/index.ja.html").read_text()) == []
    numbers = json.loads((tmp_path / "out/report.json").read_text())
    assert numbers["fresh"] == 5
    assert numbers["scenarios"]["darcy"]["best"] == "plain-axial"


def test_cells_of_different_code_are_not_mixed(kept, study_file, tmp_path, monkeypatch):
    study = load_study(str(study_file), ROOT)
    name = "darcy--plain-softmax--1"
    _set_code(kept, name, "older")
    with pytest.raises(InputError) as refused:
        report_study(str(study_file), tmp_path / "out")
    said = str(refused.value)
    assert f"{name}: the code that trains and measures it has changed" in said
    assert "mno study run" in said and "\n" not in said
    assert not (tmp_path / "out").exists()
    with pytest.raises(InputError, match="cells of darcy come of different code or data"):
        reported(study)
    for cell in study.cells[:-1]:
        _set_code(kept, cell.name, "older")
    done = report_study(str(study_file), tmp_path / "out")  # all of one code, if not of today's
    assert "5 cells were made by other code or data" in Path(done["page"]).read_text()
    assert reported(study).answers.cells == 5
    _set_code(kept, name, "oldest")
    with pytest.raises(InputError, match="come of different code or data"):
        reported(study)
    shown = tmp_path / "equivalences.json"  # that the older code makes what the oldest made
    shown.write_text(json.dumps({"equivalences": [{"code": {"oldest": "older"}, "datasets": {}}]}))
    monkeypatch.setattr("mno.study.results.EQUIVALENCES", shown)
    assert reported(study).answers.cells == 5


def test_cells_of_another_study_file_are_refused(kept, study_file):
    content = kept.read("darcy--plain-axial--0")
    identity = {**content["identity"], "params": "others"}
    kept.write("darcy--plain-axial--0", {**content, "identity": identity})
    with pytest.raises(InputError, match="darcy--plain-axial--0 is of another study file"):
        reported(load_study(str(study_file), ROOT))


def test_times_of_predictions_at_rest_count_where_they_were_taken(kept, study_file):
    study = load_study(str(study_file), ROOT)
    assert reported(study).answers.row("darcy", "plain-axial").latency_ms == 2.0  # within cells
    pays = reported(study).answers.row("darcy", "plain-axial").break_even
    for number, item in enumerate(study.latencies(), 1):
        timed = record_of(item.cell, item.identity, latency_ms=0.25 * number)
        kept.write(f"latency/{item.cell.kind}", timed)
    assert all(item.state == "fresh" for item in study.latencies())
    rows = reported(study).answers.findings["darcy"].rows
    assert rows[0].break_even == pays  # within cells both it and the solver were timed
    assert [row.latency_ms for row in rows] == [0.25, 0.5]


def test_without_a_cell_there_is_no_report(study_file, tmp_path, monkeypatch):
    monkeypatch.setattr("mno.study.results.FOLDER", tmp_path)
    with pytest.raises(InputError, match="has no finished cell yet"):
        report_study(str(study_file), tmp_path / "out")


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    def finished(cell):
        if cell.scenario == "burgers":
            return record(0.03 * (1 + 0.01 * ((2 * cell.seed + len(cell.model.name)) % 3)))
        return record(SCALES[cell.model.name] * (1 + 0.02 * cell.seed))

    return answers_with(tmp_path_factory.mktemp("study"), finished)


def test_kinds_of_models_are_compared_pair_by_pair(answers):
    tally = answers.tally("axial", "softmax")
    assert (tally.lower, tally.higher, tally.equal, tally.unknown) == (1, 0, 1, 0)
    assert answers.tally("plain-axial", "plain-softmax") == tally
    back = answers.tally("softmax", "axial")
    assert (back.lower, back.higher, back.equal) == (0, 1, 1)
    ratio = answers.ratio("error", "axial", "softmax", "darcy")
    assert (ratio.mean, ratio.pairs) == (pytest.approx(0.5), 1)
    assert answers.ratio("latency_ms", "axial", "softmax").low == 1.0
    assert ratio.likely is None  # one pair does not tell how pairs scatter
    everywhere = answers.ratio("error", "axial", "softmax")
    assert everywhere.likely[0] < everywhere.low < everywhere.mean < everywhere.likely[1]
    assert answers.cells == 12


def test_operators_are_compared_grid_by_grid():
    def grid(mixer, milliseconds):
        (cell,) = [c for c in cells() if c.name == f"darcy--plain-{mixer}--0"]
        points = [{"resolution": 64, "predict_ms": milliseconds, "step_mib": None}]
        known = {"scenario": "darcy", "backbone": "plain", "mixer": mixer}
        return Found(cell, Identity("", "", "", ""), "fresh", "", {"cell": known, "points": points})

    asked = StudyAnswers(spec(), [], {}, [grid("axial", 2.0), grid("softmax", 8.0)])
    ratio = asked.ratio_on_grid("predict_ms", "axial", "softmax", 64)
    assert (ratio.mean, ratio.pairs, ratio.likely) == (pytest.approx(0.25), 1, None)
    for quantity, resolution in (("predict_ms", 32), ("step_mib", 64)):
        with pytest.raises(InputError, match="was not measured"):
            asked.ratio_on_grid(quantity, "axial", "softmax", resolution)


def test_a_comparison_may_be_asked_either_way(answers):
    one = answers.comparison("darcy", "plain-axial", "plain-softmax")
    other = answers.comparison("darcy", "plain-softmax", "plain-axial")
    assert one.verdict == "lower" and other.verdict == "higher"
    assert one.low is not None and other.high == pytest.approx(1 / one.low)


@pytest.mark.slow
def test_a_page_is_filled(answers):
    template = (
        "Axial: {{ study('small').row('darcy', 'plain-axial') | error }},\n"
        "{{ study('small').ratio('error', 'axial', 'softmax', 'darcy') | likely }} of softmax.\n"
        "{{ study('small').row('darcy', 'plain-axial').mean | mean }} is the same.\n"
        "Predictions: {{ study('small').ratio('latency_ms', 'axial', 'softmax') | likely }}.\n"
        "{{ figure('small', 'darcy', 'errors_darcy', 'Errors') }}\n"
    )
    text, figures = fill(template, lambda _: _reported(answers), "figures")
    assert "Axial: 2.0\u202f% (1.9\u202f%–2.1\u202f%),\n0.50 of softmax." in text
    assert "Predictions: 1.00 (1.00–1.00)." in text
    assert "\n0.020 (0.019 to 0.021) is the same.\n" in text
    assert "![Errors](figures/small_errors_darcy.png)" in text
    assert figures["small_errors_darcy.png"].startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{{ study('small').row('darcy', 'fno') | error }}", "no cell of 'fno' on darcy"),
        ("{{ figure('small', 'darcy', 'heat', '') }}", "no figure 'darcy' 'heat'"),
        ("\n{{ study('small' }}", "line 2"),
        ("\n\n{{ None | number }}", "line 3"),
        ("\n{{ 1 / 0 }}", "line 2: division by zero"),
        ("{{ nothing }}", "'nothing' is undefined"),
        ("{{ study('small').tally('axial', 'gnot') }}", "no two mixers"),
        ("{{ ''.__class__.__mro__ }}", "unsafe"),
    ],
)
def test_what_a_page_asks_for_in_vain_is_said(answers, template, said):
    with pytest.raises(InputError, match=said):
        fill(template, lambda _: _reported(answers), "figures")


def test_a_scenario_may_be_asked_of_some_models_only():
    some = {**SPEC["scenarios"], "burgers": {"only": ["plain-axial"]}}
    names = {cell.name for cell in cells(scenarios=some)}
    assert "burgers--plain-axial--0" in names and "burgers--plain-softmax--0" not in names
    assert "darcy--plain-softmax--0" in names
    with pytest.raises(ValueError, match="must list models of the study"):
        StudySpec.model_validate({**SPEC, "scenarios": {"darcy": {"only": ["plain-gnot"]}}})


def _reported(answers):
    drawn = sections_of(answers.findings, answers.found, answers.grids)
    return Reported(answers, lambda: drawn)


def _set_code(results, name, code):
    content = results.read(name)
    results.write(name, {**content, "identity": {**content["identity"], "code": code}})


def errors(*values):
    return dict(enumerate(values))


@pytest.mark.parametrize("seed", range(4))
def test_of_two_models_a_comparison_is_the_paired_t_test_of_logarithms(seed):
    rng = np.random.default_rng(seed)
    a, b = rng.lognormal(-3, 0.2, 5), rng.lognormal(-2.8, 0.2, 5)
    (found,) = compare({"a": errors(*a), "b": errors(*b)}, [("a", "b")])
    expected = stats.ttest_rel(np.log(a), np.log(b))
    assert found.p == pytest.approx(expected.pvalue, rel=1e-10)
    interval = expected.confidence_interval(0.95)
    assert found.low == pytest.approx(math.exp(interval.low), rel=1e-10)
    assert found.high == pytest.approx(math.exp(interval.high), rel=1e-10)


def simulated(scatters, seeds, studies, effects=None, named=False):
    """Comparisons in studies whose logarithms of errors are normal: of all pairs, or with m0."""
    rng = np.random.default_rng(0)
    names = [f"m{place}" for place in range(len(scatters))]
    pairs = [pair for pair in combinations(names, 2) if not named or "m0" in pair]
    means = np.zeros(len(names)) if effects is None else np.asarray(effects)
    found = []
    for _ in range(studies):
        logs = rng.normal(means[:, None], np.asarray(scatters)[:, None], (len(names), seeds))
        found.append(
            compare({n: errors(*np.exp(own)) for n, own in zip(names, logs, strict=True)}, pairs)
        )
    return found


@pytest.mark.parametrize(
    ("scatters", "named", "most"),
    [
        ([0.05] * 8, False, 0.05),
        ([0.05] * 6 + [0.25] * 2, False, 0.09),
        (list(np.geomspace(0.02, 0.2, 8)), False, 0.09),
        ([0.02, 0.02, 0.2], False, 0.09),
        ([0.05] * 8, True, 0.05),
        ([0.25] + [0.05] * 8, True, 0.16),  # as the page on studies says
    ],
    ids=["alike", "two wild", "spread", "three models", "with one", "with a wild one"],
)
def test_of_no_difference_hardly_a_study_names_one(scatters, named, most):
    studies = simulated(scatters, seeds=3, studies=300, named=named)
    wrong = [any(c.verdict in ("lower", "higher") for c in found) for found in studies]
    for c in (c for found in studies for c in found):
        assert (c.verdict in ("lower", "higher")) == (not c.low <= 1 <= c.high), "one kind"
    assert np.mean(wrong) <= most  # 0.05, and what chance and a few wild models add


@pytest.mark.parametrize("models", [3, 6])
def test_the_usual_scatter_is_that_of_pairs_however_few_models_there_are(models):
    rng = np.random.default_rng(0)
    alike = {f"m{i}": errors(*rng.lognormal(0.0, 0.05, 400)) for i in range(models)}
    usual = _usual_scatter(alike)
    assert usual is not None and usual.freedom == models - 1
    assert usual.variance == pytest.approx(2 * 0.05**2, rel=0.1)


def test_three_seeds_of_many_models_show_a_difference_of_a_quarter():
    studies = simulated([0.05] * 13, seeds=3, studies=40, effects=[0.0] * 6 + [0.25] * 7)
    told = [
        c.verdict == "lower" for found in studies for c in found if int(c.a[1:]) < 6 <= int(c.b[1:])
    ]
    assert np.mean(told) > 0.5


def test_a_pair_is_taken_to_scatter_no_less_than_it_was_seen_to():
    calm = {f"m{place}": errors(0.02, 0.0201 + 1e-4 * place, 0.0199) for place in range(8)}
    wild = {"wild": errors(0.01, 0.02, 0.04)}
    (alone,) = compare(wild | {"m0": calm["m0"]}, [("wild", "m0")])
    (among,) = compare(wild | calm, [("wild", "m0")])
    assert among.ratio == alone.ratio
    assert among.verdict == "unknown"
    own = np.std(np.log([0.01, 0.02, 0.04]) - np.log(list(calm["m0"].values())), ddof=1)
    assert math.log(among.ratio / among.low) > 1.9 * own / math.sqrt(3)


def test_the_mean_has_students_interval():
    values = [0.031, 0.034, 0.029]
    mean = mean_with_interval(values)
    low, high = stats.t.interval(0.95, 2, np.mean(values), stats.sem(values))
    assert (mean.value, mean.low, mean.high) == pytest.approx((np.mean(values), low, high))


def test_holm_corrects_as_in_its_textbook_example():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.6]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []


def test_pairs_that_are_not_told_apart_have_intervals_of_the_strictest_of_them():
    """Two of three are open at levels of 5 %, so both have intervals of 97.5 %."""
    rng = np.random.default_rng(1)
    drawn = np.exp(0.05 * rng.standard_normal((4, 8)) + [[0.0], [0.0], [0.0], [1.0]])
    errors = {name: dict(enumerate(row.tolist())) for name, row in zip("abcd", drawn, strict=True)}
    found = compare(errors, [("a", "b"), ("a", "c"), ("a", "d")])
    open_ones = [one for one in found if one.corrected >= 0.05]
    assert [one.b for one in open_ones] == ["b", "c"]
    for one in open_ones:
        half = stats.t.ppf(1 - 0.025 / 2, one.freedom) * one.error
        assert math.log(one.high / one.ratio) == pytest.approx(half)


def test_more_comparisons_make_the_same_difference_less_sure():
    rng = np.random.default_rng(0)
    models = {f"m{i}": errors(*rng.lognormal(-3, 0.1, 5)) for i in range(6)}
    models |= {"low": errors(*(0.02 * rng.lognormal(0, 0.1, 5)))}
    (alone,) = compare(models, [("low", "m0")])
    family = compare(models, [("low", name) for name in models if name != "low"])
    assert family[0].p == alone.p == alone.corrected
    assert family[0].corrected > alone.corrected
    assert {c.family for c in family} == {6}


def test_a_clear_difference_is_told_and_named_from_either_side():
    pair = {"a": errors(0.010, 0.011, 0.0102), "b": errors(0.020, 0.0221, 0.0203)}
    (found,) = compare(pair, [("a", "b")])
    assert found.verdict == "lower"
    assert "a has a lower error than b, by 50%" in found.sentence()
    (turned,) = compare(pair, [("b", "a")])
    assert turned.verdict == "higher"


def test_no_difference_is_called_that_whether_equal_or_unknown():
    same = {"a": errors(0.0200, 0.0210, 0.0190), "b": errors(0.0201, 0.0209, 0.0190)}
    (equal,) = compare(same, [("a", "b")])
    assert equal.verdict == "equal"
    assert "no difference between a and b: equal within 10%" in equal.sentence()
    wild = {"a": errors(0.01, 0.04, 0.02), "b": errors(0.03, 0.02, 0.05)}
    (unknown,) = compare(wild, [("a", "b")])
    assert unknown.verdict == "unknown"
    assert "no difference shown between a and b by 3 seeds" in unknown.sentence()


def test_one_common_seed_does_not_tell():
    (found,) = compare({"a": {0: 0.01, 1: 0.02}, "b": {0: 0.05, 7: 0.02}}, [("a", "b")])
    assert (found.seeds, found.p, found.verdict) == (1, None, "unknown")
    assert compare({"a": {0: 0.01}, "b": {1: 0.02}}, [("a", "b")]) == []


@pytest.mark.parametrize(
    ("validation", "expected"),
    [
        ([0.9, 0.5, 0.3, 0.2, 0.15, 0.12, 0.11, 0.08], True),
        ([0.9, 0.5, 0.3, 0.2, 0.105, 0.102, 0.1, 0.1], False),
        ([0.9, 0.5, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6], False),
        ([0.5], True),
    ],
)
def test_training_that_still_improves_at_its_end_is_called_short(validation, expected):
    assert is_undertrained({"validation": validation}) is expected


NUMBERS = (50, 200, 800)
POWERS = {"plain-axial": 0.5, "plain-softmax": 0.25}  # by which errors fall


@pytest.fixture(scope="module")
def curves(tmp_path_factory):
    def finished(cell):
        luck, power = 1 + 0.01 * ((cell.seed + len(cell.model.name)) % 3), POWERS[cell.model.name]
        errors: list[float | None] = [0.3 * luck * (number / 50) ** -power for number in NUMBERS]
        if cell.scenario == "burgers" and cell.seed == 2:
            errors[1] = None  # not finite
        curve = [
            {"samples": number, "seed": cell.seed, "test": {"relative_l2": error}}
            for number, error in zip(NUMBERS, errors, strict=True)
        ]
        return record(0.1, learning_curve=curve)

    return answers_with(tmp_path_factory.mktemp("study"), finished)


def test_errors_fall_by_the_power_that_the_cells_have(curves):
    of = curves.samples("darcy")
    assert of.numbers == list(NUMBERS)
    for model, power in POWERS.items():
        curve = of.curves[model]
        assert curve.exponent.value == pytest.approx(power)
        few, *_, many = (mean.value for mean in curve.errors.values())
        assert few / many == pytest.approx(16**power)
        assert [mean.seeds for mean in curve.errors.values()] == [3, 3, 3]


def test_models_are_compared_at_each_number_of_samples_as_one_family(curves):
    few, many = (curves.comparison("darcy", *POWERS, samples=n) for n in (50, 800))
    assert (few.verdict, many.verdict) == ("equal", "lower")
    assert many.ratio == pytest.approx(0.5, rel=0.02)
    assert few.family == many.family == 3
    with pytest.raises(InputError, match="were not compared on darcy at 70 samples"):
        curves.comparison("darcy", *POWERS, samples=70)
    with pytest.raises(InputError, match="no learning curve of 'heat'; there are darcy, burgers"):
        curves.samples("heat")


def test_a_training_that_failed_is_left_out(curves):
    of = curves.samples("burgers")
    assert [mean.seeds for mean in of.curves["plain-axial"].errors.values()] == [3, 2, 3]
    assert of.curves["plain-axial"].exponent.seeds == 2
    assert {c.seeds for c in of.comparisons[200]} == {2}


def test_the_report_has_a_column_for_each_number_of_samples(curves):
    section = samples_section(curves.found)
    errors, comparisons = section.tables[:2]
    assert list(errors.rows[0]) == ["model", "50", "200", "800", "exponent"]
    assert errors.rows[0]["exponent"] == "0.50 (0.50 to 0.50)"
    assert [row["samples"] for row in comparisons.rows] == ["50", "200", "800"]
    assert {figure.name for figure in section.figures} == {"samples_darcy", "samples_burgers"}


def test_without_learning_curves_there_is_no_section(tmp_path):
    found = found_with(tmp_path, lambda cell: record(0.1) if cell == cells()[0] else None)
    assert samples_of(found) == {}
    assert samples_section(found) is None
