"""The surrogate: a trained operator with all that is needed to ask it in physical units."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from mno.core.config import validate
from mno.core.errors import InputError
from mno.core.forecast import Forecast
from mno.data.normalise import Normaliser
from mno.nn.config import ModelConfig
from mno.nn.mixers.mamba import reorder_cross
from mno.nn.operator import Operator, count_parameters
from mno.surrogate.description import Description

FORMAT = 5
WEIGHTS_FILE = "weights.safetensors"
DESCRIPTION_FILE = "surrogate.json"
CROSS_ORDER = "all axes, then all reversed"
"""Order of the directions of `path="cross"`; a model saved without this mark has the former one."""


class Surrogate:
    """A trained operator, built by `description.build()`, for named arrays in physical units."""

    def __init__(self, description: Description, operator: nn.Module) -> None:
        self.description = description
        self.operator = operator.eval()

    @property
    def num_parameters(self) -> int:
        """Number of trained weights; a complex one counts as two."""
        return count_parameters(self.operator)

    def with_operator(self, operator: Operator) -> Surrogate:
        """Return a surrogate of the same fields and units with another operator.

        That may be what `mno.nn.replace.replace_mixer` returns. Its configuration takes the place
        of the description's.
        """
        return Surrogate(replace(self.description, model=operator.config), operator)

    def save(self, folder: Path) -> None:
        """Write weights (safetensors) and description (JSON) into an existing folder."""
        weights = {k: v.detach().contiguous() for k, v in self.operator.state_dict().items()}
        (folder / WEIGHTS_FILE).write_bytes(save(weights))
        content = {
            "format": FORMAT,
            **asdict(self.description),
            "model": self.description.model.model_dump(mode="json"),
        }
        if "cross" in self.description.model.path:
            content["cross_order"] = CROSS_ORDER
        text = json.dumps(content, indent=2)  # the order of the fields is that of the weights
        (folder / DESCRIPTION_FILE).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path | str) -> Surrogate:
        """Read what `save` wrote.

        Raises:
            InputError: The folder does not hold a surrogate that this version can read.
        """
        folder = Path(folder)
        try:
            content = json.loads((folder / DESCRIPTION_FILE).read_text(encoding="utf-8"))
            cross_order = content.pop("cross_order", None)
            if content.pop("format") != FORMAT:
                raise InputError(
                    f"{folder} holds a model of a format that this version does not know; "
                    "use the version of mno that wrote it"
                )
            content["normaliser"] = Normaliser(**content["normaliser"])
            content["model"] = validate(ModelConfig, content["model"], "model")
            if content["forecast"] is not None:
                content["forecast"] = Forecast(**content["forecast"])
            for key in ("extent", "reference_spacing", "offset", "scalars", "forcings", "gaps"):
                content[key] = tuple(content[key])
            description = Description(**content)
            operator = description.build()
            weights = load_file(folder / WEIGHTS_FILE)
            if cross_order != CROSS_ORDER:
                weights = reorder_cross(operator, weights)
            operator.load_state_dict(weights)
        except (OSError, KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
            raise InputError(f"{folder} does not hold a readable model: {error}") from None
        return cls(description, operator)

    def predict(
        self, inputs: Mapping[str, np.ndarray], batch_size: int = 32, steps: int | None = None
    ) -> dict[str, np.ndarray]:
        """Predict the output fields of any number of samples, in physical units, by field name.

        Inputs are `(samples, *grid)` on any grid that covers the whole domain, states
        `(samples, history, *grid)`, a number per sample `(samples,)`. Forcings have the frames of
        the states and those of all steps but the last; more are not looked at. A model of unordered
        points is given their coordinates, too, and all fields are `(samples, points)` in place of a
        grid. NaN stands for a missing value, in the fields that the description's `gaps` names. A
        model that rolls out predicts any number of steps, those of its training data if not given.

        Returns:
            Arrays of shape `(samples, *grid)`, of states `(samples, steps, *grid)`, float32.

        Raises:
            InputError: A field is missing, unknown, or of the wrong shape or type, or has a value
                that is infinite, or missing where the model knows no missing ones, or the model
                cannot predict that number of frames.
        """
        description, normaliser = self.description, self.description.normaliser
        forecast = description.forecast
        if steps is not None and not (forecast and steps == forecast.steps):
            if not description.rolls_out:
                fixed = f"{forecast.steps} frames at once" if forecast else "no frames"
                raise InputError(f"steps={steps}: this model predicts {fixed}; leave steps out")
            if steps < 1:
                raise InputError(f"steps={steps} must be at least 1")
        arrays = self._checked(inputs, steps)
        parts = []
        for start in range(0, max(len(arrays[description.fields[0]]), 1), batch_size):
            batch = {
                name: normaliser.encode(name, torch.from_numpy(array[start : start + batch_size]))
                for name, array in arrays.items()
            }
            with torch.inference_mode():
                out = description.answer(self.operator, description.batch(batch), steps)
            parts.append({n: normaliser.decode(n, f).numpy() for n, f in out.fields.items()})
        return {name: np.concatenate([p[name] for p in parts]) for name in description.outputs}

    def _checked(self, inputs: Mapping[str, Any], steps: int | None) -> dict[str, np.ndarray]:
        expected = self.description.given_names
        if set(inputs) != set(expected):
            raise InputError(
                f"got fields {sorted(inputs)}; this model takes exactly {sorted(expected)}"
            )
        arrays = {name: self._checked_array(name, inputs[name], steps) for name in expected}
        samples = {len(array) for array in arrays.values()}
        dims = len(self.description.space)
        placed = (*self.description.fields, *self.description.coordinates)
        grids = {arrays[name].shape[-dims:] for name in placed}
        if len(samples) != 1 or len(grids) != 1 or 0 in next(iter(grids)):
            shapes = sorted({array.shape for array in arrays.values()})
            raise InputError(
                f"fields have shapes {shapes}; expected as many samples of each, at the same places"
            )
        return arrays

    def _checked_array(self, name: str, given: Any, steps: int | None) -> np.ndarray:
        """Return one input, float32, with the frames that are needed."""
        array, dims = np.asarray(given), self.description.dims(name)
        frames = self.description.frames_given(name, steps)
        surplus = name in self.description.forcings
        fits = array.ndim == 1 + len(dims)
        if fits and frames is not None:
            fits = array.shape[1] == frames or (surplus and array.shape[1] > frames)
        if array.dtype.kind not in "fiub" or not fits:
            least = f"frames={frames}{' or more' if surplus else ''}"
            axes = ["samples", *(least if dim == "time" else dim for dim in dims)]
            raise InputError(
                f"field {name} is {array.dtype} of shape {array.shape}; expected numbers of "
                f"shape ({', '.join(axes)}{',' if len(axes) == 1 else ''})"
            )
        needed = array if frames is None else array[:, :frames]
        values = np.ascontiguousarray(needed, dtype=np.float32)
        knows_gaps = name in self.description.gaps
        bad = np.isinf(values) if knows_gaps else ~np.isfinite(values)
        if not bad.any():
            return values
        sample = int(bad.nonzero()[0][0])
        found = "infinite" if np.isinf(values[sample]).any() else "missing (NaN)"
        expected = "finite numbers, or NaN where one is missing" if knows_gaps else "finite numbers"
        raise InputError(
            f"field {name} has a value that is {found}, first in sample {sample}; this model was "
            f"trained on {expected}: correct the sample, or train on data with such a field"
        )
