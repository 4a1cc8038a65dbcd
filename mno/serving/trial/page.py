"""The page itself: complete in one file, in the reader's language.

It may run its own script and ask its own service, and nothing else.
"""

from __future__ import annotations

import json
import math
import secrets
import tomllib
from base64 import b64encode
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from mno.surrogate.description import Description

LANGUAGES = ("en", "ja")


def page(language: str) -> Response:
    """Return the page.

    Args:
        language: One of `LANGUAGES`.
    """
    nonce = secrets.token_urlsafe(16)
    words = _words(language)
    content = _template().render(
        lang=language,
        nonce=nonce,
        words=words,
        css=Markup(_text("page.css")),
        js=Markup(_text("page.js")),
        data=Markup(json.dumps({**words, "lang": language}).replace("<", "\\u003c")),
    )
    policy = (
        f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; "
        "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )
    headers = {
        "Content-Security-Policy": policy,
        "Cache-Control": "no-store",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }
    return HTMLResponse(content, headers=headers)


def language_of(request: Request) -> str:
    """Return the language that the address or the browser asks for; English if it knows none."""
    asked = request.query_params.get("lang", "")
    accepted = [
        part.partition(";")[0] for part in request.headers.get("accept-language", "").split(",")
    ]
    for wish in (asked, *accepted):
        language = wish.strip().lower()[:2]
        if language in LANGUAGES:
            return language
    return "en"


@cache
def _words(language: str) -> dict[str, Any]:
    """Return all that the page says, and what quantities are called in its language."""
    words: dict[str, Any] = tomllib.loads(_text(f"{language}.toml"))
    report = files("mno.report").joinpath(f"{language}.toml")
    names = tomllib.loads(report.read_text(encoding="utf-8")).get("names", {})
    return words | {"names": {key: name for key, name in names.items() if isinstance(name, str)}}


@cache
def _template() -> Any:
    loader = PackageLoader("mno", "serving/trial")
    environment = Environment(autoescape=True, undefined=StrictUndefined, loader=loader)
    return environment.get_template("page.html.j2")


@cache
def _text(name: str) -> str:
    return files("mno.serving.trial").joinpath(name).read_text(encoding="utf-8")


_MOST_POINTS = 128  # along an axis of space; more are not seen
_MOST_VALUES = 2**21  # of a field, 8 MiB; beyond, frames are left out
_MOST_SCATTERED = 20_000


def shown(
    description: Description, fields: Mapping[str, np.ndarray], labels: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Return fields of one sample as the page takes them.

    Args:
        description: Of the model.
        fields: Shape `(1, *dims)` by name.
        labels: What fields are called; their names where nothing is said.

    Returns:
        For each its `name`, `label`, `units`, `space` (names of the axes of space; `point` for
        unordered points, none for a number), `shape` (frames first where there are such),
        `every` (frames from one shown to the next), `lowest`, `highest` and `data`.
    """
    known = {**description.inputs, **description.outputs, **description.coordinates}
    return [
        _shown(description, name, fields[name][0], labels.get(name, name), known[name])
        for name in known
        if name in fields
    ]


def _shown(
    description: Description, name: str, values: np.ndarray, label: str, units: str
) -> dict[str, Any]:
    space = () if name in description.scalars else description.space
    dims = len(space)
    values = np.asarray(values, dtype="<f4")
    finite = values[np.isfinite(values)]
    frames, every = values.shape[: values.ndim - dims], 1
    most = _MOST_SCATTERED if description.coordinates else _MOST_POINTS
    places = tuple(
        slice(None, None, -(-length // most)) for length in values.shape[values.ndim - dims :]
    )
    values = values[(..., *places)]
    if frames:
        each = math.prod(values.shape[1:])
        every = max(1, -(-frames[0] * each // _MOST_VALUES))
        values = values[::every]
    return {
        "name": name,
        "label": label,
        "units": units,
        "space": list(space),
        "shape": list(values.shape),
        "every": every,
        "lowest": float(finite.min()) if len(finite) else None,
        "highest": float(finite.max()) if len(finite) else None,
        "data": b64encode(np.ascontiguousarray(values).tobytes()).decode("ascii"),
    }
