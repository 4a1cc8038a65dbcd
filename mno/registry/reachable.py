"""Whether the MLflow server that a user names answers, before its own client asks for minutes."""

from __future__ import annotations

import time
import urllib.error
import urllib.request

from mno.config import first_line
from mno.errors import MnoError

_EACH = 10.0  # seconds that one look may take
_STARTING = (502, 503, 504)  # what a proxy says of a server that is not there


def require_answer(uri: str, patience: float) -> None:
    """Wait until a server answers; a database, or a folder, is none.

    Args:
        uri: Of MLflow.
        patience: Seconds to wait for one that is down, as while it starts anew.

    Raises:
        MnoError: It does not answer in that time.
    """
    if not uri.startswith(("http://", "https://")):
        return
    deadline = time.monotonic() + patience
    while problem := _problem(f"{uri.rstrip('/')}/health"):
        if time.monotonic() > deadline:
            raise MnoError(
                f"MLflow at {uri} does not answer ({problem}); is it running? MLFLOW_TRACKING_URI "
                "says where it is. Run again when it is: what is finished is kept"
            )
        time.sleep(1.0)


def _problem(address: str) -> str | None:
    try:
        urllib.request.urlopen(address, timeout=_EACH).close()  # noqa: S310 - http or https
    except urllib.error.HTTPError as error:  # it answers, whatever it thinks of the address
        return f"HTTP {error.code}" if error.code in _STARTING else None
    except (OSError, ValueError) as error:
        return first_line(getattr(error, "reason", None) or error)
    return None
