"""The page about replacing mixers: its code runs as it is pasted and prints what it shows."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from markdown_files import ROOT, fences

PAGE = ROOT / "docs/how-to/replace-attention-by-a-scan.md"
FIGURE = re.compile(r"^(\w[\w ]+?) +(0\.\d+)$", re.MULTILINE)


def figures(text: str) -> dict[str, float]:
    return {name: float(value) for name, value in FIGURE.findall(text)}


def shown() -> str:
    return "".join(fences(PAGE.read_text(encoding="utf-8"), "text"))


@pytest.mark.slow
@pytest.mark.nightly
def test_the_replacement_shown_runs_and_prints_figures_like_those_shown() -> None:
    pasted = "\n".join(fences(PAGE.read_text(encoding="utf-8"), "python"))
    command = [sys.executable, "-c", pasted]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    without = [FIGURE.sub("", text).split() for text in (done.stdout, shown())]
    assert without[0] == without[1]
    errors, promised = figures(done.stdout), figures(shown())
    assert list(errors) == list(promised) and len(errors) == 6
    # Another processor rounds otherwise, and training makes much of that.
    for name, value in errors.items():
        assert value == pytest.approx(promised[name], rel=0.4), name
    before, swapped, first, second, fresh, _ = errors.values()
    assert swapped > 2 * first > 2 * second
    assert second < 1.3 * before and max(before, fresh) < 0.25


def test_the_table_of_seeds_begins_with_the_figures_shown() -> None:
    rows = re.findall(r"^\| ([\w ]+) \| (0\.\d+) \|", PAGE.read_text("utf-8"), re.MULTILINE)
    assert {name: float(value) for name, value in rows} == figures(shown())
