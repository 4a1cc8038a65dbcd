"""Drift is a reason once enough inputs were unlike the training data, and once only."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from flows import schedule as journal
from flows.params import DriftConfig
from flows.retrain import drift, served

CONFIG = DriftConfig(flagged_share=0.2, mean_bound=0.1, least_samples=100)


def count(root: Path, file: str, version: str, **counts: Any) -> None:
    """Write a file as `mno serve` does."""
    folder = root / "build/serving"
    folder.mkdir(parents=True, exist_ok=True)
    content = {"format": 1, "versions": {version: counts}}
    (folder / file).write_text(json.dumps(content))


def test_the_share_of_flagged_inputs_counts_over_all_services(tmp_path: Path) -> None:
    assert drift(tmp_path, "mno-darcy", CONFIG) is None
    count(tmp_path, "a.json", "mno-darcy/3", judged=60, flagged=10, bounded=0, mean_bound=None)
    count(tmp_path, "b.json", "mno-darcy/3", judged=60, flagged=20, bounded=0, mean_bound=None)
    found = drift(tmp_path, "mno-darcy", CONFIG)
    assert found is not None and found.kind == "drift"
    assert "25% of 120 inputs served by mno-darcy/3" in found.text
    assert drift(tmp_path, "mno-burgers", CONFIG) is None


def test_few_samples_and_shares_below_the_threshold_are_none(tmp_path: Path) -> None:
    count(tmp_path, "a.json", "mno-darcy/3", judged=99, flagged=99)
    assert drift(tmp_path, "mno-darcy", CONFIG) is None
    count(tmp_path, "a.json", "mno-darcy/3", judged=100, flagged=20)
    assert drift(tmp_path, "mno-darcy", CONFIG) is None
    count(tmp_path, "a.json", "mno-darcy/3", judged=100, flagged=21)
    assert drift(tmp_path, "mno-darcy", CONFIG) is not None
    assert drift(tmp_path, "mno-darcy", DriftConfig(flagged_share=None)) is None


def test_large_bounds_on_the_error_are_drift(tmp_path: Path) -> None:
    count(tmp_path, "a.json", "mno-darcy/3", judged=200, flagged=0, bounded=100, mean_bound=0.12)
    found = drift(tmp_path, "mno-darcy", CONFIG)
    assert found is not None and "12.00%" in found.text


def test_what_has_led_to_a_run_does_not_lead_to_another(tmp_path: Path) -> None:
    count(tmp_path, "a.json", "mno-darcy/3", judged=100, flagged=50)
    journal.begin(tmp_path, {"id": "1"}, None)
    seen = served(tmp_path, "mno-darcy")
    journal.end(tmp_path, {"id": "1", "outcome": "trained", "served": seen})
    journal.begin(tmp_path, {"id": "2"}, None)
    assert drift(tmp_path, "mno-darcy", CONFIG) is None
    count(tmp_path, "a.json", "mno-darcy/3", judged=210, flagged=160)
    assert drift(tmp_path, "mno-darcy", CONFIG) is not None
    # Another service, which counts from nothing.
    count(tmp_path, "a.json", "mno-darcy/3", judged=100, flagged=30)
    assert drift(tmp_path, "mno-darcy", CONFIG) is not None


def test_a_file_of_counts_that_is_none_counts_nothing(tmp_path: Path) -> None:
    (tmp_path / "build/serving").mkdir(parents=True)
    for number, text in enumerate(("", "[]", '{"versions": 3}', '{"versions": {"m/1": 2}}')):
        (tmp_path / f"build/serving/{number}.json").write_text(text)
    count(tmp_path, "e.json", "mno-darcy/1", judged="many", flagged=None)
    assert drift(tmp_path, "mno-darcy", CONFIG) is None
