"""The base of all configuration models, and the only reader of `params.yaml`."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from mno.core.errors import InputError, did_you_mean, first_line

PARAMS_FILE = "params.yaml"
IMPORTED = "imported"
"""What stands in the place of a scenario where data are imported."""
EXTERNAL = "external"
"""The scenario of a user's own solver, which cannot be asked without parameters."""


class Config(BaseModel):
    """A frozen configuration model that refuses unknown keys and does not guess types."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True
    )


ConfigT = TypeVar("ConfigT", bound=Config)


def read_params(folder: Path | str = ".") -> dict[str, Any]:
    """Read `params.yaml` of a workspace, the folder that holds it, as plain dictionaries.

    Raises:
        InputError: The file is missing, is not YAML, or is not a mapping.
    """
    path = Path(folder) / PARAMS_FILE
    if not path.exists():
        raise InputError(
            f"{path} does not exist; run this in the root of an MNO workspace (a checkout of it)"
        )
    return read_yaml(path)


def read_yaml(path: Path, *, may_be_empty: bool = False) -> dict[str, Any]:
    """Return the mapping that a file holds; refuse a file that holds none."""
    try:
        content = YAML(typ="safe").load(path)
    except (OSError, YAMLError, ValueError) as error:  # no text, or a date that there is not
        reason = getattr(error, "strerror", None) or first_line(error)
        raise InputError(f"{path} cannot be read as YAML: {reason}") from None
    if content is None and may_be_empty:
        return {}
    if not isinstance(content, dict):
        raise InputError(f"{path} holds {type(content).__name__}; expected a mapping")
    return content


def yaml_writer() -> YAML:
    """Return a reader and writer that keeps comments, quotes and `null` as they are written."""
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.representer.add_representer(
        type(None), lambda writer, _: writer.represent_scalar("tag:yaml.org,2002:null", "null")
    )
    return yaml


def dataset_name(params: Mapping[str, Any]) -> str:
    """Return what datasets and models are named by: the scenario, or the name of imported data."""
    scenario = str(params["scenario"])
    own = (params.get("scenarios") or {}).get(IMPORTED) or {}
    return str(own.get("name", scenario)) if scenario == IMPORTED else scenario


def model_subject(params: Mapping[str, Any]) -> str:
    """Return what models are named by, behind `mno-`: the dataset, and what of it they predict.

    Models of fields, of readings and of both predict other things and are no rivals; nor are
    observers, which are given others.
    """
    task = params.get("task") or {}
    part, observes = task.get("part") or "fields", task.get("kind") == "observe"
    name = dataset_name(params)
    if name == EXTERNAL:
        name = str(((params.get("scenarios") or {}).get(name) or {}).get("name", name))
    name += "" if part == "fields" else f"-{part}"
    return f"{name}-observer" if observes else name


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested values to dotted keys, as MLflow shows parameters."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        inner = isinstance(value, Mapping)
        found |= flat(value, f"{prefix}{key}.") if inner else {f"{prefix}{key}": value}
    return found


def section(params: Mapping[str, Any], name: str, model: type[ConfigT]) -> ConfigT:
    """Validate one section of the parameters, for example `train`, against its model.

    Raises:
        InputError: A key is unknown or missing, or a value does not fit; one line names each.
    """
    return validate(model, params.get(name) or {}, prefix=name)


def validate(model: type[ConfigT], values: Any, prefix: str = "") -> ConfigT:
    """Validate values against a model; turn pydantic's report into one line, an `InputError`."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        problems = "; ".join(_describe(item, model, prefix) for item in error.errors())
        raise InputError(f"{PARAMS_FILE}: {problems}") from None


def read_file(
    model: type[ConfigT], path: Path, *, remedy: str = "", may_be_empty: bool = False
) -> ConfigT:
    """Read a file of its own, YAML, against a model; an `InputError` of one line names the file."""
    content = read_yaml(path, may_be_empty=may_be_empty)
    try:
        return validate(model, content)
    except InputError as error:
        raise InputError(str(error).replace(PARAMS_FILE, path.name, 1) + remedy) from None


def _describe(item: Any, model: type[BaseModel], prefix: str) -> str:
    key = ".".join(str(part) for part in (*([prefix] if prefix else []), *item["loc"]))
    given = item["input"]
    match item["type"]:
        case "extra_forbidden":
            *path, last = item["loc"]
            known = _known_keys(model, path)
            alike = " or ".join(_named_alike(model, last, prefix)[:3])
            near = did_you_mean(last, known) or (alike and f"; did you mean {alike}?")
            return f"{key} is not a parameter{near} (known here: {', '.join(known)})"
        case "missing":
            return f"{key} is missing"
        case "value_error":
            return f"{key}: {item['ctx']['error']}" if key else str(item["ctx"]["error"])
        case "literal_error":
            known = re.findall(r"'([^']*)'", item["ctx"]["expected"])
            return (
                f"{key}={given!r} should be {item['ctx']['expected']}{did_you_mean(given, known)}"
            )
        case _:
            message = item["msg"].removeprefix("Input ")
            return f"{key}={given!r} {message}" if key else f"{given!r} {message}"


def _known_keys(model: type[BaseModel], path: Sequence[Any]) -> list[str]:
    kind: Any = model
    for part in path:
        fields = getattr(kind, "model_fields", {})
        # Of a list or a mapping, the kind of what it holds.
        kind = fields[part].annotation if part in fields else (None, *get_args(kind))[-1]
    return list(getattr(kind, "model_fields", {}))


def _named_alike(model: type[BaseModel], name: object, prefix: str = "") -> list[str]:
    """Return the dotted keys of a model, at any depth, that end with a name."""
    begin = f"{prefix}." if prefix else ""
    found = [f"{begin}{name}"] if name in model.model_fields else []
    for key, field in model.model_fields.items():
        if isinstance(kind := field.annotation, type) and issubclass(kind, BaseModel):
            found += _named_alike(kind, name, f"{begin}{key}")
    return found
