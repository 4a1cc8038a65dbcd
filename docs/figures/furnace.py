"""Draws the figures and the animation of `furnace.md`: `python docs/figures/furnace.py`.

All show one run as the scenario's own sampler and solver make it. The energy balance of the run is
printed as the table that the page has.
"""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from mno.scenarios.furnace import Furnace, FurnaceParameters

ASSETS = Path(__file__).parents[1] / "assets"
RESOLUTION, FRAMES, SEED = 96, 49, 5
SHOWN = (2, 12, 24, 48)  # frames in the figure
COLOURS = {"cmap": "inferno", "vmin": 280.0, "vmax": 1500.0, "origin": "lower"}


def main() -> None:
    """Solve, draw, write."""
    scenario = Furnace(FurnaceParameters(frames=FRAMES), RESOLUTION)
    inputs = scenario.sample(np.random.default_rng(SEED))
    temperature = scenario.solve(inputs)["temperature"]
    time, x, _ = scenario.axes
    hours = time.points / 3600.0
    supplied = inputs["power"].sum(axis=(1, 2)) * (x.extent[1] / RESOLUTION) ** 2 / 1e3
    write(ASSETS / "furnace.png", draw(inputs, supplied, temperature, hours, x.extent))
    write(ASSETS / "furnace.gif", animate(supplied, temperature, hours, x.extent))
    print_balance(scenario.balance(inputs))


def draw(
    inputs: dict[str, np.ndarray],
    supplied: np.ndarray,
    temperature: np.ndarray,
    hours: np.ndarray,
    extent: tuple[float, float],
) -> bytes:
    """Return a figure of materials, burners, power and temperatures at four times."""
    figure = Figure(figsize=(10.0, 5.6), layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=(1.0, 1.05))
    materials, burners, schedule = top.subplots(1, 3)
    area = (*extent, *extent)
    materials.imshow(
        np.log10(inputs["conductivity"]).T, origin="lower", extent=area, cmap="cividis"
    )
    materials.set(title="log10 conductivity, W/(m K)", xlabel="x, m", ylabel="y, m")
    burners.imshow(inputs["power"].mean(axis=0).T / 1e3, origin="lower", extent=area, cmap="magma")
    burners.set(title="mean power density", xlabel="x, m")
    schedule.step(hours, supplied, where="post", color="#444444")
    schedule.set(title="power, kW per metre of depth", xlabel="h", ylim=(0.0, None))
    image: Any = None
    for axes, frame in zip(bottom.subplots(1, len(SHOWN)), SHOWN, strict=True):
        image = axes.imshow(temperature[frame].T, extent=area, **COLOURS)
        axes.set(title=f"{hours[frame]:g} h", xticks=[], yticks=[])
    bottom.colorbar(image, ax=bottom.axes, label="K", shrink=0.9)
    return png(figure, dpi=110)


def animate(
    supplied: np.ndarray, temperature: np.ndarray, hours: np.ndarray, extent: tuple[float, float]
) -> bytes:
    """Return all frames as a GIF, the temperature beside the power."""
    pictures = []
    for frame, field in enumerate(temperature):
        figure = Figure(figsize=(5.6, 2.9), layout="constrained")
        left, right = figure.subplots(1, 2)
        image = left.imshow(field.T, extent=(*extent, *extent), **COLOURS)
        left.set(title=f"{hours[frame]:4.1f} h", xticks=[], yticks=[])
        figure.colorbar(image, ax=left, label="K")
        right.step(hours, supplied, where="post", color="#444444")
        right.axvline(hours[frame], color="#cc4433")
        right.set(title="power, kW/m", xlabel="h", ylim=(0.0, None))
        pictures.append(Image.open(io.BytesIO(png(figure, dpi=90))).convert("RGB"))
    palette = pictures[len(pictures) // 2].quantize(128)
    frames = [picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures]
    content = io.BytesIO()
    frames[0].save(
        content, "GIF", save_all=True, append_images=frames[1:], duration=120, loop=0, optimize=True
    )
    return content.getvalue()


def print_balance(balance: np.ndarray) -> None:
    """Print where the heat of each quarter of the run, and of all of it, went."""
    print("| hours | supplied, MJ/m | stored, MJ/m | lost, MJ/m | missing, J/m |")
    print("| --- | --- | --- | --- | --- |")
    quarters = np.array_split(np.arange(FRAMES - 1), 4)
    for name, part in (
        *((f"{part[0] / 4:.0f} to {(part[-1] + 1) / 4:.0f}", part) for part in quarters),
        ("all", np.arange(FRAMES - 1)),
    ):
        stored, supplied, lost = balance[part].sum(axis=0)
        missing = supplied - stored - lost
        cells = [name, *(f"{heat / 1e6:.1f}" for heat in (supplied, stored, lost))]
        print(f"| {' | '.join(cells)} | {missing:.1g} |")
    print(f"relative error {abs(missing) / supplied:.1e}")


def png(figure: Figure, dpi: int) -> bytes:
    """Return a figure as a picture."""
    FigureCanvasAgg(figure)
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=dpi)
    return content.getvalue()


def write(path: Path, content: bytes) -> None:
    """Replace a file."""
    beside = path.with_suffix(".new")
    beside.write_bytes(content)
    os.replace(beside, path)
    print(path, len(content))


if __name__ == "__main__":
    main()
