"""The winner of a search as a preset: a file in `presets/` that a run can take."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from mno.core.errors import InputError, MnoError
from mno.study.tuning.spec import SECTIONS

FOLDER = Path("presets")
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")


def preset_path(root: Path, preset: str, search: str, *, replace: bool) -> Path:
    """Return where the winner goes.

    Args:
        root: The workspace.
        preset: Name of the preset.
        search: Name of the search.
        replace: Whether a file that this search did not write may be replaced.

    Raises:
        InputError: The name cannot be used, or belongs to another's file.
    """
    if not _NAME.fullmatch(preset):
        raise InputError(
            f"--preset {preset!r} must consist of small letters, digits, _ and -, as in tuned-darcy"
        )
    path = root / FOLDER / f"{preset}.yaml"
    if path.is_file() and not replace:
        first = path.read_text(encoding="utf-8", errors="replace").split("\n", 1)[0]
        if first != _mark(search):
            raise InputError(
                f"{FOLDER}/{path.name} was not written by this search; give the preset another "
                "name with --preset, or --replace it"
            )
    return path


def write_preset(path: Path, search: str, params: Mapping[str, Any], said: Sequence[str]) -> None:
    """Write the sections of a search as a preset, complete, so that it holds whatever is set.

    Args:
        path: What `preset_path` returned.
        search: Name of the search.
        params: The winner's.
        said: Lines that say what is known of it.

    Raises:
        MnoError: The file cannot be written.
    """
    buffer = io.StringIO()
    yaml = YAML()
    yaml.default_flow_style = False
    yaml.representer.add_representer(
        type(None), lambda writer, _: writer.represent_scalar("tag:yaml.org,2002:null", "null")
    )
    content = {section: dict(params[section]) for section in SECTIONS}
    yaml.dump(content, buffer)
    text = "\n".join([_mark(search), *(f"# {line}" for line in said), buffer.getvalue()])
    if YAML(typ="safe").load(text) != content:
        raise MnoError(f"{path.name}: a value cannot be written as YAML; nothing was written")
    beside = path.with_name(path.name + ".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_text(text, encoding="utf-8")
        os.replace(beside, path)
    except OSError as error:
        raise MnoError(f"{path} cannot be written: {error.strerror}") from None


def _mark(search: str) -> str:
    return f"# The winner of the search {search}, written by `mno study tune {search}`."
