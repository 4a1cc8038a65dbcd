"""What a stage's result depends on, read from `dvc.yaml`: its code, its parameters, its inputs."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from mno.core.errors import InputError

CODE_FOLDERS = ("mno", "pipelines", "flows")
# What `.dvcignore` leaves out of folders, too.
IGNORED = {".pyc", ".nbi", ".nbc", ".md", ".swp"}


@dataclass(frozen=True)
class StageInputs:
    """The declared dependencies of one stage.

    Attributes:
        stage: Its name in `dvc.yaml`.
        code: Our own files that it runs, relative to the workspace, in alphabetical order.
        params: The tracked parameters, by dotted key.
        digest: sha256 over `code` (names and bytes) and `params`.
    """

    stage: str
    code: tuple[str, ...]
    params: Mapping[str, Any]
    digest: str


def stage_inputs(root: Path, stage: str, params: Mapping[str, Any]) -> StageInputs:
    """Read a stage's dependencies as they are on disk now.

    Args:
        root: The workspace.
        stage: Name of a stage in `dvc.yaml`.
        params: The content of `params.yaml`.

    Raises:
        InputError: The stage, a file it depends on, or a parameter it tracks does not exist.
    """
    declared = _declaration(root, stage)
    paths = [_fill(path, params) for path in declared.get("deps", [])]
    code = tuple(sorted(_files(root, (p for p in paths if p.split("/")[0] in CODE_FOLDERS))))
    tracked = {
        key: lookup(params, key) for key in (_fill(k, params) for k in declared.get("params", []))
    }
    sha = hashlib.sha256(json.dumps(tracked, sort_keys=True).encode())
    for name in code:
        content = hashlib.sha256((root / name).read_bytes()).hexdigest()
        sha.update(f"{name} {content}\n".encode())
    return StageInputs(stage, code, tracked, sha.hexdigest())


def lookup(params: Mapping[str, Any], key: str) -> Any:
    """Return the parameter at a dotted key, for example `train.epochs`.

    Raises:
        InputError: There is no such parameter.
    """
    value: Any = params
    for part in key.split("."):
        if not isinstance(value, Mapping) or part not in value:
            raise InputError(f"params.yaml: {key} is missing")
        value = value[part]
    return value


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested parameters to dotted keys, as MLflow shows them."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


def _declaration(root: Path, stage: str) -> Mapping[str, Any]:
    stages = YAML(typ="safe").load(root / "dvc.yaml")["stages"]
    if stage not in stages:
        raise InputError(f"dvc.yaml has no stage {stage!r}; it has {', '.join(stages)}")
    return stages[stage]


def _fill(text: str, params: Mapping[str, Any]) -> str:
    return re.sub(r"\$\{([\w.]+)\}", lambda match: str(lookup(params, match[1])), text)


def _files(root: Path, paths: Iterable[str]) -> Iterable[str]:
    for name in paths:
        path = root / name
        if path.is_file():
            yield name
        elif path.is_dir():
            yield from (
                file.relative_to(root).as_posix()
                for file in path.rglob("*")
                if file.is_file() and file.suffix not in IGNORED
            )
        else:
            raise InputError(f"{name}, which dvc.yaml names, does not exist")
