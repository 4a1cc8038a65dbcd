"""The surrogate: a trained operator with all that is needed to ask it in physical units."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import TypeAdapter
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.attention import SDPBackend, sdpa_kernel

from mno.core.errors import InputError, first_line
from mno.core.fields import LOG
from mno.core.forecast import check_ascending
from mno.core.readings import from_points, is_made, to_points
from mno.data.normalise import first_not_positive
from mno.nn.lean import lean
from mno.nn.mixers.mamba import reorder_cross
from mno.nn.operator import Operator, count_parameters
from mno.surrogate.description import INTERVALS, Description

FORMAT, FORMAT_OF_SCALES = 5, 6
"""The latter of models with fields that are not plain, or that predict changes: versions before it
would not know."""
WEIGHTS_FILE = "weights.safetensors"
DESCRIPTION_FILE = "surrogate.json"
CROSS_ORDER = "all axes, then all reversed"
"""Order of the directions of `path="cross"`; a model saved without this mark has the former one."""


class Surrogate:
    """A trained operator, built by `description.build()`, for named arrays in physical units."""

    def __init__(self, description: Description, operator: nn.Module) -> None:
        self.description = description
        self.operator = operator.eval()
        self.device = "cpu"  # that `predict` computes on
        self._lean: tuple[Any, nn.Module] | None = None
        self._parts: list[Mapping[str, Any]] = []
        """Of the operator and all modules in it, the mappings of weights and of modules."""

    @property
    def num_parameters(self) -> int:
        """Number of trained weights; a complex one counts as two."""
        return count_parameters(self.operator)

    def answering(self, device: str = "cpu") -> nn.Module:
        """Return the operator as it answers on a device, with its weights as they are now.

        On the processor that is its lean form.
        """
        if not isinstance(self.operator, Operator):
            return self.operator.to(device)
        version = [device, *self._version()]
        if self._lean is None or self._lean[0] != version:
            modules = list(self.operator.modules())
            self._parts = [part for m in modules for part in (m._parameters, m._modules) if part]
            on_cpu = device == "cpu"
            form = lean(self.operator) if on_cpu else copy.deepcopy(self.operator).to(device)
            self._lean = [device, *self._version()], form
        return self._lean[1]

    def _version(self) -> list[Any]:
        """Return what is another once a weight or a module is."""
        parts = [part for mapping in self._parts for part in mapping.values()]
        return [(id(p), p._version if isinstance(p, Tensor) else 0) for p in parts]

    def with_operator(self, operator: Operator) -> Surrogate:
        """Return a surrogate of the same fields and units with another operator.

        If `mno.nn.replace.replace_mixer` made it, its configuration replaces the description's.
        """
        return Surrogate(replace(self.description, model=operator.config), operator)

    def save(self, folder: Path) -> None:
        """Write weights (safetensors) and description (JSON) into an existing folder."""
        weights = {k: v.detach().contiguous() for k, v in self.operator.state_dict().items()}
        (folder / WEIGHTS_FILE).write_bytes(save(weights))
        content = self.description.to_dict()
        is_plain = set(content["normaliser"]) == {"mean", "std"}
        content = {"format": FORMAT if is_plain else FORMAT_OF_SCALES, **content}
        if "cross" in self.description.model.path:
            content["cross_order"] = CROSS_ORDER
        text = json.dumps(content, indent=2)  # the order of the fields is that of the weights
        (folder / DESCRIPTION_FILE).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path | str) -> Surrogate:
        """Read what `save` wrote, or raise an `InputError` if this version cannot."""
        folder = Path(folder)
        try:
            content = dict(json.loads((folder / DESCRIPTION_FILE).read_text(encoding="utf-8")))
            cross_order = content.pop("cross_order", None)
            if content.pop("format") not in (FORMAT, FORMAT_OF_SCALES):
                raise InputError(
                    f"{folder} holds a model of a format that this version does not know; "
                    "use the version of mno that wrote it"
                )
            description = TypeAdapter(Description).validate_python(content)
            operator = description.build()
            weights = load_file(folder / WEIGHTS_FILE)
            if cross_order != CROSS_ORDER:
                weights = reorder_cross(operator, weights)
            operator.load_state_dict(weights)
        except (OSError, KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
            why = first_line(error).partition(" [type=")[0]
            raise InputError(f"{folder} does not hold a readable model: {why}") from None
        return cls(description, operator)

    def predict(
        self,
        inputs: Mapping[str, np.ndarray],
        batch_size: int = 32,
        steps: int | None = None,
        *,
        readings_alone: bool = False,
        times: np.ndarray | None = None,
    ) -> dict[str, np.ndarray]:
        """Predict the output fields of any number of samples, in physical units, by field name.

        Inputs are `(samples, *grid)` on any grid that covers the whole domain, states
        `(samples, history, *grid)`, a number per sample `(samples,)`. Forcings have the frames of
        the states and those of all steps but the last; more are not looked at. A model of unordered
        points is given their coordinates, too, and all fields are `(samples, points)` in place of a
        grid. NaN stands for a missing value, in the fields that the description's `gaps` names. A
        model that rolls out predicts any number of steps, those of its training data if not given.
        Readings have the axis that numbers them in place of the grid, `(samples, frames, zones)`.
        A model of fields and readings can be asked for `readings_alone`, which it answers as it
        would beside the fields, for less; then no field in space need be given.

        A model along time (`task.time=axis`) is given any number of frames of each state, and
        predicts any number. They are as far apart as those of its training, or at `times`, in the
        unit of these: of all frames given and predicted, `(frames,)` or `(samples, frames)`. A
        model of samples with times of their own is given these among the inputs instead.

        Returns:
            Arrays of shape `(samples, *grid)`, of states `(samples, steps, *grid)`, float32.

        Raises:
            InputError: A field is missing, unknown, or of the wrong shape or type, or has a value
                that is infinite, or missing where the model knows no missing ones, or not positive
                where it takes the logarithm, or the model cannot predict that number of frames, or
                readings alone, or frames at these times.
        """
        description = self.description
        arrays, told = self.at_points(inputs, steps, readings_alone)
        intervals = None if times is None else self._intervals(times, arrays, steps)
        device = self.device
        parts, operator = [], self.answering(device)
        with torch.inference_mode():
            for start in range(0, max(len(arrays[description.fields[0]]), 1), batch_size):
                rows = slice(start, start + batch_size)
                given = {n: torch.from_numpy(array[rows]).to(device) for n, array in arrays.items()}
                spaced = None if intervals is None else intervals[rows].to(device)
                out = self.answers(operator, given, steps, spaced)
                parts.append({name: field.cpu().numpy() for name, field in out.items()})
        left_out = description.of_cells if readings_alone else ()
        names = [name for name in description.outputs if name not in left_out]
        found = {name: np.concatenate([part[name] for part in parts]) for name in names}
        return from_points(description.readings, found, description.cells) if told else found

    def gradient(
        self,
        inputs: Mapping[str, np.ndarray],
        weights: Mapping[str, np.ndarray],
        steps: int | None = None,
    ) -> dict[str, np.ndarray]:
        """Return the slope of a weighted sum of what is predicted by each value that is given.

        Inputs and `steps` are those of `predict`; weights are of some of what it returns for them,
        in its shapes. So the slope by an input is in 1 over its unit, and its shape is the input's;
        it is zero where a value is missing, and where no answer depends on it.

        Raises:
            InputError: As `predict`, or weights are not of what it returns.
        """
        description = self.description
        arrays, told = self.at_points(inputs, steps)
        given = {name: torch.from_numpy(array).requires_grad_() for name, array in arrays.items()}
        with torch.enable_grad():
            found = self.answers(self.operator, given, steps)
        kept = {name: np.nan_to_num(np.asarray(w, np.float32)) for name, w in weights.items()}
        if told:
            kept = to_points(description.readings, kept, description.cells)
        kept = {name: weight for name, weight in kept.items() if not is_made(name)}
        sizes = {name: tuple(found[name].shape) for name in description.outputs}
        if not kept or any(sizes.get(name) != weight.shape for name, weight in kept.items()):
            shapes = {name: np.shape(weight) for name, weight in weights.items()}
            raise InputError(
                f"weights have shapes {shapes}; expected some of what is predicted: {sizes}"
            )
        slopes = torch.autograd.grad(
            [found[name] for name in kept], list(given.values()),
            [torch.from_numpy(np.nan_to_num(weight)) for weight in kept.values()],
            allow_unused=True,
        )  # fmt: skip
        pairs = zip(given.items(), slopes, strict=True)
        by = {n: (x.detach() * 0 if s is None else s).nan_to_num().numpy() for (n, x), s in pairs}
        return from_points(description.readings, by, description.cells) if told else by

    def product(
        self,
        inputs: Mapping[str, np.ndarray],
        directions: Mapping[str, np.ndarray],
        steps: int | None = None,
    ) -> dict[str, np.ndarray]:
        """Return by how much what is predicted moves, per unit step along directions of inputs.

        It is the product with the Jacobian, by differentiation forwards. Inputs and `steps` are
        those of `predict`; directions are of some of the inputs, in their shapes and units. What is
        returned has the names, shapes and units of what is predicted.

        Raises:
            InputError: As `predict`, or directions are not of inputs.
        """
        description = self.description
        shapes = {name: np.shape(values) for name, values in inputs.items()}
        if any(np.shape(d) != shapes.get(name) for name, d in directions.items()):
            given = {name: np.shape(direction) for name, direction in directions.items()}
            raise InputError(
                f"directions have shapes {given}; expected some of the inputs: {shapes}"
            )
        whole = {n: np.asarray(directions.get(n, np.zeros(s))) for n, s in shapes.items()}
        arrays, told = self.at_points(inputs, steps)
        if told:
            whole = to_points(description.readings, whole, description.cells)
            whole = {n: 0.0 * values if is_made(n) else values for n, values in whole.items()}
        with torch.no_grad(), forward_ad.dual_level(), sdpa_kernel(SDPBackend.MATH):
            moving = {}
            for name, array in arrays.items():
                frames = whole[name][:, : array.shape[1]] if array.ndim > 1 else whole[name]
                by = torch.from_numpy(np.nan_to_num(frames.astype(np.float32)))
                moving[name] = forward_ad.make_dual(torch.from_numpy(array), by)
            found = {
                name: forward_ad.unpack_dual(field)
                for name, field in self.answers(self.operator, moving, steps).items()
            }
        by = {
            n: (f.primal * 0 if f.tangent is None else f.tangent).numpy() for n, f in found.items()
        }
        return from_points(description.readings, by, description.cells) if told else by

    def answers(
        self,
        operator: nn.Module,
        given: Mapping[str, Tensor],
        steps: int | None,
        intervals: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Return what an operator answers to physical fields, in physical units.

        It is this surrogate's in any form, and what is given is at its points (`at_points`).
        """
        description, normaliser = self.description, self.description.normaliser
        batch = {name: normaliser.encode(name, field, given) for name, field in given.items()}
        if intervals is not None:
            batch[INTERVALS] = intervals
        out = description.answer(operator, description.batch(batch), steps).fields
        return {name: normaliser.decode(name, field, given) for name, field in out.items()}

    def at_points(
        self, inputs: Mapping[str, np.ndarray], steps: int | None, readings_alone: bool = False
    ) -> tuple[dict[str, np.ndarray], bool]:
        """Return checked inputs at the operator's points, and whether they came as datasets'."""
        description, forecast = self.description, self.description.forecast
        if steps is not None and not (forecast and steps == forecast.steps):
            if not description.any_steps:
                fixed = f"{forecast.steps} frames at once" if forecast else "no frames"
                raise InputError(f"steps={steps}: this model predicts {fixed}; leave steps out")
            if steps < 1:
                raise InputError(f"steps={steps} must be at least 1")
        told = bool(description.readings) and not any(map(is_made, inputs))
        if readings_alone:
            inputs = self.of_readings(inputs, told=told)
        elif told:
            inputs = to_points(description.readings, inputs, description.cells)
        return self.checked(inputs, steps), told

    def _intervals(
        self, times: np.ndarray, arrays: Mapping[str, np.ndarray], steps: int | None
    ) -> Tensor:
        """Return the intervals of frames at some times; see `Batch.intervals`."""
        forecast, history = self.description.forecast, self.description.history_of(arrays)
        if forecast is None or history is None:
            raise InputError(
                "times were given, but time is no axis of this model: its frames are as far apart "
                "as in training; leave them out, or train with task.time=axis"
            )
        if self.description.times:
            name = next(iter(self.description.times))
            raise InputError(
                f"times were given beside the field {name}, which says them: leave one"
            )
        samples = len(arrays[self.description.fields[0]])
        frames = history + (0 if forecast.observes else steps or forecast.steps)
        times = np.asarray(times, dtype=np.float64)
        if times.shape not in ((frames,), (samples, frames)) or not np.isfinite(times).all():
            raise InputError(
                f"times have shape {times.shape}; expected a finite number for each frame that is "
                f"given or predicted, {(frames,)} or {(samples, frames)}"
            )
        times = np.broadcast_to(times, (samples, frames))
        check_ascending(times, "times")
        intervals = np.ones((samples, frames))
        intervals[:, 1:] = np.diff(times, axis=1) / forecast.interval
        return torch.from_numpy(intervals.astype(np.float32))

    def of_readings(self, inputs: Mapping[str, np.ndarray], *, told: bool) -> dict[str, np.ndarray]:
        """Return what is given at the points of readings; fields in space are missing there.

        It was `told` as a dataset has it, or is at all points already.
        """
        description = self.description
        scalars, last = description.scalars, description.sources
        if last is None:
            raise InputError(
                "readings alone can be asked of models of fields and readings (task.part=both); "
                f"this one is of {description.part}: leave readings_alone out"
            )
        if not told:
            return {n: a if n in scalars else a[..., :last] for n, a in inputs.items()}
        found = to_points(description.readings, inputs, description.cells, alone=True)
        samples = len(next(iter(inputs.values()), ()))
        for name in description.of_cells & {*description.inputs}:
            frames = description.frames_given(name, None)
            shape = (samples, *([] if frames is None else [frames]), last)
            found[name] = np.full(shape, np.nan, np.float32)
        return found

    def checked(self, inputs: Mapping[str, Any], steps: int | None) -> dict[str, np.ndarray]:
        """Return what `predict` is given, at the points where it is, in order and as float32."""
        expected = self.description.given_names
        if set(inputs) != set(expected):
            raise InputError(
                f"got fields {sorted(inputs)}; this model takes exactly {sorted(expected)}"
            )
        given = {name: np.asarray(inputs[name]) for name in expected}
        self.description.check_shapes(given, steps)
        history = self.description.history_of(given)
        for name in self.description.times:
            check_ascending(given[name], f"field {name}: times")
        frames = self.description.frames_given
        return {n: self._checked_values(n, a, frames(n, steps, history)) for n, a in given.items()}

    def _checked_values(self, name: str, array: np.ndarray, frames: int | None) -> np.ndarray:
        needed = array if frames is None else array[:, :frames]
        values = np.ascontiguousarray(needed, dtype=np.float32)
        knows_gaps = name in self.description.gaps
        bad = np.isinf(values) if knows_gaps else ~np.isfinite(values)
        if not bad.any():
            is_log = self.description.normaliser.scale(name) == LOG
            found = first_not_positive(values) if is_log else None
            if found:
                raise InputError(
                    f"field {name} has the value {found[1]:g} in sample {found[0]}; this model "
                    "takes its logarithm and expects numbers above 0: correct the sample"
                )
            return values
        sample = int(bad.nonzero()[0][0])
        found = "infinite" if np.isinf(values[sample]).any() else "missing (NaN)"
        expected = "finite numbers, or NaN where one is missing" if knows_gaps else "finite numbers"
        raise InputError(
            f"field {name} has a value that is {found}, first in sample {sample}; this model was "
            f"trained on {expected}: correct the sample, or train on data with such a field"
        )
