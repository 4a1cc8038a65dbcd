"""A small, real scenario for the tests of generation: heat in a rod, solved implicitly."""

import numpy as np
from pydantic import Field as Parameter

from mno.core.config import Config
from mno.core.fields import Axis, Field
from mno.scenarios.base import Check, Scenario


class HeatParameters(Config):
    diffusivity: float = Parameter(default=0.02, gt=0, description="m^2/s")
    steps: int = Parameter(default=4, gt=0, description="implicit Euler steps per frame")
    modes: int = Parameter(default=3, ge=0, description="cosines in the initial temperature")
    tolerated_imbalance: float = Parameter(default=1e-5, description="largest loss of heat, K")


class Heat(Scenario):
    """T_t = diffusivity * T_xx on a rod of two metres with insulated ends, three frames."""

    name = "heat"
    title = "Heat in an insulated rod"
    Parameters = HeatParameters
    fields = (
        Field("initial", "K", "initial temperature", "input", ("x",)),
        Field("temperature", "K", "temperature", "output", ("time", "x")),
    )
    symmetries = ("x", "-x")

    def __init__(self, parameters: HeatParameters, resolution: int) -> None:
        self.parameters = parameters
        self.resolution = resolution
        self.checks = (
            Check("heat_balance", "change of the mean temperature", parameters.tolerated_imbalance),
            Check("overshoot", "temperature outside the initial range", 1e-4),
        )

    @property
    def axes(self) -> tuple[Axis, ...]:
        n = self.resolution
        return (
            Axis("time", "s", "time", np.array([0.0, 0.5, 1.0]), (0.0, 1.0)),
            Axis("x", "m", "position", (np.arange(n) + 0.5) * 2 / n, (0.0, 2.0)),
        )

    def sample(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        x = self.axes[1].points
        amplitudes = rng.normal(size=self.parameters.modes)
        waves = [a * np.cos(np.pi * (k + 1) * x / 2) for k, a in enumerate(amplitudes)]
        return {"initial": np.sum([np.full_like(x, 300.0), *waves], axis=0).astype(np.float32)}

    def solve(self, inputs) -> dict[str, np.ndarray]:
        n, steps = self.resolution, self.parameters.steps
        number = self.parameters.diffusivity * (0.5 / steps) / (2 / n) ** 2
        laplacian = np.diag(np.full(n - 1, 1.0), 1) + np.diag(np.full(n - 1, 1.0), -1)
        laplacian -= np.diag(laplacian.sum(axis=1))
        matrix = np.eye(n) - number * laplacian
        frames = [inputs["initial"].astype(np.float64)]
        for _ in range(2):
            state = frames[-1]
            for _ in range(steps):
                state = np.linalg.solve(matrix, state)
            frames.append(state)
        return {"temperature": np.stack(frames).astype(np.float32)}

    def check(self, inputs, outputs) -> dict[str, float]:
        before, after = inputs["initial"].astype(np.float64), outputs["temperature"][-1]
        return {
            "heat_balance": float(abs(after.mean(dtype=np.float64) - before.mean()) / 300),
            "overshoot": float(max(after.max() - before.max(), before.min() - after.min(), 0.0)),
        }


SCENARIO = Heat
