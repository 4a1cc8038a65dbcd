"""Draws the figure of `scenarios.md`, a sample of each: `python docs/figures/scenarios.py`."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from mno.report.style import house_style, new_figure, png_bytes
from mno.scenarios.base import Scenario, make_scenario, scenario_names

ASSETS = Path(__file__).parents[1] / "assets"
RESOLUTION, SEED, COLUMNS = 64, 3, 3
PARAMETERS = {"burgers": {"frames": 41}, "batch_furnace": {"cells_per_point": 1.0}}


def main() -> None:
    """Solve, draw, write."""
    names = scenario_names()
    rows = -(-len(names) // COLUMNS)
    with house_style():
        figure = new_figure(2.6 * COLUMNS, 2.5 * rows)
        for position, name in enumerate(names, start=1):
            scenario = make_scenario(name, RESOLUTION, PARAMETERS.get(name, {}))
            draw(figure.add_subplot(rows, COLUMNS, position), scenario)
        write(ASSETS / "scenarios.png", png_bytes(figure))


def draw(ax: Axes, scenario: Scenario) -> None:
    """Draw the last frame of the first output; in one dimension, all frames."""
    given = scenario.sample(np.random.default_rng(SEED))
    fields = given | scenario.solve(given)
    output = scenario.outputs[0]
    values = fields[output.name]
    extents = {axis.name: axis.extent for axis in scenario.axes}
    ax.set_title(f"{scenario.name}\n{output.name}")
    ax.set_xticks([])
    ax.set_yticks([])
    if "point" in output.dims:
        last = values[-1] if "time" in output.dims else values
        ax.scatter(fields["x"], fields["y"], c=last, s=3, linewidths=0)
        ax.set_aspect("equal")
        return
    if output.dims == ("time", "x"):
        ax.imshow(values, origin="lower", aspect="auto")
        ax.set_xlabel("x")
        ax.set_ylabel("time")
        return
    last = values[-1] if "time" in output.dims else values
    if last.ndim == 3:
        last = last[..., last.shape[2] // 2]
    ax.imshow(last.T, origin="lower", extent=(*extents["x"], *extents["y"]))


def write(path: Path, content: bytes) -> None:
    """Write a file beside its place, then put it there."""
    partial = path.with_suffix(".partial")
    partial.write_bytes(content)
    os.replace(partial, path)


if __name__ == "__main__":
    main()
