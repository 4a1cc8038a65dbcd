"""What DVC writes of hashes in `data.dvc` and `dvc.lock`, and `dvc.yaml` of the stages."""

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from mno.core.errors import InputError, MnoError, first_line
from mno.core.files import file_sha256, folder_files, sha256
from mno.core.imports import TRACKED

DATA_FILE = "data.dvc"
LOCK_FILE = "dvc.lock"
MAKING = ("generate", "train", "evaluate")  # the stages that a model and its figures come from
# What `.dvcignore` leaves out, too, of the paths of code.
IGNORED = re.compile(r"/(__pycache__|\.ipynb_checkpoints|\.venv)/|(~|\.(pyc|nb[ic]|md|swp))$")
_PARAMETER = re.compile(r"\$\{([\w.]+)\}")


class DataVersion(NamedTuple):
    """DVC's hashes of `data/` and of `build/dataset/`, from which it was imported; none if new."""

    md5: str | None
    source_md5: str | None


def read_data_version(path: Path) -> DataVersion:
    """Read the dataset's hashes from `data.dvc`; both are none where there is no such file."""
    return _data_version(_read(path))


def parse_data_version(text: str) -> DataVersion:
    """Read the dataset's hashes from the text of a `data.dvc`."""
    return _data_version(_parse(text, DATA_FILE))


def _data_version(content: dict[str, Any]) -> DataVersion:
    return DataVersion(*((content.get(part) or [{}])[0].get("md5") for part in ("outs", "deps")))


def locked_out(root: Path, stage: str, path: str) -> str | None:
    """Return DVC's hash of a stage's output from `dvc.lock`, if it is known there."""
    return (locked_stages(root).get(stage) or {}).get("outs", {}).get(path)


def locked_stages(root: Path) -> dict[str, dict[str, Any]]:
    """Return what `dvc.lock` says of the stages that make a model.

    That is by stage `deps` and `outs` (DVC's hash by path) and `params` (value by dotted key).
    """
    return {
        name: {
            "deps": {dep["path"]: dep.get("md5") for dep in stage.get("deps") or []},
            "outs": {out["path"]: out.get("md5") for out in stage.get("outs") or []},
            "params": {k: v for f in (stage.get("params") or {}).values() for k, v in f.items()},
        }
        for name, stage in (_read(root / LOCK_FILE).get("stages") or {}).items()
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
        return _parse(path.read_text(encoding="utf-8"), str(path))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise MnoError(f"{path} cannot be read: {first_line(error)}; git checkout it") from None


def _parse(text: str, name: str) -> dict[str, Any]:
    try:
        content = YAML(typ="safe").load(text)
    except YAMLError as error:
        raise MnoError(f"{name} cannot be read: {first_line(error)}; git checkout it") from None
    if not isinstance(content, dict):
        raise MnoError(f"{name} is not a file of DVC's; git checkout it")
    return content


class StageInputs(NamedTuple):
    """The declared dependencies of one stage."""

    stage: str
    code: tuple[str, ...]  # our own files that it runs, in alphabetical order
    params: Mapping[str, Any]  # those that are tracked, by dotted key
    digest: str  # sha256 over `code` (names and bytes) and `params`


def stage_inputs(root: Path, stage: str, params: Mapping[str, Any]) -> StageInputs:
    """Read a stage's dependencies as they are on disk now; refuse where one does not exist."""
    stages = YAML(typ="safe").load(root / "dvc.yaml")["stages"]
    if stage not in stages:
        raise InputError(f"dvc.yaml has no stage {stage!r}; it has {', '.join(stages)}")
    depends = filled(stages[stage].get("deps"), params)
    paths = [path for path in depends if path.split("/")[0] in TRACKED]
    code = tuple(sorted(name for path in paths for name in _files(root, path)))
    tracked = {key: lookup(params, key) for key in filled(stages[stage].get("params"), params)}
    text = "".join(f"{name} {file_sha256(root / name)}\n" for name in code)
    return StageInputs(stage, code, tracked, sha256(json.dumps(tracked, sort_keys=True) + text))


def _files(root: Path, name: str) -> Iterable[str]:
    path, stated = root / name, Path(name)
    if path.is_file():
        return [stated.as_posix()]
    if not path.exists():
        raise InputError(f"{name}, which dvc.yaml names, does not exist")
    named = ((stated / file).as_posix() for file in folder_files(path))
    return [name for name in named if not IGNORED.search(name)]


def filled(entries: Iterable[Any] | None, params: Mapping[str, Any]) -> list[str]:
    """Return a list of `dvc.yaml`, whose entries may have settings, with its parameters."""
    listed = [text for e in entries or () for text in ([e] if isinstance(e, str) else e)]
    return [_PARAMETER.sub(lambda m: str(lookup(params, m[1])), text) for text in listed]


def lookup(params: Mapping[str, Any], key: str) -> Any:
    """Return the parameter at a dotted key, as `train.epochs`; refuse where there is none."""
    value: Any = params
    for part in key.split("."):
        if not isinstance(value, Mapping) or part not in value:
            raise InputError(f"params.yaml: {key} is missing")
        value = value[part]
    return value
