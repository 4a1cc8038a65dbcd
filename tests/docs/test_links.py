"""Links within the repository lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from markdown_files import PAGES, ROOT, name_of, prose

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
EXTERNAL = ("https://", "http://", "mailto:")


def links(page: Path) -> list[str]:
    found = LINK.findall(prose(page.read_text(encoding="utf-8")))
    return [link for link in found if not link.startswith(EXTERNAL)]


def anchors(page: Path) -> set[str]:
    """The anchors that headings make, as GitHub and MkDocs form them."""
    text = prose(page.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    plain = (re.sub(r"[^\w\s-]", "", heading.replace("`", "")).strip() for heading in headings)
    return {re.sub(r"\s", "-", heading.lower()) for heading in plain}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_internal_link_resolves(page: Path) -> None:
    broken = []
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


def test_links_are_found_at_all() -> None:
    assert "docs/quick-start.md" in links(ROOT / "README.md")
    assert "predict-from-python" in anchors(ROOT / "docs/quick-start.md")


def test_pages_of_the_site_link_to_nothing_outside_it() -> None:
    docs = ROOT / "docs"
    outside = [
        f"{name_of(page)}: {link}"
        for page in PAGES
        if docs in page.parents
        for link in links(page)
        if (path := link.partition("#")[0]) and docs not in (page.parent / path).resolve().parents
    ]
    assert outside == []


def test_every_page_is_in_the_navigation_of_the_site() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:")[2]
    pages = [page.relative_to(ROOT / "docs").as_posix() for page in (ROOT / "docs").rglob("*.md")]
    assert len(pages) > 15
    assert [page for page in pages if page not in navigation] == []


def test_the_site_asks_for_nothing_from_elsewhere() -> None:
    configuration = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert "font: false" in configuration
    assert not re.search(r"https?://|mermaid|analytics", configuration)
