"""Operators of equal size: the width of every cell's model, before any data are there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import torch

from mno.core.config import section, validate
from mno.core.errors import InputError
from mno.core.forecast import TaskConfig, forecast_of
from mno.data.config import GenerateConfig
from mno.data.imported import source_class, source_parameters
from mno.nn.build import build_operator, match_parameters_to
from mno.nn.config import ModelConfig
from mno.nn.operator import count_parameters
from mno.study.design import Cell, MatchConfig

Signature = Mapping[str, Any]


def signature_of(params: Mapping[str, Any], root: Path) -> dict[str, Any]:
    """Return what `build_operator` is told of a problem, besides the model.

    Args:
        params: The content of `params.yaml`.
        root: The workspace, where imported data are.

    Raises:
        InputError: The parameters cannot be used.
    """
    name = params["scenario"]
    own = source_parameters(name, params["scenarios"].get(name))
    source = source_class(name).open(own, section(params, "generate", GenerateConfig), root)
    forecast = forecast_of(section(params, "task", TaskConfig), source.fields, source.axes)
    inputs: dict[str, int | None] = {}
    outputs: dict[str, int | None] = {}
    for field in source.inputs:
        if field.is_scalar:
            continue
        frames = None
        if forecast is not None and (field.role == "state" or field.is_forcing):
            whole = field.is_forcing and forecast.scheme == "horizon"
            frames = forecast.history + (forecast.steps - 1 if whole else 0)
        inputs[field.name] = frames
    for field in source.outputs:
        states = forecast is not None and field.role == "state"
        outputs[field.name] = forecast.frames_at_once if forecast and states else None
    points = [field for field in source.fields if field.role == "coordinate"]
    space = [axis for axis in source.axes if axis.name != "time"]
    return {
        "inputs": inputs,
        "outputs": outputs,
        "scalars": tuple(field.name for field in source.inputs if field.is_scalar),
        "dims": len(points) or len(space),
        "gaps": tuple(f.name for f in source.inputs if f.gaps and f.dims),
    }


def count(model: Mapping[str, Any], signature: Signature) -> int:
    """Return the number of parameters of a model; nothing is allocated."""
    with torch.device("meta"):
        return count_parameters(build_operator(validate(ModelConfig, model, "model"), **signature))


def matched(cells: list[Cell], match: MatchConfig | None, root: Path) -> list[Cell]:
    """Return the cells with the width that brings each model to the study's size.

    Args:
        cells: Of one study.
        match: The size; none leaves all as they are.
        root: The workspace.

    Raises:
        InputError: A model cannot be built, or no width comes close enough; the message names it.
    """
    widths: dict[tuple[str, str], int] = {}
    signatures = cache(lambda scenario: signature_of(first[scenario].params, root))
    first = {cell.scenario: cell for cell in reversed(cells)}
    changed = []
    for cell in cells:
        key = (cell.scenario, cell.model.name)
        if key not in widths:
            widths[key] = _width(cell, match, signatures(cell.scenario))
        model = {**cell.params["model"], "width": widths[key]}
        changed.append(replace(cell, params={**cell.params, "model": model}))
    return changed


def _width(cell: Cell, match: MatchConfig | None, signature: Signature) -> int:
    where = f"{cell.scenario}, {cell.model.name}"
    try:
        config = validate(ModelConfig, cell.params["model"], "model")
        if match is None:
            count(cell.params["model"], signature)
            return config.width
        fitted = match_parameters_to(config, match.target, **signature)
        found = count(fitted.model_dump(), signature)
    except InputError as error:
        raise InputError(f"{where}: {str(error).removeprefix('params.yaml: ')}") from None
    except (ValueError, ImportError) as error:
        raise InputError(f"{where}: {error}") from None
    if abs(found - match.target) > match.tolerance * match.target:
        raise InputError(
            f"{where}: the closest to parameters.target={match.target} is width={fitted.width} "
            f"with {found}, further than parameters.tolerance={match.tolerance:g}; choose another "
            "target, fewer heads, or a larger tolerance"
        )
    return fitted.width
