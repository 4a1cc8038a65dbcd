"""A certificate in a real browser: accessible, whole on a telephone, and alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser

# Text of the graph that is wider than its box, or the page than its window.
TOO_WIDE = """() => [
  ...[...document.querySelectorAll(".graph .part")].flatMap((part) => {
    const box = part.querySelector("rect").getBoundingClientRect();
    return [...part.querySelectorAll("text")]
      .filter((text) => text.getBoundingClientRect().right > box.right)
      .map((text) => text.textContent);
  }),
  ...(document.documentElement.scrollWidth > innerWidth ? ["the page"] : []),
]"""

pytestmark = pytest.mark.browser


@pytest.mark.parametrize(
    ("width", "shape", "scheme"), [(360, "tall", "light"), (1280, "wide", "dark")]
)
def test_it_is_read_by_everyone(
    browser: Browser, folder: Path, width: int, shape: str, scheme: Any
) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is missing")
    viewport: Any = {"width": width, "height": 800}
    context = browser.new_context(viewport=viewport, color_scheme=scheme, bypass_csp=True)
    page, asked = context.new_page(), []
    page.on("request", lambda request: asked.append(request.url))
    page.goto((folder / "certificate.html").as_uri())
    assert asked == [page.url]
    assert page.evaluate(TOO_WIDE) == []
    shown = page.locator(".graph:visible")
    assert shown.count() == 1 and shape in (shown.get_attribute("class") or "")
    assert shown.locator("a").count() == 10
    found = axe.Axe().run(page).response["violations"]
    assert [(v["id"], [node["html"] for node in v["nodes"]]) for v in found] == []
    context.close()
