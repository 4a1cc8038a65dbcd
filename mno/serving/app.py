"""The web application: `/invocations`, `/ping`, `/health`, `/model`, `/metrics`.

The page for trying the model by hand, `/`, and what it asks for are in `mno.serving.trial`.
"""

import asyncio
import hmac
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any

import anyio.to_thread
import numpy as np
import orjson
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from mno.core.absent import Absent
from mno.core.config import Config, ConfigT
from mno.core.errors import InputError, MnoError
from mno.serving import protocol
from mno.serving.batcher import Answer, Batcher
from mno.serving.counts import FLAG, Counts, relative_bound, seen_of
from mno.serving.model import Follower, as_json
from mno.serving.protocol import JSON, NPZ, PredictionRequest, RefusedError

MODEL_HEADER = "X-MNO-Model"

_SMALL = 2**18  # bytes that are read and written in no time, without another thread
_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
_BOUNDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)  # the rest has none
_SAMPLES = (1, 2, 4, 8, 16, 32, 64, 128, 256)

Handler = Callable[[Request], Awaitable[Response]]

_CODES = {
    400: "BAD_REQUEST", 401: "UNAUTHENTICATED", 409: "RESOURCE_CONFLICT",
    503: "TEMPORARILY_UNAVAILABLE",
}  # fmt: skip
_HEADERS = {401: {"WWW-Authenticate": "Bearer"}, 503: {"Retry-After": "1"}}


def status_of(error: MnoError) -> int:
    """Return the HTTP status by which a request is refused."""
    if isinstance(error, RefusedError):
        return error.status
    return 400 if isinstance(error, InputError) else 504


class ServingConfig(Config):
    """Limits of the service; no prediction depends on them. Times are in seconds."""

    max_body_mib: float = 64.0  # largest request
    max_batch: int = 32  # samples per forward pass
    max_waiting: int = 256  # requests that may wait before one is refused
    read_timeout: float = 20.0  # in which a request must arrive
    answer_timeout: float = 120.0  # in which a request must be answered
    poll_interval: float = 2.0  # between looks at which version has the alias
    solver_timeout: float = 60.0  # that a call of the solver by the page may take
    max_plants: int = 64  # that are followed in memory; others are taken up again from the disk
    counts_interval: float = 5.0  # between writes of what was seen, where it changes
    token: str | None = None  # that clients must send as `Authorization: Bearer TOKEN`
    hosts: tuple[str, ...] = ("127.0.0.1", "localhost", "[::1]")  # that requests may call us

    @property
    def max_body(self) -> int:
        """Largest request, bytes."""
        return int(self.max_body_mib * 2**20)


class Monitor:
    """What one service counts, for Prometheus."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()

        def made(kind: type, name: str, told: str, *labels: str, **options: Any) -> Any:
            return kind(f"mno_{name}", told, labels, registry=self._registry, **options)

        counter, histogram = partial(made, Counter), partial(made, Histogram)
        self.requests = counter("requests", "Requests to /invocations, by status", "status")
        self.seconds = histogram("request_seconds", "Time of an answer", buckets=_SECONDS)
        self.batch_samples = histogram("batch_samples", "Samples of a pass", buckets=_SAMPLES)
        self.waiting = made(Gauge, "waiting_requests", "Requests that wait for the model")
        self.changes = counter("model_changes", "Times another version was taken")
        self.failures = counter("model_failures", "Versions that were named and not served")
        self.model = made(Gauge, "model_since_seconds", "Since when it is in service", "model")
        self.samples = counter("samples", "Samples that were answered", "model")
        self.flagged = counter("flagged_samples", "Those unlike the training data", "model")
        told = "Bounds on relative L2 errors"
        self.bounds = histogram("relative_l2_bound", told, "model", buckets=_BOUNDS)

    def answered(self, name: str, samples: int, found: Mapping[str, np.ndarray] | Absent) -> None:
        """Count an answer: the model that gave it, its samples, and what is known of them."""
        self.samples.labels(model=name).inc(samples)
        if isinstance(found, Absent):
            return
        self.flagged.labels(model=name).inc(int(found[FLAG].sum()))
        observe = self.bounds.labels(model=name).observe
        bounds = relative_bound(found)
        for bound in bounds[np.isfinite(bounds)].tolist():
            observe(bound)

    def text(self, name: str, since: float, waiting: int) -> bytes:
        """Return all as Prometheus reads it, with the model in service and how many wait."""
        self.model.clear()
        self.model.labels(model=name).set(since)
        self.waiting.set(waiting)
        return generate_latest(self._registry)


class Service:
    """The handlers of all addresses, for the model that a follower holds.

    What was seen is kept by `counts`, if somebody is to know.
    """

    def __init__(
        self, follower: Follower, config: ServingConfig, monitor: Monitor,
        counts: Counts | None = None,
    ) -> None:  # fmt: skip
        self._follower, self._config = follower, config
        self._monitor, self._counts = monitor, counts
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
                status = status_of(error)
                code = _CODES.get(status, "INVALID_PARAMETER_VALUE")
                content = {"error_code": code, "message": str(error)}
                return JSONResponse(content, status, _HEADERS.get(status))
            except ClientDisconnect:
                return Response(status_code=499)  # to nobody

        return guarded

    async def _ping(self, _: Request) -> Response:
        return Response("\n", media_type=JSON)

    async def _model(self, _: Request) -> Response:
        served, description = self._follower.current, self._follower.current.surrogate.description
        told = {
            "model": served.name,
            "since": time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(served.since)),
            "inputs": dict(description.inputs), "coordinates": dict(description.coordinates),
            **({"times": dict(description.times)} if description.times else {}),
            "outputs": dict(description.outputs), "space": list(description.space),
            "trust": str(served.trust) if isinstance(served.trust, Absent) else None,
            "problem": self._follower.problem,
        }  # fmt: skip
        return JSONResponse(told)

    async def _metrics(self, _: Request) -> Response:
        served = self._follower.current
        text = self._monitor.text(served.name, served.since, self.batcher.waiting)
        return Response(text, media_type=CONTENT_TYPE_LATEST)

    async def _invocations(self, request: Request) -> Response:
        start, requests = time.perf_counter(), self._monitor.requests
        try:
            response = await self._answer(request)
        except (MnoError, ClientDisconnect) as error:
            gone = isinstance(error, ClientDisconnect)
            requests.labels(status="gone" if gone else str(status_of(error))).inc()
            raise
        requests.labels(status="200").inc()
        self._monitor.seconds.observe(time.perf_counter() - start)
        return response

    async def _answer(self, request: Request) -> Response:
        kind = protocol.media_type(request.headers.get("content-type"))
        body = await self.body(request)
        asked = await _aside(
            len(body), protocol.decode, body, kind, request.query_params, self._config.max_body
        )
        answer = await self.counted(asked)
        served, found = answer.served, answer.estimate
        accepted = request.headers.get("accept", "")
        form = NPZ if NPZ in accepted or (kind == NPZ and JSON not in accepted) else JSON
        if form == JSON:
            about = as_json(served, found, asked.bounds)
        else:
            about = {} if isinstance(found, Absent) else found
        size = sum(array.nbytes for array in answer.predictions.values())
        content = await _aside(size, protocol.encode, answer.predictions, form, about)
        return Response(content, media_type=form, headers={MODEL_HEADER: served.name})

    async def counted(self, asked: PredictionRequest) -> Answer:
        """Return the model's answer, and count what was seen; errors are those of `ask`."""
        answer = await self.ask(asked)
        name, found = answer.served.name, answer.estimate
        samples = max((len(array) for array in answer.predictions.values()), default=0)
        self._monitor.answered(name, samples, found)
        if self._counts is not None:
            self._counts.add(name, seen_of(samples, found))
        return answer

    async def ask(self, asked: PredictionRequest) -> Answer:
        """Return the model's answer, which comes with that of others who wait.

        An `InputError` says that the request does not fit the model, a `RefusedError` that too many
        wait, or that there is none in time.
        """
        limit, most = self._config.answer_timeout, self._config.max_body
        largest = max((array.size for array in asked.inputs.values()), default=0)
        if asked.steps and 4 * largest * asked.steps > most:
            said = f"steps={asked.steps}; the answer would be larger than {most} bytes"
            raise InputError(f"{said}; expected fewer, or fewer samples at a time")
        try:
            return await asyncio.wait_for(asyncio.wrap_future(self.batcher.ask(asked)), limit)
        except TimeoutError:
            why = f"not answered within {limit:g} s; ask for fewer samples or steps"
            raise RefusedError(504, why) from None

    async def asked(self, request: Request, kind: type[ConfigT]) -> ConfigT:
        """Return what a request in JSON asks; an `InputError` or `RefusedError` if it cannot be."""
        said = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if said != JSON:
            raise RefusedError(415, f"content type {said!r}; expected {JSON}")
        body = await self.body(request)
        try:
            return kind.model_validate(orjson.loads(body))
        except ValidationError as error:
            problem = error.errors()[0]
            where = ".".join(str(part) for part in problem["loc"])
            raise InputError(f"{where or 'the request'}: {problem['msg']}") from None
        except ValueError as error:
            raise InputError(f"the request is not JSON: {error}") from None

    async def body(self, request: Request) -> bytes:
        """Return a request's content; a `RefusedError` if it is too large, or comes too slowly."""
        limit, patience = self._config.max_body, self._config.read_timeout
        why = f"the request is larger than {limit} bytes; ask for fewer samples at a time"
        too_large = RefusedError(413, why)
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
    """Return the web application, with more addresses than the service's.

    Hosts are the names that requests may call this machine, so that no page elsewhere can pass
    itself off as it; `*` allows any.
    """
    guard = Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts), www_redirect=False)
    return Starlette(routes=[*service.routes(), *more], middleware=[guard])


def json_response(content: Any, status: int = 200, headers: dict | None = None) -> Response:
    """Return an answer in JSON, whose content may hold arrays."""
    text = orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(text, status, headers, media_type=JSON)


async def _aside(size: int, work: Callable[..., Any], *arguments: Any) -> Any:
    """Do some work; if it is large, beside what else is to be answered."""
    return work(*arguments) if size <= _SMALL else await anyio.to_thread.run_sync(work, *arguments)
