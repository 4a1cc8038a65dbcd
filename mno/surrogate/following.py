"""A run that an observer follows: one reading after the other, at the same cost each."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from mno.core.batch import Batch
from mno.core.errors import InputError, first_line
from mno.core.files import write_bytes
from mno.core.readings import from_points, is_made, to_points
from mno.surrogate.surrogate import Surrogate

_FORMAT = "1"


class Run:
    """What is known of a run so far.

    Args:
        surrogate: An observer (`task.kind: observe`).
        constant: Its inputs that are the same at all frames, as the dataset has them, of one
            sample: `(pieces,)`, `(x, y)`, `()`.

    Raises:
        InputError: The model is no observer, or what is the same is missing or does not fit.
    """

    def __init__(self, surrogate: Surrogate, constant: Mapping[str, Any]) -> None:
        description = self.description = surrogate.description
        if not description.observes:
            raise InputError(
                "this model continues fields and is no observer; train one with task.kind=observe"
            )
        self.surrogate = surrogate
        self.constant = {n: np.asarray(v, np.float32) for n, v in constant.items()}
        self.state: Tensor | None = None
        self.time: float | None = None  # of the last reading, in the dataset's unit
        self.frames = 0
        wanted = {n for n in description.given_names if not is_made(n)} - set(self.moving)
        wanted -= set(description.times)  # which each reading has
        if wanted != set(constant):
            raise InputError(
                f"of the run as a whole there are {sorted(constant)}; this model takes exactly "
                f"{sorted(wanted)}"
            )
        self._encoded: dict[bool, dict[str, Tensor]] = {}  # whether of readings alone
        self._physical: dict[bool, dict[str, Tensor]] = {}
        self._template: dict[bool, Batch] = {}

    @property
    def moving(self) -> tuple[str, ...]:
        """Names of the inputs that are given with each reading."""
        return self.description.forcings

    def told(
        self, time: float, given: Mapping[str, Any], *, readings_alone: bool = False
    ) -> dict[str, np.ndarray]:
        """Take one reading in, and return what all outputs are now, in physical units.

        `given` is as the dataset has it, without frames: `(zones,)`; NaN where nothing was read.
        Time is in the dataset's unit, from any beginning. Of a model of fields and readings, those
        alone can be asked for, which is far cheaper and leaves the same behind.

        Returns:
            Arrays without frames, by field; of readings `(pieces,)` and the like.

        Raises:
            InputError: The time is not later than the last one, or fields do not fit.
        """
        forecast = self.description.forecast
        assert forecast is not None
        step = 1.0 if self.time is None else (time - self.time) / forecast.interval
        if not (math.isfinite(step) and step > 0.0):
            raise InputError(
                f"a reading at {time:g} is not later than the last one, at {self.time:g}; readings "
                "are told in their order"
            )
        if set(given) != set(self.moving):
            raise InputError(
                f"a reading has {sorted(given)}; this model takes exactly {sorted(self.moving)}"
            )
        with torch.inference_mode():
            batch = self._batch(given, step, readings_alone)
            answer, state = self.surrogate.answering()(batch, self.state, return_state=True)
            decode, physical = self.description.normaliser.decode, self._physical[readings_alone]
            found = {n: decode(n, f, physical)[:, 0].numpy() for n, f in answer.fields.items()}
        self.state, self.time, self.frames = state, time, self.frames + 1
        readings, cells = self.description.readings, self.description.cells
        left_out = self.description.of_cells if readings_alone else ()
        found = {name: values for name, values in found.items() if name not in left_out}
        found = from_points(readings, found, cells) if readings else found
        return {name: values[0] for name, values in found.items()}

    def _batch(self, given: Mapping[str, Any], step: float, alone: bool) -> Batch:
        description = self.description
        normaliser, readings = description.normaliser, description.readings
        moving = {n: np.asarray(v, np.float32)[None, None] for n, v in given.items()}
        if alone not in self._encoded:
            whole = {n: v[None] for n, v in self.constant.items()} | moving
            whole |= {n: np.zeros((1, 1), np.float32) for n in description.times}
            if alone:
                whole = self.surrogate.of_readings(whole, told=True)
            elif readings:
                whole = to_points(readings, whole, description.cells)
            whole = self.surrogate.checked(whole, None)
            physical = {n: torch.from_numpy(v) for n, v in whole.items()}
            encoded = {n: normaliser.encode(n, v, physical) for n, v in physical.items()}
            self._physical[alone] = {n: v for n, v in physical.items() if n not in self.moving}
            self._encoded[alone], self._template[alone] = encoded, description.batch(encoded)
        known, template = self._encoded[alone], self._template[alone]
        for name, values in moving.items():
            if name in readings:
                axis, first, last = readings[name]
                padded = np.full((1, 1, known[name].shape[-1]), np.nan, np.float32)
                padded[..., first:last] = values if axis else values[..., None]
                values = padded
            wrong = np.isinf(values) if name in description.gaps else ~np.isfinite(values)
            if values.shape != known[name].shape or wrong.any():
                raise InputError(
                    f"field {name} of a reading has shape {np.shape(given[name])}, or a value that "
                    "is not finite; expected the places of the model, and NaN alone where nothing "
                    "was read, of fields that may be missing"
                )
            known[name] = normaliser.encode(name, torch.from_numpy(values), self._physical[alone])
        intervals = torch.tensor([[step, 1.0]])
        fields = {n: known[n] for n in description.fields}
        return Batch(fields, template.place, template.scalars, intervals)

    def known(self) -> tuple[Tensor | None, float | None, int]:
        """Return what is known so far, which `restore` takes back."""
        return self.state, self.time, self.frames

    def restore(self, known: tuple[Tensor | None, float | None, int]) -> None:
        """Forget all that was told since."""
        self.state, self.time, self.frames = known

    def save(self, path: Path, model_sha256: str, **told: str) -> None:
        """Write what is known so far beside, and then in place of, a file (safetensors)."""
        tensors = {f"constant/{n}": torch.from_numpy(v) for n, v in self.constant.items()}
        if self.state is not None:
            tensors["state"] = self.state.contiguous()
        about = {"format": _FORMAT, "model": model_sha256, "told": json.dumps(told)}
        about |= {"time": json.dumps(self.time), "frames": str(self.frames)}
        write_bytes(path, save(tensors, about))

    @classmethod
    def load(
        cls, path: Path, surrogate: Surrogate, model_sha256: str
    ) -> tuple["Run", dict[str, str]]:
        """Read what `save` wrote, of this model; an `InputError` if that cannot be."""
        try:
            with safe_open(path, "pt") as file:
                about = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError) as error:
            raise InputError(f"{path} holds no run that can be read: {first_line(error)}") from None
        if about.get("format") != _FORMAT or about.get("model") != model_sha256:
            raise InputError(
                f"{path} is the state of another model ({about.get('model', 'unknown')[:12]}; this "
                f"one is {model_sha256[:12]}): give the model that it belongs to, or begin anew"
            )
        state = tensors.pop("state", None)
        run = cls(surrogate, {n.removeprefix("constant/"): t.numpy() for n, t in tensors.items()})
        run.state, run.time = state, json.loads(about["time"])
        run.frames = int(about["frames"])
        return run, json.loads(about["told"])
