"""`mno study page`: a page whose numbers come from the cells of studies."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Any

from flows.study import load_study
from flows.studying.report import reported
from flows.workspace import find_workspace
from mno.core.errors import InputError
from mno.study.answers import Reported, fill

SUFFIX = ".j2"
PAGES, FIGURES = Path("docs"), "assets"


def fill_page(template: Path, root: Path) -> tuple[str, dict[str, bytes]]:
    """Fill a page from the studies of a workspace; return it and its figures, by file name.

    Raises:
        InputError: The template cannot be read or filled.
    """

    @cache
    def study(name: str) -> Reported:
        return reported(load_study(name, root))

    try:
        text = template.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{template} cannot be read: {error}") from None
    try:
        return fill(text, study, FIGURES)
    except InputError as error:
        raise InputError(f"{template.name}: {error}") from None


def write_page(template: Path, output: Path | None) -> dict[str, Any]:
    """Write a page, and its figures beside it.

    Args:
        template: Its template.
        output: Its file; in `docs/` of the workspace if not given.

    Returns:
        `page` and `figures`, the paths of what was written.

    Raises:
        InputError: The template cannot be filled, or the page not be written.
    """
    root = find_workspace()
    if output is None:
        if template.suffix != SUFFIX:
            raise InputError(f"{template.name} does not end in {SUFFIX}; give --output FILE")
        output = root / PAGES / template.stem
    text, figures = fill_page(template, root)
    contents = {output.parent / FIGURES / name: png for name, png in figures.items()}
    try:
        for path, content in (*contents.items(), (output, text.encode())):
            path.parent.mkdir(parents=True, exist_ok=True)
            beside = path.with_name(path.name + ".partial")
            beside.write_bytes(content)
            os.replace(beside, path)
    except OSError as error:
        raise InputError(f"{output} cannot be written: {error.strerror}") from None
    return {"page": str(output), "figures": [str(path) for path in contents]}
