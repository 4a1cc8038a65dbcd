"""The report: complete in itself, honest, escaped, accessible."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from mno.core.absent import Absent
from mno.core.numbers import number, percent, setting
from mno.core.words import LANGUAGES
from mno.data.reading import Schema
from mno.evaluation.config import EconomicsConfig, KpiConfig
from mno.report.document import render_report, write_report
from mno.report.language import Words, unknown
from mno.report.page import Results
from tests.evaluation.costs import COST, decision_of

VOID = {"meta", "img", "source", "br", "link", "input", "hr"}
HOSTILE = '<script>alert("1")</script><img src=https://evil.example/x.png>'

NONE = Absent("solver.imported", {"scenario": "plant"})
CACHED = Absent("cost.restored")


class Page(HTMLParser):
    """Collects the elements of a page and checks that they nest."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert not self._open, f"left open: {self._open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, *tags: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.elements if tag in tags]


def test_the_report_loads_nothing_from_anywhere(results: Results) -> None:
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


def test_hostile_text_is_shown_and_never_run(results: Results, schema: Schema) -> None:
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


def test_the_verdict_comes_first_and_the_tables_hold_the_numbers(results: Results) -> None:
    page = Page(render_report(results))
    assert 0 < page.text.index("✗ Not worth it.") < page.text.index("Errors in temperature")
    temperature = results.metrics["fields"]["temperature"]
    for shown in (
        number(temperature["rmse"]), number(temperature["max_error"]), number(1234567),
        percent(temperature["baseline_nrmse"]), "0123abcd.dir", "Best epoch",
        "Settings: learning rate", "EXCEEDED", "300 to 320", "8 points from 0 to 1 m",
        "What this report does not say",
    ):  # fmt: skip
        assert shown in page.text


def test_the_report_is_accessible(results: Results) -> None:
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


def test_the_physics_checks_are_drawn_beside_the_data(results: Results) -> None:
    margins = {"counts": [0, 3, 4, 0], "lowest": 1e-2, "per_decade": 1}
    checks = {"energy": results.dataset["checks"]["energy"] | {"margins": margins}}
    page = Page(render_report(replace(results, dataset={"checks": checks})))
    assert page.text.index("Physics checks") < page.text.index("within the tolerances")
    assert page.text.index("within the tolerances") < page.text.rindex("Model and training")
    assert len(page.all("img")) == len(Page(render_report(results)).all("img")) + 1


def test_a_dataset_without_a_report_is_no_obstacle(results: Results) -> None:
    unknown = dict.fromkeys(("dataset", "model", "training", "settings", "lineage"), {})
    page = Page(render_report(replace(results, **unknown)))
    assert "Physics checks" not in page.text


def test_a_report_replaces_the_one_before(tmp_path: Path, results: Results) -> None:
    path = tmp_path / "report.html"
    path.write_text("old", encoding="utf-8")
    write_report(path, results)
    assert path.read_text(encoding="utf-8") == render_report(results)
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def metrics_of(error: float, baseline: float) -> dict[str, Any]:
    return {"relative_l2": error, "baseline_relative_l2": baseline}


@pytest.mark.parametrize(
    ("error", "baseline", "words"),
    [
        (0.02, 0.17, "Test error 2.0 % (relative L2), 8.5 times smaller than"),
        (0.11, 0.3, "only 2.7 times smaller"),
        (0.4, 0.3, "no better than a guess that needs no model (Predicting the mean field: 30 %)"),
        (0.0, 0.3, "No test error at all, as against 30 %"),
        (math.nan, 0.3, "not usable"),
        (math.inf, 0.3, "not usable"),
    ],
)
def test_the_verdict_names_the_error_and_the_best_guess(
    results: Results, error: float, baseline: float, words: str
) -> None:
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
    results: Results, error: float, queries: float | None, look: str, headline: str
) -> None:
    metrics = {**results.metrics, **metrics_of(error, 0.3)}
    used = EconomicsConfig(queries_per_day=queries)
    decision = decision_of(metrics, economics=used)
    html = render_report(replace(results, metrics=metrics, decision=decision))
    assert f'<div class="verdict {look}">' in html
    assert headline in Page(html).text


def test_targets_have_a_light_each(results: Results) -> None:
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


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize(
    ("economics", "changed"),
    [
        (EconomicsConfig(hourly_rate=1.2, currency="EUR", queries_per_day=9.0), {}),
        (EconomicsConfig(), {"solver": {"ms": 1.0, "p95_ms": 1.0}}),
        (EconomicsConfig(), {"solver": NONE, "equal_error": NONE}),
        (EconomicsConfig(solver_seconds=3.0), {"peak_memory_mib": Absent("memory.silent")}),
        (EconomicsConfig(), {"spent": dict.fromkeys(("generate", "train", "evaluate"), CACHED)}),
    ],
)
def test_costs_are_told_whatever_is_known_of_them(
    results: Results, economics: EconomicsConfig, changed: dict[str, Any], language: str
) -> None:
    cost = {**COST, **changed}
    decision = decision_of(results.metrics, economics=economics, cost=cost)
    html = render_report(replace(results, cost=cost, decision=decision), language)
    text = Page(html).text
    assert ("EUR" in text) == (economics.hourly_rate is not None)
    for why in (NONE, CACHED):
        assert (Words.of(language).why(why) in text) == (repr(why) in str(changed))


def test_reasons_of_costs_are_told_in_the_language(results: Results) -> None:
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


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_trainings_of_a_learning_curve_are_among_what_was_spent(
    results: Results, language: str
) -> None:
    words = Words.of(language, "cost")
    lines = words("stage.learning_curve"), words("spent_on.learning_curve")
    trained = {"seconds": 1900.0, "cpu_seconds": 3700.0, "watt_hours": 12.3}
    for spent in ({}, {"learning_curve": trained}):
        cost = {**COST, "spent": COST["spent"] | spent}
        decision = decision_of(results.metrics, cost=cost)
        text = Page(render_report(replace(results, cost=cost, decision=decision), language)).text
        assert [line in text for line in lines] == [bool(spent)] * 2


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1234567, "1 234 567"), (0.0, "0"), (0.0123456, "0.01235"), (99.999, "100.0"),
        (-12345.6, "-12 346"), (1.5e-9, "1.500 × 10⁻⁹"), (2.5e7, "2.500 × 10⁷"),
        (math.nan, "not a number"), (-math.inf, "minus infinite"),
    ],
)  # fmt: skip
def test_numbers_read_as_people_write_them(value: float, text: str) -> None:
    assert number(value).replace("\u202f", " ") == text


def test_settings_are_written_as_short_as_they_were_chosen() -> None:
    shown = [setting(value).replace("\u202f", " ") for value in (2e-3, 1e-5, 1.0, 1200)]
    assert shown == ["0.002", "1 × 10⁻⁵", "1", "1 200"]
