"""Plants that are followed over HTTP: `POST /readings`, and the live page `/watch`.

A reading is `{"plant": "furnace 3", "time": 1800, "readings": {"setpoint.front": 900}}`, answered
as `mno.serving.plant` says. With `"run": {…}` the plant's run begins, whatever was before.
"""

import asyncio
import re
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any

import anyio.to_thread
import orjson
from pydantic import Field, FiniteFloat
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from mno.core.absent import Absent
from mno.core.config import Config
from mno.core.errors import InputError
from mno.core.files import sha256
from mno.serving.app import Service
from mno.serving.counts import Counts
from mno.serving.model import Follower, Served
from mno.serving.plant import NotInOrderError, Observer, Plant, keep
from mno.serving.protocol import RefusedError
from mno.serving.trial_page import page

_SHOWN = 2000  # readings of a plant that a page gets when it is opened
_PATIENCE = 1.0  # seconds between looks at whether the service ends


class ReadingRequest(Config):
    """A reading of one plant; with its first one what is the same during the run."""

    plant: str = Field(min_length=1, max_length=200)
    time: FiniteFloat | str
    readings: dict[str, FiniteFloat | None]
    run: dict[str, Any] | None = None


class _Watched:
    def __init__(self, plant: Plant, path: Path) -> None:
        self.plant, self.path = plant, path
        self.told: deque[tuple[int, bytes]] = deque(maxlen=_SHOWN)


class Watching:
    """The handlers of these addresses, for the observer that a follower holds.

    What is known of a plant is in a file of the folder; those told last are in memory, too, so many
    at `most`. When another model is served, runs have to begin anew.
    """

    def __init__(
        self, service: Service, follower: Follower, folder: Path, most: int, counts: Counts | None
    ) -> None:
        self._service, self._follower, self._folder = service, follower, folder
        self._most, self._counts = most, counts
        self._plants: OrderedDict[str, _Watched] = OrderedDict()
        self._observer: tuple[Served, Observer] | None = None
        self._turn, self._news = asyncio.Lock(), asyncio.Event()
        self.ending: Callable[[], bool] = lambda: False
        """Whether the service ends, which waits for those who listen."""

    def routes(self) -> list[Route]:
        """Return the addresses with their handlers; all but the bare page ask for the token."""
        guarded = self._service.guarded
        return [
            Route("/readings", guarded(self._readings), methods=["POST"]),
            Route("/watch", partial(page, name="watch")),
            Route("/watch/setup", guarded(self._setup)),
            Route("/watch/events", guarded(self._events)),
        ]

    async def _readings(self, request: Request) -> Response:
        asked = await self._service.asked(request, ReadingRequest)
        async with self._turn:
            watched, content = await anyio.to_thread.run_sync(self._take, asked)
            watched.told.append((watched.plant.counts["told"], content))
        self._news.set()
        self._news = asyncio.Event()
        return Response(content, media_type="application/json")

    def _take(self, asked: ReadingRequest) -> tuple[_Watched, bytes]:
        watched = self._watched(asked)
        try:
            answer = watched.plant.take(asked.time, asked.readings)
        except NotInOrderError as error:
            raise RefusedError(409, f"{asked.plant}: {error}") from None
        assert answer is not None  # nothing is waited for
        self._plants[asked.plant] = watched
        self._plants.move_to_end(asked.plant)
        if len(self._plants) > self._most:
            self._plants.popitem(last=False)
        try:
            keep(watched.path.with_suffix(".csv"), answer)
            watched.plant.save(watched.path)
        except OSError as error:  # what is on the disk is where it goes on
            del self._plants[asked.plant]
            raise RefusedError(503, f"cannot be kept: {error}; send it again") from None
        if self._counts is not None:
            self._counts.add(watched.plant.observer.name, watched.plant.seen(answer))
        return watched, orjson.dumps({"plant": asked.plant, **answer})

    def _watched(self, asked: ReadingRequest) -> _Watched:
        """Return a plant as it is known, or at the beginning of its run."""
        name, observer = asked.plant, self._observed()
        slug = re.sub(r"[^A-Za-z0-9_-]", "-", name)[:50]
        path = self._folder / f"{slug}-{sha256(name)[:12]}.safetensors"
        watched = self._plants.get(name)
        if asked.run is not None:
            watched = _Watched(Plant(observer, observer.begin(asked.run)), path)
        elif watched is None or watched.plant.observer is not observer:
            if not path.is_file():
                raise InputError(
                    f"{name[:50]} has no run yet; give `run` with its first reading: "
                    f"{observer.run_in_words()}"
                )
            try:
                watched = _Watched(Plant.load(path, observer)[0], path)
            except InputError as error:
                raise RefusedError(409, f"{error}, with `run`") from None
        return watched

    def _observed(self) -> Observer:
        served = self._follower.current
        if self._observer is None or self._observer[0] is not served:
            trust = served.trust
            known_as = served.uri if isinstance(trust, Absent) else trust.model_sha256
            self._observer = served, Observer(served.surrogate, trust, known_as, served.name)
        return self._observer[1]

    async def _setup(self, _: Request) -> Response:
        observer = self._observed()
        async with self._turn:
            plants = list(self._plants)[::-1]
        outputs = dict(observer.description.outputs)
        return JSONResponse({"model": observer.name, "plants": plants, "outputs": outputs})

    async def _events(self, request: Request) -> Response:
        name = request.query_params.get("plant", "")

        async def events() -> AsyncIterator[bytes]:
            last, sent = None, 0
            while not self.ending():
                news, watched = self._news, self._plants.get(name)
                if watched is not None:
                    sent = sent if watched is last else 0
                    for number, content in [told for told in watched.told if told[0] > sent]:
                        yield b"data: " + content + b"\n\n"
                        sent = number
                last = watched
                try:
                    await asyncio.wait_for(news.wait(), _PATIENCE)
                except TimeoutError:
                    yield b":\n\n"

        headers = {"Cache-Control": "no-store"}
        return StreamingResponse(events(), media_type="text/event-stream", headers=headers)
