"""The page about reading: its code runs from top to bottom and prints what it shows."""

from __future__ import annotations

import contextlib
import io
import re

import pytest
from markdown_files import ROOT

from mno.data.config import ExecutionConfig, GenerateConfig, SplitConfig
from mno.data.generate.plan import DatasetPlan
from mno.data.generate.run import generate
from mno.scenarios.base import scenario_class

PAGE = ROOT / "docs/how-to/read-a-dataset.md"
BLOCK_AND_OUTPUT = re.compile(
    r"^```python\n(.*?)^```\n\n```text\n(.*?)^```", re.DOTALL | re.MULTILINE
)


@pytest.fixture
def dataset(tmp_path, monkeypatch):
    """The dataset of the page, in the current folder."""
    scenario = scenario_class("diffusion_reaction")
    config = GenerateConfig(
        samples=10,
        resolution=64,
        shard_size=4,
        seed=0,
        split=SplitConfig(train=0.6, validation=0.2, test=0.2),
    )
    parameters = scenario.Parameters.model_validate({"frames": 101})
    plan = DatasetPlan(scenario, parameters, config, code="page")
    generate(plan, tmp_path / "work", tmp_path / "data", ExecutionConfig(workers=1))
    monkeypatch.chdir(tmp_path)


def test_the_examples_print_what_the_page_shows(dataset) -> None:
    blocks = BLOCK_AND_OUTPUT.findall(PAGE.read_text(encoding="utf-8"))
    assert len(blocks) == 3
    names: dict = {}
    for code, shown in blocks:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, PAGE.name, "exec"), names)
        assert printed.getvalue() == shown
