"""The Kalman filter on a linear state space as a peer of observers (`mno.evaluation.filters`)."""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from mno.core.absent import Absent
from mno.core.observing import READ
from mno.data.reading import Split, StoredSplit
from mno.evaluation.evaluator import some_samples
from mno.evaluation.filters import kalman_filter
from mno.evaluation.linear_state_space import Gaussian, LinearStateSpace, Runs, fit_state_space
from mno.evaluation.simple_peers import Arrays, Peer
from mno.surrogate.description import Description

COMPONENTS = (8, 16, 32, 64)
PENALTIES = (1e-8, 1e-4, 1e-2)
_VALIDATED = 100  # held-out runs by which they are chosen
_RIDGE = 1e-3


@dataclass(frozen=True, eq=False)
class _Columns:
    """Fields of an observer as columns of numbers, each over time; what is missing is the mean."""

    means: Mapping[str, np.ndarray]  # over training runs, of each place and frame, by name
    there: Mapping[str, np.ndarray]  # places that have any value, by name
    over_time: frozenset[str]

    @classmethod
    def of(cls, description: Description, fields: Arrays) -> "_Columns":
        """Look at fields `(samples, *dims)` by name."""
        over_time = frozenset(name for name in fields if "time" in description.dims(name))
        means, there = {}, {}
        for name, field in fields.items():
            known = ~np.isnan(field)
            total = np.where(known, field, 0.0).sum(axis=0, dtype=np.float64)
            means[name] = total / np.maximum(known.sum(axis=0), 1)
            there[name] = known.any(axis=(0, 1) if name in over_time else 0)
        return cls(means, there, over_time)

    def table(self, names: list[str], fields: Arrays, frames: int, gaps: bool) -> np.ndarray:
        """Return fields as `(samples, frames, columns)`, float64; with `gaps` as they are."""
        columns = []
        for name in names:
            values = np.asarray(fields[name], np.float64)
            if not gaps:
                values = np.where(np.isnan(values), self.means[name], values)
            if name not in self.over_time:
                values = np.repeat(values[:, None], frames, axis=1)
            columns.append(values[..., self.there[name]].reshape(*values.shape[:2], -1))
        return np.concatenate(columns, axis=2)

    def controls(self, names: list[str], fields: Arrays, frames: int) -> np.ndarray:
        """Return fields without gaps, and 1 where what is the same at all frames is known."""
        steady = [name for name in names if name not in self.over_time]
        known = {name: 1.0 - np.isnan(fields[name]) for name in steady}
        presence = [self.table([name], known, frames, gaps=True) for name in steady]
        return np.concatenate([self.table(names, fields, frames, gaps=False), *presence], axis=2)

    def fields(self, names: list[str], table: np.ndarray) -> dict[str, np.ndarray]:
        """Return fields of a table; the reverse of `table`."""
        found, start = {}, 0
        for name in names:
            there = self.there[name]
            field = np.full((*table.shape[:2], *there.shape), np.nan, np.float32)
            stop = start + int(there.sum())
            field[..., there] = table[..., start:stop].reshape(*table.shape[:2], -1)
            found[name], start = field, stop
        return found


def fit_kalman_filter(
    training: Split | StoredSplit, validation: Split | StoredSplit, description: Description
) -> Peer | Absent:
    """Fit a linear state space to training runs, and filter by it; its settings by held-out runs.

    It reads and tells what the observer does. All else that is given, also what is the same at all
    frames and whether it is known, are its controls, and of the first frame's components they tell
    the mean. Components and penalty are those that tell held-out runs best, each output by its
    deviation.
    """
    if not description.observes:
        return Absent("peers.no_observer")
    start = time.process_time()
    read = [name + READ for name in description.sensors]
    told = list(description.outputs)
    others = [name for name in description.inputs if name not in read]
    arrays = {name: array[:] for name, array in training.fields.items()}
    columns = _Columns.of(description, {n: arrays[n] for n in (*read, *told, *others)})
    frames = arrays[read[0]].shape[1]

    runs = Runs.of(
        columns.table(told, arrays, frames, gaps=False),
        columns.table(read, arrays, frames, gaps=True),
        columns.controls(others, arrays, frames),
    )
    inputs = runs.controls[:, 0]
    centre, spread = inputs.mean(axis=0), inputs.std(axis=0) + 1e-12 * np.abs(inputs).max() + 1e-30

    def standard(rows: np.ndarray) -> np.ndarray:
        return np.concatenate([np.ones((len(rows), 1)), (rows - centre) / spread], axis=1)

    def fitted(size: int, penalty: float) -> tuple[LinearStateSpace, np.ndarray]:
        """Return a model, and what controls say of the first components."""
        model, x = fit_state_space(runs, size, penalty), standard(inputs)
        z = model.states.components(runs.states[:, 0])
        weights = np.linalg.solve(x.T @ x + _RIDGE * len(x) * np.eye(x.shape[1]), x.T @ z)
        left = z - x @ weights
        first = Gaussian(model.first.mean, left.T @ left / len(x) + 1e-9 * np.eye(z.shape[1]))
        return replace(model, first=first), weights

    def told_by(fit: tuple[LinearStateSpace, np.ndarray], given: Arrays) -> np.ndarray:
        model, weights = fit
        frames = given[read[0]].shape[1]
        driven = columns.controls(others, given, frames)
        first = Gaussian(standard(driven[:, 0]) @ weights, model.first.covariance)
        readings = columns.table(read, given, frames, gaps=True)
        beliefs = kalman_filter(model, readings, driven, first=first)
        return np.stack([model.state(belief)[0] for belief in beliefs], axis=1)

    some = some_samples(validation, _VALIDATED).fields
    truth = columns.table(told, some, frames, gaps=True)
    scale = runs.states.reshape(-1, runs.states.shape[2]).std(axis=0)
    scale = np.where(scale > 0.0, scale, 1.0)
    most = min(runs.states.shape[2], len(runs.states) - 1)

    def error(settings: tuple[int, float]) -> float:
        found = (told_by(fitted(*settings), some) - truth) / scale
        return float(np.nan_to_num(np.nanmean(found**2), nan=math.inf))

    sizes = sorted({min(size, most) for size in COMPONENTS})
    size, penalty = min(((k, p) for k in sizes for p in PENALTIES), key=error)
    chosen = fitted(size, penalty)

    def answer(given: Arrays) -> dict[str, np.ndarray]:
        return columns.fields(told, told_by(chosen, given))

    settings = {"components": size, "penalty": penalty}
    return Peer("kalman_filter", settings, len(training), time.process_time() - start, answer)
