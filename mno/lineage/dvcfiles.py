"""The hashes that DVC keeps in `data.dvc` and `dvc.lock`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from mno.core.errors import MnoError, first_line

DATA_FILE = "data.dvc"
LOCK_FILE = "dvc.lock"
# The stages that a registered model and its figures come from.
MAKING = ("generate", "train", "evaluate")


@dataclass(frozen=True)
class DataVersion:
    """The version of the dataset that `data.dvc` names.

    Attributes:
        md5: DVC's hash of `data/`; none before the first reproduction.
        source_md5: DVC's hash of `build/dataset/`, from which `data/` was imported.
    """

    md5: str | None
    source_md5: str | None


def read_data_version(path: Path) -> DataVersion:
    """Read the dataset's hashes from `data.dvc`; both are none where there is no such file.

    Args:
        path: The file `data.dvc` of a workspace.

    Raises:
        MnoError: The file is not what DVC writes.
    """
    return _data_version(_read(path))


def parse_data_version(text: str, name: str) -> DataVersion:
    """Read the dataset's hashes from the text of a `data.dvc`.

    Args:
        text: Its content.
        name: What messages call it.

    Raises:
        MnoError: It is not what DVC writes.
    """
    return _data_version(_parse(text, name))


def locked_out(root: Path, stage: str, path: str) -> str | None:
    """Return DVC's hash of a stage's output from `dvc.lock`, if it is known there.

    Raises:
        MnoError: The file is not what DVC writes.
    """
    stages = _read(root / LOCK_FILE).get("stages") or {}
    for out in (stages.get(stage) or {}).get("outs") or []:
        if out.get("path") == path:
            return out.get("md5")
    return None


def locked_stages(root: Path) -> dict[str, dict[str, Any]]:
    """Return what `dvc.lock` says of the stages that make a model.

    Returns:
        By stage `deps` and `outs` (DVC's hash by path) and `params` (value by dotted key).

    Raises:
        MnoError: The file is not what DVC writes.
    """
    stages = _read(root / LOCK_FILE).get("stages") or {}
    return {
        name: {
            "deps": {dep["path"]: dep.get("md5") for dep in stage.get("deps") or []},
            "outs": {out["path"]: out.get("md5") for out in stage.get("outs") or []},
            "params": {
                key: value
                for values in (stage.get("params") or {}).values()
                for key, value in values.items()
            },
        }
        for name, stage in stages.items()
        if name in MAKING
    }


def without_hashes(text: str) -> Any:
    """Return the content of a `.dvc` file without what a reproduction writes into it."""
    try:
        content = YAML(typ="safe").load(text)
    except YAMLError:
        return text
    if not isinstance(content, dict):
        return content
    kept = {key: value for key, value in content.items() if key != "md5"}
    for part in ("outs", "deps"):
        kept[part] = [
            {k: v for k, v in item.items() if k not in ("md5", "size", "nfiles", "hash")}
            for item in content.get(part) or []
        ]
    return kept


def _read(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise MnoError(f"{path} cannot be read: {first_line(error)}; git checkout it") from None
    return _parse(text, str(path))


def _parse(text: str, name: str) -> dict[str, Any]:
    try:
        content = YAML(typ="safe").load(text)
    except YAMLError as error:
        raise MnoError(f"{name} cannot be read: {first_line(error)}; git checkout it") from None
    if not isinstance(content, dict):
        raise MnoError(f"{name} is not a file of DVC's; git checkout it")
    return content


def _data_version(content: dict[str, Any]) -> DataVersion:
    return DataVersion(_first_hash(content, "outs"), _first_hash(content, "deps"))


def _first_hash(content: dict[str, Any], part: str) -> str | None:
    items = content.get(part) or [{}]
    return items[0].get("md5")
