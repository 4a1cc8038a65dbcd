"""Kalman filters as peers of observers (`mno.evaluation.filters`).

One filters on a linear state space that is fitted to runs. The other is an ensemble filter through
the solver that made the data: what an observer could know. A member is a whole run of that solver:
of what an observer is given as its run says, and of what it is not, hidden inputs or else where a
run begins, as one of the training runs has it. So its model of the plant has no error, and it costs
as many runs as there are members.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from threadpoolctl import threadpool_limits

from mno.core.absent import Absent
from mno.core.errors import InputError, MnoError, first_line
from mno.core.observing import READ
from mno.evaluation.evaluator import AnySplit, some_samples
from mno.evaluation.filters import EnsembleModel, ensemble_filter, kalman_filter
from mno.evaluation.linear_state_space import Gaussian, LinearStateSpace, Runs, fit_state_space
from mno.evaluation.simple_peers import Arrays, Peer
from mno.evaluation.solver import other_solver
from mno.surrogate.description import Description

COMPONENTS = (8, 16, 32, 64)
PENALTIES = (1e-8, 1e-4, 1e-2)
MEMBERS = 100
_VALIDATED = 100  # held-out runs by which components and penalty are chosen
_RIDGE = 1e-3
_RUNS = 8  # that an ensemble is measured on
_LEAST = 1e-8  # of what members differ by, as the variance of a reading without an error


@dataclass(frozen=True, eq=False)
class _Columns:
    """Fields of an observer as columns of numbers, each over time; what is missing is the mean."""

    means: Arrays  # over training runs, of each place and frame, by name
    there: Arrays  # places that have any value, by name
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
    training: AnySplit, validation: AnySplit, description: Description
) -> Peer | Absent:
    """Fit a linear state space to training runs, and filter by it; its settings by held-out runs.

    It reads and tells what the observer does. All else that is given, also what is the same at all
    frames and whether it is known, are its controls, and of the first frame's components they tell
    the mean. Components and penalty are those that tell held-out runs best, output by output.
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
        try:
            found = (told_by(fitted(*settings), some) - truth) / scale
        except InputError:  # fewer values than numbers to fit
            return math.inf
        return float(np.nan_to_num(np.nanmean(found**2), nan=math.inf))

    sizes = sorted({min(size, most) for size in COMPONENTS})
    size, penalty = min(((k, p) for k in sizes for p in PENALTIES), key=error)
    try:
        chosen = fitted(size, penalty)
    except InputError as refused:  # as all larger ones were
        return Absent("peers.too_few_values", {"error": first_line(refused)})

    def answer(given: Arrays) -> dict[str, np.ndarray]:
        return columns.fields(told, told_by(chosen, given))

    settings = {"components": size, "penalty": penalty}
    return Peer("kalman_filter", settings, len(training), time.process_time() - start, answer)


def make_ensemble_filter(
    training: AnySplit, description: Description, members: int = MEMBERS
) -> Peer | Absent:
    """Return the filter at the observer's points, of so many members at most, or why none."""
    if not description.observes:
        return Absent("peers.no_observer")
    schema = training.schema
    if schema.sources:
        return Absent("solver.imported", {"scenario": schema.scenario})
    scenario = other_solver(schema)
    if isinstance(scenario, Absent):
        return scenario
    prior = some_samples(training, members).fields
    inputs = {field.name: field for field in scenario.fields if field.role == "input"}
    states = [field.name for field in scenario.fields if field.role == "state"]
    members = len(next(iter(prior.values())))

    def solved(given: Arrays, member: int, unknown: Sequence[str]) -> dict[str, np.ndarray]:
        drawn = {name: values for name, values in given.items() if name in inputs}
        found = {name: prior[name][member, 0] for name in unknown}
        for name, values in found.items():
            one = name in inputs and inputs[name].is_scalar  # which its points have, and no other
            drawn[name] = values[np.isfinite(values)][0] if one else values
        run = scenario.solve(drawn)
        frames = len(run[states[0]])
        hidden = {n: np.repeat(found[n][None], frames, axis=0) for n in description.hidden}
        return {**run, **hidden}

    def one(given: Arrays) -> dict[str, np.ndarray]:
        runs = [solved(given, member, unknown) for member in range(members)]
        return _filtered(runs, given, description)

    def answer(given: Arrays) -> dict[str, np.ndarray]:
        samples = range(len(next(iter(given.values()))))
        with threadpool_limits(limits=1):
            found = [one({name: field[k] for name, field in given.items()}) for k in samples]
        return {name: np.stack([each[name] for each in found]) for name in description.outputs}

    first = {name: prior[name][0] for name in description.given_names if name in prior}
    unknown: Sequence[str] = description.hidden
    try:
        try:
            solved(first, 0, unknown)
        except KeyError:  # where it begins does not follow from what is given
            unknown = [*unknown, *states]
            solved(first, 0, unknown)
    except MnoError as error:
        return Absent("solver.refuses", {"error": first_line(error)})
    return Peer("ensemble_filter", {"members": members}, members, 0.0, answer, _RUNS)


def _filtered(
    runs: list[dict[str, np.ndarray]], given: Arrays, description: Description
) -> dict[str, np.ndarray]:
    """Return what members, runs of one plant, tell of it: `(frames, *dims)` by name, float32."""
    read = list(description.sensors)
    frames = len(runs[0][read[0]])

    def table(name: str) -> np.ndarray:
        values = np.stack([run[name] for run in runs]).astype(np.float64)
        return np.nan_to_num(values.reshape(len(runs), frames, -1))

    parts = {name: table(name) for name in dict.fromkeys((*read, *description.outputs))}
    widths = [part.shape[2] for part in parts.values()]
    width, seen = sum(widths), sum(widths[: len(read)])
    noise = [
        np.full(parts[n].shape[2], s.noise**2 + s.drift**2 / 3.0 + _LEAST * parts[n].var())
        for n, s in description.sensors.items()
    ]
    model = EnsembleModel(
        # A member is its whole run, of which one frame after the other comes first.
        step=lambda states, _: np.roll(states, -width, axis=1),
        observe=lambda states: states[:, :seen],
        noise=np.diag(np.concatenate(noise)),
    )
    readings = np.concatenate([given[name + READ].reshape(frames, -1) for name in read], axis=1)
    first = np.concatenate(list(parts.values()), axis=2).reshape(len(runs), -1)
    beliefs = ensemble_filter(model, first, readings[None], members=len(runs), seed=0)
    told = np.stack([states[0, :, :width].mean(axis=0) for states in beliefs])
    found = {}
    for name, columns in zip(parts, np.split(told, np.cumsum(widths)[:-1], axis=1), strict=True):
        like = runs[0][name]
        found[name] = np.where(np.isnan(like), np.nan, columns.reshape(like.shape))
    return {name: found[name].astype(np.float32) for name in description.outputs}
