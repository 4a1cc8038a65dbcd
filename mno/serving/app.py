"""The web application: `/invocations`, `/ping`, `/health`, `/version`, `/model`, `/metrics`."""

from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import Awaitable, Callable
from typing import Any

import anyio.to_thread
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from mno.errors import InputError
from mno.serving.batcher import Batcher, BusyError
from mno.serving.config import ServingConfig
from mno.serving.follower import Follower
from mno.serving.monitor import CONTENT_TYPE, Monitor
from mno.serving.protocol import JSON, NPZ, UnsupportedError, decode, encode, media_type

_OPEN = ("/ping", "/health")
_SMALL = 2**18  # bytes that are read and written in no time, without another thread
MODEL_HEADER = "X-MNO-Model"

Handler = Callable[[Request], Awaitable[Response]]


class RefusedError(Exception):
    """A request that is not answered.

    Args:
        status: HTTP status.
        message: Why, and what was expected.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Service:
    """The handlers of all addresses.

    Args:
        follower: Holds the model.
        config: Limits.
        monitor: Counts.
        protocol_version: Of MLflow, whose protocol this is: what `/version` says.
    """

    def __init__(
        self, follower: Follower, config: ServingConfig, monitor: Monitor, protocol_version: str
    ) -> None:
        self._follower, self._config, self._monitor = follower, config, monitor
        self._protocol_version = protocol_version
        self.batcher = Batcher(
            lambda: follower.current, config.max_batch, config.max_waiting, config.max_body,
            monitor.batch_samples.observe,
        )  # fmt: skip

    def routes(self) -> list[Route]:
        """Return all addresses with their handlers."""
        return [
            Route("/invocations", self._guarded(self._invocations), methods=["POST"]),
            Route("/ping", self._ping),
            Route("/health", self._ping),
            Route("/version", self._guarded(self._version)),
            Route("/model", self._guarded(self._model)),
            Route("/metrics", self._guarded(self._metrics)),
        ]

    async def _ping(self, _: Request) -> Response:
        return Response("\n", media_type=JSON)

    async def _version(self, _: Request) -> Response:
        return PlainTextResponse(self._protocol_version)

    async def _model(self, _: Request) -> Response:
        served, description = self._follower.current, self._follower.current.surrogate.description
        return JSONResponse(
            {
                "model": served.name,
                "since": time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(served.since)),
                "inputs": dict(description.inputs),
                "coordinates": dict(description.coordinates),
                "outputs": dict(description.outputs),
                "space": list(description.space),
                "problem": self._follower.problem,
            }
        )

    async def _metrics(self, _: Request) -> Response:
        served = self._follower.current
        self._monitor.serves(served.name, served.since)
        self._monitor.waiting.set(self.batcher.waiting)
        return Response(self._monitor.text(), media_type=CONTENT_TYPE)

    async def _invocations(self, request: Request) -> Response:
        start = time.perf_counter()
        try:
            response = await self._answer(request)
        except RefusedError as error:
            self._monitor.requests.labels(status=str(error.status)).inc()
            raise
        except ClientDisconnect:
            self._monitor.requests.labels(status="gone").inc()
            raise
        self._monitor.requests.labels(status="200").inc()
        self._monitor.seconds.observe(time.perf_counter() - start)
        return response

    async def _answer(self, request: Request) -> Response:
        config = self._config
        try:
            kind = media_type(request.headers.get("content-type"))
            body = await self._body(request)
            steps = request.query_params.get("steps")
            asked = await _aside(len(body), decode, body, kind, steps, config.max_body)
            waiting = self.batcher.ask(asked)
            answer = await asyncio.wait_for(asyncio.wrap_future(waiting), config.answer_timeout)
        except UnsupportedError as error:
            raise RefusedError(415, str(error)) from None
        except InputError as error:
            raise RefusedError(400, str(error)) from None
        except BusyError:
            raise RefusedError(
                503, f"{config.max_waiting} requests are waiting; try again in a moment"
            ) from None
        except TimeoutError:
            raise RefusedError(
                504, f"not answered within {config.answer_timeout:g} s; ask for fewer samples"
            ) from None
        accepted = request.headers.get("accept", "")
        form = NPZ if NPZ in accepted or (kind == NPZ and JSON not in accepted) else JSON
        size = sum(array.nbytes for array in answer.predictions.values())
        about = {"model": answer.served.name}
        content = await _aside(size, encode, answer.predictions, form, about)
        return Response(content, media_type=form, headers={MODEL_HEADER: answer.served.name})

    async def _body(self, request: Request) -> bytes:
        limit = self._config.max_body
        too_large = RefusedError(
            413, f"the request is larger than {limit} bytes; ask for fewer samples at a time"
        )
        claimed = request.headers.get("content-length", "")
        if claimed.isdecimal() and int(claimed) > limit:
            raise too_large
        parts, size = [], 0
        try:
            async with asyncio.timeout(self._config.read_timeout):
                async for part in request.stream():
                    size += len(part)
                    if size > limit:
                        raise too_large
                    parts.append(part)
        except TimeoutError:
            raise RefusedError(
                408, f"the request did not arrive within {self._config.read_timeout:g} s"
            ) from None
        return b"".join(parts)

    def _guarded(self, handler: Handler) -> Handler:
        """Return a handler that asks for the token, and turns refusals into answers."""

        async def guarded(request: Request) -> Response:
            try:
                self._require_token(request)
                return await handler(request)
            except RefusedError as error:
                return refusal(error)

        return guarded

    def _require_token(self, request: Request) -> None:
        token = self._config.token
        if token is None:
            return
        given = request.headers.get("authorization", "")
        if not hmac.compare_digest(given.encode(), f"Bearer {token}".encode()):
            raise RefusedError(401, "expected the header Authorization: Bearer TOKEN")


def refusal(error: RefusedError) -> Response:
    """Return a refusal in the form that MLflow's server gives it."""
    codes = {400: "BAD_REQUEST", 401: "UNAUTHENTICATED", 503: "TEMPORARILY_UNAVAILABLE"}
    content = {
        "error_code": codes.get(error.status, "INVALID_PARAMETER_VALUE"),
        "message": str(error),
    }
    headers = {401: {"WWW-Authenticate": "Bearer"}, 503: {"Retry-After": "1"}}
    return JSONResponse(content, error.status, headers.get(error.status))


def build_app(service: Service, hosts: tuple[str, ...]) -> Starlette:
    """Return the web application.

    Args:
        service: Its handlers.
        hosts: Names that requests may call this machine, so that no page elsewhere can pass
            itself off as it; `*` allows any.
    """
    guard = Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts), www_redirect=False)
    return Starlette(routes=service.routes(), middleware=[guard])


async def _aside(size: int, work: Callable[..., Any], *arguments: Any) -> Any:
    """Do some work; if it is large, beside what else is to be answered."""
    if size <= _SMALL:
        return work(*arguments)
    return await anyio.to_thread.run_sync(work, *arguments)
