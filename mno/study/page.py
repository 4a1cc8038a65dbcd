"""Writes a study's report: a page, the same as Markdown, the figures, and the numbers."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mno import __version__
from mno.report.page import embedded, render_page
from mno.study.document import Section, Table

PAGE, MARKDOWN, NUMBERS = "index.html", "report.md", "report.json"
_TEXT_COLUMNS = (
    "model", "operator", "scenario", "comparison", "remarks", "parameter",
)  # fmt: skip


def write_report(
    folder: Path,
    title: str,
    question: str,
    warnings: Sequence[str],
    sections: Sequence[Section],
    numbers: Mapping[str, Any],
    source: str = "cells",
) -> Path:
    """Write a report into a folder; return the path of its page.

    Figures of an earlier report in the folder are removed.

    Args:
        folder: Made if missing.
        title: Of the study.
        question: What it is to answer.
        warnings: What a reader must know first: stale, failed or missing cells.
        sections: The report.
        numbers: The same for programs.
        source: What it is written from.

    Raises:
        OSError: The folder cannot be written to.
    """
    figures = {f"{f.name}.png": f.png for section in sections for f in section.figures}
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    for name, png in figures.items():
        _replace(folder / "figures" / name, png)
    for old in (folder / "figures").glob("*.png"):
        if old.name not in figures:
            old.unlink()
    _replace(folder / NUMBERS, (json.dumps(numbers, indent=1) + "\n").encode())
    markdown = _markdown(title, question, warnings, sections, source)
    _replace(folder / MARKDOWN, markdown.encode())
    html = render_page(
        "study/study.html.j2",
        title=title,
        question=question,
        warnings=warnings,
        source=source,
        sections=[
            {
                "name": s.name,
                "title": s.title,
                "paragraphs": s.paragraphs,
                "tables": [(t.caption, t.rows, _numeric(t)) for t in s.tables if t.rows],
                "figures": [embedded(figure) for figure in s.figures],
            }
            for s in sections
        ],
    )
    _replace(folder / PAGE, html.encode())
    return folder / PAGE


def _markdown(
    title: str,
    question: str,
    warnings: Sequence[str],
    sections: Sequence[Section],
    source: str,
) -> str:
    parts = [f"# {title}", question, *(f"**{warning}**" for warning in warnings)]
    for section in sections:
        parts += [f"## {section.title}", *section.paragraphs]
        parts += [
            f"**{table.caption}**\n\n{markdown_table(table)}"
            for table in section.tables
            if table.rows
        ]
        parts += [f"![{f.alt}](figures/{f.name}.png)\n\n{f.caption}" for f in section.figures]
    parts.append(f"Written by MNO {__version__} from the kept {source} alone.")
    return "\n\n".join(part for part in parts if part) + "\n"


def markdown_table(table: Table, heads: Mapping[str, str] | None = None) -> str:
    """Return a table in Markdown, without its caption.

    Args:
        table: With one row at least.
        heads: Other words for some of its headings.
    """
    numeric = _numeric(table)
    said = [(heads or {}).get(head, head) for head in table.rows[0]]
    lines = [
        "| " + " | ".join(said) + " |",
        "| " + " | ".join("---:" if head in numeric else "---" for head in table.rows[0]) + " |",
        *("| " + " | ".join(_cell(text) for text in row.values()) + " |" for row in table.rows),
    ]
    return "\n".join(lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _numeric(table: Table) -> list[str]:
    return [head for head in table.rows[0] if head not in _TEXT_COLUMNS]


def _replace(path: Path, content: bytes) -> None:
    beside = path.with_name(path.name + ".partial")
    beside.write_bytes(content)
    os.replace(beside, path)
