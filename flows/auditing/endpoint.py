"""What a served endpoint says of the model behind it."""

from __future__ import annotations

import json
import os
import re
from urllib.parse import urlsplit

import httpx

from flows.serving import TOKEN
from mno.core.errors import InputError, first_line

TIMEOUT = 10.0  # seconds
LIMIT = 1 << 18  # bytes of an answer that are read
_NAMED = re.compile(r"([^/@:\s]+)/([0-9]+)")
_TIME = re.compile(r"[\dT:+-]+")
_SHOWN = 200


def is_address(target: str) -> bool:
    """Tell whether a target is an address on a network, of whatever kind."""
    return "://" in target


def served_model(address: str) -> tuple[str, str]:
    """Ask an endpoint of `mno serve` which version it serves.

    A token is taken from `MNO_SERVE_TOKEN`, as the server takes it. No redirection is followed.

    Args:
        address: For example `http://127.0.0.1:5001`, with or without `/invocations`.

    Returns:
        The version as `models:/NAME/VERSION`, and what the endpoint said, for a person.

    Raises:
        InputError: It is no such address, does not answer, or does not name a version.
    """
    try:
        parts = urlsplit(address)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
        raise InputError(
            f"{address}: expected http://HOST:PORT or https://HOST:PORT of a served model, as "
            f"http://127.0.0.1:5001; a token goes into {TOKEN}"
        )
    path = parts.path.rstrip("/").removesuffix("/invocations")
    url = f"{parts.scheme}://{parts.netloc}{path}/model"
    token = os.environ.get(TOKEN)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        with httpx.stream("GET", url, headers=headers, timeout=TIMEOUT) as response:
            body = b""
            for block in response.iter_bytes():
                body += block
                if len(body) > LIMIT:
                    break
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise InputError(
            f"{url} does not answer ({first_line(error)}); start it with mno serve, or name the "
            "version: models:/NAME/VERSION"
        ) from None
    return _read(url, response.status_code, body)


def _read(url: str, status: int, body: bytes) -> tuple[str, str]:
    text = body[:_SHOWN].decode(errors="replace").strip()
    said = " ".join(text.split()).encode("ascii", "backslashreplace").decode()
    if status == httpx.codes.UNAUTHORIZED:
        raise InputError(f"{url} wants a token: set {TOKEN} to the one it was started with")
    try:
        content = json.loads(body) if status == httpx.codes.OK else None
    except ValueError:
        content = None
    named = content.get("model") if isinstance(content, dict) else None
    match = _NAMED.fullmatch(named) if isinstance(named, str) else None
    if match is None:
        raise InputError(
            f"{url} answered {status}: {said or 'nothing'!r}; expected a version, as an endpoint "
            "of mno serve names it"
        )
    since = content.get("since") if isinstance(content, dict) else None
    dated = f" since {since}" if isinstance(since, str) and _TIME.fullmatch(since) else ""
    return f"models:/{match[1]}/{match[2]}", f"{url.removesuffix('/model')} serves {named}{dated}"
