"""Time and memory of a training step as the grid is refined, in two and three dimensions."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.model_cases import BUDGET, Problem, Training, installed_models
from benchmarks.model_memory import extra_memory
from benchmarks.page import RESULTS, Section, Table, figure
from benchmarks.timing import in_turn, median_ms
from mno.core.files import replacing

THREADS = 2
GRIDS = ((64, 64), (128, 128), (256, 256), (512, 512), (32, 32, 32), (48, 48, 48), (64, 64, 64))
MODELS = {
    "latent/own": "latent tokens, scans and attention in turn",
    "plain/mamba": "scans at every point",
    "plain/softmax": "softmax attention at every point",
    "FNO": "FNO",
}
LONGEST = 30.0
"""Seconds of a step beyond which a model is not tried on a larger grid."""
ROUNDS, MIB = 3, 2**20
PICTURE = RESULTS / "growth.png"

Found = dict[tuple[int, ...], tuple[float, float]]
"""Milliseconds and MiB of a step by grid; what takes too long is left out."""


def run() -> Section:
    found = measured(GRIDS, [name for name in MODELS if name in installed_models()])
    draw(found, PICTURE)
    about = (
        f"A training step of one sample, operators of about {BUDGET:,} parameters; memory is what "
        f"the step needs at its peak beyond weights and fields. A model is tried on no larger grid "
        f"once a step takes longer than {LONGEST:.0f} s."
    )
    columns = ("grid", "points", *(f"{MODELS[name]}: ms, MiB" for name in found))
    rows = []
    for shape in GRIDS:
        cells = (of_model.get(shape) for of_model in found.values())
        told = ("–" if c is None else f"{figure(c[0])}, {figure(c[1])}" for c in cells)
        rows.append((str(Problem(shape, 1)), f"{math.prod(shape):,}", *told))
    picture = f"![Time and memory of a step against the points of a grid]({PICTURE.name})"
    return Section("Growth with the grid", (about, Table(columns, rows), picture))


def measured(grids: Sequence[tuple[int, ...]], models: Sequence[str]) -> dict[str, Found]:
    """Measure models on grids, those of one number of axes in ascending order."""
    found: dict[str, Found] = {name: {} for name in models}
    given_up: set[tuple[str, int]] = set()
    for shape in grids:
        problem, batch = Problem(shape, 1), Problem(shape, 1).batch()
        steps = {}
        for name in models:
            if (name, len(shape)) in given_up:
                continue
            step = partial(Training(name, len(shape)).step, batch)
            start = time.perf_counter()
            step()
            if time.perf_counter() - start > LONGEST:
                given_up.add((name, len(shape)))
                continue
            steps[name] = step
        times = in_turn(steps, ROUNDS)
        for name in steps:
            memory = extra_memory(name, problem, THREADS)
            mib = math.nan if memory is None else memory / MIB
            found[name][shape] = median_ms(times, name), mib
    return found


def draw(found: Mapping[str, Found], path: Path) -> None:
    """Draw time and memory against points: two dimensions as lines, three as dashed ones."""
    picture = Figure(figsize=(9, 3.6), layout="constrained")
    for axes, index, label in zip(
        picture.subplots(1, 2), (0, 1), ("a step, s", "memory, GiB"), strict=True
    ):
        for number, (name, of_model) in enumerate(found.items()):
            for dims, style in ((2, "-o"), (3, "--s")):
                points = sorted(
                    (math.prod(s), c[index]) for s, c in of_model.items() if len(s) == dims
                )
                said = MODELS[name] if dims == 2 else None
                values = [value / (1000 if index == 0 else 1024) for _, value in points]
                axes.plot([n for n, _ in points], values, style, color=f"C{number}", label=said)
        axes.set(xscale="log", yscale="log", xlabel="points", ylabel=label)
        axes.grid(alpha=0.3)
    picture.axes[0].legend(fontsize=8)
    with replacing(path) as partial_file:
        FigureCanvasAgg(picture).print_png(partial_file)
