"""The web application: `/invocations`, `/ping`, `/health`, `/version`, `/model`, `/metrics`.

The page for trying the model by hand, `/`, and what it asks for are in `mno.serving.trial`.
"""

from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any

import anyio.to_thread
import numpy as np
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from pydantic import Field
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from mno.core.absent import Absent
from mno.core.config import Config
from mno.core.errors import InputError, MnoError
from mno.serving.batcher import Answer, Batcher
from mno.serving.counts import FLAG, Counts, relative_bound
from mno.serving.model import Follower, as_json
from mno.serving.protocol import (
    JSON,
    NPZ,
    BusyError,
    PredictionRequest,
    UnsupportedError,
    decode,
    encode,
    media_type,
)

MODEL_HEADER = "X-MNO-Model"

_SMALL = 2**18  # bytes that are read and written in no time, without another thread
_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
_BOUNDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)  # the rest has none
_SAMPLES = (1, 2, 4, 8, 16, 32, 64, 128, 256)

Handler = Callable[[Request], Awaitable[Response]]


class RefusedError(MnoError):
    """A request that is not answered, and with which HTTP status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


_STATUS = {UnsupportedError: 415, InputError: 400, BusyError: 503}
_CODES = {400: "BAD_REQUEST", 401: "UNAUTHENTICATED", 503: "TEMPORARILY_UNAVAILABLE"}
_HEADERS = {401: {"WWW-Authenticate": "Bearer"}, 503: {"Retry-After": "1"}}


def _status_of(error: MnoError) -> int:
    if isinstance(error, RefusedError):
        return error.status
    return next((status for kind, status in _STATUS.items() if isinstance(error, kind)), 504)


class ServingConfig(Config):
    """Limits of the service; no prediction depends on them."""

    max_body_mib: float = Field(default=64.0, gt=0, description="largest request, MiB")
    max_batch: int = Field(default=32, ge=1, description="samples per forward pass")
    max_waiting: int = Field(
        default=256, ge=1, description="requests that may wait before one is refused"
    )
    read_timeout: float = Field(
        default=20.0, gt=0, description="seconds in which a request must arrive"
    )
    answer_timeout: float = Field(
        default=120.0, gt=0, description="seconds in which a request must be answered"
    )
    poll_interval: float = Field(
        default=2.0, gt=0, description="seconds between looks at which version has the alias"
    )
    solver_timeout: float = Field(
        default=60.0, gt=0, description="seconds that a call of the solver by the page may take"
    )
    counts_interval: float = Field(
        default=5.0, gt=0, description="seconds between writes of what was seen, where it changes"
    )
    token: str | None = Field(
        default=None,
        min_length=8,
        description="what clients must send as `Authorization: Bearer TOKEN`",
    )
    hosts: tuple[str, ...] = Field(
        default=("127.0.0.1", "localhost", "[::1]"),
        description="names that requests may call this machine; `*` allows any",
    )

    @property
    def max_body(self) -> int:
        """Largest request, bytes."""
        return int(self.max_body_mib * 2**20)


class Monitor:
    """What one service counts, for Prometheus."""

    def __init__(self) -> None:
        known = self._registry = CollectorRegistry()
        counter, gauge = partial(Counter, registry=known), partial(Gauge, registry=known)
        histogram, model = partial(Histogram, registry=known), ["model"]
        self.requests = counter("mno_requests", "Requests to /invocations, by status", ["status"])
        told = "Time from a request's arrival to its answer"
        self.seconds = histogram("mno_request_seconds", told, buckets=_SECONDS)
        told = "Samples that were predicted together"
        self.batch_samples = histogram("mno_batch_samples", told, buckets=_SAMPLES)
        self.waiting = gauge("mno_waiting_requests", "Requests that wait for the model")
        self.changes = counter("mno_model_changes", "Times another version was taken")
        self.failures = counter("mno_model_failures", "Versions that were named and not served")
        told = "When the model was taken into service"
        self.model = gauge("mno_model_since_seconds", told, model)
        self.samples = counter("mno_samples", "Samples that were answered", model)
        told = "Samples that are unlike the training data"
        self.flagged = counter("mno_flagged_samples", told, model)
        told = "Bounds on the relative L2 errors of what was answered"
        self.bounds = histogram("mno_relative_l2_bound", told, model, buckets=_BOUNDS)

    def answered(self, name: str, samples: int, found: Mapping[str, np.ndarray] | Absent) -> None:
        """Count an answer: the model that gave it, its samples, and what is known of them."""
        self.samples.labels(model=name).inc(samples)
        if isinstance(found, Absent):
            return
        self.flagged.labels(model=name).inc(int(found[FLAG].sum()))
        observe = self.bounds.labels(model=name).observe
        for bound in relative_bound(found).tolist():
            observe(bound)

    def serves(self, name: str, since: float) -> None:
        """Note which model is in service."""
        self.model.clear()
        self.model.labels(model=name).set(since)

    def text(self) -> bytes:
        """Return all counters as Prometheus reads them."""
        return generate_latest(self._registry)


class Service:
    """The handlers of all addresses.

    Args:
        follower: Holds the model.
        config: Limits.
        monitor: Counts.
        protocol_version: Of MLflow, whose protocol this is: what `/version` says.
        counts: Keeps what was seen; none if nobody is to know.
    """

    def __init__(
        self,
        follower: Follower,
        config: ServingConfig,
        monitor: Monitor,
        protocol_version: str,
        counts: Counts | None = None,
    ) -> None:
        self._follower, self._config, self._monitor = follower, config, monitor
        self._protocol_version, self._counts = protocol_version, counts
        self.batcher = Batcher(
            lambda: follower.current, config.max_batch, config.max_waiting, config.max_body,
            monitor.batch_samples.observe,
        )  # fmt: skip

    def routes(self) -> list[Route]:
        """Return all addresses with their handlers."""
        return [
            Route("/invocations", self.guarded(self._invocations), methods=["POST"]),
            Route("/ping", self._ping),
            Route("/health", self._ping),
            Route("/version", self.guarded(self._version)),
            Route("/model", self.guarded(self._model)),
            Route("/metrics", self.guarded(self._metrics)),
        ]

    def guarded(self, handler: Handler) -> Handler:
        """Return a handler that asks for the token, and refuses in the form that MLflow does."""
        token = self._config.token

        async def guarded(request: Request) -> Response:
            try:
                given = request.headers.get("authorization", "").encode()
                if token and not hmac.compare_digest(given, f"Bearer {token}".encode()):
                    raise RefusedError(401, "expected the header Authorization: Bearer TOKEN")
                return await handler(request)
            except MnoError as error:
                status = _status_of(error)
                code = _CODES.get(status, "INVALID_PARAMETER_VALUE")
                content = {"error_code": code, "message": str(error)}
                return JSONResponse(content, status, _HEADERS.get(status))

        return guarded

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
                "trust": str(served.trust) if isinstance(served.trust, Absent) else None,
                "problem": self._follower.problem,
            }
        )

    async def _metrics(self, _: Request) -> Response:
        served = self._follower.current
        self._monitor.serves(served.name, served.since)
        self._monitor.waiting.set(self.batcher.waiting)
        return Response(self._monitor.text(), media_type=CONTENT_TYPE_LATEST)

    async def _invocations(self, request: Request) -> Response:
        start, requests = time.perf_counter(), self._monitor.requests
        try:
            response = await self._answer(request)
        except (MnoError, ClientDisconnect) as error:
            gone = isinstance(error, ClientDisconnect)
            requests.labels(status="gone" if gone else str(_status_of(error))).inc()
            raise
        requests.labels(status="200").inc()
        self._monitor.seconds.observe(time.perf_counter() - start)
        return response

    async def _answer(self, request: Request) -> Response:
        kind, limit = media_type(request.headers.get("content-type")), self._config.max_body
        body = await self.body(request)
        asked = await _aside(len(body), decode, body, kind, request.query_params, limit)
        answer = await self.ask(asked)
        served, found = answer.served, answer.estimate
        samples = max((len(array) for array in answer.predictions.values()), default=0)
        self._monitor.answered(served.name, samples, found)
        if self._counts is not None:
            self._counts.add(served, samples, found)
        accepted = request.headers.get("accept", "")
        form = NPZ if NPZ in accepted or (kind == NPZ and JSON not in accepted) else JSON
        if form == JSON:
            about = as_json(served, found, asked.bounds)
        else:
            about = {} if isinstance(found, Absent) else found
        size = sum(array.nbytes for array in answer.predictions.values())
        content = await _aside(size, encode, answer.predictions, form, about)
        return Response(content, media_type=form, headers={MODEL_HEADER: served.name})

    async def ask(self, asked: PredictionRequest) -> Answer:
        """Return the model's answer, which comes with that of others who wait.

        Raises:
            InputError: The request does not fit the model.
            BusyError: Too many wait.
            RefusedError: There is none in time.
        """
        limit = self._config.answer_timeout
        try:
            waiting = self.batcher.ask(asked)
            return await asyncio.wait_for(asyncio.wrap_future(waiting), limit)
        except TimeoutError:
            raise RefusedError(
                504, f"not answered within {limit:g} s; ask for fewer samples"
            ) from None

    async def body(self, request: Request) -> bytes:
        """Return a request's content.

        Raises:
            RefusedError: It is too large, or comes too slowly.
        """
        limit, patience = self._config.max_body, self._config.read_timeout
        too_large = RefusedError(
            413, f"the request is larger than {limit} bytes; ask for fewer samples at a time"
        )
        claimed = request.headers.get("content-length", "")
        if claimed.isdecimal() and int(claimed) > limit:
            raise too_large
        body = bytearray()
        try:
            async with asyncio.timeout(patience):
                async for part in request.stream():
                    body += part
                    if len(body) > limit:
                        raise too_large
        except TimeoutError:
            raise RefusedError(408, f"the request did not arrive within {patience:g} s") from None
        return bytes(body)


def build_app(service: Service, hosts: tuple[str, ...], more: Sequence[Route] = ()) -> Starlette:
    """Return the web application.

    Args:
        service: Its handlers.
        hosts: Names that requests may call this machine, so that no page elsewhere can pass
            itself off as it; `*` allows any.
        more: Further addresses.
    """
    guard = Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts), www_redirect=False)
    return Starlette(routes=[*service.routes(), *more], middleware=[guard])


async def _aside(size: int, work: Callable[..., Any], *arguments: Any) -> Any:
    """Do some work; if it is large, beside what else is to be answered."""
    if size <= _SMALL:
        return work(*arguments)
    return await anyio.to_thread.run_sync(work, *arguments)
