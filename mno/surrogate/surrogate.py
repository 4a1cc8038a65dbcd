"""The surrogate: a trained operator with all that is needed to ask it in physical units."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
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
    """A trained operator that predicts named numpy arrays in physical units.

    Args:
        description: What it is.
        operator: The trained operator, built by `description.build()`.
    """

    def __init__(self, description: Description, operator: nn.Module) -> None:
        self.description = description
        self.operator = operator.eval()

    @property
    def num_parameters(self) -> int:
        """Number of trained weights; a complex one counts as two."""
        return count_parameters(self.operator)

    def with_operator(self, operator: Operator) -> Surrogate:
        """Return a surrogate of the same fields and units with another operator.

        Args:
            operator: For the same inputs and outputs; its configuration takes the place of that of
                the description. For example what `mno.nn.replace.replace_mixer` returns.
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
        """Predict the output fields of any number of samples.

        Args:
            inputs: Arrays of shape `(samples, *grid)`, by field name, in physical units; any grid
                that covers the whole domain. Of states `(samples, history, *grid)`, of a number
                per sample `(samples,)`. Forcings have the frames of the states and those of all
                steps but the last; more are not looked at. A model of unordered points is given
                their coordinates, too, and all fields are `(samples, points)` in place of a grid.
                NaN stands for a missing value, in the fields that the description's `gaps` names.
            batch_size: Samples per forward pass.
            steps: Frames to predict, where the model rolls out; those of its training data if not
                given.

        Returns:
            Arrays of shape `(samples, *grid)`, of states `(samples, steps, *grid)`, float32, by
            field name, in physical units.

        Raises:
            InputError: A field is missing, unknown, or of the wrong shape or type, or has a value
                that is infinite, or missing where the model knows no missing ones, or the model
                cannot predict that number of frames.
        """
        self._check_steps(steps)
        arrays = self._checked(inputs, steps)
        parts = list(self._batches(arrays, batch_size, steps))
        return {name: np.concatenate([p[name] for p in parts]) for name in self.description.outputs}

    def _check_steps(self, steps: int | None) -> None:
        forecast = self.description.forecast
        if steps is None or (forecast and steps == forecast.steps):
            return
        if not self.description.rolls_out:
            fixed = f"{forecast.steps} frames at once" if forecast else "no frames"
            raise InputError(f"steps={steps}: this model predicts {fixed}; leave steps out")
        if steps < 1:
            raise InputError(f"steps={steps} must be at least 1")

    def _batches(
        self, arrays: Mapping[str, np.ndarray], batch_size: int, steps: int | None
    ) -> Iterator[dict[str, np.ndarray]]:
        description, normaliser = self.description, self.description.normaliser
        some = arrays[description.fields[0]]
        samples = len(some)
        for start in range(0, max(samples, 1), batch_size):
            batch = {
                name: normaliser.encode(name, torch.from_numpy(array[start : start + batch_size]))
                for name, array in arrays.items()
            }
            with torch.inference_mode():
                out = description.answer(self.operator, description.batch(batch), steps)
            yield {name: normaliser.decode(name, f).numpy() for name, f in out.fields.items()}

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
        array = np.asarray(given)
        space = () if name in self.description.scalars else self.description.space
        dims = len(space)
        frames = self.description.frames_given(name, steps)
        found = array.shape[1 : array.ndim - dims]
        surplus = name in self.description.forcings
        fits = (
            found == ()
            if frames is None
            else len(found) == 1 and (found[0] == frames or (surplus and found[0] > frames))
        )
        if array.dtype.kind not in "fiub" or array.ndim < 1 + dims or not fits:
            least = f"frames={frames}{' or more' if surplus else ''}"
            axes = ["samples", *([] if frames is None else [least]), *space]
            raise InputError(
                f"field {name} is {array.dtype} of shape {array.shape}; expected numbers of "
                f"shape ({', '.join(axes)}{',' if len(axes) == 1 else ''})"
            )
        needed = array if frames is None else array[:, :frames]
        taken = np.ascontiguousarray(needed, dtype=np.float32)
        self._check_values(name, taken)
        return taken

    def _check_values(self, name: str, values: np.ndarray) -> None:
        """Refuse values that are infinite, and missing ones where the model knows none."""
        knows_gaps = name in self.description.gaps
        bad = np.isinf(values) if knows_gaps else ~np.isfinite(values)
        if not bad.any():
            return
        sample = int(bad.nonzero()[0][0])
        found = "infinite" if np.isinf(values[sample]).any() else "missing (NaN)"
        expected = "finite numbers, or NaN where one is missing" if knows_gaps else "finite numbers"
        raise InputError(
            f"field {name} has a value that is {found}, first in sample {sample}; this model was "
            f"trained on {expected}: correct the sample, or train on data with such a field"
        )
