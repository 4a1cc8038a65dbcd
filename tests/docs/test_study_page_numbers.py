"""The pages on studies: every number on them comes from committed cells."""

import re
from functools import cache
from pathlib import Path

import pytest

from flows.study import FIGURES, PAGES, load_study
from mno.study.answers import fill, reported

ROOT = Path(__file__).parents[2]
TEMPLATES = sorted((ROOT / "studies/pages").glob("*.j2"))
FILLED = re.compile(r"\{\{.*?\}\}|\{%.*?%\}|\{#.*?#\}", re.DOTALL)
RESULT = re.compile(r"\d+[.,]\d+|\d+\s*(?:[%×]|ms\b|MiB)")
# What was asked for; of the intervals; what counts as equal; the paper.
RULES = {"0.6", "95 %", "10 %", "2410.02113"}


@pytest.fixture(scope="module")
def studies():
    return cache(lambda name: reported(load_study(name, ROOT)))


@pytest.mark.slow
@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.stem)
def test_a_page_says_what_the_cells_say(template, studies):
    text, figures = fill(template.read_text(), studies, FIGURES)
    page = ROOT / PAGES / template.stem
    assert page.read_text() == text, f"run: mno study page {template.relative_to(ROOT)}"
    assert all((page.parent / FIGURES / name).is_file() for name in figures)


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.stem)
def test_nobody_types_a_result(template):
    assert set(RESULT.findall(FILLED.sub("", template.read_text()))) <= RULES
    assert RESULT.findall("0.35 times, 12 %, 3× and 4 ms") == ["0.35", "12 %", "3×", "4 ms"]
