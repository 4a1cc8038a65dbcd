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
from mno.data.normalise import Normaliser
from mno.errors import InputError
from mno.grid import Grid
from mno.nn.build import build_operator
from mno.nn.config import ModelConfig
from mno.nn.operator import Operator, count_parameters

FORMAT = 3
WEIGHTS_FILE = "weights.safetensors"
DESCRIPTION_FILE = "surrogate.json"


@dataclass(frozen=True)
class Description:
    """What a surrogate is, apart from its weights.

    Attributes:
        scenario: The family of problems it was trained on.
        inputs: Units of the fields it is given, by name.
        outputs: Units of the fields it predicts, by name.
        extent: Length of the domain along each space axis.
        reference_spacing: Distance between grid points in the training data, along each axis.
        normaliser: Fitted on the training split.
        model: The operator's configuration.
        offset: Where points lie in their cells along each axis, as shares of the cells' width; in
            the middle where not given.
    """

    scenario: str
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    extent: tuple[float, ...]
    reference_spacing: tuple[float, ...]
    normaliser: Normaliser
    model: ModelConfig
    offset: tuple[float, ...] = ()

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

    def build(self) -> nn.Module:
        """Build the operator with fresh weights."""
        return build_operator(
            self.model,
            inputs=tuple(self.inputs),
            outputs=tuple(self.outputs),
            dims=len(self.extent),
        )


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
            for key in ("extent", "reference_spacing", "offset"):
                content[key] = tuple(content.get(key, ()))  # format 2 had no offset
            description = Description(**content)
            operator = description.build()
            operator.load_state_dict(load_file(folder / WEIGHTS_FILE))
        except (OSError, KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
            raise InputError(f"{folder} does not hold a readable model: {error}") from None
        return cls(description, operator)

    def predict(
        self, inputs: Mapping[str, np.ndarray], batch_size: int = 32
    ) -> dict[str, np.ndarray]:
        """Predict the output fields of any number of samples.

        Args:
            inputs: Arrays of shape `(samples, *grid)`, by field name, in physical units; any grid
                that covers the whole domain.
            batch_size: Samples per forward pass.

        Returns:
            Arrays of shape `(samples, *grid)`, float32, by field name, in physical units.

        Raises:
            InputError: A field is missing, unknown, or of the wrong shape or type.
        """
        arrays = self._checked(inputs)
        parts = list(self._batches(arrays, batch_size))
        return {name: np.concatenate([p[name] for p in parts]) for name in self.description.outputs}

    def _batches(
        self, arrays: Mapping[str, np.ndarray], batch_size: int
    ) -> Iterator[dict[str, np.ndarray]]:
        samples, *shape = next(iter(arrays.values())).shape
        grid = self.description.grid(tuple(shape))
        normaliser = self.description.normaliser
        for start in range(0, max(samples, 1), batch_size):
            batch = {
                name: normaliser.encode(name, torch.from_numpy(array[start : start + batch_size]))
                for name, array in arrays.items()
            }
            with torch.inference_mode():
                out: Batch = self.operator(Batch(batch, grid))
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
            if array.dtype.kind not in "fiub" or array.ndim != 1 + dims:
                raise InputError(
                    f"field {name} is {array.dtype} of shape {array.shape}; expected numbers of "
                    f"shape (samples, {', '.join('xyz'[:dims])})"
                )
            arrays[name] = np.ascontiguousarray(array, dtype=np.float32)
        shapes = {array.shape for array in arrays.values()}
        if len(shapes) != 1 or 0 in next(iter(shapes))[1:]:
            raise InputError(f"fields have shapes {sorted(shapes)}; expected one and the same grid")
        return arrays
