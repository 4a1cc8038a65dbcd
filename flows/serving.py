"""`mno serve`: a registered model as an HTTP service, on this machine unless told otherwise."""

from __future__ import annotations

import os
import signal
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

from flows.workspace import find_workspace, prepare_environment
from mno.core.config import dataset_name, read_params
from mno.core.errors import InputError, MnoError
from mno.serving.config import ServingConfig

TOKEN = "MNO_SERVE_TOKEN"  # noqa: S105 - the name of a variable


@dataclass(frozen=True)
class ServeOptions:
    """What a user may say of a service.

    Attributes:
        alias: The alias to follow.
        model: Name of the registered model; that of the current scenario if none.
        host: Address to listen at.
        port: Port to listen at; 0 takes a free one.
        token_file: File that holds the token clients must send.
        config: Limits.
        quiet: Print failures only.
    """

    alias: str
    model: str | None
    host: str
    port: int
    token_file: Path | None
    config: ServingConfig
    quiet: bool


def serve(options: ServeOptions) -> None:
    """Serve until Ctrl-C or a plain kill; requests that have begun are answered first.

    Raises:
        InputError: There is no such model, or the port is taken.
        MnoError: The registry or the model cannot be used.
    """
    root = find_workspace()
    config = options.config.model_copy(
        update={"token": _token(options.token_file), "hosts": _hosts(options)}
    )
    listening = _listen(options.host, options.port)
    prepare_environment(root)
    import uvicorn

    from mno.registry.reading import NamedModel
    from mno.registry.settings import import_mlflow
    from mno.serving.app import Service, build_app
    from mno.serving.counts import FOLDER, Counts
    from mno.serving.follower import Follower
    from mno.serving.monitor import Monitor
    from mno.serving.trial.routes import Trial

    monitor = Monitor()

    def told(went_well: bool, line: str) -> None:
        (monitor.changes if went_well else monitor.failures).inc()
        if not (options.quiet and went_well):
            print(line, file=sys.stderr, flush=True)

    name = options.model or f"mno-{dataset_name(read_params(root))}"
    registry = NamedModel(root, f"models:/{name}@{options.alias}")
    seen = root / FOLDER / f"{name}@{options.alias}.{listening.getsockname()[1]}.json"
    try:
        counts = Counts(seen, config.counts_interval)
    except OSError as error:
        raise MnoError(f"{seen} cannot be written ({error}); make room or allow it") from None
    try:
        follower = Follower(registry, config.poll_interval, told)
    except ValueError as error:
        raise MnoError(f"{name}@{options.alias} cannot be served: {error}") from None
    service = Service(follower, config, monitor, import_mlflow().__version__, counts)
    trial = Trial(service, follower, root, config.solver_timeout)
    app = build_app(service, config.hosts, trial.routes())
    if not options.quiet:
        _print_start(follower.current.name, listening, config)
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            lifespan="off",
            server_header=False,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=int(config.answer_timeout),
            h11_max_incomplete_event_size=2**16,
        )  # fmt: skip
    )
    # uvicorn raises the signal that ended it once more, by which the process would end at once.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        server.run(sockets=[listening])
    finally:
        trial.close()
        service.batcher.close()
        follower.close()
        counts.close()


def _token(file: Path | None) -> str | None:
    if file is None:
        return os.environ.get(TOKEN) or None
    try:
        token = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--token-file {file} cannot be read: {error}") from None
    if len(token) < 8:
        raise InputError(f"--token-file {file} holds {len(token)} characters; expected 8 or more")
    return token


def _hosts(options: ServeOptions) -> tuple[str, ...]:
    """Return the names by which requests may call this machine: any, if it is not for it alone."""
    loopback = ServingConfig().hosts
    return loopback if options.host in ("127.0.0.1", "::1", "localhost") else ("*",)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(1024)
    except (OSError, OverflowError) as error:
        listening.close()
        raise InputError(
            f"cannot listen at {host}, port {port} ({error}); try another --port, or 0 for a free "
            "one"
        ) from None
    return listening


def _print_start(model: str, listening: socket.socket, config: ServingConfig) -> None:
    host, port = listening.getsockname()[:2]
    address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    token = "" if config.token is None else ' -H "Authorization: Bearer TOKEN"'
    print(
        f"{model} answers at {address}/invocations; Ctrl-C ends it.\n"
        f"Try it by hand at {address}/\n"
        f"Ask what it takes with: curl{token} {address}/model",
        flush=True,
    )
