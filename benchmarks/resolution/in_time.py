"""A field driven in time: one source, one state, seen at frames of several rates.

    u_t = nu u_xx + u - u^3 + f(x, t)   on (0, 1) x (0, T),   u_x = 0 at the walls,   u(x, 0) = 0

(Allen and Cahn's equation): the source pushes the state from one well to the other, where it stays
until it is pushed back, so that it must be remembered. The source is a sum of cosines in space and
waves in time whose weights do not depend on any frame. The equation is solved in `STEPS` steps by
Strang's splitting, exactly in the diffusion, by Heun's method in the rest. It is of second order.
Frames are taken at steps, so that nothing is interpolated.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.resolution import Sampled, Task
from mno.core.grid import Grid

DIFFUSIVITY = 0.02
DURATION = 4.0
CELLS = 16
STEPS = 1024
SHAPES = 4  # cosines in space, the constant one included
CYCLES = 2  # of the fastest wave, over the duration
FRAMES = 32
"""Frames of training; half and twice as many, and as many at irregular times, in the tests."""
IRREGULAR = 5
"""Sets of irregular frames, each for its share of the samples."""

Array = NDArray[np.floating]


def make(train: int, validation: int, test: int) -> Task:
    """Draw and solve that many samples of each kind."""
    seeds = np.random.SeedSequence(1).spawn(3)
    solved = [
        _solve_many(seed, n) for seed, n in zip(seeds, (train, validation, test), strict=True)
    ]
    first = _sampled(solved[0], _regular(FRAMES))
    validation_, test_ = (
        _by_name(each, seed) for each, seed in zip(solved[1:], seeds[1:], strict=True)
    )
    return Task(first, validation_, test_)


def draw_source(rng: np.random.Generator, samples: int) -> Callable[[float], Array]:
    """Draw sources; return their values at the cells, `(sample, cell)`, as a function of time."""
    k, m = np.arange(SHAPES), np.arange(CYCLES + 1)
    x = (np.arange(CELLS) + 0.5) / CELLS
    shapes = np.cos(np.pi * np.outer(k, x)) / (1 + k[:, None])
    weights = rng.standard_normal((2, samples, SHAPES, CYCLES + 1)) / math.sqrt(CYCLES + 1)

    def source(t: float) -> Array:
        angles = 2 * np.pi * m * t / DURATION
        return (weights[0] @ np.cos(angles) + weights[1] @ np.sin(angles)) @ shapes

    return source


def solve(source: Callable[[float], Array], steps: int = STEPS) -> Array:
    """Solve from zero; return all states, the first included, `(step, sample, cell)`."""
    dt = DURATION / steps
    diffuse = _diffusion(dt)
    u = np.zeros_like(source(0.0))
    states = [u]
    for step in range(steps):
        t = step * dt
        u = _react(u, source(t), source(t + dt / 2), dt / 2) @ diffuse
        u = _react(u, source(t + dt / 2), source(t + dt), dt / 2)
        states.append(u)
    return np.stack(states)


def _react(u: Array, before: Array, after: Array, dt: float) -> Array:
    """Take one step of Heun's method for u' = u - u^3 + f."""
    first = u - u**3 + before
    guess = u + dt * first
    return u + dt / 2 * (first + guess - guess**3 + after)


def _diffusion(dt: float) -> Array:
    """Return exp(dt nu L), L being the second difference without flux through the walls."""
    second = np.diag(np.ones(CELLS - 1), 1) + np.diag(np.ones(CELLS - 1), -1)
    second -= np.diag(second.sum(axis=1))
    values, vectors = np.linalg.eigh(second * CELLS**2)
    return (vectors * np.exp(dt * DIFFUSIVITY * values)) @ vectors.T


def _solve_many(seed: np.random.SeedSequence, samples: int) -> Array:
    """Return sources and states at every step, `(2, step, sample, cell)`."""
    source = draw_source(np.random.default_rng(seed), samples)
    times = np.linspace(0.0, DURATION, STEPS + 1)
    return np.stack([np.stack([source(t) for t in times]), solve(source)]).astype(np.float32)


def _regular(frames: int) -> NDArray[np.int64]:
    return (2 * np.arange(frames) + 1) * STEPS // (2 * frames)


def _irregular(rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw frames whose time to the next differs by up to a factor of seven."""
    widths = rng.uniform(0.25, 1.75, FRAMES)
    centres = np.cumsum(widths) - widths / 2
    return np.round(centres / widths.sum() * STEPS).astype(np.int64)


def _sampled(solved: Array, steps: NDArray[np.int64]) -> Sampled:
    grid = _grid(steps * (DURATION / STEPS))
    fields = torch.from_numpy(solved[:, steps].swapaxes(1, 2).copy())
    return Sampled(grid, *fields)


def _grid(times: Array) -> Grid:
    """Return frames whose cells reach halfway to their neighbours, and the cells in space."""
    between = (times[1:] + times[:-1]) / 2
    ends = np.concatenate([[2 * times[0] - between[0]], between, [2 * times[-1] - between[-1]]])
    shares = tuple(((times - ends[0]) / (ends[-1] - ends[0])).tolist())
    space = tuple((i + 0.5) / CELLS for i in range(CELLS))
    return Grid(
        (len(times), CELLS), (tuple(np.diff(ends).tolist()), 1 / CELLS),
        (DURATION / FRAMES, 1 / CELLS), (shares, space),
    )  # fmt: skip


def _by_name(solved: Array, seed: np.random.SeedSequence) -> dict[str, list[Sampled]]:
    rates = {str(n): [_sampled(solved, _regular(n))] for n in (FRAMES, FRAMES // 2, 2 * FRAMES)}
    rng = np.random.default_rng(seed.spawn(1)[0])
    shares = np.array_split(solved, IRREGULAR, axis=2)
    return rates | {"irregular": [_sampled(share, _irregular(rng)) for share in shares]}
