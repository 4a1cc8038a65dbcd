"""Models of a dataset that have learned nothing but the scales of its fields."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from mno.core.forecast import TaskConfig, forecast_of
from mno.data.normalise import Normaliser
from mno.data.reading import Schema
from mno.nn.config import ModelConfig
from mno.surrogate.description import Description
from mno.surrogate.surrogate import Surrogate


def untrained(
    schema: Schema,
    fields: Mapping[str, np.ndarray],
    history: int = 1,
    scheme: str = "rollout",
    nudged: bool = False,
    **others: Any,
) -> Surrogate:
    """Return the smallest model of some fields.

    Weights that are `nudged` predict more than the mean of the data, which fresh ones may not.
    """
    torch.manual_seed(0)
    points = bool(schema.coordinates)
    task = TaskConfig.model_validate({"history": history, "scheme": scheme})
    path = "bidirectional" if points else "axial"
    description = Description(
        **{
            "scenario": schema.scenario,
            "inputs": {field.name: field.units for field in schema.inputs},
            "outputs": {field.name: field.units for field in schema.outputs},
            "coordinates": {field.name: field.units for field in schema.coordinates},
            "extent": (1.0, 1.0) if points else schema.extent,
            "reference_spacing": (0.1,) if points else schema.spacing,
            "normaliser": Normaliser.fit(fields),
            "model": ModelConfig(width=4, layers=1, d_state=2, path=path),
            "forecast": forecast_of(task, schema.fields, schema.axes),
            "scalars": tuple(f.name for f in schema.inputs if f.is_scalar),
            "forcings": tuple(f.name for f in schema.inputs if f.is_forcing),
            "gaps": tuple(f.name for f in schema.inputs if f.gaps),
            **others,
        }
    )
    operator = description.build()
    with torch.no_grad():
        for weight in operator.parameters() if nudged else ():
            weight.add_(0.05 * torch.randn_like(weight))
    return Surrogate(description, operator)


def broken(surrogate: Surrogate) -> Surrogate:
    """Return a model of the same description that predicts no numbers."""
    operator = surrogate.description.build()
    with torch.no_grad():
        for weight in operator.parameters():
            weight.fill_(torch.nan)
    return Surrogate(surrogate.description, operator)
