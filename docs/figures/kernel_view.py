"""Draws the figures of `the-scan-as-an-operator.md`: `python docs/figures/kernel_view.py`.

Two small operators are trained on Darcy flow for a minute or two each; the kernels of one of their
mixers are drawn for one sample that was not trained on.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mno.core.batch import Batch
from mno.core.grid import Grid
from mno.nn import ModelConfig, build_operator
from mno.nn.kernel_view import EffectiveKernel, effective_kernel
from mno.report.panels import Panel, pictures, scale
from mno.scenarios.darcy import Darcy, DarcyParameters

ASSETS = Path(__file__).parents[1] / "assets"
RESOLUTION, SAMPLES, EPOCHS, BATCH_SIZE = 24, 800, 12, 16
LAYER = 2
TARGET = (8, 14)
DIRECTIONS = {
    "bidirectional": ["Row after row", "The same backwards"],
    "axial": ["Along y, forwards", "Along y, backwards", "Along x, forwards", "Along x, backwards"],
}


def main() -> None:
    """Train, draw, write."""
    scenario = Darcy(DarcyParameters(), RESOLUTION)
    permeability, pressure = solve(scenario)
    for path, names in DIRECTIONS.items():
        model = train(path, permeability[1:], pressure[1:])
        x, place, mixer = heard_by_mixer(model, permeability[:1])
        target = int(np.ravel_multi_index(TARGET, (RESOLUTION, RESOLUTION)))
        kernel = effective_kernel(mixer, x, place, points=[target])
        values, label = permeability[0].exp().numpy(), scenario.inputs[0].long_name
        axes, mark = scenario.axes, tuple(scenario.axes[0].points[list(TARGET)])
        look = scale(values), "cividis"
        field = Panel("Input and target", label, values, axes, *look, mark=mark)
        columns = 4 if path == "bidirectional" else 3
        (png,) = pictures([field, *panels_of(kernel, field, names)], (columns,))
        write(ASSETS / f"kernel-{path}.png", png)


def panels_of(kernel: EffectiveKernel, field: Panel, names: list[str]) -> list[Panel]:
    """Return the size of a kernel, summed and by direction: the mean |kernel| over channels."""
    each = kernel.directions[0, :, 0]
    sizes = [x.abs().mean(-1).reshape(RESOLUTION, -1).numpy() for x in (each.sum(0), *each)]
    top = float(np.log10(max(size.max() for size in sizes)))
    label, limits = "log10 of mean |kernel|", (top - 4, top)
    alike = replace(field, label=label, limits=limits, colours="viridis")
    with np.errstate(divide="ignore"):
        logs = [np.ma.masked_less(np.log10(size), top - 4) for size in sizes]
    named = zip(["All directions", *names], logs, strict=True)
    return [replace(alike, title=name, values=log) for name, log in named]


def solve(scenario: Darcy) -> tuple[torch.Tensor, torch.Tensor]:
    """Return log permeability and scaled pressure, `(samples, x, y)`; the first is kept apart."""
    streams = np.random.SeedSequence(0).spawn(SAMPLES + 1)
    inputs = [scenario.sample(np.random.default_rng(stream)) for stream in streams]
    outputs = [scenario.solve(one) for one in inputs]
    permeability = torch.from_numpy(np.stack([one["permeability"] for one in inputs]))
    pressure = torch.from_numpy(np.stack([one["pressure"] for one in outputs]))
    return permeability.log(), pressure / pressure.std()


def train(path: Any, inputs: torch.Tensor, outputs: torch.Tensor) -> torch.nn.Module:
    """Return an operator trained on the samples."""
    torch.manual_seed(0)
    config = ModelConfig(width=32, layers=4, d_state=8, path=path)
    model = build_operator(config, inputs=("permeability",), outputs=("pressure",))
    steps = EPOCHS * (len(inputs) // BATCH_SIZE)
    optimiser = torch.optim.AdamW(model.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 4e-3, total_steps=steps)
    for step in range(steps):
        chosen = torch.randint(len(inputs), (BATCH_SIZE,))
        predicted = model(batch(inputs[chosen])).fields["pressure"]
        difference = (predicted - outputs[chosen]).flatten(1).norm(dim=1)
        loss = (difference / outputs[chosen].flatten(1).norm(dim=1)).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        if (step + 1) % 50 == 0:
            print(f"{path}: step {step + 1} of {steps}, relative L2 {loss.item():.3f}", flush=True)
    return model


def batch(permeability: torch.Tensor) -> Batch:
    """Return a batch on the unit square."""
    grid = Grid((RESOLUTION, RESOLUTION), (1 / RESOLUTION, 1 / RESOLUTION))
    return Batch({"permeability": permeability}, grid)


def heard_by_mixer(model: Any, permeability: torch.Tensor) -> tuple[torch.Tensor, Any, Any]:
    """Return what one of the mixers is given for a sample, and that mixer."""
    given: list[tuple[Any, ...]] = []
    mixer = model.blocks[LAYER].mixer
    handle = mixer.register_forward_pre_hook(lambda _, inputs: given.append(inputs))
    with torch.no_grad():
        model(batch(permeability))
    handle.remove()
    return (*given[0], mixer)


def write(path: Path, content: bytes) -> None:
    """Replace a file."""
    beside = path.with_suffix(".new")
    beside.write_bytes(content)
    os.replace(beside, path)
    print(path)


if __name__ == "__main__":
    main()
