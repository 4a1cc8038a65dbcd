"""The page in a real browser: fields are drawn, a parameter is moved, and nothing else is asked."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from small_service import with_page

from mno.serving.app import ServingConfig
from tests.support.running_service import Running

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

PATIENCE = 120_000  # ms: the first call of the solver starts a process
DONE = "#status:text-matches('^(Done|完了)')"

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def trial(tmp_path_factory) -> Iterator[Running]:
    with with_page(tmp_path_factory.mktemp("workspace")) as service:
        yield service


def opened(browser: Browser, address: str, **context: Any) -> tuple[Page, list[str]]:
    """Open the page; return it, and what it asked others for or complained of."""
    page = browser.new_context(**context).new_page()
    page.set_default_timeout(PATIENCE)
    heard: list[str] = []
    home = address.partition("/?")[0]
    page.on("console", lambda message: heard.append(message.text))
    page.on("pageerror", lambda error: heard.append(str(error)))
    page.on("request", lambda asked: heard.extend([asked.url] * (not asked.url.startswith(home))))
    page.goto(address)
    return page, heard


@pytest.mark.parametrize("language", ["en", "ja"])
@pytest.mark.parametrize(("scheme", "width"), [("light", 360), ("dark", 1280)])
def test_axe_finds_nothing(browser, trial, scheme: Any, width: int, language: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    page, heard = opened(
        browser, f"{trial.url}/?lang={language}", color_scheme=scheme, bypass_csp=True,
        viewport={"width": width, "height": 800},
    )  # fmt: skip
    page.wait_for_selector(DONE)
    found = axe.Axe().run(page).response["violations"]
    assert [(v["id"], [node["html"][:120] for node in v["nodes"]]) for v in found] == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert heard == []
    page.context.close()


def test_a_moved_parameter_changes_what_is_drawn(browser, trial) -> None:
    page, heard = opened(browser, f"{trial.url}/?lang=en")
    page.wait_for_selector(DONE)
    figures = page.locator("#outputs figcaption").all_inner_texts()
    assert figures == ["predicted", "solver's answer", "size of the difference"]
    before = pictures(page)
    assert len(before) == 4 and len(set(before)) == 4  # and the input
    assert "90 %" in page.locator("#verdict").inner_text()
    assert "(within)" in page.locator("#outputs table").inner_text()
    page.locator("#parameter-high_permeability").fill("900")
    page.locator("#parameter-high_permeability").blur()
    page.wait_for_selector("#verdict.bad")
    page.wait_for_selector(DONE)
    assert "unlike the training data" in page.locator("#verdict").inner_text()
    assert pictures(page)[1] != before[1]
    page.locator("#another").click()
    page.wait_for_selector(DONE)
    assert heard == []
    page.context.close()


def test_a_refusal_is_said(browser, trial) -> None:
    page, _ = opened(browser, f"{trial.url}/?lang=en")
    page.wait_for_selector(DONE)
    page.locator("#parameter-inverse_length").fill("51")
    page.locator("#parameter-inverse_length").blur()
    page.wait_for_selector("#status.bad")
    assert "less than or equal to 50" in page.locator("#status").inner_text()
    page.context.close()


def test_the_token_is_asked_for(browser, tmp_path) -> None:
    with with_page(tmp_path, config=ServingConfig(token="a secret token")) as service:  # noqa: S106
        page, _ = opened(browser, f"{service.url}/?lang=en")
        page.locator("#token").fill("a secret token")
        page.locator("#token-form button").click()
        page.wait_for_selector(DONE)
        page.context.close()


def pictures(page: Page) -> list[str]:
    """Return what is drawn, without the bars of colours."""
    return [
        canvas.evaluate("canvas => canvas.toDataURL()")
        for canvas in page.locator("canvas:not(.bar)").all()
    ]
