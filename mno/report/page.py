"""Pages that are complete in themselves: one look for the report, inspections and comparisons."""

from __future__ import annotations

import struct
from base64 import b64encode
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from mno import __version__
from mno.report.style import DPI

if TYPE_CHECKING:
    from mno.report.figures import Figure


_SCREEN_DPI = 96  # what CSS takes an inch to be


@cache
def templates() -> Environment:
    """Return the templates of the package `mno`; all text that they are given is escaped."""
    loader = PackageLoader("mno", ".")
    environment = Environment(autoescape=True, undefined=StrictUndefined, loader=loader)
    environment.globals["embedded"] = embedded
    return environment


def render_page(template: str, **content: Any) -> str:
    """Return a page in the look of the report.

    Args:
        template: Path in the package `mno`.
        content: What the template names, besides `css` and `version`.
    """
    css = files("mno.report").joinpath("report.css").read_text(encoding="utf-8")
    page = templates().get_template(template)
    return page.render(css=Markup(css), version=__version__, **content)


def embedded(figure: Figure) -> dict[str, Any]:
    """Return a figure as a page takes it, the pictures within."""
    return {
        "title": figure.title,
        "caption": figure.caption,
        "alt": figure.alt,
        "full_width": figure.full_width,
        "wide": picture(figure.png),
        "narrow": picture(figure.narrow),
        "animation": data_uri(figure.animation, "gif") if figure.animation else None,
    }


def picture(png: bytes) -> dict[str, Any]:
    """Return a PNG as a page takes it: itself as an address, and its size as it was meant."""
    width, height = struct.unpack(">II", png[16:24])  # of the header that comes first
    return {
        "uri": data_uri(png),
        "width": round(width * _SCREEN_DPI / DPI),
        "height": round(height * _SCREEN_DPI / DPI),
    }


def data_uri(image: bytes, kind: str = "png") -> str:
    """Return a picture as an address that holds the picture itself."""
    return f"data:image/{kind};base64," + b64encode(image).decode("ascii")
