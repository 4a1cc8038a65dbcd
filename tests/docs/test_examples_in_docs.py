"""Code that pages show does what they say."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from markdown_files import ROOT, fences

from mno.scenarios.base import Scenario

NAME = "screened_poisson"


def code(page: str) -> list[str]:
    return fences((ROOT / page).read_text(encoding="utf-8"), "python")


@pytest.fixture
def scenario() -> Iterator[type[Scenario]]:
    """The scenario of the how-to page, from the page's own text."""
    text, _ = code("docs/how-to/add-a-scenario.md")
    module = ModuleType(f"shown_{NAME}")
    sys.modules[module.__name__] = module  # pydantic looks up annotations there
    try:
        exec(compile(text, f"{NAME}.py", "exec"), module.__dict__)
        yield module.SCENARIO  # type: ignore[attr-defined]
    finally:
        del sys.modules[module.__name__]


def test_the_scenario_shown_solves_its_equation(scenario: type[Scenario]) -> None:
    built = scenario(scenario.Parameters(), 16)
    for seed in range(5):
        inputs = built.sample(np.random.default_rng(seed))
        outputs = built.solve(inputs)
        measured = built.check(inputs, outputs)
        assert {check.name for check in built.checks} == set(measured)
        for check in built.checks:
            assert measured[check.name] <= check.tolerance
        damaged = {"potential": outputs["potential"] * np.float32(1.01)}
        worse = built.check(inputs, damaged)
        assert all(not worse[check.name] <= check.tolerance for check in built.checks)


def test_the_scenario_shown_agrees_with_a_direct_solve(scenario: type[Scenario]) -> None:
    n = 8
    built = scenario(scenario.Parameters(), n)
    charge = built.sample(np.random.default_rng(0))
    ring = 2 * np.eye(n) - np.roll(np.eye(n), 1, 0) - np.roll(np.eye(n), -1, 0)
    matrix = n**2 * (np.kron(ring, np.eye(n)) + np.kron(np.eye(n), ring)) + 25.0 * np.eye(n * n)
    direct = np.linalg.solve(matrix, charge["charge"].astype(float).ravel()).reshape(n, n)
    np.testing.assert_allclose(built.solve(charge)["potential"], direct, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    "page", ["docs/api/operators.md", "docs/api/scan.md", "docs/api/scenarios.md"]
)
def test_an_example_of_the_reference_runs(page: str, capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {}
    for text in code(page):
        exec(compile(text, page, "exec"), names)
    result = names.get("y", names.get("outputs"))
    values = result["pressure"] if isinstance(result, dict) else result.detach().numpy()
    assert np.isfinite(values).all()
