"""Draws the figure of `how-to/look-at-a-dataset.md`: `python docs/figures/inspection.py`.

A few samples of Darcy flow are solved and inspected; their spectra are kept.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from mno.data.config import ExecutionConfig, GenerateConfig, SplitConfig
from mno.data.generate.plan import DatasetPlan
from mno.data.generate.run import generate
from mno.report.inspection import inspect_store
from mno.report.inspection_page import draw_inspection
from mno.scenarios.darcy import Darcy, DarcyParameters

ASSETS = Path(__file__).parents[1] / "assets"
SAMPLES, RESOLUTION = 160, 24


def main() -> None:
    """Solve, inspect, draw."""
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        split = SplitConfig(train=0.8, validation=0.1, test=0.1)
        config = GenerateConfig(
            samples=SAMPLES, resolution=RESOLUTION, shard_size=16, seed=0, split=split
        )
        plan = DatasetPlan(Darcy, DarcyParameters(), config, code="")
        generate(plan, Path(folder) / "work", data, ExecutionConfig())
        figures = {figure.name: figure for figure in draw_inspection(inspect_store(data))}
    path = ASSETS / "inspection-spectra.png"
    beside = path.with_suffix(".new")
    beside.write_bytes(figures["spectra"].png)
    os.replace(beside, path)
    print(path)


if __name__ == "__main__":
    main()
