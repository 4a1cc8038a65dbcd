"""What a scenario is: a family of PDE problems with a sampler, a solver and checks."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
from pydantic import model_validator

from mno.core.absent import Absent
from mno.core.bodies import Body
from mno.core.config import EXTERNAL, IMPORTED, Config, validate
from mno.core.errors import InputError, MnoError, did_you_mean
from mno.core.fields import Axis, Field, HasFields

if TYPE_CHECKING:
    from mno.scenarios.linear import LinearSystem

Fields = Mapping[str, np.ndarray]
Solved = dict[str, np.ndarray]
Changes = Mapping[str, Mapping[str, Any]]

POSITIVE = float(np.nextafter(0.0, 1.0))
"""The least positive number: a lower bound for what may not be zero."""

SQUARE = ("x y", "-x y", "x -y", "-x -y", "y x", "-y x", "y -x", "-y -x")
"""The eight symmetries of a square whose points lie symmetrically in it, such as cell centres."""
Walls = Literal["free", "zero", "periodic"]


class Parameters(Config):
    """A scenario's own parameters, each described by the text below it, with its unit."""

    ORDERED: ClassVar[tuple[tuple[str, str], ...]] = ()
    """Pairs of parameters of which the first is at most the second."""

    @model_validator(mode="after")
    def _is_in_order(self) -> Self:
        for low, high in self.ORDERED:
            least, greatest = getattr(self, low), getattr(self, high)
            if least > greatest:
                raise ValueError(
                    f"{low}={least} must be at most {high}={greatest}; swap the two or change one"
                )
        return self


@dataclass(frozen=True)
class Check:
    """A physical quantity that must stay small on every sample."""

    name: str
    description: str
    tolerance: float
    of_given: bool = False
    """Whether it looks at what is given alone, which no prediction can change."""


class SampleSource(HasFields, ABC):
    """Where the samples of a dataset come from: a solver, or files.

    A source is stateless: the samples it makes depend on its parameters, the dataset's
    configuration and the random generators it is handed, so that they may be made anywhere, in any
    order. Fields, checks and symmetries may depend on the parameters: a source then sets its own.
    """

    name: ClassVar[str]
    title: str
    Parameters: ClassVar[type[Config]]
    fields: tuple[Field, ...]
    checks: tuple[Check, ...] = ()
    symmetries: tuple[str, ...] = ()
    walls: Walls = "free"
    """What is known of all outputs at the walls of the domain, as `model.walls` says it."""
    may_repeat: ClassVar[bool] = False
    """Whether samples may have the same inputs, as long as they are in the same split."""
    tells_spans: ClassVar[bool] = False
    """Whether the dataset says over which decades its inputs reach."""

    @classmethod
    @abstractmethod
    def open(cls, parameters: Any, config: Any, root: Path) -> "SampleSource":
        """Build the source, or raise an `InputError` that says why it cannot make samples.

        Parameters are an instance of `Parameters`, the configuration is the dataset's, a
        `mno.data.config.SamplesConfig`, and a source of files looks for them in the folder `root`.
        """

    @property
    @abstractmethod
    def axes(self) -> tuple[Axis, ...]:
        """Coordinate axes, in the order in which fields use them."""

    @abstractmethod
    def make(
        self, samples: range, rng: Callable[[int], np.random.Generator]
    ) -> Iterator[tuple[Fields, Fields]]:
        """Yield what is given with each of some samples, and its solution, float32, by name.

        Samples are numbered one after the other; `rng` returns the random stream of one.
        """

    def not_finite(self, field: Field, values: np.ndarray, sample: int) -> MnoError:
        """Return the error to raise over values that are infinite, or missing where none may be."""
        return MnoError(
            f"sample {sample} of {self.dataset_name}: {field.name} has values that are not finite; "
            "nothing is released"
        )

    def check(self, inputs: Fields, outputs: Fields) -> dict[str, float]:
        """Measure each of `checks` on what was given and on what was solved, as it is stored."""
        return {}

    @property
    def dataset_name(self) -> str:
        """What datasets, and the models trained on them, are named by."""
        return self.name

    @property
    def provenance(self) -> dict[str, Any]:
        """Further attributes of the dataset: which files it comes from."""
        return {}

    @property
    def limit(self) -> int | None:
        """How many samples there are; none if any number can be made."""
        return None

    def coordinates(self) -> dict[str, np.ndarray]:
        """Return further numbers for each sample, shape `(samples,)`, such as its group."""
        return {}

    def splits(self, config: Any) -> np.ndarray | None:
        """Return the split of each sample, dtype object; none if they are to be drawn one by one.

        `config` is the dataset's, a `mno.data.config.SamplesConfig`.
        """
        return None

    def compile(self) -> None:  # noqa: B027 - optional
        """Do once what is to be done before samples are made: compilation, or a look at files."""

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each field in one sample."""
        sizes = {axis.name: len(axis.points) for axis in self.axes}
        return {field.name: tuple(sizes[name] for name in field.dims) for field in self.fields}


class Scenario(SampleSource):
    """One family of PDE problems at one resolution, with a sampler and a solver.

    A field of role `state` has the axis `time` before those of space. `sample` draws it at the
    first frame, without that axis; `solve` returns it at all frames, the first one included. How
    many frames an operator is given, and how it predicts the others, is not the scenario's choice.

    On unordered points the one axis of space is `point`, and a field of role `coordinate` for each
    space axis says where they are; `sample` draws them, so that domains may differ.

    `symmetries` are the maps of the grid onto itself that turn a solved sample into another solved
    sample when all its fields, inputs and outputs, are carried along by their values (scalar
    fields; a symmetry that also changes values, as a mirror does with a velocity, cannot be
    declared). They must hold for the discrete equation, not for the continuous one alone; a test
    should compare them with the solver. The name of a map lists, for each space axis of the result
    in order, the axis whose values run along it, with a minus sign where they run backwards:
    `y -x` is a quarter turn. The identity is one of them. Of points they are maps of coordinates,
    whose values other fields keep.

    A constructor takes validated parameters and the points along each axis, and sets `_space`.
    """

    _space: tuple[Axis, ...]
    has_derivatives = False
    """Whether it can `solve_along`."""
    same_on_any_grid = True
    """Whether a random stream draws the same functions at every resolution."""

    def __init__(
        self,
        parameters: Any,
        resolution: int,
        least: int = 1,
        most: int | None = None,
        multiple: int = 1,
        possible: str = "",
    ) -> None:
        """Keep both, or refuse the resolution and name the nearest possible one.

        It lies between `least` and `most`, if there is one, and is a multiple of `multiple`;
        `possible` says which are possible and why, in words, where that is not plain. Another one
        is an InputError.
        """
        self.parameters, self.resolution = parameters, resolution
        below = resolution // multiple * multiple
        if least <= resolution == below and (most is None or resolution <= most):
            return
        kind = {1: "", 2: "even and "}.get(multiple, f"a multiple of {multiple} and ")
        range_ = f"at least {least}" if most is None else f"from {least} to {most}"
        if resolution < least:
            choice = "more" if most is None and multiple == 1 else f"{least}"
        elif most is not None and below + multiple > most:
            choice = f"{most}"
        else:
            choice = f"{below} or {below + multiple}"
        raise InputError(
            f"generate.resolution={resolution} must be {possible or kind + range_}; choose {choice}"
        )

    @classmethod
    def open(cls, parameters: Any, config: Any, root: Path) -> "Scenario":
        """Build the scenario, which needs no files."""
        return cls(parameters, config.resolution)

    @property
    def axes(self) -> tuple[Axis, ...]:
        """The axes of space."""
        return self._space

    def outside(self) -> Changes:
        """Return changes of the parameters that lead out of what they draw, by what they do.

        Each is a plausible neighbour of the problems that a surrogate was trained on: names of
        parameters, and the values that take the place of those of this scenario. A change that the
        scenario refuses is left out by whoever tries it.
        """
        return {}

    def settings(self) -> Sequence[Mapping[str, Any]]:
        """Return changes of the parameters by which the solver is cheaper and less exact.

        The cheapest comes first, then others up to none at all, and last those of a reference that
        is finer. There are none where the number of points alone decides.
        """
        return ()

    def linear_system(self, inputs: Fields) -> "LinearSystem | None":
        """Return the equation that a sample solves; none where it is not linear in one field.

        Of what is given over time there may be fewer frames than drawn; states are not looked at.
        """
        return None

    def solve_along(self, inputs: Fields, directions: Fields) -> tuple[Solved, Solved]:
        """Return what `solve` does, and how it changes along directions of what is given, by name.

        The latter is the solver's Jacobian times each direction, in physical units; it and the
        directions have shape `(direction, *dims)`, float64. There is none where both share no work,
        so that a direction costs as much as a solve: see `has_derivatives`.
        """
        raise NotImplementedError

    def bodies(self, given: Fields) -> tuple[Body, ...]:
        """Return what there is in space of a sample, to draw it; nothing where fields show it.

        Of what is given of the sample, by name, there need not be all.
        """
        return ()

    @abstractmethod
    def sample(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Draw the inputs and the initial states of one sample, float32, by name."""

    def completed(self, given: Fields) -> Fields:
        """Return what `sample` might have drawn, made anew where some of it follows from the rest.

        Some of what is given was set by whoever asks, and what follows from it was not.
        """
        return given

    @abstractmethod
    def solve(self, inputs: Fields) -> dict[str, np.ndarray]:
        """Solve the equation for what `sample` drew; return outputs and states, float32.

        Raises:
            InputError: A field has another shape than the scenario's, or values out of bounds.
            MnoError: The solver could not follow the solution, or did not converge.
        """

    @abstractmethod
    def check(self, inputs: Fields, outputs: Fields) -> dict[str, float]:
        """Measure each of `checks` on what was drawn and on what was solved, as it is stored."""

    def within(self, inputs: Fields, **bounds: tuple[float, float]) -> dict[str, np.ndarray]:
        """Return some of what `sample` drew in float64, if it can be solved for.

        Bounds of each field that is wanted are its least and greatest value, or these rounded to
        float32. Another shape than the scenario's, or values out of bounds, are an InputError.
        """
        given = {}
        states = {field.name for field in self.fields if field.role == "state"}
        for name, (low, high) in bounds.items():
            shape = self.shapes[name][int(name in states) :]
            values = np.array(inputs[name], dtype=np.float64, order="C")
            if values.shape != shape:
                raise InputError(
                    f"{name} has shape {values.shape}; expected {shape}, the scenario's points"
                )
            least, greatest = values.min(), values.max()
            lowest = low if low == POSITIVE else min(low, float(np.float32(low)))
            highest = max(high, float(np.float32(high)))
            if not (np.isfinite(values).all() and lowest <= least and greatest <= highest):
                kind = "positive numbers" if low == POSITIVE else "numbers"
                lower = "" if low in (POSITIVE, -math.inf) else f" from {low:g}"
                upper = "" if high == math.inf else f" to {high:g}"
                raise InputError(
                    f"{name} reaches from {least} to {greatest}; expected finite {kind}{lower}"
                    f"{upper}, scale it or replace the others"
                )
            given[name] = values
        return given

    def make(
        self, samples: range, rng: Callable[[int], np.random.Generator]
    ) -> Iterator[tuple[Fields, Fields]]:
        """Yield the inputs and the solution of each of some samples."""
        for number in samples:
            given = self.sample(rng(number))
            yield given, self.solve(given)


class FilesSource(SampleSource):
    """Samples that lie in files: read, and not solved."""

    @abstractmethod
    def read(self, samples: range) -> dict[str, np.ndarray]:
        """Read some samples, numbered one after the other, all at once.

        They have shape `(samples, *dims)`, float32, by name of the field; the caller's to keep.
        """

    def make(
        self, samples: range, rng: Callable[[int], np.random.Generator]
    ) -> Iterator[tuple[Fields, Fields]]:
        """Yield the samples, read all of them at once."""
        yield from split_samples(self.fields, self.read(samples))


class StartsFromGuess(ABC):
    """What a scenario is, too, whose solver iterates and may start from a guess of the solution.

    A surrogate's prediction is such a guess. It saves iterations and changes nothing else: the
    answer meets the same tolerance.
    """

    @abstractmethod
    def solve_from(self, inputs: Fields, guess: Fields | None) -> tuple[dict[str, np.ndarray], int]:
        """Solve as `Scenario.solve` does, and return how many iterations it took.

        It starts from outputs as `solve` returns them; from zero without, or if one is not finite.
        """


def split_samples(fields: tuple[Field, ...], values: Fields) -> Iterator[tuple[Fields, Fields]]:
    """Yield what is given of each sample (of states, the first frame), and the rest.

    Values are by name, shape `(samples, *dims)`.
    """
    for row in range(len(next(iter(values.values())))):
        given, solved = {}, {}
        for field in fields:
            sample = values[field.name][row]
            if field.role in ("input", "coordinate"):
                given[field.name] = sample
            else:
                solved[field.name] = sample
                if field.role == "state":
                    given[field.name] = sample[0]
        yield given, solved


def space_axes(
    names: str, points: np.ndarray, extent: tuple[float, float], units: str = "1"
) -> tuple[Axis, ...]:
    """Return axes of space that are alike, one for each letter of `names`."""
    return tuple(Axis(name, units, name, points, extent) for name in names)


_NO_SCENARIOS = {"__init__", "base", "linear", "part", "time_dependent", IMPORTED, EXTERNAL}
"""Modules beside the scenarios that can be made without parameters."""


def scenario_names() -> list[str]:
    """Return the names of all scenarios, in alphabetical order."""
    modules = (path.stem for path in Path(__file__).parent.glob("*.py"))
    return sorted(name for name in modules if name not in _NO_SCENARIOS)


def is_solved(name: str) -> bool:
    """Whether a dataset of that name comes from a solver, and not from files."""
    return name == EXTERNAL or name in scenario_names()


def scenario_class(name: str) -> type[Scenario]:
    """Return what the module of that name assigns to `SCENARIO`; an InputError if there is none."""
    if not is_solved(name):
        raise InputError(
            f"scenario={name!r} must be one of: {', '.join(scenario_names())} (or imported: "
            f"mno import; or external, a solver of your own){did_you_mean(name, scenario_names())}"
        )
    return import_module(f"mno.scenarios.{name}").SCENARIO


def make_scenario(name: str, resolution: int, parameters: Mapping[str, Any]) -> Scenario:
    """Validate a scenario's parameters, `scenarios.<name>` in `params.yaml`, and build it.

    An InputError says what of name, resolution and parameters cannot be used.
    """
    cls = scenario_class(name)
    return cls(validate(cls.Parameters, dict(parameters), f"scenarios.{name}"), resolution)


def other_plant(
    scenario: Scenario, parameters: Mapping[str, Any], recorded: Mapping[str, Any]
) -> Absent | None:
    """Return why a scenario of some parameters has another plant than was recorded, if it has.

    A file of `plants/` may be edited after a dataset was made with it; `recorded` is its content
    then, the `plant` of `provenance`, and empty where a scenario reads none.
    """
    if not recorded or scenario.provenance.get("plant") == recorded:
        return None
    return Absent("solver.other_plant", {"plant": parameters.get("plant")})
