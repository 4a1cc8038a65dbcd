"""A surrogate as one function of tensors in physical units, with all that it says of an answer.

Names are those of `mno predict` and of the store that it writes: fields, and beside them bounds
(`NAME_rmse_bound`), the distance from the training data, and whether that is too far. An output
that has the name of an input, as a state has, is called `NAME_predicted`.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mno.core.absent import Absent
from mno.core.batch import Batch
from mno.core.errors import InputError
from mno.core.readings import from_points, is_in_space, is_made, to_points
from mno.surrogate.equation import residual_left
from mno.surrogate.surrogate import Surrogate
from mno.surrogate.trust.bounds import MEASURES, as_told
from mno.surrogate.trust.features import describe
from mno.surrogate.trust.trust import Trust

INTERVAL, ELAPSED, STATE, BEHIND = "interval", "elapsed", "state", "state_behind"
"""Of an observer: times since the last reading and the first, by that between frames of training,
1 and 0 at the first; what it remembers, zeros at the first, and what behind a reading."""
Tensors = Mapping[str, Tensor]


def graph_of(surrogate: Surrogate, trust: Trust | Absent) -> "Graph":
    """Return the function that a model is."""
    return (Following if surrogate.description.observes else Graph)(surrogate, trust)


class Graph(nn.Module):
    """What is exported: called with the tensors that `given` names, it returns those of `told`.

    Both say the unit and, behind the samples', the axes of each. A model of fields on a grid, or
    of unordered points, is exported for the places of its training data, `shape`.

    Raises:
        InputError: The backbone has no form of plain operations, or the points' number is unknown.
    """

    def __init__(self, surrogate: Surrogate, trust: Trust | Absent) -> None:
        super().__init__()
        description = self.description = surrogate.description
        if description.model.backbone == "fno":
            raise InputError(
                "backbone=fno multiplies complex numbers, which ONNX has not; export a model of "
                "another backbone, such as latent"
            )
        self.surrogate, self.operator = surrogate, surrogate.operator
        self.trust = None if isinstance(trust, Absent) else trust
        if isinstance(trust, Trust):
            self.shape = trust.shape
        elif description.coordinates and not description.readings:
            raise InputError(f"it is not known how many points the model was trained on: {trust}")
        else:
            pairs = zip(description.extent, description.reference_spacing, strict=True)
            self.shape = tuple(round(extent / spacing) for extent, spacing in pairs)
        self.given = {n: self._said(n) for n in description.given_names if not is_made(n)}
        self.told = {self._called(n): self._said(n) for n in description.outputs}
        example = self.example(1)
        if description.readings:
            arrays = {name: values.numpy() for name, values in example.items()}
            made = to_points(description.readings, arrays, description.cells)
            self.made = {n: torch.from_numpy(v) for n, v in made.items() if is_made(n)}
        with torch.no_grad():
            self.first = self.answer(example)
        units = {
            f"{name}_{kind}_bound": unit if measure.physical else "1"
            for name, unit in description.outputs.items() for kind, measure in MEASURES.items()
        }  # fmt: skip
        rest = list(self.first.items())[len(self.told) :]
        self.told |= {n: (units.get(n, "1"), ("time",)[: v.ndim - 1]) for n, v in rest}

    def _said(self, name: str) -> tuple[str, tuple[str, ...]]:
        description = self.description
        units = {**description.outputs, **description.inputs, **description.coordinates}
        axis, *_ = description.readings.get(name, (" ".join(description.space), 0, 0))
        timed = "time" in description.dims(name) and not description.observes
        alone = name in (*description.scalars, *description.times)
        axes = ("time",) * timed + (() if alone else tuple(axis.split()))
        return {**units, **description.times}[name], axes

    def _called(self, name: str) -> str:
        return f"{name}_predicted" if name in self.given else name

    def sizes(self, name: str) -> tuple[int, ...]:
        """Return the shape of one sample of what is given."""
        description = self.description
        axis, first, last = description.readings.get(name, ("", 0, 0))
        frames = description.frames_given(name)
        over_time = () if frames is None else (frames,)
        if name in (*description.scalars, *description.times):
            return over_time
        if name not in description.readings:
            return (*over_time, *self.shape)
        space = description.cells if is_in_space(axis) else (last - first,) if axis else ()
        return (*over_time, *space)

    def example(self, samples: int) -> dict[str, Tensor]:
        """Return numbers of no meaning, in the shapes of what is given; all are above 0."""
        torch.manual_seed(0)
        drawn = {n: torch.rand(samples, *self.sizes(n)) + 0.5 for n in self.given}
        return drawn | {n: v.cumsum(1) for n, v in drawn.items() if n in self.description.times}

    def forward(self, *given: Tensor) -> tuple[Tensor, ...]:
        """Return the tensors that `told` names; each begins with the axis of samples."""
        return tuple(self.answer(dict(zip(self.given, given, strict=True))).values())

    def answer(self, given: Tensors) -> dict[str, Tensor]:
        """Return what is told, by name."""
        at_points = self.placed(given)
        predicted = self.surrogate.answers(self.operator, at_points, None)
        return self.named(predicted) | self.judged(at_points, predicted)

    def placed(self, given: Tensors) -> dict[str, Tensor]:
        """Return readings as values of points (`mno.core.readings.to_points`); others as given."""
        found, readings = dict(given), self.description.readings
        count = max((last for _, _, last in readings.values()), default=0)
        for name in readings.keys() & given.keys():
            axis, first, last = readings[name]
            own = given[name] if axis else given[name][..., None]
            own = own.flatten(-len(self.description.cells)) if is_in_space(axis) else own
            found[name] = nn.functional.pad(own, (first, count - last), value=math.nan)
        if readings:
            samples = next(iter(given.values())).shape[0]
            found |= {name: row.expand(samples, -1) for name, row in self.made.items()}
        return found

    def named(self, predicted: Tensors) -> dict[str, Tensor]:
        """Return what is predicted at points as fields and readings, by the names of `told`."""
        description = self.description
        if description.readings:
            predicted = from_points(description.readings, predicted, description.cells)
        return {self._called(name): predicted[name] for name in description.outputs}

    def judged(self, given: Tensors, predicted: Tensors) -> dict[str, Tensor]:
        """Return bounds on errors, and how far the input is from the training data, if known."""
        trust, description = self.trust, self.description
        if trust is None or description.coordinates and not description.readings:
            return {}
        distance = trust.likeness.distance(describe(description, given, trust.shape))
        residual = trust.equation(description)
        if not isinstance(residual, Absent):
            exact = ({n: v.double() for n, v in fields.items()} for fields in (given, predicted))
            residual = residual_left(description, trust.parameters, *exact)
        found = {"training_distance": distance}
        if (threshold := trust.likeness.threshold) is not None:
            found["unlike_training"] = ~(distance <= threshold)
        bounds = trust.bounds_of(description, predicted, distance, residual)
        found |= as_told(bounds, description.timed)
        if isinstance(residual, Tensor):
            found["equation_residual"] = residual
        return {n: v if v.dtype == torch.bool else v.float() for n, v in found.items()}


class Following(Graph):
    """An observer: it is given one reading, and what it remembers of those before.

    Beside the outputs it tells what their errors are within, at all places, that long into a run.
    """

    def __init__(self, surrogate: Surrogate, trust: Trust | Absent) -> None:
        super().__init__(surrogate, trust)
        forecast, state = self.description.forecast, ("layer", "memory_point", "channel", "kept")
        self.seconds = forecast.interval if forecast else 1.0  # between frames of training
        kept = {n: said for n, said in self.given.items() if n not in self.description.times}
        self.given = kept | dict.fromkeys((INTERVAL, ELAPSED), ("1", ())) | {STATE: ("1", state)}
        self.told[BEHIND] = "1", state

    def sizes(self, name: str) -> tuple[int, ...]:
        """Return the shape of one sample of what is given."""
        if name == STATE:
            return tuple(self.first[BEHIND].shape[1:])
        return () if name in (INTERVAL, ELAPSED) else super().sizes(name)

    def answer(self, given: Tensors) -> dict[str, Tensor]:
        """Return what is told, by name."""
        description, normaliser = self.description, self.description.normaliser
        fields = {n: v for n, v in given.items() if n not in (INTERVAL, ELAPSED, STATE)}
        one = torch.ones(next(iter(given.values())).shape[0])
        found = {
            name: values[:, None] if name in description.forcings else values
            for name, values in self.placed(fields).items()
        } | {name: one[:, None] for name in description.times}
        encoded = {name: normaliser.encode(name, values, found) for name, values in found.items()}
        batch = description.batch(encoded)
        intervals = torch.stack([given.get(INTERVAL, one), one], dim=1)
        batch = Batch(batch.fields, batch.place, batch.scalars, intervals)
        answer, behind = self.operator(batch, given.get(STATE), return_state=True)
        told = {n: normaliser.decode(n, f, found)[:, 0] for n, f in answer.fields.items()}
        return self.named(told) | self._bands(given.get(ELAPSED, one)) | {BEHIND: behind}

    def _bands(self, elapsed: Tensor) -> dict[str, Tensor]:
        found, before, after = {}, elapsed.floor(), elapsed.ceil()
        for name, bounds in self.trust.bounds.items() if self.trust else ():
            values = [math.inf if v is None else v for v in bounds["max_error"].values]
            known = torch.tensor([*values, math.inf])
            low, high = (known[n.long().clamp(0, len(values))] for n in (before, after))
            between = low + (elapsed - before) * (high - low)
            found[f"{name}_max_error_bound"] = torch.where(low + high < math.inf, between, math.inf)
        return found
