"""UM-Bridge 1.0: tools in Python, R, Julia, Matlab and C++ ask the model in service as a map.

Each field that the model is given, in the order of `/model`, is one vector of its values, the last
axis fastest; so is each that it predicts. Sizes are those of one sample of its training data; a
`config` of `{"steps": 20}` asks for so many frames. `null` stands for a missing value.

Source:
    Seelinger et al., "UM-Bridge: Uncertainty quantification and modeling bridge", JOSS 8 (2023)
    4748, doi:10.21105/joss.04748; um-bridge-benchmarks.readthedocs.io, HTTP protocol.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import anyio.to_thread
import numpy as np
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mno.core.config import Config
from mno.core.errors import InputError, MnoError
from mno.serving.app import Service, json_response, status_of
from mno.serving.model import Follower, Served
from mno.serving.protocol import PredictionRequest

_SUPPORTED = {"Evaluate": True, "Gradient": True, "ApplyJacobian": True, "ApplyHessian": False}

Vector = list[float | None]
Shapes = Mapping[str, tuple[int, ...]]


class _Settings(Config):
    steps: int | None = None


class _Question(Config):
    name: str
    config: _Settings = _Settings()
    input: list[Vector] = []
    out_wrt: int = Field(default=0, alias="outWrt")
    in_wrt: int = Field(default=0, alias="inWrt")
    sens: Vector = []
    vec: Vector = []


class Bridge:
    """The addresses of the protocol, for the model that a follower holds."""

    def __init__(self, service: Service, follower: Follower) -> None:
        self._service, self._follower = service, follower

    def routes(self) -> list[Route]:
        """Return the addresses with their handlers; a client of the protocol knows no token."""
        guarded = self._service.guarded
        asked = {
            "ModelInfo": self._info, "InputSizes": self._sizes, "OutputSizes": self._sizes,
            "Evaluate": self._evaluate, "Gradient": self._slope, "ApplyJacobian": self._slope,
        }  # fmt: skip
        posts = [
            Route(f"/{what}", guarded(self._answering(what, handler)), methods=["POST"])
            for what, handler in asked.items()
        ]
        return [Route("/Info", guarded(self._models)), *posts]

    async def _models(self, _: Request) -> Response:
        return json_response({"protocolVersion": 1.0, "models": [_name(self._follower.current)]})

    def _answering(self, what: str, handler: Any) -> Any:
        async def answering(request: Request) -> Response:
            try:
                question = await self._service.asked(request, _Question)
                served = self._follower.current
                if question.name != _name(served):
                    raise InputError(f"there is no model {question.name!r}; ask {_name(served)}")
                return json_response(await handler(what, question, served))
            except MnoError as error:
                refused = {"error": {"type": "InvalidInput", "message": str(error)}}
                return json_response(refused, status_of(error))

        return answering

    async def _info(self, *_: Any) -> dict[str, Any]:
        return {"support": _SUPPORTED}

    async def _sizes(self, what: str, question: _Question, served: Served) -> dict[str, Any]:
        if what == "InputSizes":
            return {"inputSizes": [int(np.prod(s)) for s in _shapes(served).values()]}
        outputs = await self._outputs(served, question.config.steps)
        return {"outputSizes": [int(np.prod(shape)) for shape in outputs.values()]}

    async def _evaluate(self, _: str, question: _Question, served: Served) -> dict[str, Any]:
        given = _fields(question.input, _shapes(served), "input")
        answer = await self._service.counted(PredictionRequest(given, question.config.steps))
        told = answer.predictions
        names = served.surrogate.description.outputs
        return {"output": [np.ascontiguousarray(told[name].ravel(), float) for name in names]}

    async def _slope(self, what: str, question: _Question, served: Served) -> dict[str, Any]:
        shapes, steps = _shapes(served), question.config.steps
        outputs = await self._outputs(served, steps)
        given = _fields(question.input, shapes, "input")
        to = _one(outputs, question.out_wrt, "outWrt")
        by = _one(shapes, question.in_wrt, "inWrt")
        if what == "Gradient":
            weights, name = _fields([question.sens], to, "sens"), next(iter(by))
            call = served.surrogate.gradient
        else:
            weights, name = _fields([question.vec], by, "vec"), next(iter(to))
            call = served.surrogate.product
        found = await anyio.to_thread.run_sync(call, given, weights, steps)
        return {"output": np.ascontiguousarray(found[name].ravel(), float)}

    async def _outputs(self, served: Served, steps: int | None) -> Shapes:
        one = {name: array[:1] for name, array in served.example.items()}
        told = (await self._service.ask(PredictionRequest(one, steps))).predictions
        return {name: told[name].shape[1:] for name in served.surrogate.description.outputs}


def _name(served: Served) -> str:
    """Return the name of a model, which other versions of it have, too."""
    return served.name.partition("/")[0]


def _shapes(served: Served) -> Shapes:
    names, example = served.surrogate.description.given_names, served.example
    return {name: example[name].shape[1:] for name in names if name in example}


def _one(shapes: Shapes, number: int, said: str) -> Shapes:
    names = list(shapes)
    if not 0 <= number < len(names):
        raise InputError(f"{said}={number}; expected 0 to {len(names) - 1}, for {', '.join(names)}")
    return {names[number]: shapes[names[number]]}


def _fields(vectors: Sequence[Vector], shapes: Shapes, said: str) -> dict[str, np.ndarray]:
    """Return fields of one sample, given their values one behind the other."""
    sizes = {name: int(np.prod(shape)) for name, shape in shapes.items()}
    if (found := [len(vector) for vector in vectors]) != list(sizes.values()):
        raise InputError(f"{said} has vectors of {found} numbers; expected {sizes}")
    return {
        name: np.array(vector, np.float64).reshape(1, *shape)
        for vector, (name, shape) in zip(vectors, shapes.items(), strict=True)
    }
