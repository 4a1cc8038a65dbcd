"""The page of a comparison: one HTML file that is complete in itself, and its numbers beside it."""

from __future__ import annotations

import json
import os
from pathlib import Path

from mno.core.numbers import number
from mno.report.facts import fact_rows
from mno.report.page import embedded, render_page
from mno.sensors.comparison import Comparison
from mno.sensors.drawing import draw_comparison
from mno.sensors.words import error_rows, left_out, sensor_rows, title_of, verdicts

PAGE = "index.html"
NUMBERS = "against.json"
_MOST_SENSORS = 100  # of each quantity


def write_comparison(comparison: Comparison, folder: Path) -> Path:
    """Write `index.html`, `against.json` and the figures as PNG; return the path of the page.

    Figures of an earlier comparison in the folder are removed.

    Raises:
        OSError: The folder cannot be written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    figures = draw_comparison(comparison)
    drawn = {folder / f"{figure.name}.png": figure.png for figure in figures}
    for kind in ("parity", "sensors", "series"):
        for path in set(folder.glob(f"{kind}_*.png")) - set(drawn):
            path.unlink()
    for path, png in drawn.items():
        _replace(path, png)
    numbers = json.dumps(comparison.to_dict(), indent=2, allow_nan=False)
    _replace(folder / NUMBERS, numbers.encode() + b"\n")
    listed = sensor_rows(comparison, _MOST_SENSORS)
    several = [comparison.overall] if len(comparison.quantities) > 1 else []
    html = render_page(
        "evaluation/against.html.j2",
        title=f"Against sensors: {str(comparison.facts['scenario']).replace('_', ' ')}",
        subtitle=f"{comparison.facts.get('model', 'A model')} against the readings of "
        f"{comparison.facts.get('readings', 'sensors')}.",
        verdicts=verdicts(comparison),
        tiles=_tiles(comparison),
        remarks=[*comparison.remarks, *filter(None, [left_out(comparison)])],
        errors=[(title_of(s), error_rows(s)) for s in (*comparison.quantities, *several)],
        solved=comparison.pairs.solver is not None,
        sensors=listed,
        numbers=[name for name in listed[0] if name not in ("sensor", "quantity")],
        not_listed=len(comparison.sensors) - len(listed),
        figures=[embedded(figure) for figure in figures],
        what=fact_rows({**comparison.facts, "solver": comparison.solver_missing or "compared"}),
    )
    _replace(folder / PAGE, html.encode())
    return folder / PAGE


def _tiles(comparison: Comparison) -> list[tuple[str, str]]:
    pairs = comparison.pairs
    return [
        ("Readings compared", number(len(pairs))),
        ("Readings left out", number(sum(pairs.left_out.values()))),
        ("Sensors", number(comparison.overall.sensors)),
        ("Quantities", number(len(comparison.quantities))),
    ]


def _replace(path: Path, content: bytes) -> None:
    beside = path.with_name(path.name + ".partial")
    beside.write_bytes(content)
    os.replace(beside, path)
