"""Small datasets with all that a form may meet: states, numbers, gaps, two axes, points."""

import numpy as np

from mno.core.config import Config
from mno.core.fields import Axis, Field
from mno.data.config import ExecutionConfig, GenerateConfig, SplitConfig
from mno.data.generate.plan import DatasetPlan
from mno.data.generate.run import generate
from mno.scenarios.base import Scenario

FRAMES, SHAPE, POINTS = 7, (6, 4), 9


class Plate(Scenario):
    """Random numbers on a plate over time, with a reading that has gaps."""

    name = "plate"
    title = "Plate"
    Parameters = Config
    checks = ()
    fields = (
        Field("conductivity", "W/m/K", "conductivity", "input", ("x", "y")),
        Field("power", "W", "power", "input", ()),
        Field("temperature", "K", "temperature", "state", ("time", "x", "y")),
        Field("reading", "K", "reading", "state", ("time", "x", "y"), gaps=True),
    )

    def __init__(self, parameters: Config, resolution: int) -> None:
        self.parameters = parameters

    @property
    def axes(self) -> tuple[Axis, ...]:
        return (
            Axis("time", "s", "time", np.arange(FRAMES) * 2.0, (0.0, 2.0 * (FRAMES - 1))),
            Axis("x", "m", "x", (np.arange(SHAPE[0]) + 0.5) / 6, (0.0, 1.0)),
            Axis("y", "m", "y", (np.arange(SHAPE[1]) + 0.5) / 2, (0.0, 2.0)),
        )

    def _place(self) -> tuple[int, ...]:
        return SHAPE

    def sample(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        self._rng = rng
        place = self._place()
        values = {
            "conductivity": rng.normal(size=place).astype(np.float32),
            "power": np.float32(rng.normal()).reshape(()),
            "temperature": rng.normal(size=place).astype(np.float32),
            "reading": rng.normal(size=place).astype(np.float32),
        }
        return values

    def solve(self, inputs) -> dict[str, np.ndarray]:
        later = self._rng.normal(size=(2, FRAMES, *self._place())).astype(np.float32)
        later[0, 0], later[1, 0] = inputs["temperature"], inputs["reading"]
        later[1][self._rng.random(later[1].shape) < 0.3] = np.nan
        return {"temperature": later[0], "reading": later[1]}

    def check(self, inputs, outputs) -> dict[str, float]:
        return {}


class Sensors(Plate):
    name = "sensors"
    fields = (
        Field("x", "m", "x", "coordinate", ("point",)),
        Field("y", "m", "y", "coordinate", ("point",)),
        Field("conductivity", "W/m/K", "conductivity", "input", ("point",)),
        Field("power", "W", "power", "input", ()),
        Field("temperature", "K", "temperature", "state", ("time", "point")),
        Field("reading", "K", "reading", "state", ("time", "point"), gaps=True),
    )

    @property
    def axes(self) -> tuple[Axis, ...]:
        point = Axis("point", "1", "number of the point", np.arange(POINTS) * 1.0, (0.0, POINTS))
        return super().axes[0], point

    def _place(self) -> tuple[int, ...]:
        return (POINTS,)

    def sample(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        places = {name: rng.random(POINTS).astype(np.float32) for name in ("x", "y")}
        return places | super().sample(rng)


def released(folder, scenario, samples=20):
    config = GenerateConfig(
        samples=samples,
        resolution=4,
        shard_size=3,
        seed=5,
        split=SplitConfig(train=0.6, validation=0.2, test=0.2),
    )
    plan = DatasetPlan(scenario, scenario.Parameters(), config, code="code")
    generate(plan, folder / "work", folder / "data", ExecutionConfig(workers=1))
    return folder / "data"
