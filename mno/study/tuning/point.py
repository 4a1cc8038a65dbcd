"""Points of a search space: the parameters of a trial, complete."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mno.lineage.stages import lookup, stage_inputs
from mno.study.tuning.spec import SECTIONS, TuneSpec

Point = Mapping[str, Any]
"""Values by dotted key."""


def default_params(params: Mapping[str, Any], spec: TuneSpec) -> dict[str, Any]:
    """Return what a search starts from: `params.yaml` with the file's `base`, no warm start."""
    made = copy.deepcopy(dict(params))
    for section, values in spec.base.items():
        made[section] = {**(made.get(section) or {}), **values}
    made["train"] = {**(made.get("train") or {}), "warm_start": None}
    return made


def at(params: Mapping[str, Any], point: Point) -> dict[str, Any]:
    """Return parameters with the values of a point."""
    made = copy.deepcopy(dict(params))
    for key, value in point.items():
        section, name = key.split(".")
        made[section] = {**(made.get(section) or {}), name: value}
    return made


def default_point(params: Mapping[str, Any], spec: TuneSpec) -> dict[str, Any] | None:
    """Return where the default lies in the space; none where it lies outside."""
    point = {}
    for key, axis in spec.space.items():
        section, name = key.split(".")
        value = (params.get(section) or {}).get(name)
        if not axis.holds(value):
            return None
        point[key] = value
    return point


def search_digest(root: Path, params: Mapping[str, Any], spec: TuneSpec, data: str) -> str:
    """Return what tells searches apart: data, parameters, space, rules and the training's code.

    Title, trials, budget and confirmation are left out: these may change while a search goes on.

    Args:
        root: The workspace.
        params: The default, complete.
        spec: The search.
        data: Digest of the dataset.
    """
    rules = spec.model_dump(exclude={"title", "trials", "budget_minutes", "confirm_seeds", "base"})
    code = [
        [name, hashlib.sha256((root / name).read_bytes()).hexdigest()]
        for name in stage_inputs(root, "train", params).code
    ]
    sections = {key: lookup(params, key) for key in (*SECTIONS, "seed")}
    return _sha256([rules, sections, data, code])


def training_digest(params: Mapping[str, Any], seed: int) -> str:
    """Return what names the training of these parameters in a search."""
    return _sha256([{key: params[key] for key in SECTIONS}, seed])


def _sha256(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
