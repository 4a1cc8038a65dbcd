"""Trying the model by hand: the addresses `/`, `/try/setup`, `/try/ask` and `/try/solve`.

What is asked for is `{"sample": 3}`, a stored one, or `{"seed": 1, "parameters": {NAME: number}}`,
a drawn one. Both must be sent as JSON by content type, which no page elsewhere can do unasked.
"""

import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Self

import anyio.to_thread
import numpy as np
from pydantic import Field, FiniteFloat, model_validator
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mno.core.absent import Absent
from mno.core.config import Config
from mno.core.errors import InputError, MnoError
from mno.data.parts import seen
from mno.data.reading import Schema, StoredSplit, open_split
from mno.serving.app import Service, json_response
from mno.serving.model import Follower, Served, as_json
from mno.serving.problem import Problem, Solver, about, describe, draw, solve
from mno.serving.protocol import PredictionRequest
from mno.serving.trial_page import page, shown
from mno.surrogate.description import Description

DATA = "data"

Fields = Mapping[str, np.ndarray]
_aside = anyio.to_thread.run_sync
_json = partial(json_response, headers={"Cache-Control": "no-store"})


class SampleRequest(Config):
    """What the page asks to try: a stored sample, or one drawn with a seed and moved parameters."""

    sample: int | None = Field(default=None, ge=0, description="number of one of the test split")
    seed: int | None = Field(default=None, ge=0, lt=2**63, description="that one is drawn with")
    parameters: dict[str, int | FiniteFloat] = Field(
        default={},
        description="of the scenario, in place of those of the model's dataset; with a seed",
    )

    @model_validator(mode="after")
    def _is_one_of_both(self) -> Self:
        if (self.sample is None) == (self.seed is None):
            raise ValueError('expected either {"sample": number} or {"seed": number}')
        if self.parameters and self.seed is None:
            raise ValueError("parameters go with a seed: a stored sample has its own")
        return self


class TrialPage:
    """The handlers of the page's addresses.

    Stored samples are those of the workspace's dataset; the solver may take `limit` seconds.
    """

    def __init__(self, service: Service, follower: Follower, root: Path, limit: float) -> None:
        self._service, self._follower, self._root = service, follower, root
        self._solver = Solver(limit)
        self._described: tuple[Problem, dict[str, Any]] | None = None

    def routes(self) -> list[Route]:
        """Return the addresses with their handlers; all but the bare page ask for the token."""
        guarded = self._service.guarded
        return [
            Route("/", partial(page, name="page")),
            Route("/try/setup", guarded(self._setup)),
            Route("/try/ask", guarded(self._ask), methods=["POST"]),
            Route("/try/solve", guarded(self._solve), methods=["POST"]),
        ]

    def close(self) -> None:
        """End the solver."""
        self._solver.close()

    async def _setup(self, _: Request) -> Response:
        served = self._follower.current
        description = served.surrogate.description
        forecast, of_cells = description.forecast, description.of_cells
        content: dict[str, Any] = {
            "model": served.name, "scenario": description.scenario,
            "space": list(description.space),
            "extent": list(description.cells or description.extent),
            "interval": forecast.interval if forecast else None,
            "history": forecast.history if forecast else 0,
            "inputs": list(description.inputs), "outputs": list(description.outputs),
            "readings": {n: at for n, at in description.readings.items() if n not in of_cells},
            "samples": 0, "no_samples": None, "no_solver": None, "title": None,
            "axes": [], "parameters": [],
        }  # fmt: skip
        for name in of_cells:
            content["space"] = description.readings[name][0].split()
        try:
            split = await _aside(_stored_samples, self._root, description)
            content |= {"samples": len(split), "axes": about(_as_seen(split, description).axes)}
        except MnoError as error:
            content["no_samples"] = str(error)
        try:
            content |= await self._describe(_problem_of(served))
        except MnoError as error:
            content["no_solver"] = str(error)
        return _json(content)

    async def _describe(self, problem: Problem) -> dict[str, Any]:
        if self._described is None or self._described[0] != problem:
            self._described = problem, await self._solver.call(describe, problem)
        return self._described[1]

    async def _ask(self, request: Request) -> Response:
        asked, served = await self._service.asked(request, SampleRequest), self._follower.current
        fields = await self._fields(served, asked)
        description = served.surrogate.description
        given = description.given(dict(fields))
        start = time.perf_counter()
        answer = await self._service.ask(PredictionRequest(dict(given), bounds=True))
        truth = None
        if asked.sample is not None:
            frames = {name: a.shape[1] for name, a in answer.predictions.items() if a.ndim > 1}
            truth = self._shown(description, _truth(description, fields, frames))
        return _json({
            **as_json(answer.served, answer.estimate, full=True),
            "seconds": time.perf_counter() - start, "inputs": self._shown(description, given),
            "outputs": self._shown(description, answer.predictions), "truth": truth,
        })  # fmt: skip

    async def _solve(self, request: Request) -> Response:
        asked, served = await self._service.asked(request, SampleRequest), self._follower.current
        description = served.surrogate.description
        problem = _problem_of(served)
        fields = await self._fields(served, asked)
        # What the scenario draws of a sample: of states the first frame, no axis of samples.
        drawn = {
            name: fields[name][0][0] if name in description.states else fields[name][0]
            for name in description.given_names
        }
        seconds, solved = await self._solver.call(solve, problem.moved(asked.parameters), drawn)
        forecast = description.forecast
        frames = dict.fromkeys(description.states, forecast.steps) if forecast else {}
        truth = _truth(description, {name: a[None] for name, a in solved.items()}, frames)
        return _json({"seconds": seconds, "outputs": self._shown(description, truth)})

    async def _fields(self, served: Served, asked: SampleRequest) -> Fields:
        """Return fields, `(1, *dims)`: all of a stored sample, of another its inputs."""
        number = asked.sample
        if number is not None:
            description = served.surrogate.description
            split = await _aside(_stored_samples, self._root, description)
            if number >= len(split):
                raise InputError(f"sample={number}; expected 0 to {len(split) - 1}")
            one = split.take(np.array([number]))
            return await _aside(
                lambda: {name: a[:] for name, a in seen(one, **description.as_seen).fields.items()}
            )
        problem = _problem_of(served)
        known = {parameter["name"] for parameter in (await self._describe(problem))["parameters"]}
        if unknown := sorted(set(asked.parameters) - known):
            raise InputError(f"parameters {unknown} cannot be moved; expected {sorted(known)}")
        fields = await self._solver.call(draw, problem.moved(asked.parameters), asked.seed)
        return {name: array[None] for name, array in fields.items()}

    def _shown(self, description: Description, fields: Fields) -> list[dict[str, Any]]:
        return shown(description, fields, self._described[1]["labels"] if self._described else {})


def _problem_of(served: Served) -> Problem:
    """Return what a model's problems are drawn and solved by; an `InputError` if nothing does."""
    trust, forecast = served.trust, served.surrogate.description.forecast
    if isinstance(trust, Absent):
        raise InputError(str(trust))
    if trust.no_solver is not None or trust.resolution is None:
        raise InputError(trust.no_solver or f"no solver is known for {trust.scenario}")
    history, part = forecast.history if forecast else 0, served.surrogate.description.part
    return Problem(
        trust.scenario, trust.resolution, dict(trust.parameters), history, part, dict(trust.plant)
    )


def _stored_samples(root: Path, description: Description) -> StoredSplit:
    """Return the test split of the workspace's dataset; an `InputError` if it is another's."""
    try:
        split = open_split(root / DATA, "test", checked=False)
    except MnoError as error:
        raise InputError(str(error)) from None
    schema = _as_seen(split, description)
    missing = {*description.given_names, *description.outputs} - {f.name for f in schema.fields}
    if missing or len(schema.space) != len(description.space):
        raise InputError(f"{DATA}/ is of {schema.scenario}, not of this model")
    return split


def _as_seen(split: StoredSplit, description: Description) -> Schema:
    return seen(split.take(np.arange(0)), **description.as_seen).schema


def _truth(description: Description, fields: Fields, frames: Mapping[str, int]) -> Fields:
    """Return what was to be predicted, of states as many frames as were predicted."""
    states, truth = description.states, description.truth(dict(fields))
    return {name: a[:, : frames[name]] if name in states else a for name, a in truth.items()}
