"""The ensemble Kalman filter through the solver that made the data: what an observer could know.

A member is a whole run of that solver: of what an observer is given as its run says, and of what it
is not, hidden inputs or else where a run begins, as one of the training runs has it. So its model
of the plant has no error, and it costs as many runs as there are members.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from threadpoolctl import threadpool_limits

from mno.core.absent import Absent
from mno.core.errors import MnoError, first_line
from mno.core.observing import READ
from mno.data.reading import Split, StoredSplit
from mno.evaluation.evaluator import some_samples
from mno.evaluation.filters import EnsembleModel, ensemble_filter
from mno.evaluation.simple_peers import Peer
from mno.evaluation.solver import other_solver
from mno.surrogate.description import Description

MEMBERS = 100
_RUNS = 8  # that it is measured on
_LEAST = 1e-8  # of what members differ by, as the variance of a reading without an error

Arrays = Mapping[str, np.ndarray]


def make_ensemble_filter(
    training: Split | StoredSplit, description: Description, members: int = MEMBERS
) -> Peer | Absent:
    """Return the filter, with at most so many members, or why there is none.

    It reads and tells what the observer does, at the observer's points.
    """
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
