"""A service that answers on a free port while a test asks it."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import uvicorn
from starlette.routing import Route

from mno.serving.app import Monitor, Service, ServingConfig, build_app
from mno.serving.counts import Counts
from mno.serving.model import Follower, Registry

PATIENCE = 120_000  # ms: the first call of the solver starts a process


@dataclass
class Running:
    """A service that answers.

    Attributes:
        told: What its follower has told: whether it went well, and a line.
    """

    port: int
    service: Service
    follower: Follower
    told: list[tuple[bool, str]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def running(
    registry: Registry,
    config: ServingConfig | None = None,
    counts: Counts | None = None,
    more: Callable[[Service, Follower], Sequence[Route]] = lambda service, follower: (),
    at_end: Callable[[], None] = lambda: None,
) -> Iterator[Running]:
    """Serve, with further addresses that `more(service, follower)` returns."""
    config = config or ServingConfig(poll_interval=60.0)
    told: list[tuple[bool, str]] = []
    follower = Follower(registry, config.poll_interval, lambda *news: told.append(news))
    service = Service(follower, config, Monitor(), counts)
    settings = uvicorn.Config(
        build_app(service, config.hosts, more(service, follower)), host="127.0.0.1", port=0,
        log_level="error", lifespan="off",
    )  # fmt: skip
    server = uvicorn.Server(settings)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        port = server.servers[0].sockets[0].getsockname()[1]
        yield Running(port, service, follower, told)
    finally:
        server.should_exit = True
        thread.join()
        service.batcher.close()
        follower.close()
        at_end()
        if counts is not None:
            counts.close()


def opened(browser, address: str, **context):
    """Open a page; return it, and what it asked others for or complained of."""
    page, heard = browser.new_context(**context).new_page(), []
    page.set_default_timeout(PATIENCE)
    home = "/".join(address.split("/")[:3])
    page.on("console", lambda message: heard.append(message.text))
    page.on("pageerror", lambda error: heard.append(str(error)))
    page.on("request", lambda asked: heard.extend([asked.url] * (not asked.url.startswith(home))))
    page.goto(address)
    return page, heard
