"""The pages about the library: their code runs as a reader pastes it, and prints what they show."""

from __future__ import annotations

import contextlib
import io
import json
import re
import subprocess
import sys

import numpy as np
import pytest
from markdown_files import ROOT, fences

LIBRARY = ROOT / "docs/how-to/use-the-library.md"
THEORY = ROOT / "docs/the-scan-as-an-operator.md"
PRODUCTION_LINE = ("prefect", "dvc", "mlflow", "dask", "distributed", "zarr")
BLOCK_AND_OUTPUT = r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```)?"
FACTS = """
import json, sys
print(json.dumps({
    "loaded": sorted(name for name in sys.modules if "." not in name),
    "differences": differences,
    "scaled": list(scaled.items()),
    "not_scaled": list(not_scaled.items()),
    "same": same,
    "finite": bool(torch.isfinite(y).all()),
    "shape": list(y.shape),
}))
"""


@pytest.fixture(scope="module")
def facts() -> dict:
    """What a fresh process knows after it has run the page of the library from top to bottom."""
    pasted = "\n".join([*fences(LIBRARY.read_text(encoding="utf-8"), "python"), FACTS])
    command = [sys.executable, "-c", pasted]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def demonstration() -> tuple[dict, list[tuple[str, str]]]:
    """What is defined after the page of the theory has run; what each block printed, and shows."""
    text = THEORY.read_text(encoding="utf-8")
    names: dict = {}
    prints = []
    for code, shown in re.findall(BLOCK_AND_OUTPUT, text, re.DOTALL | re.MULTILINE):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, THEORY.name, "exec"), names)
        prints.append((printed.getvalue(), shown))
    return names, prints


def test_the_library_imports_nothing_of_the_production_line(facts):
    assert {"torch", "mno"} <= set(facts["loaded"])
    assert set(facts["loaded"]).isdisjoint(PRODUCTION_LINE)


def test_the_backends_shown_agree(facts):
    assert set(facts["differences"]) == {"cpu", "chunked"}
    assert all(0 <= difference < 5e-6 for difference in facts["differences"].values())


def test_the_operator_shown_learns_and_keeps_its_error_on_finer_grids(facts):
    scaled, not_scaled = dict(facts["scaled"]), dict(facts["not_scaled"])
    assert set(scaled) == set(not_scaled) == {12, 24, 48}
    assert scaled[12] == not_scaled[12] < 0.15
    assert scaled[24] < 1.5 * scaled[12] and scaled[48] < 1.5 * scaled[12]
    assert not_scaled[24] > 4 * scaled[24] and not_scaled[48] > 4 * scaled[48]


def test_weights_shown_are_saved_and_loaded(facts):
    assert facts["same"] is True
    assert facts["finite"] is True and facts["shape"] == [1, 36, 24]


def test_the_demonstrations_print_what_the_page_shows(demonstration):
    names, prints = demonstration
    assert [bool(shown) for _, shown in prints] == [True, True, True, False]
    assert [printed for printed, _ in prints] == [shown for _, shown in prints]
    assert names["png"].startswith(b"\x89PNG")


def test_the_rules_converge_to_the_integral_at_the_orders_claimed(demonstration):
    error = demonstration[0]["error"]

    def order(**options):
        return np.log2(error(64, **options) / error(128, **options))

    assert 1.9 < order(rule="zoh", read_at=1.0) < 2.1
    for rule in ("simplified", "zoh", "centred"):
        assert order(rule=rule) > 0.9
    assert error(128, rule="centred") < error(128, rule="zoh") / 5
    assert error(128, rule="zoh", width=1 / 32) > 10 * error(128, rule="zoh")
