"""The addresses of the page: `/`, `/try/setup`, `/try/ask` and `/try/solve`.

What is asked for is `{"sample": 3}`, a stored one, or `{"seed": 1, "parameters": {NAME: number}}`,
a drawn one. Both must be sent as JSON by content type, which no page from elsewhere can do
unasked.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import anyio.to_thread
import numpy as np
import orjson
from pydantic import Field, FiniteFloat, ValidationError, model_validator
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mno.core.config import Config
from mno.core.errors import InputError, MnoError
from mno.data.reading import StoredSplit, open_split, read_schema
from mno.scenarios.base import scenario_names
from mno.serving.app import Handler, RefusedError, Service
from mno.serving.model import Follower, Served, as_json
from mno.serving.protocol import JSON, PredictionRequest
from mno.serving.trial.page import language_of, page, shown
from mno.serving.trial.problem import Problem, Solver, SolverBusyError, describe, draw, solve
from mno.surrogate.description import Description

DATA = "data"

Fields = Mapping[str, np.ndarray]


def problem_of(served: Served, root: Path) -> Problem | str:
    """Return what a model's problems are drawn and solved by; or, in one line, why nothing does.

    Args:
        served: The model; its trust knows, and without one the workspace's dataset does.
        root: The workspace.
    """
    trust, description = served.trust, served.surrogate.description
    history = description.forecast.history if description.forecast else 0
    if not isinstance(trust, str):
        if trust.no_solver is not None:
            return trust.no_solver
        scenario, resolution, parameters = trust.scenario, trust.resolution, trust.parameters
    else:
        try:
            schema = read_schema(root / DATA)
        except MnoError as error:
            return f"no solver: {error}"
        if schema.sources or schema.scenario != description.scenario:
            return f"no solver: {DATA}/ is not of solved samples of {description.scenario}"
        scenario, resolution, parameters = schema.scenario, schema.resolution, schema.parameters
    if scenario not in scenario_names() or resolution is None:
        return f"no solver is known for {scenario}"
    return Problem(scenario, resolution, dict(parameters), history)


def stored_samples(root: Path, description: Description) -> StoredSplit | str:
    """Return the test split of the workspace's dataset; or, in one line, why it cannot be used.

    Args:
        root: The workspace.
        description: Of the model, whose fields the samples must have.
    """
    try:
        split = open_split(root / DATA, "test", checked=False)
    except MnoError as error:
        return str(error)
    missing = {*description.given_names, *description.outputs} - set(split.fields)
    if missing or len(split.schema.space) != len(description.space):
        return f"{DATA}/ is of {split.schema.scenario}, not of this model"
    return split


class SampleRequest(Config):
    """What the page asks to try: a stored sample, or one drawn with a seed and moved parameters.

    Attributes:
        sample: Number of a stored one in the test split.
        seed: That one is drawn with.
        parameters: Of the scenario, in place of those of the model's dataset; with a seed.
    """

    sample: int | None = Field(default=None, ge=0)
    seed: int | None = Field(default=None, ge=0, lt=2**63)
    parameters: dict[str, int | FiniteFloat] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _is_one_of_both(self) -> Self:
        if (self.sample is None) == (self.seed is None):
            raise ValueError('expected either {"sample": number} or {"seed": number}')
        if self.parameters and self.seed is None:
            raise ValueError("parameters go with a seed: a stored sample has its own")
        return self


class TrialPage:
    """The handlers of the page's addresses.

    Args:
        service: Answers predictions.
        follower: Holds the model.
        root: The workspace, whose dataset has stored samples.
        limit: Seconds that a call of the solver may take.
    """

    def __init__(self, service: Service, follower: Follower, root: Path, limit: float) -> None:
        self._service, self._follower, self._root = service, follower, root
        self._solver = Solver(limit)
        self._described: tuple[Problem, dict[str, Any]] | None = None

    def routes(self) -> list[Route]:
        """Return the addresses with their handlers; all but the bare page ask for the token."""
        guarded = self._service.guarded
        return [
            Route("/", self._page),
            Route("/try/setup", guarded(self._setup)),
            Route("/try/ask", guarded(_refusing(self._ask)), methods=["POST"]),
            Route("/try/solve", guarded(_refusing(self._solve)), methods=["POST"]),
        ]

    def close(self) -> None:
        """End the solver."""
        self._solver.close()

    async def _page(self, request: Request) -> Response:
        return page(language_of(request))

    async def _setup(self, _: Request) -> Response:
        served = self._follower.current
        description = served.surrogate.description
        split = await _aside(stored_samples, self._root, description)
        problem = await _aside(problem_of, served, self._root)
        forecast = description.forecast
        content: dict[str, Any] = {
            "model": served.name,
            "scenario": description.scenario,
            "space": list(description.space),
            "extent": list(description.extent),
            "interval": forecast.interval if forecast else None,
            "history": forecast.history if forecast else 0,
            "inputs": list(description.inputs),
            "outputs": list(description.outputs),
            "samples": 0 if isinstance(split, str) else len(split),
            "no_samples": split if isinstance(split, str) else None,
            "no_solver": problem if isinstance(problem, str) else None,
            "parameters": [],
            "title": None,
        }
        if isinstance(problem, Problem):
            try:
                content |= await self._describe(problem)
            except MnoError as error:
                content["no_solver"] = str(error)
        return _json(content)

    async def _describe(self, problem: Problem) -> dict[str, Any]:
        """Return what the solver says of a problem; it is asked once."""
        if self._described is None or self._described[0] != problem:
            self._described = problem, await self._solver.call(describe, problem)
        return self._described[1]

    async def _ask(self, request: Request) -> Response:
        asked, served = await self._read(request), self._follower.current
        fields = await self._fields(served, asked)
        description = served.surrogate.description
        given = description.given(dict(fields))
        start = time.perf_counter()
        answer = await self._service.ask(PredictionRequest(dict(given), bounds=True))
        content = {
            **as_json(answer.served, answer.estimate, full=True),
            "seconds": time.perf_counter() - start,
            "inputs": self._shown(description, given),
            "outputs": self._shown(description, answer.predictions),
            "truth": None,
        }
        if asked.sample is not None:
            frames = {name: a.shape[1] for name, a in answer.predictions.items() if a.ndim > 1}
            content["truth"] = self._shown(description, _truth(description, fields, frames))
        return _json(content)

    async def _solve(self, request: Request) -> Response:
        asked, served = await self._read(request), self._follower.current
        description = served.surrogate.description
        problem = await _aside(problem_of, served, self._root)
        if isinstance(problem, str):
            raise RefusedError(400, problem)
        fields = await self._fields(served, asked)
        drawn = _as_drawn(description, fields)
        seconds, solved = await self._solver.call(solve, problem.moved(asked.parameters), drawn)
        forecast = description.forecast
        frames = dict.fromkeys(description.states, forecast.steps) if forecast else {}
        truth = _truth(description, {name: a[None] for name, a in solved.items()}, frames)
        return _json({"seconds": seconds, "outputs": self._shown(description, truth)})

    async def _read(self, request: Request) -> SampleRequest:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != JSON:
            raise RefusedError(415, f"content type {kind!r}; expected {JSON}")
        body = await self._service.body(request)
        try:
            return SampleRequest.model_validate(orjson.loads(body))
        except orjson.JSONDecodeError as error:
            raise RefusedError(
                400, f'the request is not JSON ({error}); expected {{"sample": 0}}'
            ) from None
        except ValidationError as error:
            problem = error.errors()[0]
            where = ".".join(str(part) for part in problem["loc"])
            raise RefusedError(400, f"{where or 'the request'}: {problem['msg']}") from None

    async def _fields(self, served: Served, asked: SampleRequest) -> Fields:
        """Return a sample's fields, shape `(1, *dims)`: all of a stored one, of another its inputs.

        Raises:
            InputError: There is no such sample.
            MnoError: It cannot be read or drawn.
        """
        if asked.sample is not None:
            number = asked.sample
            split = await _aside(stored_samples, self._root, served.surrogate.description)
            if isinstance(split, str):
                raise InputError(split)
            if number >= len(split):
                raise InputError(f"sample={number}; expected 0 to {len(split) - 1}")
            return await _aside(
                lambda: {name: array[number : number + 1] for name, array in split.fields.items()}
            )
        problem = await _aside(problem_of, served, self._root)
        if isinstance(problem, str):
            raise InputError(problem)
        known = {parameter["name"] for parameter in (await self._describe(problem))["parameters"]}
        if unknown := sorted(set(asked.parameters) - known):
            raise InputError(f"parameters {unknown} cannot be moved; expected {sorted(known)}")
        fields = await self._solver.call(draw, problem.moved(asked.parameters), asked.seed)
        return {name: array[None] for name, array in fields.items()}

    def _shown(self, description: Description, fields: Fields) -> list[dict[str, Any]]:
        return shown(description, fields, self._described[1]["labels"] if self._described else {})


_aside = anyio.to_thread.run_sync


def _truth(description: Description, fields: Fields, frames: Mapping[str, int]) -> Fields:
    """Return what was to be predicted, of states as many frames as were predicted."""
    states = description.states
    truth = description.truth(dict(fields))
    return {name: a[:, : frames[name]] if name in states else a for name, a in truth.items()}


def _as_drawn(description: Description, fields: Fields) -> dict[str, np.ndarray]:
    """Return what the scenario draws of a sample: of states the first frame, no axis of samples."""
    states = description.states
    return {
        name: fields[name][0][0] if name in states else fields[name][0]
        for name in description.given_names
    }


def _refusing(handler: Handler) -> Handler:
    """Return a handler that refuses what it has no sample or solution for."""

    async def refusing(request: Request) -> Response:
        try:
            return await handler(request)
        except SolverBusyError as error:
            raise RefusedError(503, str(error)) from None
        except MnoError as error:
            status = 400 if isinstance(error, InputError) else 504
            raise RefusedError(status, str(error)) from None

    return refusing


def _json(content: Mapping[str, Any]) -> Response:
    text = orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(text, media_type=JSON, headers={"Cache-Control": "no-store"})
