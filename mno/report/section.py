"""A section of the report, and how its template becomes part of a page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from mno.report.page import templates

if TYPE_CHECKING:
    from mno.report.figures import Figure
    from mno.report.language import Words

_FOLDER = "report/sections"


@dataclass(frozen=True, eq=False)
class Section:
    """A section of the report.

    Attributes:
        id: Where links within the page lead to.
        title: Its heading.
        body: All that comes below the heading, whose own headings are `h3` and lower.
        figures: The figures that the body shows; they are kept as files, too.
    """

    id: str
    title: str
    body: Markup
    figures: tuple[Figure, ...] = ()


def render(template: str, words: Words, **context: Any) -> Markup:
    """Return the body of a section; all text that it is given is escaped.

    Args:
        template: Path under `mno/report/sections`.
        words: The section's words, in the template as `words`.
        context: What else the template names; it also has `embedded`, which makes of a figure what
            the macro `picture` takes.
    """
    page = templates().get_template(f"{_FOLDER}/{template}")
    return Markup(page.render(words=words, **context))
