"""The report: complete in itself, honest, escaped, accessible."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from mno.data.reading import Schema
from mno.evaluation import Evaluation, ReportInputs, write_report
from mno.evaluation.figures import Figure
from mno.evaluation.report import render_report
from mno.evaluation.verdict import verdict
from mno.evaluation.words import number, percent, setting

VOID = {"meta", "img", "source", "br", "link", "input", "hr"}
HOSTILE = '<script>alert("1")</script><img src=https://evil.example/x.png>'


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


@pytest.fixture
def inputs(evaluation: Evaluation, schema: Schema, figures: tuple[Figure, ...]) -> ReportInputs:
    return ReportInputs(
        scenario="heat",
        schema=schema,
        metrics=evaluation.metrics(),
        figures=figures,
        cost={
            "parameters": 1234567,
            "latency_ms": 4.0,
            "throughput_per_s": 512.0,
            "batch_size": 32,
            "peak_memory_mib": 300.0,
            "threads": 2,
            "solver_ms": 1.0,
            "speedup": 0.25,
        },
        dataset={
            "scenario": "heat",
            "samples": 12,
            "splits": {"train": 5, "test": 7},
            "fields": {"temperature": {"min": 300.0, "max": 320.0, "mean": 310.0, "std": 4.0}},
            "checks": {
                "energy": {"description": "energy balance", "tolerance": 1e-6, "max": 2e-6},
            },
        },
        model={"width": 4, "scale_delta": True},
        training={"epochs": 4, "best_epoch": 3},
        lineage={"dataset md5": "0123abcd.dir"},
    )


def test_the_report_loads_nothing_from_anywhere(inputs: ReportInputs) -> None:
    html = render_report(inputs)
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


def test_hostile_text_is_shown_and_never_run(inputs: ReportInputs, schema: Schema) -> None:
    fields = tuple(replace(field, long_name=HOSTILE, units=HOSTILE) for field in schema.fields)
    figures = tuple(replace(f, title=HOSTILE, caption=HOSTILE, alt=HOSTILE) for f in inputs.figures)
    html = render_report(
        replace(
            inputs,
            scenario=HOSTILE,
            schema=replace(schema, fields=fields),
            figures=figures,
            dataset={HOSTILE: HOSTILE},
            model={HOSTILE: {HOSTILE: [HOSTILE]}},
            training={"note": HOSTILE},
            lineage={HOSTILE: HOSTILE},
        )
    )
    page = Page(html)
    assert HOSTILE in page.text
    assert not page.all("script")
    assert all((image["src"] or "").startswith("data:") for image in page.all("img"))


def test_the_verdict_comes_first_and_the_tables_hold_the_numbers(inputs: ReportInputs) -> None:
    page = Page(render_report(inputs))
    headline = verdict(inputs.metrics).headline
    assert 0 < page.text.index(headline) < page.text.index("Accuracy")
    temperature = inputs.metrics["fields"]["temperature"]
    for shown in (
        number(temperature["rmse"]),
        number(temperature["max_error"]),
        percent(temperature["baseline_nrmse"]),
        number(1234567),
        "slower than the solver",
        "0123abcd.dir",
        "Best epoch",
        "EXCEEDED",
        "300 to 320",
        "8 points from 0 to 1 m",
        "What this report does not say",
    ):
        assert shown in page.text


def test_the_report_is_accessible(inputs: ReportInputs) -> None:
    page = Page(render_report(inputs))
    assert page.all("html")[0]["lang"] == "en"
    assert page.all("title") and len(page.all("h1")) == 1 and len(page.all("main")) == 1
    assert all(image["alt"] for image in page.all("img"))
    assert all(header["scope"] in ("row", "col") for header in page.all("th"))
    assert len(page.all("caption")) == len(page.all("table"))
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h[1-6]", tag)]
    assert all(after - before <= 1 for before, after in zip(levels, levels[1:], strict=False))
    ids = {attributes.get("id") for _, attributes in page.elements}
    assert all((link["href"] or "")[1:] in ids for link in page.all("a"))


def test_the_physics_checks_are_drawn_beside_the_data(
    inputs: ReportInputs, figures: tuple[Figure, ...]
) -> None:
    drawn = replace(figures[-1], title="How far within")
    page = Page(render_report(replace(inputs, check_figure=drawn)))
    assert page.text.index("Physics checks") < page.text.index("How far within")
    assert page.text.index("How far within") < page.text.rindex("Model and training")
    assert len(page.all("img")) == len(Page(render_report(inputs)).all("img")) + 1


def test_a_dataset_without_a_report_is_no_obstacle(inputs: ReportInputs) -> None:
    page = Page(render_report(replace(inputs, dataset={}, model={}, training={}, lineage={})))
    assert "Physics checks" not in page.text


def test_a_report_replaces_the_one_before(tmp_path: Path, inputs: ReportInputs) -> None:
    path = tmp_path / "report.html"
    path.write_text("old", encoding="utf-8")
    write_report(path, inputs)
    assert path.read_text(encoding="utf-8") == render_report(inputs)
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def metrics_of(error: float, baseline: float) -> dict[str, Any]:
    return {"relative_l2": error, "baseline_relative_l2": baseline}


@pytest.mark.parametrize(
    ("error", "baseline", "good", "words"),
    [
        (0.031, 0.26, True, "Test error 3.1 % (relative L2), 8.4 times smaller than"),
        (0.1, 0.3001, True, "3.0 times smaller"),
        (0.11, 0.3, False, "only 2.7 times smaller"),
        (0.4, 0.3, False, "no better than predicting the mean field (30 %)"),
        (0.0, 0.0, True, "Test error 0 %"),
        (0.1, 0.0, False, "no better than"),
        (math.nan, 0.3, False, "not usable"),
        (math.inf, 0.3, False, "not usable"),
    ],
)
def test_the_verdict_warns_unless_clearly_better_than_the_mean_field(
    error: float, baseline: float, good: bool, words: str
) -> None:
    found = verdict(metrics_of(error, baseline))
    assert found.good is good
    assert words in found.headline.replace("\u202f", " ")


def test_a_bad_verdict_is_marked_as_a_warning(inputs: ReportInputs) -> None:
    bad = {**inputs.metrics, **metrics_of(math.nan, 0.3)}
    good = {**inputs.metrics, **metrics_of(0.01, 0.3)}
    assert '<div class="verdict bad">' in render_report(replace(inputs, metrics=bad))
    assert "Warning." in Page(render_report(replace(inputs, metrics=bad))).text
    assert '<div class="verdict good">' in render_report(replace(inputs, metrics=good))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1234567, "1 234 567"),
        (0.0, "0"),
        (0.0123456, "0.01235"),
        (99.999, "100.0"),
        (-12345.6, "-12 346"),
        (1.5e-9, "1.500 × 10⁻⁹"),
        (2.5e7, "2.500 × 10⁷"),
        (math.nan, "not a number"),
        (-math.inf, "minus infinite"),
    ],
)
def test_numbers_read_as_people_write_them(value: float, text: str) -> None:
    assert number(value).replace("\u202f", " ") == text


def test_settings_are_written_as_short_as_they_were_chosen() -> None:
    shown = [setting(value).replace("\u202f", " ") for value in (2e-3, 1e-5, 1.0, 1200)]
    assert shown == ["0.002", "1 × 10⁻⁵", "1", "1 200"]
