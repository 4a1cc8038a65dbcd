"""A solver of the user's own, in any language, behind a server of the UM-Bridge protocol."""

import json
import math
import re
import time
from collections.abc import Mapping
from http.client import HTTPException
from typing import Any, Literal, final
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener

import numpy as np
from pydantic import Field as Parameter
from scipy.ndimage import gaussian_filter
from scipy.special import ndtr

from mno.core.config import Config
from mno.core.distributions import Distribution
from mno.core.errors import InputError, MnoError, first_line
from mno.core.fields import LOG, PLAIN, RATE, TAKEN, Axis, Field
from mno.scenarios.base import Fields, Parameters, Scenario, Solved, space_axes

_PAUSE = 0.5  # seconds before the first retry; each further pause is twice as long
_MOST = 2**28  # bytes of an answer
_NAME = "[A-Za-z][A-Za-z0-9_]*"


class Quantity(Config):
    """A vector of the server's map: a field, or some numbers."""

    units: str = "1"
    """As CF conventions write them."""
    dims: list[Literal["x", "y", "z"]] = Parameter([], max_length=3)
    """Axes of a field, of `generate.resolution` points each, the last varying fastest"""
    size: int = Parameter(1, ge=1, le=100_000)
    """How many numbers it has where it is no field."""


class Drawn(Quantity, Distribution):
    """A vector that the server is given, and how its values are drawn."""

    correlation: float = Parameter(0.0, ge=0.0, le=10.0)
    """Length over which a field's values are alike, in sides of the domain; 0: each by itself"""


class ExternalParameters(Parameters):
    """Which server is asked, and what its vectors are."""

    name: str = Parameter("external", pattern="^[a-z][a-z0-9_]*$")
    """What models are named by."""
    address: str = Parameter("http://127.0.0.1:4242", pattern="^https?://[^/]+.*$")
    """Of the server."""
    model: str = "forward"
    """Which of the server's models is asked."""
    config: dict[str, Any] = {}
    """What the server is told beside the vectors, as it wants it."""
    inputs: dict[str, Drawn] = {}
    """What the model is given, by name, in the order of its vectors."""
    outputs: dict[str, Quantity] = {}
    """What it answers, likewise."""
    timeout: float = Parameter(600.0, gt=0, le=1e6)
    """Seconds that an answer may take."""
    retries: int = Parameter(3, ge=0, le=100)
    """How often a question is asked again that was not answered."""


@final
class External(Scenario):
    """Whatever a server of the UM-Bridge protocol computes: `outputs = F(inputs)`.

    A vector of the protocol is a field on a grid of the unit cube, with `dims`, or a number, or a
    row of numbers: these are readings (`task.part`). What is drawn is the exponential or another
    function of independent normal numbers, or of a smooth normal field. The server is asked for one
    sample at a time, by each worker; a question is asked again after growing pauses where there was
    no answer, and not where the server refused it.

    Source:
        Seelinger et al., "UM-Bridge: Uncertainty quantification and modeling bridge", JOSS 8 (2023)
        4748, doi:10.21105/joss.04748; um-bridge-benchmarks.readthedocs.io, HTTP protocol.
    """

    name = "external"
    title = "a solver behind a server"
    Parameters = ExternalParameters
    same_on_any_grid = False  # smooth fields are drawn on the grid

    def __init__(self, parameters: ExternalParameters, resolution: int) -> None:
        super().__init__(parameters, resolution, least=1)
        inputs, outputs = parameters.inputs, parameters.outputs
        if not inputs or not outputs or inputs.keys() & outputs.keys():
            raise InputError(
                f"scenarios.external has the inputs {', '.join(inputs) or 'none'} and the outputs "
                f"{', '.join(outputs) or 'none'}; expected some of each, all of different names"
            )
        grids = {tuple(one.dims) for one in (*inputs.values(), *outputs.values()) if one.dims}
        if len(grids) > 1 or any(dims != ("x", "y", "z")[: len(dims)] for dims in grids):
            raise InputError(
                f"scenarios.external has fields over {' and '.join(map(str, sorted(grids)))}; "
                "expected one grid for all, [x], [x, y] or [x, y, z]"
            )
        points = (np.arange(resolution) + 0.5) / resolution
        self._space = space_axes("".join(next(iter(grids), ())), points, (0.0, 1.0))
        found = []
        for name, one in {**inputs, **outputs}.items():
            dims = tuple(one.dims)
            if not dims and (one.size > 1 or name in outputs):
                dims = (f"{name}_number",)
                numbers = np.arange(float(one.size))
                axis = Axis(dims[0], "1", f"number in {name}", numbers, (0.0, float(one.size)))
                self._space = (*self._space, axis)
            said = name.replace("_", " ")
            is_log = isinstance(one, Drawn) and one.is_positive
            role, scale = "input" if name in inputs else "output", LOG if is_log else PLAIN
            found.append(Field(name, one.units, said, role, dims, scale=scale))
        self.fields = tuple(found)
        taken = {*TAKEN, *(axis.name for axis in self._space)}
        for name in self.shapes:
            if name in taken or name.startswith(RATE) or not re.fullmatch(_NAME, name):
                raise InputError(
                    f"scenarios.external: a vector cannot be called {name!r}; expected letters, "
                    f"digits and _, a letter first, neither {RATE}… nor one of "
                    f"{', '.join(sorted(taken))}: give it another name"
                )

    @property
    def provenance(self) -> dict[str, Any]:
        """What the server says of itself."""
        return {"server": self._asked("Info"), "model_info": self._asked("ModelInfo", {})}

    def compile(self) -> None:
        """Ask the server whether it has the model, and how long its vectors are.

        Raises:
            InputError: It has other models, or vectors.
            MnoError: It does not answer.
        """
        model, address = self.parameters.model, self.parameters.address
        known = self._asked("Info").get("models", [])
        if model not in known:
            raise InputError(
                f"scenarios.external.model={model}, but {address} has {', '.join(map(str, known))}"
            )
        for side in ("input", "output"):
            sizes = self._asked(f"{side.capitalize()}Sizes", {}).get(f"{side}Sizes")
            own = [math.prod(self.shapes[name]) for name in getattr(self.parameters, f"{side}s")]
            if sizes != own:
                raise InputError(
                    f"scenarios.external.{side}s are vectors of {own} numbers, but those of "
                    f"{model} at {address} are of {sizes}: correct sizes, dims or "
                    "generate.resolution"
                )

    def sample(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Draw all that the server is given."""
        return {
            name: _draw(one, self.shapes[name], rng) for name, one in self.parameters.inputs.items()
        }

    def solve(self, inputs: Fields) -> dict[str, np.ndarray]:
        """Ask the server.

        Raises:
            MnoError: It does not answer, or refuses, or answers something else.
        """
        output: Any = self._asked("Evaluate", {"input": self._vectors(inputs)}).get("output", [])
        found = self._shaped(list(self.parameters.outputs), output)
        return {name: values.astype(np.float32) for name, values in found.items()}

    @property
    def has_derivatives(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether the server says that it multiplies with its Jacobian."""
        support: Any = self._asked("ModelInfo", {}).get("support")
        return isinstance(support, dict) and support.get("ApplyJacobian") is True

    def solve_along(self, inputs: Fields, directions: Fields) -> tuple[Solved, Solved]:
        """Ask the server, also for its Jacobian's products: one a direction, input and output.

        Raises:
            MnoError: As `solve`.
        """
        vectors, moving = self._vectors(inputs), list(enumerate(self.parameters.inputs))
        rates: dict[str, list[np.ndarray]] = {name: [] for name in self.parameters.outputs}
        for row in range(len(next(iter(directions.values())))):
            for number, name in enumerate(rates):
                total = np.zeros(self.shapes[name])
                for wrt, given in moving:
                    if given in directions:
                        vec = np.asarray(directions[given][row], np.float64).ravel().tolist()
                        question = {"outWrt": number, "inWrt": wrt, "input": vectors, "vec": vec}
                        answer = self._asked("ApplyJacobian", question).get("output")
                        total += self._shaped([name], [answer])[name]
                rates[name].append(total)
        return self.solve(inputs), {name: np.stack(rows) for name, rows in rates.items()}

    def _vectors(self, inputs: Fields) -> list[list[float]]:
        of = self.parameters.inputs
        return [np.asarray(inputs[name], np.float64).ravel().tolist() for name in of]

    def _shaped(self, names: list[str], output: Any) -> dict[str, np.ndarray]:
        try:
            return {
                name: np.asarray(values, np.float64).reshape(self.shapes[name])
                for name, values in zip(names, output, strict=True)
            }
        except (TypeError, ValueError):
            sizes = {name: math.prod(self.shapes[name]) for name in names}
            raise MnoError(
                f"{self.parameters.address} answered {json.dumps(output)[:100]}; expected vectors "
                f"of {sizes} numbers: correct the server, or scenarios.external.outputs"
            ) from None

    def check(self, inputs: Fields, outputs: Fields) -> dict[str, float]:
        """Measure nothing."""
        return {}

    def _asked(self, what: str, question: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return what the server answers at one of its addresses."""
        given, data = self.parameters, None
        if question is not None:
            own = {"name": given.model, "config": given.config, **question}
            data = json.dumps(own).encode()
        url = f"{given.address.rstrip('/')}/{what}"
        request = Request(url, data, {"Content-Type": "application/json"})
        why, body = "", b""
        for attempt in range(given.retries + 1):
            time.sleep(_PAUSE * 2 ** (attempt - 1) if attempt else 0.0)
            try:
                with build_opener(ProxyHandler({})).open(request, timeout=given.timeout) as answer:
                    body = answer.read(_MOST)
                break
            except HTTPError as error:
                if refused := _refusal(error):
                    raise MnoError(f"{url} refuses: {refused}") from None
                why = f"status {error.code}"
            except (OSError, HTTPException) as error:
                why = first_line(getattr(error, "reason", None) or error)
        else:
            raise MnoError(
                f"{url} gives no answer ({why}), asked {given.retries + 1} times: start the "
                "server, or correct scenarios.external.address; then run again to go on"
            )
        try:
            return dict(json.loads(body))
        except (TypeError, ValueError):
            found = body[:200].decode(errors="replace")
            raise MnoError(
                f"{url} answered {found!r}; expected a JSON object of finite numbers: correct the "
                "server"
            ) from None


def _refusal(answer: HTTPError) -> str:
    """Return why a server refuses, where it says so as the protocol does."""
    try:
        error = json.loads(answer.read(_MOST))["error"]
        return f"{error['type']}: {error['message']}"[:500]
    except (OSError, HTTPException, KeyError, TypeError, ValueError):
        return ""


def _draw(one: Drawn, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Draw a vector, float32."""
    width = one.correlation * shape[0] if one.dims else 0.0
    beyond = math.ceil(4 * width)  # where the filter's weights end
    values = rng.standard_normal([length + 2 * beyond for length in shape])
    if width:
        impulse = np.eye(1, 2 * beyond + 1, beyond)[0]
        kept = np.sum(gaussian_filter(impulse, width) ** 2) ** (values.ndim / 2)
        smooth = gaussian_filter(values, width)
        values = smooth[tuple(slice(beyond, beyond + length) for length in shape)] / kept
    return np.asarray(one.of_normal(values, ndtr, np.exp), np.float32)


SCENARIO = External
