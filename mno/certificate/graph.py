"""The lineage as a graph: what it consists of, how each part was found, and where it is drawn."""

from __future__ import annotations

from dataclasses import dataclass

from mno.certificate.content import Certificate
from mno.certificate.look import MARKS, link_look, link_verdict, section_id
from mno.lineage.audit.evidence import entry

_SHORT = 12  # characters of a digest that are shown


@dataclass(frozen=True)
class Part:
    """A part of the lineage.

    Attributes:
        name: Its key.
        title: What it is called.
        detail: Which one it is.
        link: The link of the audit that verified it.
        wide: Corner of its box where there is room.
        tall: Row where there is little.
    """

    name: str
    title: str
    detail: str
    link: str
    wide: tuple[int, int]
    tall: int


@dataclass(frozen=True)
class Box:
    """A part as it is drawn; sizes are in the units of the drawing."""

    x: float
    y: float
    width: float
    height: float
    title: str
    detail: str
    verdict: str
    mark: str
    look: str
    target: str


@dataclass(frozen=True)
class Drawing:
    """Boxes, and the paths of the arrows between them."""

    width: float
    height: float
    boxes: tuple[Box, ...]
    arrows: tuple[str, ...]


# What comes from what.
EDGES = (
    ("source", "data"), ("parameters", "data"), ("code", "data"),
    ("data", "training"), ("parameters", "training"), ("code", "training"),
    ("environment", "training"), ("training", "weights"), ("data", "evaluation"),
    ("weights", "evaluation"), ("weights", "version"), ("evaluation", "decision"),
    ("version", "decision"),
)  # fmt: skip

_WIDE_BOX, _TALL_BOX = (138.0, 68.0), (250.0, 62.0)
_TALL_ROW, _MARGIN = 76.0, 70.0


def parts_of(certificate: Certificate) -> tuple[Part, ...]:
    """Return the parts of a model's lineage, each before what is made from it."""
    record, tags = certificate.record, certificate.tags
    files = entry(record, "data", "files") or ()
    source = (
        Part("source", "Imported files", f"{len(files)} files", "imported files", (0, 0), 0)
        if files
        else Part("source", "Generator", str(record.get("scenario", "")), "stages", (0, 0), 0)
    )
    return (
        source,
        Part("parameters", "Parameters", _short(record.get("params_sha256")),
             "parameters", (0, 98), 1),
        Part("code", "Code", _short(entry(record, "snapshot", "commit")), "snapshot", (0, 196), 2),
        Part("environment", "Environment", _short(record.get("environment_sha256")),
             "environment", (0, 294), 3),
        Part("data", "Data", _short(entry(record, "data", "md5")), "data", (180, 40), 4),
        Part("training", "Training run", _short(entry(record, "ids", "mlflow_run")),
             "record", (360, 190), 5),
        Part("weights", "Weights", _short(entry(record, "model", "sha256")),
             "weights", (540, 190), 6),
        Part("evaluation", "Evaluation", _error(tags.get("mno.relative_l2")),
             "stages", (720, 40), 7),
        Part("version", "Version", f"{certificate.name}/{certificate.version}",
             "registry", (720, 190), 8),
        Part("decision", "Decision", tags.get("mno.decision", "none"), "decision", (900, 115), 9),
    )  # fmt: skip


def draw_wide(certificate: Certificate) -> Drawing:
    """Draw from left to right."""
    parts = parts_of(certificate)
    width, height = _WIDE_BOX
    boxes = {p.name: _box(certificate, p, (*p.wide, width, height)) for p in parts}
    arrows = tuple(_across(boxes[tail], boxes[head]) for tail, head in EDGES)
    return Drawing(900 + width, 294 + height, tuple(boxes.values()), arrows)


def draw_tall(certificate: Certificate) -> Drawing:
    """Draw from top to bottom; arrows to what is not next go round at the left."""
    parts = parts_of(certificate)
    width, height = _TALL_BOX
    boxes = {
        p.name: _box(certificate, p, (_MARGIN, p.tall * _TALL_ROW, width, height)) for p in parts
    }
    rows = {part.name: part.tall for part in parts}
    arrows = tuple(
        _around(boxes[tail], boxes[head], rows[head] - rows[tail]) for tail, head in EDGES
    )
    return Drawing(_MARGIN + width, len(parts) * _TALL_ROW, tuple(boxes.values()), arrows)


def _box(certificate: Certificate, part: Part, place: tuple[float, float, float, float]) -> Box:
    verdict = link_verdict(certificate, part.link)
    return Box(
        *place,
        title=part.title,
        detail=part.detail,
        verdict=str(verdict),
        mark=MARKS[verdict],
        look=link_look(verdict),
        target=section_id(part.link),
    )


def _across(tail: Box, head: Box) -> str:
    """Return an arrow from the right side of a box to the left side of another."""
    x0, y0 = tail.x + tail.width, tail.y + tail.height / 2
    x1, y1 = head.x - 3, head.y + head.height / 2
    bend = max((x1 - x0) / 2, 18)
    return f"M{x0:g} {y0:g}C{x0 + bend:g} {y0:g} {x1 - bend:g} {y1:g} {x1:g} {y1:g}"


def _around(tail: Box, head: Box, rows: int) -> str:
    """Return an arrow downwards, or round at the left past the rows between."""
    if rows == 1:
        x = tail.x + tail.width / 2
        return f"M{x:g} {tail.y + tail.height:g}L{x:g} {head.y - 3:g}"
    x0, y0, y1 = tail.x, tail.y + tail.height / 2, head.y + head.height / 2
    out = x0 - 14 - 16 * (rows - 1)
    return f"M{x0:g} {y0:g}C{out:g} {y0:g} {out:g} {y1:g} {x0 - 3:g} {y1:g}"


def _short(digest: object) -> str:
    return str(digest).removesuffix(".dir")[:_SHORT] if digest else "not recorded"


def _error(relative_l2: str | None) -> str:
    try:
        return f"error {float(relative_l2 or ''):.4g}"
    except ValueError:
        return "not recorded"
