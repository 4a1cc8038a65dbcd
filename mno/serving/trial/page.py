"""The page itself: complete in one file, in the reader's language.

It may run its own script and ask its own service, and nothing else.
"""

from __future__ import annotations

import json
import secrets
import tomllib
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

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
