"""The tables of all parameters, from the models that validate them; see `reference.py`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from flows.params import Params, preset_names
from mno.core.config import EXTERNAL, read_params
from mno.scenarios.base import scenario_class, scenario_names

ROOT = Path(__file__).parents[2]
_BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
_TYPES = {
    "integer": "whole number",
    "number": "number",
    "string": "text",
    "boolean": "true or false",
    "null": "null",
}


def parameter_tables() -> str:
    """Return one table per section of `params.yaml`, in its order."""
    shipped = read_params(ROOT)
    schema = Params.model_json_schema()
    parts = ["## At the top", _table(_rows(schema, _without_sections(schema), "", shipped))]
    for name, field in schema["properties"].items():
        if name == "scenarios":
            parts += _scenario_tables(shipped)
        elif "$ref" in field or "allOf" in field:
            section = _resolved(schema, field)
            parts += [f"## `{name}`", section.get("description", "")]
            parts.append(_table(_rows(schema, section, f"{name}.", shipped)))
    return "\n\n".join(parts)


def preset_table() -> str:
    """Return what each preset sets, beside what `params.yaml` has."""
    names = preset_names(ROOT)
    presets = [dict(_flat(_load(ROOT / "presets" / f"{name}.yaml"))) for name in names]
    keys = list(dict.fromkeys(key for preset in presets for key in preset))
    shipped = dict(_flat(read_params(ROOT)))
    head = ["| key | set to | " + " | ".join(f"`{name}`" for name in names) + " |"]
    head.append("| --- " * (2 + len(names)) + "|")
    for key in keys:
        values = " | ".join(_code(preset[key]) if key in preset else "" for preset in presets)
        head.append(f"| `{key}` | {_code(shipped[key]) if key in shipped else ''} | {values} |")
    return "\n".join(head)


def _scenario_tables(shipped: Mapping[str, Any]) -> Iterator[str]:
    for name in [*scenario_names(), EXTERNAL]:
        schema = scenario_class(name).Parameters.model_json_schema()
        yield f"## `scenarios.{name}`"
        yield schema.get("description", "")
        yield _table(_rows(schema, schema, f"scenarios.{name}.", shipped))


def _rows(
    root: Mapping[str, Any], model: Mapping[str, Any], prefix: str, shipped: Mapping[str, Any]
) -> Iterator[str]:
    for name, field in model["properties"].items():
        full = _resolved(root, field)
        if "properties" in full:
            yield from _rows(root, full, f"{prefix}{name}.", shipped)
            continue
        key = f"{prefix}{name}"
        missing = "`{}`" if full.get("type") == "object" else "must be given"
        default = _code(field["default"]) if "default" in field else missing
        given = dict(_flat(shipped)).get(key, _ABSENT)
        here = "" if given is _ABSENT else _code(given)
        meaning = _sentence(full.get("description", ""))
        yield f"| `{key}` | {_type(full)} | {default} | {here} | {meaning} |"


_ABSENT = object()


def _table(rows: Iterator[str]) -> str:
    head = "| key | type and bounds | default | set to | meaning, unit |\n" + "| --- " * 5
    return "\n".join([head + "|", *rows])


def _without_sections(schema: Mapping[str, Any]) -> dict[str, Any]:
    plain = {
        name: field
        for name, field in schema["properties"].items()
        if name != "scenarios" and "properties" not in _resolved(schema, field)
    }
    return {"properties": plain}


def _resolved(root: Mapping[str, Any], field: Mapping[str, Any]) -> dict[str, Any]:
    """Follow a reference; what the field itself says goes first."""
    reference = field.get("$ref") or next(iter(field.get("allOf", [])), {}).get("$ref")
    if reference is None:
        return dict(field)
    return {**root["$defs"][reference.rpartition("/")[2]], **field}


def _type(field: Mapping[str, Any]) -> str:
    if "enum" in field:
        return "one of " + ", ".join(_code(value) for value in field["enum"])
    if "const" in field:
        return _code(field["const"])
    if "anyOf" in field:
        return " or ".join(_type(choice) for choice in field["anyOf"])
    if field.get("type") == "array":
        return _type(field["items"]) + "; or a list of these"
    bounds = [f"{sign} {field[key]:g}" for key, sign in _BOUNDS.items() if key in field]
    name = str(field.get("type", ""))
    return ", ".join([_TYPES.get(name, name), *bounds])


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _load(path: Path) -> dict[str, Any]:
    return YAML(typ="safe").load(path) or {}


def _code(value: Any) -> str:
    match value:
        case None:
            return "`null`"
        case bool():
            return f"`{str(value).lower()}`"
        case float():
            return f"`{value:g}`"
        case [one]:
            return _code(one)
        case _:
            return f"`{value}`"


def _sentence(text: str) -> str:
    text = text.strip().replace("|", "\\|").replace("\n", " ")
    return text[:1].upper() + text[1:] + ("" if not text or text.endswith(".") else ".")
