"""`mno serve`: a registered model as an HTTP service, on this machine unless told otherwise."""

import os
import signal
import socket
import sys
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from flows.line import VERDICTS
from flows.options import Quiet
from flows.pages import port_refused
from flows.workspace import find_workspace, prepare_environment
from mno.core.config import model_subject, read_params
from mno.core.errors import MnoError

WATCHED = Path(".mno/watch/served")
TOKEN = "MNO_SERVE_TOKEN"  # noqa: S105 - the name of a variable


def serve(
    alias: Annotated[str, typer.Option(
        help="Serve the version that has this alias, and follow it.")] = "champion",
    model: Annotated[str | None, typer.Option(
        help="Registered model; the current scenario's if not given.")] = None,
    host: Annotated[str, typer.Option(
        help="Address to listen at; 0.0.0.0 serves other machines, too.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, help="Port; 0 takes a free one.")] = 5002,
    max_body: Annotated[float, typer.Option(
        min=0.001, help="Largest request, MiB.", metavar="MIB")] = 64.0,
    timeout: Annotated[float, typer.Option(
        min=0.1, help="Longest time of an answer, s.", metavar="SECONDS")] = 120.0,
    quiet: Quiet = False,
) -> None:  # fmt: skip
    """Answer requests for predictions over HTTP, by MLflow's protocol; follow the champion.

    Example: mno serve --port 5002    then: curl http://127.0.0.1:5002/model
    or open http://127.0.0.1:5002/ to try the model by hand.

    Where the variable MNO_SERVE_TOKEN is set, clients must send that token.
    """
    root = find_workspace()
    token, listening = os.environ.get(TOKEN) or None, _listen(host, port)
    prepare_environment(root)
    from mno.registry.reading import NamedModel

    name = model or f"mno-{model_subject(read_params(root))}"
    registry = NamedModel(root, f"models:/{name}@{alias}")
    import uvicorn

    from mno.serving.app import Monitor, Service, ServingConfig, build_app
    from mno.serving.counts import FOLDER, Counts
    from mno.serving.model import Follower
    from mno.serving.trial import TrialPage
    from mno.serving.umbridge import Bridge
    from mno.serving.watching import Watching

    config = ServingConfig(max_body_mib=max_body, answer_timeout=timeout)
    loopback = host in ("127.0.0.1", "::1", "localhost")
    hosts = config.hosts if loopback else ("*",)  # of a machine that is not for itself alone any
    config = config.model_copy(update={"token": token, "hosts": hosts})
    monitor = Monitor()

    def on_change(went_well: bool, line: str) -> None:
        (monitor.changes if went_well else monitor.failures).inc()
        if not (quiet and went_well):
            print(line, file=sys.stderr, flush=True)

    seen = root / FOLDER / f"{name}@{alias}.{listening.getsockname()[1]}.json"
    try:
        counts = Counts(seen, config.counts_interval)
    except OSError as error:
        raise MnoError(f"{seen} cannot be written ({error}); make room or allow it") from None
    try:
        follower = Follower(registry, config.poll_interval, on_change)
    except ValueError as error:
        raise MnoError(f"{name}@{alias} cannot be served: {error}") from None
    service = Service(follower, config, monitor, counts)
    trial = TrialPage(service, follower, root, config.solver_timeout)
    watching = Watching(service, follower, root / WATCHED, config.max_plants, counts)
    more = [*trial.routes(), *watching.routes(), *Bridge(service, follower).routes()]
    app = build_app(service, config.hosts, more)
    if not quiet:
        served = follower.current
        verdict = VERDICTS[registry.verdict()]
        name = f"{served.name} ({verdict})" if verdict else served.name
        _print_start(name, served.surrogate.description.observes, listening, bool(token))
    server = uvicorn.Server(
        uvicorn.Config(
            app, log_level="warning", access_log=False, lifespan="off", server_header=False,
            timeout_keep_alive=30, timeout_graceful_shutdown=int(config.answer_timeout),
            h11_max_incomplete_event_size=2**16,
        )
    )  # fmt: skip
    watching.ending = lambda: server.should_exit
    # uvicorn raises the signal that ended it once more, by which the process would end at once.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with closing(counts), closing(follower), closing(service.batcher), closing(trial):
        server.run(sockets=[listening])


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=1024)
    except (OSError, OverflowError) as error:
        raise port_refused(host, port, "--port", error) from None


def _print_start(model: str, observes: bool, listening: socket.socket, secret: bool) -> None:
    host, port = listening.getsockname()[:2]
    address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    page = f"Try it by hand at {address}/"
    if observes:
        page = f"Send it readings at {address}/readings, and watch plants at {address}/watch"
    token = ' -H "Authorization: Bearer TOKEN"' if secret else ""
    print(
        f"{model} answers at {address}/invocations; Ctrl-C ends it.\n"
        f"{page}\n"
        f"Ask what it takes with: curl{token} {address}/model",
        flush=True,
    )
