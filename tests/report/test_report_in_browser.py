"""The report in a real browser: accessible, whole on a telephone and on paper, and alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from mno.core.words import LANGUAGES
from mno.report.document import write_report
from mno.report.page import Results

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

PAPER = 680  # px: A4 within its margins

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module", params=LANGUAGES)
def report(request, results: Results, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report(path, results, request.param)
    return path


def opened(browser: Browser, report: Path, **context: Any) -> tuple[Page, list[str]]:
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


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_axe_finds_nothing(browser: Browser, report: Path, scheme: Any, width: int) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    page, heard = opened(
        browser, report, color_scheme=scheme, viewport={"width": width, "height": 800},
        bypass_csp=True,
    )  # fmt: skip
    found = axe.Axe().run(page).response["violations"]
    assert [(v["id"], [node["html"][:120] for node in v["nodes"]]) for v in found] == []
    assert heard == []
    page.context.close()


def test_nothing_is_wider_than_a_telephone(browser: Browser, report: Path) -> None:
    page, _ = opened(browser, report, viewport={"width": 360, "height": 740})
    wide = page.evaluate("document.documentElement.scrollWidth")
    assert wide <= 360
    page.context.close()


def test_every_picture_is_drawn(browser: Browser, report: Path) -> None:
    page, _ = opened(browser, report)
    sizes = page.evaluate("[...document.images].map(i => [i.naturalWidth, i.complete])")
    assert sizes and all(width > 0 and complete for width, complete in sizes)
    page.context.close()


def test_nothing_is_cut_on_paper(browser: Browser, report: Path, tmp_path: Path) -> None:
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


def test_the_verdict_is_on_the_first_screen_of_a_telephone(browser: Browser, report: Path) -> None:
    page, _ = opened(browser, report, viewport={"width": 360, "height": 740})
    assert page.locator("#decision").bounding_box()["y"] < 500  # type: ignore[index]
    page.context.close()
