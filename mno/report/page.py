"""Pages that are complete in themselves: sections and figures, and the look that all pages have."""

from __future__ import annotations

import struct
from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from mno import __version__
from mno.report.style import DPI, HEIGHT, NARROW, WIDE, house_style, new_figure, png_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from mno.data.reading import Schema
    from mno.evaluation.influence import Influence
    from mno.evaluation.result import Evaluation
    from mno.report.language import Words


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


def curve_figure(
    name: str, title: str, caption: str, alt: str, draw: Callable[[Axes], None]
) -> Figure:
    """Return a figure of curves, drawn for a page and for the screen of a telephone.

    Args:
        name: Its file's, without `.png`.
        title: Its heading.
        caption: What to look for.
        alt: What it shows, for who cannot see it.
        draw: Draws it into empty axes.
    """
    pictures = []
    for width in (WIDE, NARROW):
        with house_style():
            figure = new_figure(width, HEIGHT)
            draw(figure.add_subplot())
            pictures.append(png_bytes(figure))
    return Figure(name, title, caption, alt, *pictures)


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


def render(section: str, words: Words, **context: Any) -> Markup:
    """Return the body of a section; all text that it is given is escaped.

    Args:
        section: Its name, that of its template under `mno/report/sections`.
        words: The section's words, in the template as `words`.
        context: What else the template names; it also has `embedded`, which makes of a figure what
            the macro `picture` takes.
    """
    page = templates().get_template(f"report/sections/{section}.html.j2")
    return Markup(page.render(words=words, **context))


Known = Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Results:
    """What a report tells. Mappings are what the JSON files are made of; empty, it is unknown.

    Attributes:
        scenario: The family of problems, for example `darcy`.
        schema: The dataset's fields and axes.
        evaluation: What `evaluate` returned.
        metrics: `reports/metrics.json`.
        cost: `reports/cost.json`.
        decision: `reports/decision.json`.
        robustness: `reports/robustness.json`.
        learning_curve: `reports/learning_curve.json`.
        trust: `reports/trust.json`.
        dataset: The dataset's own report, `reports/dataset.json`.
        model: Facts of the operator, for example its configuration.
        training: Training's own report, `reports/train.json`: epochs and the best of them.
        settings: What training was asked to do, `train` in `params.yaml`.
        lineage: What the model was made from, for example the dataset's hash.
        influence: What one prediction listened to; none where nobody asked.
    """

    scenario: str
    schema: Schema
    evaluation: Evaluation
    metrics: Known
    cost: Known = field(default_factory=dict)
    decision: Known = field(default_factory=dict)
    robustness: Known = field(default_factory=dict)
    learning_curve: Known = field(default_factory=dict)
    trust: Known = field(default_factory=dict)
    dataset: Known = field(default_factory=dict)
    model: Known = field(default_factory=dict)
    training: Known = field(default_factory=dict)
    settings: Known = field(default_factory=dict)
    lineage: Known = field(default_factory=dict)
    influence: Influence | None = None


@dataclass(frozen=True, eq=False)
class Figure:
    """A figure with the words that go with it.

    Attributes:
        name: File name without `.png`.
        title: Its heading in the report.
        caption: What to look for.
        alt: What it shows, for who cannot see it.
        png: The picture.
        narrow: The same for the screen of a telephone.
        full_width: Whether it wants the whole width of a page.
        animation: The same in motion, as GIF; shown to who asks for it.
    """

    name: str
    title: str
    caption: str
    alt: str
    png: bytes
    narrow: bytes
    full_width: bool = False
    animation: bytes | None = None
