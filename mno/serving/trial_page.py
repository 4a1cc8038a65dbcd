"""The pages themselves, each complete in one file, in the reader's language.

They may run their own script and ask their own service, and nothing else.
"""

import json
import math
import secrets
from base64 import b64encode
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from mno.core.readings import from_points, is_made
from mno.core.words import LANGUAGES, own_texts
from mno.surrogate.description import Description

_MOST_POINTS = 128  # along an axis of space; more are not seen
_MOST_VALUES = 2**21  # of a field, 8 MiB; beyond, frames are left out
_MOST_SCATTERED = 20_000


async def page(request: Request, name: str) -> Response:
    """Return the page of a name in the language that the address or the browser asks for."""
    language, nonce = _language_of(request), secrets.token_urlsafe(16)
    template, words = _template(name), _words(language)
    content = template.render(
        lang=language, nonce=nonce, words=words, title=words[f"{name}_title"],
        footer=words[f"{name}_footer"], css=Markup(_text("page.css")),
        js=Markup(_text("common.js") + _text(f"{name}.js")),
        data=Markup(json.dumps({**words, "lang": language}).replace("<", "\\u003c")),
    )  # fmt: skip
    policy = (
        f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; "
        "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )
    headers = {
        "Content-Security-Policy": policy, "Cache-Control": "no-store",
        "Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff",
    }  # fmt: skip
    return HTMLResponse(content, headers=headers)


def _language_of(request: Request) -> str:
    accepted = request.headers.get("accept-language", "").split(",")
    wishes = [request.query_params.get("lang", ""), *accepted]
    asked = (wish.partition(";")[0].strip().lower()[:2] for wish in wishes)
    return next((language for language in asked if language in LANGUAGES), "en")


@cache
def _words(language: str) -> dict[str, Any]:
    of_report = own_texts("mno.report", language)
    names = {k.removeprefix("names."): v for k, v in of_report.items() if k.startswith("names.")}
    return {**own_texts("mno.serving", language), "names": names}


@cache
def _template(name: str) -> Template:
    loader = PackageLoader("mno", "serving")
    environment = Environment(autoescape=True, undefined=StrictUndefined, loader=loader)
    return environment.get_template(f"{name}.html.j2")


@cache
def _text(name: str) -> str:
    return files("mno.serving").joinpath(name).read_text(encoding="utf-8")


def shown(
    description: Description, fields: Mapping[str, np.ndarray], labels: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Return fields of one sample, shape `(1, *dims)` by name, as the page takes them.

    Each has its `name`, `label` (the name where nothing is said), `units`, `space` (names of the
    axes of space; `point` for unordered points, none for a number), `shape` (frames first where
    there are such), `every` (frames from one shown to the next), `thinned` (whether points
    were left out), `lowest`, `highest` and `data`.
    """
    known = {**description.inputs, **description.outputs, **description.coordinates}
    return [
        {"name": name, "label": labels.get(name, name), "units": units}
        | _shown(description, name, np.asarray(fields[name][0], dtype="<f4"))
        for name, units in known.items()
        if name in fields and not (description.cells and is_made(name))
    ]


def _shown(description: Description, name: str, values: np.ndarray) -> dict[str, Any]:
    space = () if name in description.scalars else description.space
    if name in description.of_cells:
        space = description.readings[name][0].split()
        values = from_points(description.readings, {name: values}, description.cells)[name]
    finite = values[np.isfinite(values)]
    dims = values.ndim - len(space)
    frames, every = values.shape[:dims], 1
    most = _MOST_SCATTERED if description.coordinates else _MOST_POINTS
    places = tuple(slice(None, None, -(-length // most)) for length in values.shape[dims:])
    values = values[(..., *places)]
    if frames:
        every = max(1, -(-frames[0] * math.prod(values.shape[1:]) // _MOST_VALUES))
        values = values[::every]
    return {
        "space": list(space), "shape": list(values.shape), "every": every,
        "thinned": any(place.step > 1 for place in places),
        "lowest": float(finite.min()) if len(finite) else None,
        "highest": float(finite.max()) if len(finite) else None,
        "data": b64encode(np.ascontiguousarray(values).tobytes()).decode("ascii"),
    }  # fmt: skip
