"""The surrogate: a trained operator with all that is needed to ask it in physical units."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from mno.config import validate
from mno.data.batch import Batch
from mno.data.normalise import ArrayT, Normaliser
from mno.errors import InputError
from mno.forecast import Forecast
from mno.grid import Grid
from mno.nn.build import build_operator
from mno.nn.config import ModelConfig
from mno.nn.operator import Operator, count_parameters
from mno.rollout import roll_out

FORMAT = 3
WEIGHTS_FILE = "weights.safetensors"
DESCRIPTION_FILE = "surrogate.json"


@dataclass(frozen=True)
class Description:
    """What a surrogate is, apart from its weights.

    Attributes:
        scenario: The family of problems it was trained on.
        inputs: Units of the fields it is given, by name.
        outputs: Units of the fields it predicts, by name; a state is among both.
        extent: Length of the domain along each space axis.
        reference_spacing: Distance between grid points in the training data, along each axis.
        normaliser: Fitted on the training split.
        model: The operator's configuration.
        offset: Where points lie in their cells along each axis, as shares of the cells' width; in
            the middle where not given.
        forecast: How it continues states; none where there are no states.
    """

    scenario: str
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    extent: tuple[float, ...]
    reference_spacing: tuple[float, ...]
    normaliser: Normaliser
    model: ModelConfig
    offset: tuple[float, ...] = ()
    forecast: Forecast | None = None

    def __post_init__(self) -> None:
        if self.model.walls == "free":
            return
        means = {name: self.normaliser.mean[name] for name in self.outputs}
        if any(means.values()):
            raise ValueError(
                f"outputs that are zero at the walls are normalised about {means}; expected 0, so "
                "that zero stays zero: fit the normaliser with about_zero"
            )

    def grid(self, shape: tuple[int, ...]) -> Grid:
        """Return the grid of a field of this shape that covers the whole domain."""
        spacing = tuple(length / n for length, n in zip(self.extent, shape, strict=True))
        places: tuple[tuple[float, ...], ...] = ()
        if any(share != 0.5 for share in self.offset):
            axes = zip(shape, self.offset, strict=True)
            places = tuple(tuple((i + share) / n for i in range(n)) for n, share in axes)
        return Grid(shape, spacing, self.reference_spacing, places)

    @property
    def states(self) -> tuple[str, ...]:
        """Names of the fields that are given at first frames and predicted at later ones."""
        return tuple(name for name in self.inputs if name in self.outputs and self.forecast)

    @property
    def rolls_out(self) -> bool:
        """Whether the operator is asked for one frame after the other."""
        return self.forecast is not None and self.forecast.scheme == "rollout"

    def build(self) -> nn.Module:
        """Build the operator with fresh weights."""
        forecast, states = self.forecast, self.states
        given, predicted = (forecast.history, forecast.frames_at_once) if forecast else (None, None)
        return build_operator(
            self.model,
            inputs={name: given if name in states else None for name in self.inputs},
            outputs={name: predicted if name in states else None for name in self.outputs},
            dims=len(self.extent),
        )

    def given(self, fields: Mapping[str, ArrayT]) -> dict[str, ArrayT]:
        """Return what the operator is given of whole fields: of states, the first frames.

        Args:
            fields: Shape `(samples, *dims)` by name, states `(samples, frames, *grid)`.
        """
        history = self.forecast.history if self.forecast else 0
        return {n: fields[n][:, :history] if n in self.states else fields[n] for n in self.inputs}

    def truth(self, fields: Mapping[str, ArrayT]) -> dict[str, ArrayT]:
        """Return what is to be predicted of whole fields: of states, all later frames."""
        history = self.forecast.history if self.forecast else 0
        return {n: fields[n][:, history:] if n in self.states else fields[n] for n in self.outputs}

    def answer(self, operator: nn.Module, batch: Batch, steps: int | None = None) -> Batch:
        """Return what an operator predicts, by a rollout where that is the scheme.

        Args:
            operator: Made by `build`.
            batch: What it is given, normalised.
            steps: Frames of a rollout; those of the forecast if not given.
        """
        if self.forecast is None or not self.rolls_out:
            return operator(batch)
        return roll_out(operator, batch, steps or self.forecast.steps)


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
            form = content.pop("format")
            if form not in range(1, FORMAT + 1):
                raise InputError(
                    f"{folder} holds a model of a format that this version does not know; "
                    "use the version of mno that wrote it"
                )
            if form == 1:  # knew one discretisation
                content["model"]["discretization"] = "simplified"
            content["normaliser"] = Normaliser(**content["normaliser"])
            content["model"] = validate(ModelConfig, content["model"], "model")
            if content.get("forecast") is not None:
                content["forecast"] = Forecast(**content["forecast"])
            for key in ("extent", "reference_spacing", "offset"):
                content[key] = tuple(content.get(key, ()))  # format 2 had no offset
            description = Description(**content)
            operator = description.build()
            operator.load_state_dict(load_file(folder / WEIGHTS_FILE))
        except (OSError, KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
            raise InputError(f"{folder} does not hold a readable model: {error}") from None
        return cls(description, operator)

    def predict(
        self, inputs: Mapping[str, np.ndarray], batch_size: int = 32, steps: int | None = None
    ) -> dict[str, np.ndarray]:
        """Predict the output fields of any number of samples.

        Args:
            inputs: Arrays of shape `(samples, *grid)`, of states `(samples, history, *grid)`, by
                field name, in physical units; any grid that covers the whole domain.
            batch_size: Samples per forward pass.
            steps: Frames to predict, where the model rolls out; those of its training data if not
                given.

        Returns:
            Arrays of shape `(samples, *grid)`, of states `(samples, steps, *grid)`, float32, by
            field name, in physical units.

        Raises:
            InputError: A field is missing, unknown, or of the wrong shape or type, or the model
                cannot predict that number of frames.
        """
        self._check_steps(steps)
        arrays = self._checked(inputs)
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
        some = next(iter(arrays.values()))
        samples = len(some)
        grid = self.description.grid(some.shape[-len(self.description.extent) :])
        normaliser = self.description.normaliser
        for start in range(0, max(samples, 1), batch_size):
            batch = {
                name: normaliser.encode(name, torch.from_numpy(array[start : start + batch_size]))
                for name, array in arrays.items()
            }
            with torch.inference_mode():
                out = self.description.answer(self.operator, Batch(batch, grid), steps)
            yield {name: normaliser.decode(name, f).numpy() for name, f in out.fields.items()}

    def _checked(self, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
        expected = self.description.inputs
        if set(inputs) != set(expected):
            raise InputError(
                f"got fields {sorted(inputs)}; this model takes exactly {sorted(expected)}"
            )
        arrays: dict[str, np.ndarray] = {}
        dims = len(self.description.extent)
        for name in expected:
            array = np.asarray(inputs[name])
            frames = self._frames_of(name)
            fits = array.ndim == 1 + len(frames) + dims and array.shape[1:-dims] == frames
            if array.dtype.kind not in "fiub" or not fits:
                axes = ", ".join([*(f"frames={n}" for n in frames), *"xyz"[:dims]])
                raise InputError(
                    f"field {name} is {array.dtype} of shape {array.shape}; expected numbers of "
                    f"shape (samples, {axes})"
                )
            arrays[name] = np.ascontiguousarray(array, dtype=np.float32)
        shapes = {(len(array), *array.shape[-dims:]) for array in arrays.values()}
        if len(shapes) != 1 or 0 in next(iter(shapes))[1:]:
            raise InputError(f"fields have shapes {sorted(shapes)}; expected one and the same grid")
        return arrays

    def _frames_of(self, name: str) -> tuple[int, ...]:
        """Return the length of an input's axis of frames; nothing where it has none."""
        forecast = self.description.forecast
        return (forecast.history,) if forecast and name in self.description.states else ()
