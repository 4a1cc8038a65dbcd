"""The report: complete in itself, honest, escaped, accessible."""

import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from string import Formatter

import numpy as np
import pytest

import mno.report
from mno.core.absent import Absent
from mno.core.numbers import number, percent, setting
from mno.core.words import LANGUAGES, own_texts
from mno.evaluation.config import EconomicsConfig, KpiConfig
from mno.evaluation.learning import LearningCurve
from mno.nn.config import ModelConfig
from mno.report.document import SECTIONS, write_report
from mno.report.language import Words, unknown
from mno.report.sections.learning import section
from mno.report.sections.trust import trust_verdict
from mno.scenarios.base import make_scenario
from mno.surrogate.trust.trust import Measured, Rate
from mno.training.config import TrainConfig
from tests.evaluation.made import COST, decision_of, render_report, results_of
from tests.report.japanese import in_japanese
from tests.support import furnace_runs

VOID = {"meta", "img", "source", "br", "link", "input", "hr"}
HOSTILE = '<script>alert("1")</script><img src=https://evil.example/x.png>'

NONE = Absent("solver.imported", {"scenario": "plant"})
CACHED = Absent("cost.restored")


class Page(HTMLParser):
    """Collects the elements of a page and checks that they nest."""

    def __init__(self, html):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert not self._open, f"left open: {self._open}"

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.text += data

    def all(self, *tags):
        return [attributes for tag, attributes in self.elements if tag in tags]


def test_the_report_loads_nothing_from_anywhere(results):
    html = render_report(results)
    page = Page(html)
    loaded = [
        attributes[key] or ""
        for _, attributes in page.elements
        for key in ("src", "srcset", "href", "action", "data")
        if key in attributes
    ]
    assert loaded
    assert all(link.startswith(("data:image/png;base64,", "#")) for link in loaded)
    assert not re.search(r"url\(|@import", html)
    assert "://" not in html
    assert not page.all("script", "iframe", "object", "link")


def test_hostile_text_is_shown_and_never_run(results, schema):
    fields = tuple(replace(field, long_name=HOSTILE, units=HOSTILE) for field in schema.fields)
    hostile = replace(
        results, scenario=HOSTILE, schema=replace(schema, fields=fields),
        dataset={HOSTILE: HOSTILE}, model={HOSTILE: {HOSTILE: [HOSTILE]}},
        settings={"note": HOSTILE}, lineage={HOSTILE: HOSTILE},
    )  # fmt: skip
    page = Page(render_report(hostile))
    assert HOSTILE in page.text
    assert not page.all("script")
    assert all((image["src"] or "").startswith("data:") for image in page.all("img"))


def test_the_verdict_comes_first_and_the_tables_hold_the_numbers(results):
    page = Page(render_report(results))
    assert 0 < page.text.index("✗ Not worth it.") < page.text.index("Errors in temperature")
    temperature = results.metrics["fields"]["temperature"]
    for shown in (
        number(temperature["rmse"]), number(temperature["max_error"]), number(1234567),
        percent(temperature["baseline_nrmse"]), "0123abcd.dir",
        "Learning rate", "EXCEEDED", "300 to 320", "8 points from 0 to 1 m",
        "What this report does not say",
    ):  # fmt: skip
        assert shown in page.text


def test_the_report_is_accessible(results):
    page = Page(render_report(results))
    assert page.all("html")[0]["lang"] == "en"
    assert page.all("title") and len(page.all("h1")) == 1 and len(page.all("main")) == 1
    assert all(image["alt"] for image in page.all("img"))
    assert all(header["scope"] in ("row", "col") for header in page.all("th"))
    assert len(page.all("caption")) == len(page.all("table"))
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h[1-6]", tag)]
    assert all(after - before <= 1 for before, after in zip(levels, levels[1:], strict=False))
    ids = {attributes.get("id") for _, attributes in page.elements}
    assert all((link["href"] or "")[1:] in ids for link in page.all("a"))


def physics(largest, name="energy"):
    found = {"median": largest / 2, "p95": largest, "largest": largest}
    check = {"description": f"{name} that is lost", "tolerance": 1e-6}
    return {name: check | {"prediction": found, "truth": dict.fromkeys(found, 1e-9)}}


@pytest.mark.parametrize(
    ("checks", "said"),
    [
        ({}, "energy among it, was not measured"),
        (physics(1e-7), "All 1 checks of the physics hold"),
        (physics(0.3, "mean") | physics(0.2), "2 of 2 checks of the physics fail on predictions: "
         "energy that is lost is 0.10 typically and 0.20 at most"),
    ],
)  # fmt: skip
def test_the_first_screen_says_whether_physics_hold_energy_first(results, checks, said):
    found = {"samples": 4, "checks": checks, "residual": NONE}
    metrics = {**results.metrics, "physics": found}
    text = Page(render_report(replace(results, metrics=metrics))).text.replace("\u202f", " ")
    assert said in text.partition("Errors in")[0]


def test_what_is_no_better_than_a_guess_is_marked_and_on_the_first_screen(results):
    metrics = better_than_guesses(results.metrics)
    clean = Page(render_report(replace(results, metrics=metrics))).text
    assert "Maximum error of temperature is" not in clean
    metrics["fields"]["temperature"] |= {"max_error": 9.0, "baseline_max_error": 8.0}
    told = replace(results, metrics=metrics)
    said = "Maximum error of temperature is 9.00 K, no better than a guess that needs no model"
    for decision, mark in (
        ({}, "✗ "),
        (decision_of(metrics), "~ If: This does no harm in your use: "),
    ):
        text = Page(render_report(replace(told, decision=decision))).text.replace("\u202f", " ")
        assert mark + said in text.partition("Errors in")[0] and text.count(said) == 1
        assert "✗ 9.000" in text


def better_than_guesses(metrics):
    """Return metrics in which every figure of every field is better than a guess."""
    fields = {
        field: {n: 1e-6 * v if f"baseline_{n}" in found else v for n, v in found.items()}
        for field, found in metrics["fields"].items()
    }
    return {**metrics, "fields": fields, "physics": None}


@pytest.mark.parametrize(("held", "said"), [(46, "hold for"), (0, "hold for only 0")])
def test_a_bound_that_never_holds_is_no_bound_that_is_missing(results, held, said):
    _, known = furnace_runs.trusted()
    rate = Rate.of(np.arange(50) < held).model_copy(update={"expected": (0.8, 0.98)})
    coverage = {"a": {"relative_l2": (rate,)}}
    measured = Measured(coverage=coverage, false_alarms=rate, outside={}, pairs={})
    trust = known.model_copy(update={"measured": measured}).model_dump(mode="json")
    holds, sentence = trust_verdict(replace(results, trust=trust), Words.of("en", "trust"))
    assert holds == (held > 0) and said in sentence


def test_a_model_has_no_keys_of_others(results):
    model = ModelConfig.model_validate({"mixer": ["softmax"]}).model_dump()
    text = Page(render_report(replace(results, model=model))).text
    assert "Heads" in text and "Dropout" in text
    for other in ("D state", "Experts", "Levels", "Padding", "Scale delta", "Slices"):
        assert other not in text


def test_a_dataset_without_a_report_is_no_obstacle(results):
    unknown = dict.fromkeys(("dataset", "model", "training", "settings", "lineage"), {})
    assert "Physics checks" not in Page(render_report(replace(results, **unknown))).text


def test_a_report_replaces_the_one_before(tmp_path, results):
    path = tmp_path / "report.html"
    path.write_text("old", encoding="utf-8")
    write_report(path, results)
    assert path.read_text(encoding="utf-8") == render_report(results)
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def metrics_of(error, baseline):
    return {"relative_l2": error, "baseline_relative_l2": baseline}


@pytest.mark.parametrize(
    ("error", "baseline", "words"),
    [
        (0.02, 0.17, "Test error 2.0 % (relative L2), 8.5 times smaller than"),
        (0.11, 0.3, "only 2.7 times smaller"),
        (0.4, 0.3, "no better than a guess that needs no model (Predicting the mean field: 30 %)"),
        (0.0, 0.3, "No test error at all, as against 30 %"),
        (math.nan, 0.3, "not usable"),
        pytest.param(math.inf, 0.3, "not usable", marks=pytest.mark.slow),
    ],
)
def test_the_verdict_names_the_error_and_the_best_guess(results, error, baseline, words):
    metrics = {**results.metrics, **metrics_of(error, baseline)}
    page = Page(render_report(replace(results, metrics=metrics, decision=decision_of(metrics))))
    assert words in page.text.replace("\u202f", " ")


@pytest.mark.parametrize(
    ("error", "queries", "look", "headline"),
    [
        (math.nan, 3000.0, "bad", "✗ Not worth it."),
        (0.01, None, "fair", "~ Worth it, if"),
        (0.01, 3000.0, "good", "✓ Worth it."),
    ],
)
def test_a_verdict_has_a_sign_and_words_and_not_a_colour_alone(
    results, error, queries, look, headline
):
    metrics = better_than_guesses({**results.metrics, **metrics_of(error, 0.3)})
    decision = decision_of(metrics, economics=EconomicsConfig(queries_per_day=queries))
    html = render_report(replace(results, metrics=metrics, decision=decision))
    assert f'<div class="verdict {look}">' in html
    assert headline in Page(html).text


def test_targets_have_a_light_each(results):
    metrics = {
        **results.metrics,
        **metrics_of(0.02, 0.3),
        "intervals": {**results.metrics["intervals"], "relative_l2": [0.01, 0.05]},
    }
    kpis = KpiConfig(relative_l2=0.03, latency_ms=50.0, memory_mib=100.0, speedup=2.0)
    decision = decision_of(metrics, kpis, cost={**COST, "solver": NONE})
    text = Page(render_report(replace(results, metrics=metrics, decision=decision))).text
    for light in ("✓ met", "✗ missed", "~ undecided", "? not known"):
        assert light in text
    assert "2.0 % [1.0 %, 5.0 %]" in text.replace("\u202f", " ")


@pytest.mark.parametrize("language", ["en", pytest.param("ja", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("economics", "changed"),
    [
        (EconomicsConfig(hourly_rate=1.2, currency="EUR", queries_per_day=9.0), {}),
        pytest.param(
            EconomicsConfig(), {"solver": {"ms": 1.0, "p95_ms": 1.0}}, marks=pytest.mark.slow
        ),
        (EconomicsConfig(), {"solver": NONE, "equal_error": NONE}),
        (EconomicsConfig(solver_seconds=3.0), {"peak_memory_mib": Absent("memory.silent")}),
        (EconomicsConfig(), {"spent": dict.fromkeys(("generate", "train", "evaluate"), CACHED)}),
    ],
)
def test_costs_are_told_whatever_is_known_of_them(results, economics, changed, language):
    cost = {**COST, **changed}
    decision = decision_of(results.metrics, economics=economics, cost=cost)
    text = Page(render_report(replace(results, cost=cost, decision=decision), language)).text
    assert ("EUR" in text) == (economics.hourly_rate is not None)
    for why in (NONE, CACHED):
        assert (Words.of(language).why(why) in text) == (repr(why) in str(changed))


@pytest.mark.parametrize(
    ("language", "words"),
    [("en", "Reduced basis: none, since it is made where"), ("ja", "縮約基底法:なし(予測する場が")],
)
def test_tools_stand_beside_the_model_and_those_that_there_are_not_say_why(
    results, language, words
):
    ridge = {"name": "ridge", "error": 0.012, "interval": None, "ms": 0.1, "seconds": 2.0}
    cost = {**COST, "tools": [ridge, {"name": "reduced_basis", "why": Absent("peers.not_linear")}]}
    decision = decision_of(results.metrics, cost=cost)
    text = Page(render_report(replace(results, cost=cost, decision=decision), language)).text
    assert words in text and Words.of(language, "cost")("tools.ridge") in text


def test_reasons_of_costs_are_told_in_the_language(results):
    cost = {
        **COST,
        "spent": COST["spent"] | {"train": CACHED, "evaluate": CACHED},
        "equal_error": Absent("cost.too_long", {"seconds": 7.1}),
    }
    found = render_report(
        replace(results, cost=cost, decision=decision_of(results.metrics, cost=cost)), "ja"
    )
    text = Page(found).text
    assert "not recorded" not in text and text.count("記録なし") >= 4
    assert "最大 7.1 秒" in text and "no curve" not in text
    pays = decision_of(results.metrics, cost=cost)["break_even"]
    assert unknown(pays, Words.of("en", "cost")).startswith("training: not recorded, since")
    assert Words.of("en").why(NONE) == "imported data have no solver"


@pytest.mark.parametrize("language", ["en", pytest.param("ja", marks=pytest.mark.slow)])
def test_the_trainings_of_a_learning_curve_are_among_what_was_spent(results, language):
    words = Words.of(language, "cost")
    line = words("stage.learning_curve")
    trained = {"seconds": 1900.0, "cpu_seconds": 3700.0, "watt_hours": 12.3}
    for spent in ({}, {"learning_curve": trained}):
        cost = {**COST, "spent": COST["spent"] | spent}
        decision = decision_of(results.metrics, cost=cost)
        text = Page(render_report(replace(results, cost=cost, decision=decision), language)).text
        assert (line in text) == bool(spent)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1234567, "1 234 567"), (0.0, "0"), (0.0123456, "0.01235"), (99.999, "100.0"),
        (-12345.6, "-12 346"), (1.5e-9, "1.500 × 10⁻⁹"), (2.5e7, "2.500 × 10⁷"),
        (math.nan, "not a number"), (-math.inf, "minus infinite"),
    ],
)  # fmt: skip
def test_numbers_read_as_people_write_them(value, text):
    assert number(value).replace("\u202f", " ") == text


def test_settings_are_written_as_short_as_they_were_chosen():
    shown = [setting(value).replace("\u202f", " ") for value in (2e-3, 1e-5, 1.0, 1200)]
    assert shown == ["0.002", "1 × 10⁻⁵", "1", "1 200"]


def measured(floor=0.0, exponent=0.5):
    points = []
    for n in (400, 800, 1600, 3200):
        error = 0.04 * ((1 - floor) * (n / 3200) ** -exponent + floor)
        found = {"relative_l2": error, "standard_error": error / 50, "measured": 400}
        points.append({"samples": n, "validation": found, "test": found})
    return {"points": points, "why_off": None}


@pytest.fixture
def learned(evaluation, schema):
    known = {"samples": 4000, "splits": {"train": 3200, "validation": 400, "test": 400}}
    return results_of(evaluation, schema, {}, learning_curve=measured(), dataset=known)


def said(learned, target, language="en", **solver):
    decision = {"kpis": [{"name": "relative_l2", "target": target}], "break_even": solver}
    return str(section(replace(learned, decision=decision), Words.of(language, "learning")).body)


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_answer_is_given_in_every_language(learned, language):
    words = Words.of(language, "learning")
    target = words.percent(0.03)
    assert said(learned, 0.05, language).count(words.percent(0.05)) == 1
    assert target in said(learned, 0.03, language)
    flat = replace(learned, learning_curve=measured(floor=0.95))
    texts = {said(learned, 0.05, language), said(learned, 0.03, language)}
    texts |= {said(flat, 0.01, language), said(learned, 0.011, language)}
    assert len(texts) == 4


def test_the_samples_that_a_target_takes_are_counted_in_solves_and_hours(learned):
    text = said(learned, 0.03, solve_seconds=3600.0)
    points = learned.learning_curve["points"]
    errors = [p["validation"]["relative_l2"] for p in points]
    curve = LearningCurve.fit([p["samples"] for p in points], errors, 1 / 50)
    needed = curve.samples_for(0.03).middle
    solves = Words.of("en").number((needed - 3200) * 4000 / 3200, 2)
    assert f"about {solves} further solves" in text
    assert f"{solves} h" in text  # an hour each
    assert "further solves" not in said(replace(learned, dataset={}), 0.03)
    assert " h." not in said(learned, 0.03, solve_seconds=None)


def test_a_forecast_is_there_whatever_is_asked(learned):
    flat = replace(learned, learning_curve=measured(floor=0.95))
    assert "not reachable by more data alone" in said(flat, 0.01)
    assert "With 10 times the training samples" in said(learned, None)
    found = section(replace(learned, decision={}), Words.of("en", "learning"))
    assert found is not None and [figure.name for figure in found.figures] == ["learning_curve"]


def test_without_a_curve_the_report_says_why(learned):
    words = Words.of("en", "learning")
    off = section(replace(learned, learning_curve={"points": [], "why_off": "off"}), words)
    assert off is not None and "mno evaluate --learning-curve" in off.body
    few = {"points": measured()["points"][:2], "why_off": None}
    too_few = section(replace(learned, learning_curve=few), words)
    assert too_few is not None and "Too few" in too_few.body and not too_few.figures
    assert section(replace(learned, learning_curve={}), words) is None


FOLDER = Path(mno.report.__file__).parent
SOURCES = "\n".join(
    path.read_text(encoding="utf-8")
    for pattern in ("*.py", "*.j2")
    for path in FOLDER.rglob(pattern)
)

OURS = ("burgers", "darcy", "darcy_ring", "diffusion_reaction", "furnace")
OURS += ("kuramoto_sivashinsky", "navier_stokes", "shallow_water")
# What others add need not be in Japanese.

OUR_TERMS = ("relative_l2", "rmse", "nrmse", "max_error", "boundary_rmse", "conserved_rmse")
OUR_TERMS += ("fourier_low_rmse", "fourier_middle_rmse", "fourier_high_rmse", "relative_h1")
OUR_TERMS += ("mean_field", "kept_frame")


def texts(language):
    found = own_texts("mno.report", language)
    return {key: text for key, text in found.items() if not key.startswith("names.")}


def placeholders(text):
    return {name for _, name, _, _ in Formatter().parse(text) if name is not None}


def test_all_languages_have_the_same_texts_with_the_same_placeholders():
    english, *others = map(texts, LANGUAGES)
    assert set(SECTIONS) < {key.partition(".")[0] for key in english}
    for other in others:
        assert list(other) == [key for key in english if key in other or not _of_others(key)]
        for key, text in other.items():
            assert placeholders(text) <= placeholders(english[key]), key


def _of_others(key):
    """Say whether a text is of a metric that somebody has added, who need not know Japanese."""
    _, kind, name = (*key.split("."), "", "")[:3]
    return kind in ("term", "meaning") and name not in OUR_TERMS


def test_every_text_is_said_somewhere():
    literals = set(re.findall(r"""["']([a-z0-9_.]+)["']""", SOURCES))
    literals |= {f"why.{code}" for code in own_texts("mno.core.words", "en")}
    starts = set(re.findall(r"""["']([a-z0-9_.]+\.)(?:\{|["'] ~)""", SOURCES))  # f"term.{name}"
    figures = {f"{key}.{part}" for key in literals for part in ("title", "caption", "alt")}
    for text in texts("en"):
        section, _, own = text.partition(".")
        key = own if section in SECTIONS else text
        assert key in literals | figures or any(key.startswith(start) for start in starts), text


def test_japanese_texts_are_in_japanese():
    for key, text in texts("ja").items():
        said = re.sub(r"\{.*?\}|\b(n?RMSE)\b", "", text)  # what is the same in all languages
        assert in_japanese(said) or not re.search(r"[A-Za-z]", said), key


def test_a_text_that_is_missing_is_named():
    words = Words.of("en", "accuracy")
    with pytest.raises(KeyError, match="no text 'nothing' in en.toml"):
        words("nothing")
    with pytest.raises(KeyError, match="field"):
        words("errors_in")
    with pytest.raises(ValueError, match="'fr' is none of en, ja"):
        Words.of("fr", "accuracy")


def test_a_check_without_words_is_said_in_english():
    assert Words.of("ja").check("of_mine", "largest gap") == "largest gap"


@pytest.mark.parametrize(("value", "text"), [
    (float("nan"), "非数(NaN)"), (0.031, "3.1 %"), (0.9949, "99.5 %"),
    (-0.99999, "-99.9 %"), (0.99, "99 %"), (1.0, "100 %"), (1.004, "100 %"),
])  # fmt: skip
def test_numbers_are_said_in_the_language(value, text):
    assert Words.of("ja").percent(value).replace("\u202f", " ") == text


@pytest.mark.parametrize("scenario", OURS)
def test_every_check_and_change_of_a_scenario_is_named_in_japanese(scenario):
    words, solver = Words.of("ja"), make_scenario(scenario, 24, {})
    for check in solver.checks:
        assert in_japanese(words.check(check.name, check.description)), check.name
    for change in solver.outside():
        assert in_japanese(words.name(change)), change


@pytest.mark.parametrize("config", [ModelConfig, TrainConfig])
def test_every_setting_is_named_in_japanese(config):
    for name in config.model_fields:
        assert in_japanese(Words.of("ja").name(name.replace("_", " "))), name


PAPER = 680  # px: A4 within its margins


@pytest.fixture(scope="module", params=LANGUAGES)
def report(request, results, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report(path, results, request.param)
    return path


UNFOLD = "document.querySelectorAll('details').forEach(folded => { folded.open = true })"


def opened(browser, report, **context):
    """Open a report; return the page, and what it asked for or complained of."""
    page = browser.new_context(**context).new_page()
    heard: list[str] = []
    page.on("console", lambda message: heard.append(message.text))
    page.on("pageerror", lambda error: heard.append(str(error)))
    page.on("request", lambda asked: heard.append(asked.url))
    page.goto(report.as_uri())
    return page, [
        text for text in heard if text != report.as_uri() and not text.startswith("data:image/")
    ]


@pytest.mark.browser
@pytest.mark.parametrize(
    ("width", "scheme"),
    [
        (360, "light"),
        *(
            pytest.param(*shown, marks=pytest.mark.slow)
            for shown in ((360, "dark"), (1280, "light"), (1280, "dark"))
        ),
    ],
)
def test_axe_finds_nothing(browser, report, scheme, width):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    page, heard = opened(
        browser, report, color_scheme=scheme, viewport={"width": width, "height": 800},
        bypass_csp=True,
    )  # fmt: skip
    page.evaluate(UNFOLD)
    found = axe.Axe().run(page).response["violations"]
    assert [(v["id"], [node["html"][:120] for node in v["nodes"]]) for v in found] == []
    assert heard == []
    page.context.close()


@pytest.mark.browser
def test_nothing_is_wider_than_a_telephone(browser, report):
    page, _ = opened(browser, report, viewport={"width": 360, "height": 740})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.evaluate(UNFOLD)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    wider = (
        "[...document.querySelectorAll('.scroll')].filter(e => e.scrollWidth > e.clientWidth + 1)"
    )
    assert page.evaluate(f"{wider}.map(e => e.ariaLabel)") == []
    page.context.close()


@pytest.mark.browser
def test_the_report_is_short_until_it_is_unfolded_and_whole_on_paper(browser, report):
    page, _ = opened(browser, report, viewport={"width": 1280, "height": 740})
    height = "document.documentElement.scrollHeight"
    folded = page.evaluate(height)
    assert folded < 17000 / 3
    page.emulate_media(media="print")
    assert page.evaluate(height) > 2 * folded
    page.context.close()


@pytest.mark.browser
def test_every_picture_is_drawn(browser, report):
    page, _ = opened(browser, report)
    sizes = page.evaluate("[...document.images].map(i => [i.naturalWidth, i.complete])")
    assert sizes and all(width > 0 and complete for width, complete in sizes)
    page.context.close()


@pytest.mark.browser
def test_nothing_is_cut_on_paper(browser, report, tmp_path):
    page, _ = opened(browser, report, viewport={"width": PAPER, "height": 1000})
    page.emulate_media(media="print")
    cut = page.evaluate(
        """width => [...document.querySelectorAll("table, img, p, dl")]
             .filter(e => e.getBoundingClientRect().right > width + 1)
             .map(e => e.outerHTML.slice(0, 120))""",
        PAPER,
    )
    assert cut == []
    assert page.pdf(path=tmp_path / "report.pdf", format="A4").startswith(b"%PDF")
    page.context.close()


@pytest.mark.browser
def test_the_verdict_is_on_the_first_screen_of_a_telephone(browser, report):
    page, _ = opened(browser, report, viewport={"width": 360, "height": 740})
    assert page.locator("#decision").bounding_box()["y"] < 500
    page.context.close()
