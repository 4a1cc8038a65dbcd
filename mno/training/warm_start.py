"""The warm start: a training that begins with the weights of another."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from mno.core.errors import InputError
from mno.core.forecast import Forecast
from mno.surrogate.description import Description

# What may differ without changing what the weights mean.
_FREE = frozenset({"dropout"})


def continued(initial: Description, fresh: Description) -> Description:
    """Describe a training that begins with the weights of a trained model.

    The normaliser and the reference spacing are those of the first training, so that the weights
    mean the same; with a dataset of a higher resolution, that is fine-tuning on finer grids, and
    the result still is one operator for all of them.

    Args:
        initial: The trained model.
        fresh: What a training from fresh weights would be.

    Raises:
        InputError: The model is of another architecture, of other fields, of another domain, or
            continues states in another way.
    """
    theirs, ours = (d.model.model_dump(mode="json", exclude=set(_FREE)) for d in (initial, fresh))
    differing = [key for key in ours if theirs[key] != ours[key]]
    if differing:
        has, expected = (
            ", ".join(f"{key}={model[key]}" for key in differing) for model in (theirs, ours)
        )
        raise InputError(
            f"train.warm_start: that model has {has}; expected {expected}, as in section model: "
            "make them alike, or set train.warm_start=null"
        )
    for kind in ("inputs", "outputs", "coordinates"):
        given, wanted = getattr(initial, kind), getattr(fresh, kind)
        if dict(given) != dict(wanted):
            raise InputError(
                f"train.warm_start: that model has {kind} {_listed(given)}; expected those of the "
                f"dataset, {_listed(wanted)}: choose a model of these fields, or set "
                "train.warm_start=null"
            )
    if unknown := [name for name in fresh.gaps if name not in initial.gaps]:
        raise InputError(
            f"train.warm_start: that model knows no missing values of {', '.join(unknown)}, which "
            "the dataset may have; choose a model that does, or set train.warm_start=null"
        )
    if len(initial.extent) != len(fresh.extent) or not all(
        math.isclose(a, b) for a, b in zip(initial.extent, fresh.extent, strict=True)
    ):
        raise InputError(
            f"train.warm_start: that model is of a domain of extent {initial.extent}; expected "
            f"{fresh.extent}, the dataset's: choose a model of this domain, or set "
            "train.warm_start=null"
        )
    if not _continues_alike(initial.forecast, fresh.forecast):
        raise InputError(
            f"train.warm_start: that model was trained to {_said(initial.forecast)}; expected "
            f"{_said(fresh.forecast)}, as in section task and the dataset: make them alike, or set "
            "train.warm_start=null"
        )
    return replace(
        initial,
        scenario=fresh.scenario,
        model=fresh.model,
        offset=fresh.offset,
        forecast=fresh.forecast,
    )


def _continues_alike(theirs: Forecast | None, ours: Forecast | None) -> bool:
    """Whether the weights mean the same; a rollout may go on for any number of steps."""
    if theirs is None or ours is None:
        return theirs is ours
    return (theirs.history, theirs.scheme, theirs.frames_at_once) == (
        ours.history, ours.scheme, ours.frames_at_once
    ) and math.isclose(theirs.interval, ours.interval)  # fmt: skip


def _said(forecast: Forecast | None) -> str:
    if forecast is None:
        return "predict without frames"
    return (
        f"continue history={forecast.history} frames by scheme={forecast.scheme}, "
        f"{forecast.frames_at_once} at once, {forecast.interval:g} apart"
    )


def _listed(fields: Mapping[str, str]) -> str:
    return ", ".join(f"{name} [{unit}]" for name, unit in fields.items())
