"""Pages that are complete in themselves: sections and figures, and the look that all pages have."""

import struct
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from mno import __version__
from mno.report.language import Known, Rows, Words
from mno.report.style import DPI

if TYPE_CHECKING:  # who writes another page than the report does without torch
    import numpy as np

    from mno.core.bodies import Body
    from mno.data.reading import Schema
    from mno.evaluation.influence import Influence
    from mno.evaluation.result import Evaluation

_SCREEN_DPI = 96  # what CSS takes an inch to be


@dataclass(frozen=True, eq=False)
class Figure:
    """A figure with the words that go with it; `name` is its file's, without `.png`."""

    name: str
    title: str
    caption: str  # what to look for
    alt: str  # what it shows, for who cannot see it
    png: bytes
    narrow: bytes  # the same for the screen of a telephone
    full_width: bool = False


def figure_of(
    name: str,
    words: Words,
    key: str,
    pictures: Iterable[bytes],
    /,
    full_width: bool = False,
    **values: Any,
) -> Figure:
    """Return pictures, wide and narrow, with the texts `title`, `caption`, `alt` under a key."""
    said = (words(f"{key}.{part}", **values) for part in ("title", "caption", "alt"))
    return Figure(name, *said, *pictures, full_width)  # type: ignore[misc]


@dataclass(frozen=True, eq=False)
class Section:
    """A section of a page: below its title a body, whose own headings are `h3` and lower."""

    id: str  # where links within the page lead to
    title: str
    body: Markup
    figures: tuple[Figure, ...] = ()  # that the body shows, and that are kept as files, too


@dataclass(frozen=True)
class Table:
    """Rows of text by the heads of their columns; a row's first value is its own head.

    Columns of `numbers` are set to the right. A value that begins with ✗ is marked.
    """

    caption: str
    rows: "Sequence[Mapping[str, str]]"
    numbers: Iterable[str] = ()


@dataclass(frozen=True)
class Facts:
    """Names and what there is of each."""

    caption: str
    rows: Rows


@dataclass(frozen=True)
class Folded:
    """What is shown to who opens it."""

    title: str
    blocks: "Sequence[Block]"


class Heading(str):
    """A heading within a section."""


Block = str | Figure | Table | Facts | Folded | list[str] | None
"""A part of a section: a paragraph, a figure, a table, a list; none, and rows that are none, are
left out."""


def section_of(words: Words, *blocks: Block, kept: bool = True) -> Section:
    """Return the section that some words are of, by its parts.

    All text is escaped. Figures that are `kept` become files, too.
    """
    shown = [block for block in blocks if block]
    figures = tuple(block for block in shown if isinstance(block, Figure) and kept)
    return Section(words.section, words("title"), body_of(shown, words), figures)


def body_of(blocks: Iterable[Block], words: Words) -> Markup:
    """Return blocks as HTML."""
    macros: Any = templates().get_template("report/macros.html.j2").module
    return Markup("\n").join(_shown(block, words, macros) for block in blocks if block)


def _shown(block: Block, words: Words, macros: Any) -> Markup:
    match block:
        case Figure():
            return macros.picture(embedded(block))
        case Table():
            return (
                macros.table(block.rows, block.caption, block.numbers) if block.rows else Markup()
            )
        case Facts():
            return macros.facts(block.rows, block.caption) if block.rows else Markup()
        case Folded():
            inner = body_of(block.blocks, words)
            return Markup("<details><summary>{}</summary>{}</details>").format(block.title, inner)
        case Heading():
            return Markup("<h3>{}</h3>").format(block)
        case list():
            items = Markup().join(Markup("<li>{}</li>").format(item) for item in block)
            return Markup('<ul class="plain">{}</ul>').format(items)
    return Markup("<p>{}</p>").format(block)


@cache
def templates() -> Environment:
    """Return the templates of the package `mno`; all text that they are given is escaped."""
    loader = PackageLoader("mno", ".")
    environment = Environment(autoescape=True, undefined=StrictUndefined, loader=loader)
    environment.globals["embedded"] = embedded
    return environment


def render_page(template: str, **content: Any) -> str:
    """Return a page by the path of its template, which is given `css` and `version`, too."""
    css = files("mno.report").joinpath("report.css").read_text(encoding="utf-8")
    page = templates().get_template(template)
    return page.render(css=Markup(css), version=__version__, **content)


def embedded(figure: Figure) -> dict[str, Any]:
    """Return a figure as a page takes it, the pictures within."""
    pictures = {"wide": _picture(figure.png), "narrow": _picture(figure.narrow)}
    return {**vars(figure), **pictures}


def _picture(png: bytes) -> dict[str, Any]:
    width, height = struct.unpack(">II", png[16:24])  # of the header that comes first
    sizes = {"width": round(width * _SCREEN_DPI / DPI), "height": round(height * _SCREEN_DPI / DPI)}
    return {"uri": f"data:image/png;base64,{b64encode(png).decode('ascii')}", **sizes}


@dataclass(frozen=True, eq=False)
class Results:
    """What a report tells; mappings are the JSON files under `reports/`, empty if unknown."""

    scenario: str
    schema: "Schema"
    evaluation: "Evaluation"
    metrics: Known
    cost: Known = field(default_factory=dict)
    decision: Known = field(default_factory=dict)
    robustness: Known = field(default_factory=dict)
    learning_curve: Known = field(default_factory=dict)
    trust: Known = field(default_factory=dict)
    dataset: Known = field(default_factory=dict)
    model: Known = field(default_factory=dict)  # facts of the operator, as its configuration
    training: Known = field(default_factory=dict)  # `train.json`: epochs and the best of them
    settings: Known = field(default_factory=dict)  # `train` in `params.yaml`
    lineage: Known = field(default_factory=dict)  # what it was made from, as the dataset's hash
    influence: "Influence | None" = None  # what one prediction listened to, where somebody asked
    bounds: "Mapping[int, Mapping[str, np.ndarray]]" = field(default_factory=dict)
    """Of examples of readings: bounds on the largest error of each frame, by sample and field."""
    bodies: "Sequence[Body]" = ()  # in space, of the median sample, where its scenario has some
