"""The addresses of the page: `/`, `/try/setup`, `/try/ask` and `/try/solve`.

What is asked for is `{"sample": 3}`, a stored one, or `{"seed": 1, "parameters": {NAME: number}}`,
a drawn one. Both must be sent as JSON by content type, which no page from elsewhere can do
unasked.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anyio.to_thread
import numpy as np
import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mno.core.errors import InputError, MnoError
from mno.data.reading import StoredSplit
from mno.serving.app import Service
from mno.serving.estimate import as_json
from mno.serving.follower import Follower, Served
from mno.serving.protocol import JSON, Asked
from mno.serving.refusal import RefusedError
from mno.serving.trial.page import language_of, page
from mno.serving.trial.problem import Problem, problem_of
from mno.serving.trial.samples import stored_sample, stored_samples
from mno.serving.trial.shown import shown
from mno.serving.trial.solver import BusyError, Solver
from mno.serving.trial.wanted import Wanted, wanted
from mno.surrogate.description import Description

Fields = Mapping[str, np.ndarray]


class Trial:
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
            Route("/try/ask", guarded(self._ask), methods=["POST"]),
            Route("/try/solve", guarded(self._solve), methods=["POST"]),
        ]

    def close(self) -> None:
        """End the solver."""
        self._solver.close()

    async def _page(self, request: Request) -> Response:
        return page(language_of(request))

    async def _setup(self, _: Request) -> Response:
        served = self._follower.current
        description = served.surrogate.description
        split = await anyio.to_thread.run_sync(stored_samples, self._root, description)
        problem = await anyio.to_thread.run_sync(problem_of, served, self._root)
        told: dict[str, Any] = {
            "model": served.name,
            "scenario": description.scenario,
            "space": list(description.space),
            "extent": list(description.extent),
            "interval": description.forecast.interval if description.forecast else None,
            "history": description.forecast.history if description.forecast else 0,
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
                told |= await self._describe(problem)
            except MnoError as error:
                told["no_solver"] = str(error)
        return _json(told)

    async def _describe(self, problem: Problem) -> dict[str, Any]:
        """Return what the worker says of a problem; it is asked once."""
        if self._described is None or self._described[0] != problem:
            found, _ = await self._solver.call("describe", problem.moved({}))
            self._described = problem, found
        return self._described[1]

    async def _ask(self, request: Request) -> Response:
        served = self._follower.current
        asked = await self._wanted(request)
        try:
            fields, stored = await self._fields(served, asked)
        except MnoError as error:
            raise _refused(error) from None
        description = served.surrogate.description
        given = description.given(dict(fields))
        start = time.perf_counter()
        answer = await self._service.ask(Asked(dict(given), bounds=True))
        seconds = time.perf_counter() - start
        labels = self._described[1]["labels"] if self._described else {}
        content = {
            **as_json(answer.served, answer.estimate, full=True),
            "seconds": seconds,
            "inputs": shown(description, given, labels),
            "outputs": shown(description, answer.predictions, labels),
            "truth": None,
        }
        if stored:
            frames = {name: a.shape[1] for name, a in answer.predictions.items() if a.ndim > 1}
            truth = _truth(description, fields, frames)
            content["truth"] = shown(description, truth, labels)
        return _json(content)

    async def _solve(self, request: Request) -> Response:
        served = self._follower.current
        description = served.surrogate.description
        asked = await self._wanted(request)
        problem = await anyio.to_thread.run_sync(problem_of, served, self._root)
        if isinstance(problem, str):
            raise RefusedError(400, problem)
        try:
            fields, _ = await self._fields(served, asked)
            drawn = _as_drawn(description, fields)
            changed = problem.moved(asked.parameters)
            found, solved = await self._solver.call("solve", changed, drawn)
        except MnoError as error:
            raise _refused(error) from None
        whole = {name: array[None] for name, array in solved.items()}
        forecast = description.forecast
        frames = dict.fromkeys(description.states, forecast.steps) if forecast else {}
        truth = _truth(description, whole, frames)
        labels = self._described[1]["labels"] if self._described else {}
        return _json({"seconds": found["seconds"], "outputs": shown(description, truth, labels)})

    async def _wanted(self, request: Request) -> Wanted:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != JSON:
            raise RefusedError(415, f"content type {kind!r}; expected {JSON}")
        try:
            return wanted(await self._service.body(request))
        except InputError as error:
            raise RefusedError(400, str(error)) from None

    async def _fields(self, served: Served, asked: Wanted) -> tuple[Fields, bool]:
        """Return a sample's fields, shape `(1, *dims)`, and whether all of them are stored."""
        description = served.surrogate.description
        if asked.sample is not None:
            split = await anyio.to_thread.run_sync(stored_samples, self._root, description)
            if not isinstance(split, StoredSplit):
                raise InputError(split)
            if asked.sample >= len(split):
                raise InputError(f"sample={asked.sample}; expected 0 to {len(split) - 1}")
            return await anyio.to_thread.run_sync(stored_sample, split, asked.sample), True
        problem = await anyio.to_thread.run_sync(problem_of, served, self._root)
        if isinstance(problem, str):
            raise InputError(problem)
        known = {parameter["name"] for parameter in (await self._describe(problem))["parameters"]}
        if unknown := sorted(set(asked.parameters) - known):
            raise InputError(f"parameters {unknown} cannot be moved; expected {sorted(known)}")
        question = {**problem.moved(asked.parameters), "seed": asked.seed}
        _, fields = await self._solver.call("draw", question)
        return {name: array[None] for name, array in fields.items()}, False


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


def _refused(error: MnoError) -> RefusedError:
    if isinstance(error, BusyError):
        return RefusedError(503, str(error))
    return RefusedError(400 if isinstance(error, InputError) else 504, str(error))


def _json(content: Mapping[str, Any]) -> Response:
    text = orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(text, media_type=JSON, headers={"Cache-Control": "no-store"})
