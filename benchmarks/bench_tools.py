"""What an engineer would try first, on every scenario: tools fitted to the same solves."""

from __future__ import annotations

import time
from typing import get_args

import numpy as np

from benchmarks.page import Section, Table, figure
from mno.core.forecast import TaskConfig
from mno.core.readings import Part
from mno.data.reading import Schema, Split
from mno.evaluation.config import IntervalConfig, ToolName
from mno.evaluation.tools import measure_tools
from mno.nn.config import ModelConfig
from mno.scenarios.base import Scenario, make_scenario, scenario_class, scenario_names
from mno.scenarios.part import PartOfScenario, part_of
from mno.training.problem import describe

THREADS = 1
TOOLS: tuple[ToolName, ...] = get_args(ToolName)
SAMPLES = {"train": 400, "validation": 100, "test": 100}
RESOLUTION, OF_THE_CHAMBER = 24, 8
FRAMES = 9
PARTS: dict[str, Part] = {"aristoff_bangerth": "both", "batch_furnace": "readings"}
ABOUT = f"""{SAMPLES["train"]} samples to learn from, {SAMPLES["test"]} to be tested on, at
{RESOLUTION} points along each axis and {FRAMES} frames where the scenario lets one choose;
`batch_furnace` has its readings, `aristoff_bangerth` both parts. Relative L2, the mean over
outputs; in brackets the milliseconds of an answer, and behind the scenario's name those of its
solver. A dash is where a tool cannot be: regressions need the same points in every sample,
persistence states, a reduced basis an equation
that is linear in one field. What a network has to beat is the least of a row, and the solver."""


def run() -> Section:
    """Fit all tools on all scenarios."""
    rows = [row(scenario) for scenario in scenario_names()]
    columns = ("scenario", *(name.replace("_", " ") for name in TOOLS))
    return Section("Tools", (ABOUT, Table(columns, rows)))


def row(name: str) -> tuple[str, ...]:
    """Return the scenario, and what became of each tool."""
    points = OF_THE_CHAMBER if name == "batch_furnace" else RESOLUTION
    part = PARTS.get(name, "fields")
    kind = scenario_class(name).Parameters
    frames = {"frames": FRAMES} if "frames" in kind.model_fields else {}
    scenario = part_of(make_scenario(name, points, frames), part)
    splits, ms = solved(scenario, part)
    task = TaskConfig(part=part, scheme="horizon")
    model = ModelConfig.model_validate({"width": 8, "layers": 1, "mixer": "softmax"})
    training, validation, test = splits
    description = describe(training, model, task)
    found = measure_tools(TOOLS, training, validation, test, description, IntervalConfig())
    cells = [
        f"{100 * tool['error']:.2g} % ({figure(tool['ms'])})" if "error" in tool else "–"
        for tool in found
    ]
    return f"`{name}` ({figure(ms)})", *cells


def solved(scenario: Scenario, part: Part) -> tuple[list[Split], float]:
    """Return the splits of a scenario, and the median of a solve in milliseconds."""
    scenario.compile()
    samples, times = [], []
    for number in range(sum(SAMPLES.values())):
        given = scenario.sample(np.random.default_rng(number))
        start = time.perf_counter()
        answer = scenario.solve(given)
        times.append(time.perf_counter() - start)
        samples.append({**given, **answer})
    schema = Schema(
        scenario.dataset_name, scenario.fields, scenario.axes, part=part,
        parameters=scenario.parameters.model_dump(), resolution=scenario.resolution,
        readings=scenario.layout.readings if isinstance(scenario, PartOfScenario) else {},
    )  # fmt: skip
    splits, start = [], 0
    for name, count in SAMPLES.items():
        rows = samples[start : start + count]
        fields = {f.name: np.stack([row[f.name] for row in rows]) for f in scenario.fields}
        splits.append(Split(name, schema, fields, np.arange(start, start + count)))
        start += count
    return splits, 1e3 * float(np.median(times))
