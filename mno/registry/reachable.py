"""Whether the server that a user names answers, before MLflow itself asks for minutes."""

from __future__ import annotations

import socket
import time
import urllib.error
import urllib.request
from urllib.parse import urlsplit

from mno.core.errors import MnoError, first_line

_EACH = 10.0  # seconds that one look may take
_STARTING = (502, 503, 504)  # what a proxy says of a server that is not there
_PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}


def require_answer(uri: str, patience: float) -> None:
    """Wait until MLflow's server, or its database's, answers; a file or folder needs none.

    Args:
        uri: Of MLflow.
        patience: Seconds to wait for one that is down, as while it starts anew.

    Raises:
        MnoError: It does not answer in that time.
    """
    deadline = time.monotonic() + patience
    while problem := _problem(uri):
        if time.monotonic() > deadline:
            raise MnoError(
                f"MLflow at {without_password(uri)} does not answer ({problem}); is it running? "
                "MLFLOW_TRACKING_URI says where it is. Run again when it is: what is finished is "
                "kept"
            )
        time.sleep(1.0)


def without_password(uri: str) -> str:
    """Return an address as it may be shown."""
    password = urlsplit(uri).password
    return uri.replace(f":{password}@", ":***@") if password else uri


def _problem(uri: str) -> str | None:
    parts = urlsplit(uri)
    kind = parts.scheme.partition("+")[0]
    try:
        if kind in ("http", "https"):
            host = parts.netloc.rpartition("@")[2]
            address = f"{kind}://{host}{parts.path.rstrip('/')}/health"
            urllib.request.urlopen(address, timeout=_EACH).close()  # noqa: S310 - http or https
        elif parts.hostname and (port := parts.port or _PORTS.get(kind)):
            socket.create_connection((parts.hostname, port), timeout=_EACH).close()
    except urllib.error.HTTPError as error:  # it answers, whatever it thinks of the address
        return f"HTTP {error.code}" if error.code in _STARTING else None
    except (OSError, ValueError) as error:
        return first_line(getattr(error, "reason", None) or error)
    return None
