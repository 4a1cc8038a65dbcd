"""Prefect's temporary server, started out of the reach of Ctrl-C."""

from __future__ import annotations

import signal
import threading

from mno.core.errors import MnoError, first_line


def start_temporary_server() -> None:
    """Start the server that Prefect would start by itself, unless the user names another.

    A terminal sends Ctrl-C to every process of the command. The server must outlive it, or the
    flow waits for minutes to report to it that it was cancelled. A child inherits which signals
    its parent's thread blocks, so it is started from a thread that blocks this one.

    Raises:
        MnoError: It does not answer in time.
    """
    from prefect.settings import PREFECT_API_URL

    if PREFECT_API_URL.value():
        return
    from prefect.server.api.server import SubprocessASGIServer

    failures: list[RuntimeError] = []

    def start() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            SubprocessASGIServer().start()
        except RuntimeError as error:
            failures.append(error)

    thread = threading.Thread(target=start, daemon=True, name="prefect-server")
    thread.start()
    thread.join()
    if failures:
        raise MnoError(
            f"Prefect's temporary server did not start ({first_line(failures[0])}); is the machine "
            "very busy? Run again: what is finished is kept"
        )
