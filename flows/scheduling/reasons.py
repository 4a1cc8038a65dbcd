"""Why there is something to retrain for, if there is."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from flows.status import read_stages
from mno.core.errors import MnoError

Kind = Literal["data", "parameters", "code", "results", "registry", "drift"]
_DATA = ("data", "build/dataset", "generate", "scenario")
_CODE = ("mno/", "pipelines/")
_RESULTS = ("build/", "models/", "reports/")
_TRAINING = ("generate", "data.dvc", "train")


@dataclass(frozen=True)
class Reason:
    """One reason to run the line.

    Attributes:
        kind: `data` (another dataset, or other parameters of it), `parameters`, `code`, `results`
            (what a stage made is missing or altered), `registry` (the registered version cannot be
            used) or `drift`.
        text: What was found, in one line.
    """

    kind: Kind
    text: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.text}"


@dataclass(frozen=True)
class Findings:
    """What was looked at.

    Attributes:
        reasons: All there are; empty if nothing is to be done.
        trains: Whether the stage `train` has something to do by itself.
    """

    reasons: Sequence[Reason]
    trains: bool


def look(root: Path) -> Findings:
    """Ask DVC and the registry what has changed since the last run.

    Raises:
        MnoError: A stage is at work, or DVC cannot tell.
    """
    stages = read_stages(root)
    busy = [stage["name"] for stage in stages if stage["state"] in ("running", "unknown")]
    if busy:
        raise MnoError(f"the stage {busy[0]} is at work: a run outside mno? Try again later")
    reasons = _causes(stages)
    stale = {stage["name"] for stage in stages if stage["state"] != "current"}
    if not reasons and (problem := _registry(root)):
        reasons.append(Reason("registry", problem))
    return Findings(reasons, bool(stale.intersection(_TRAINING)))


def _causes(stages: Sequence[dict[str, Any]]) -> list[Reason]:
    """Return what has changed, each once, and without the results that are stale because of it."""
    causes: dict[str, Reason] = {}
    for stage in stages:
        found: dict[str, Kind] = {text: _kind(stage["name"], text) for text in stage["reasons"]}
        for text, kind in sorted(found.items(), key=lambda item: item[1] == "results"):
            if kind != "results" or not causes:
                causes.setdefault(text, Reason(kind, f"{stage['name']}: {text}"))
    return list(causes.values())


def _kind(stage: str, text: str) -> Kind:
    """Tell from DVC's words for a change, as `mno/core/grid.py modified`, what has changed."""
    what, _, how = text.rpartition(" ")
    if how == "missing":
        return "results"
    if text == "changed command" or what.startswith(_CODE):
        return "code"
    if stage == "data.dvc" or what in _DATA or what.startswith("scenarios."):
        return "data"
    return "results" if what.startswith(_RESULTS) else "parameters"


def _registry(root: Path) -> str | None:
    """Say why the version that the last run registered cannot be used; none if it can."""
    from mno.registry.reading import why_version_is_unusable

    try:
        registered = json.loads((root / "reports/registered.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return "the record of the registration cannot be read"
    return why_version_is_unusable(root, registered)
