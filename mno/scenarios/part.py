"""A scenario as operators of its fields or of its readings see it (`mno.core.readings`)."""

from typing import Any

import numpy as np

from mno.core.bodies import Body
from mno.core.errors import InputError
from mno.core.readings import Layout, Part, check_part, from_points, has_readings
from mno.scenarios.base import Fields, Scenario


class PartOfScenario(Scenario):
    """A scenario as one of its parts sees it; fields alone cannot be checked."""

    def __init__(self, whole: Scenario, part: Part) -> None:
        self.whole, self.layout = whole, Layout(part, whole.fields, whole.axes)
        self.parameters, self.resolution = whole.parameters, whole.resolution
        self.title, self.fields, self._space = whole.title, self.layout.fields, self.layout.axes
        self.checks = () if part == "fields" else whole.checks
        self.same_on_any_grid = whole.same_on_any_grid
        self.outside, self.settings, self.compile = whole.outside, whole.settings, whole.compile

    @property
    def dataset_name(self) -> str:
        """That of the whole."""
        return self.whole.dataset_name

    @property
    def provenance(self) -> dict[str, Any]:
        """That of the whole."""
        return self.whole.provenance

    def sample(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Draw what the whole draws, as the part has it."""
        return self.layout.of(self.whole.sample(rng), stacked=False)

    def solve(self, inputs: Fields) -> dict[str, np.ndarray]:
        """Solve for the whole, and return the part; an `InputError` for fields alone."""
        if self.layout.part == "fields":
            raise InputError("fields alone do not say what a run was; ask for readings")
        given = from_points(self.layout.readings, inputs, self.layout.cells)
        return self.layout.of(self.whole.solve(given), stacked=False)

    def check(self, inputs: Fields, outputs: Fields) -> dict[str, float]:
        """Return what the whole says of the readings."""
        if self.layout.part == "fields":
            return {}
        sides = (from_points(self.layout.readings, x, self.layout.cells) for x in (inputs, outputs))
        return self.whole.check(*sides)

    def bodies(self, given: Fields) -> tuple[Body, ...]:
        """Return those of the whole."""
        readings, cells = self.layout.readings, self.layout.cells
        return self.whole.bodies(from_points(readings, given, cells) if readings else given)


def part_of(scenario: Any, part: Part) -> Any:
    """Return a scenario as operators of a part see it; itself where it has no readings.

    What comes from files, and is no scenario, has none. An `InputError` says that readings are
    asked for, and there are none.
    """
    check_part(part, scenario.fields, scenario.dataset_name)
    return PartOfScenario(scenario, part) if has_readings(scenario.fields) else scenario
