"""Draws the equations of a page as SVG when the site is built, so that no page needs a script."""

from __future__ import annotations

import html
import io
import re
import zlib
from typing import Any

from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.mathtext import MathTextParser

_ARITHMATEX = re.compile(r'<(div|span) class="arithmatex">\\[\[(](.*?)\\[\])]</\1>', re.DOTALL)
_POINTS = 72.0
_PIXELS_PER_POINT = 4 / 3


def on_page_content(content: str, **_: Any) -> str:
    """Replace the equations in a page's HTML by drawings (called by MkDocs)."""
    return _ARITHMATEX.sub(_drawn, content)


def _drawn(match: re.Match[str]) -> str:
    block, tex = match[1] == "div", " ".join(html.unescape(match[2]).split())
    image = _svg(tex, size=12.0 if block else 11.0)
    kind = "equation block" if block else "equation"
    label = html.escape(tex)
    return f'<{match[1]} class="{kind}" role="img" aria-label="{label}">{image}</{match[1]}>'


def _svg(tex: str, size: float) -> str:
    """Return an equation as an SVG element in the colour of the text around it.

    Args:
        tex: What stands between the dollars, in the part of TeX that matplotlib knows.
        size: Height of the letters in points.
    """
    text = f"${tex}$"
    box: Any = MathTextParser("path").parse(text, dpi=_POINTS)
    scale = size / 10.0  # the parser measures letters of ten points
    width, height, depth = (scale * float(value) for value in box[:3])
    margin = 0.15 * size
    figure = Figure(figsize=((width + 2 * margin) / _POINTS, (height + 2 * margin) / _POINTS))
    figure.patch.set_alpha(0.0)
    position = (margin / (width + 2 * margin), (margin + depth) / (height + 2 * margin))
    figure.text(*position, text, fontsize=size, color="black", parse_math=True)
    buffer = io.StringIO()
    FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None})
    drawing = buffer.getvalue().partition("<svg")[2]
    inner = re.sub(
        r"<(metadata|defs>\s*<style).*?</(metadata|style>\s*</defs)>", "", drawing, flags=re.DOTALL
    )
    # Identifiers are the same in every drawing of matplotlib's; two on a page must not clash.
    prefix = f"e{zlib.crc32(text.encode()):08x}-"
    inner = re.sub(r'(id="|href="#|url\(#)', rf"\g<1>{prefix}", inner)
    inner = inner.replace("#000000", "currentColor")
    drop = (margin + depth) * _PIXELS_PER_POINT
    return f'<svg style="vertical-align:-{drop:.2f}px" aria-hidden="true"{inner}'
