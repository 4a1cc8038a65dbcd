"""Robustness: errors of a surrogate on data unlike those that it was trained on.

`measure_robustness` tries all kinds of difference; here are those whose problems are solved anew
(other resolutions, and other parameters than those of the training data) and those over time (other
frame rates than the trained one, and the growth of errors).
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.interpolate import RegularGridInterpolator

from mno.core.absent import Absent
from mno.core.errors import MnoError, first_line
from mno.core.fields import Axis
from mno.data.reading import Schema, Split
from mno.evaluation import trial as trials
from mno.evaluation.config import RobustnessConfig
from mno.evaluation.evaluator import AnySplit, kept_frames, some_samples
from mno.evaluation.intervals import median_interval
from mno.evaluation.metrics import measured, relative_l2
from mno.evaluation.solver import solved_anew, solved_in_time, solver_of
from mno.evaluation.statistics import of_frames
from mno.evaluation.trial import Arrays, Errors, Result, Trial, along, curve, errors_of
from mno.surrogate.surrogate import Surrogate

KINDS = ("noise", "missing", "resolution", "frame_rate", "outside", "over_time")
AS_TRAINED = "as trained"
_FINER = 2  # times the finest resolution tried, by which the solver's own error is measured
_MULTIPLE = 4  # of points along an axis; all scenarios can be solved with such numbers


def measure_robustness(
    surrogate: Surrogate,
    test: AnySplit,
    train_mean: Mapping[str, np.ndarray],
    config: RobustnessConfig,
    batch_size: int,
) -> dict[str, Any]:
    """Return what `reports/robustness.json` holds: by kind a curve, or why there is none.

    It depends on the model, the test split and the configuration alone. Test samples are evenly
    spread over the split; the guess to compare with is the training split's `mean_fields`.
    """
    if not config.enabled:
        return dict.fromkeys(KINDS, Absent("robustness.off"))
    trial, schema = Trial(surrogate, train_mean, batch_size), test.schema
    samples = some_samples(test, config.samples)
    count, seed, nothing = config.solved_samples, config.seed, Absent("robustness.nothing_listed")
    noise, missing, ratios = config.noise, config.missing, config.resolutions
    return {
        "noise": trials.under_noise(trial, samples, noise, seed) if noise else nothing,
        "missing": trials.without_sensors(trial, samples, missing, seed) if missing else nothing,
        "resolution": at_resolutions(trial, schema, ratios, count, seed) if ratios else nothing,
        "frame_rate": _at_frame_rates(trial, samples, schema, count, seed),
        "outside": outside_training(trial, schema, count, seed),
        "over_time": over_time(trial, samples, schema, count, seed, config.threshold),
    }


def _on_grid(fields: Arrays, space: Sequence[Axis], others: Sequence[Axis]) -> Arrays:
    """Interpolate fields `(..., *grid)` linearly from some axes of space to others.

    Beyond the outermost points they go on along the last cell.
    """
    here, there = (tuple(axis.points for axis in axes) for axes in (space, others))
    if all(np.array_equal(a, b) for a, b in zip(here, there, strict=True)):
        return fields
    places = np.stack(np.meshgrid(*there, indexing="ij"), axis=-1)
    last, first = range(-len(here), 0), range(len(here))

    def interpolated(values: np.ndarray) -> np.ndarray:
        known, beyond = np.moveaxis(values, last, first), {"fill_value": None}
        interpolate = RegularGridInterpolator(here, known, bounds_error=False, **beyond)  # type: ignore[arg-type]
        return np.moveaxis(interpolate(places), first, last).astype(values.dtype)

    return {name: interpolated(values) for name, values in fields.items()}


def at_resolutions(
    trial: Trial, schema: Schema, ratios: Sequence[float], count: int, seed: int
) -> Result | Absent:
    """Return the errors by points along an axis, on the same problems solved anew on each grid.

    The truth on each grid is the solver's own answer there. So that an error of the grid is not
    blamed on the surrogate, `solver` has the relative L2 between the solver's answers on that grid
    and on one twice as fine as the finest tried, interpolated linearly. On grids, `mean_field` is
    that of the training data interpolated, and `interpolated` is what a careful user would do
    instead: ask the surrogate on the trained grid, and interpolate. Levels are numbers of points.
    """
    scenario = solver_of(schema)
    if isinstance(scenario, Absent):
        return scenario
    if not scenario.same_on_any_grid:
        return Absent("robustness.other_on_every_grid")
    trained = schema.resolution or 0
    points = (max(_MULTIPLE, _MULTIPLE * round(trained * r / _MULTIPLE)) for r in ratios)
    solved = {n: solved_anew(schema, count, seed, n) for n in sorted({trained, *points})}
    base = solved[trained]
    if isinstance(base, Absent):
        return base
    levels = {
        n: samples if isinstance(samples, Absent) else _on_one_grid(trial, base, samples)
        for n, samples in solved.items()
    }
    there = {
        n: samples
        for n, samples in solved.items()
        if isinstance(samples, Split) and not isinstance(levels[n], Absent)
    }
    solver = _solver_errors(trial, schema, there, count, seed)
    return curve(levels, seed, trained=trained, solver=solver)


def _on_one_grid(trial: Trial, base: Split, samples: Split) -> Errors | Absent:
    """Return the errors on one grid, given the same problems on the trained one."""
    description = trial.description
    given, truth = description.given(samples.fields), description.truth(samples.fields)
    try:
        if description.coordinates:
            return trial.errors(given, truth)
        here, there = base.schema.space, samples.schema.space
        means = _on_grid(description.truth(trial.train_mean), here, there)
        found = trial.errors(given, truth, means)
        answer = trial.predict(description.given(base.fields), description.truth(base.fields))
        found["interpolated"] = errors_of(_on_grid(answer, here, there), truth)
    except (MnoError, ValueError, RuntimeError) as error:  # a backbone's own limits on grids
        return Absent("robustness.model_fails", {"error": first_line(error)})
    return found


def _solver_errors(
    trial: Trial, schema: Schema, solved: Mapping[int, Split], count: int, seed: int
) -> dict[str, Any] | Absent:
    if schema.coordinates:
        return Absent("robustness.solver_on_points")
    reference = solved_anew(schema, count, seed, _FINER * max(solved, default=1))
    if isinstance(reference, Absent):
        return reference
    truth, fine = trial.description.truth, reference.schema.space
    exact = truth(reference.fields)
    errors = [
        errors_of(truth(one.fields), _on_grid(exact, fine, one.schema.space))
        for one in solved.values()
    ]
    return along(errors, seed)


def outside_training(trial: Trial, schema: Schema, count: int, seed: int) -> Result | Absent:
    """Return the errors on the problems that the scenario names as its neighbours, solved anew.

    The first level are new problems as the training data were drawn, from the same streams. A
    parameter that changes may be none of the model's inputs: then it cannot know of it. The curve's
    levels are names, and for each name it has what was `changed`: by parameter, the value of the
    training data and that of the trial.
    """
    scenario = solver_of(schema)
    if isinstance(scenario, Absent):
        return scenario
    changes, description = {AS_TRAINED: {}, **scenario.outside()}, trial.description
    levels = {}
    for label, changed in changes.items():
        samples = levels[label] = solved_anew(schema, count, seed, changed=changed)
        if not isinstance(samples, Absent):
            given, truth = (of(samples.fields) for of in (description.given, description.truth))
            levels[label] = trial.errors(given, truth)
    told = {
        label: {name: [schema.parameters.get(name), value] for name, value in changed.items()}
        for label, changed in changes.items()
    }
    return curve(levels, seed, changed=told)


def _at_frame_rates(
    trial: Trial, samples: Split, schema: Schema, count: int, seed: int
) -> Result | Absent:
    """Return the errors where frames come at half and at double the trained rate.

    A model continues states in steps of its own and cannot be told of others, so its user has to
    interpolate in time, and that is what is measured. One along time is told when its frames are,
    and nothing is interpolated: at half the rate it is given, and asked for, every second frame.

    `half`: of what the model is given, every second frame is known. Between them states are
    interpolated linearly, and of a forcing the mean of both intervals stands for either. `double`:
    an answer is wanted twice as often. The model is given every second frame, a forcing as its mean
    over both intervals; between the frames that it predicts, and the last one given, it is
    interpolated linearly. The truth is solved anew. Levels are the rate over that of the data.
    """
    if not trial.description.states:
        return Absent("robustness.no_states")
    if trial.description.along_time:
        finer = solved_in_time(schema, count, seed)
        double = finer if isinstance(finer, Absent) else _told(trial, finer, 2, seed)
        return {"half": _told(trial, samples, 0.5, seed), "double": double}
    return {"half": _half(trial, samples, seed), "double": _double(trial, schema, count, seed)}


def _told(trial: Trial, samples: Split, rate: float, seed: int) -> Result | Absent:
    """Return the errors of a model that is told when frames are, at the trained rate and another.

    The samples have the frames of the higher rate. Errors are of frames that both rates have.
    """
    description, whole = trial.description, samples.fields
    states, forcings, own = description.states, description.forcings, description.times
    (time,) = (axis.points for axis in samples.schema.axes if axis.name == "time")
    last = (trial.history - 1) * max(round(rate), 1)  # of the frames that are given
    last += last % 2
    if last + 2 >= len(time):
        return Absent("robustness.no_frame_left")
    levels: dict[float, Errors | Absent] = {}
    for one in (1.0, rate):
        step = 2 if one < max(rate, 1.0) else 1
        driven = {n: _pairs_alike(whole[n]) if step > 1 else whole[n] for n in forcings}
        fields = {n: (whole | driven)[n][:, ::step] for n in (*states, *forcings, *own)}
        given = {n: (whole | fields)[n] for n in description.given_names}
        history, times = last // step + 1, time[::step]
        given |= {n: fields[n][:, :history] for n in states}
        steps, when = len(times) - history, None if own else times
        answer = trial.surrogate.predict(given, trial.batch_size, steps, times=when)
        both = slice(2 // step - 1, None, 2 // step)
        truth = {n: fields[n][:, history:][:, both] for n in states}
        kept = {n: np.broadcast_to(given[n][:, -1:], field.shape) for n, field in truth.items()}
        told = {n: answer[n][:, both] for n in states}
        levels[one] = {"model": errors_of(told, truth), "persistence": errors_of(kept, truth)}
    return curve(levels, seed, told=True)


def _half(trial: Trial, samples: Split, seed: int) -> Result | Absent:
    description = trial.description
    history, states, forcings = trial.history, description.states, description.forcings
    if history == 1 and not forcings:
        return Absent("robustness.one_frame")
    first = (history - 1) % 2  # frame to begin with, so that the last one given is an even one
    if first and not description.any_steps:
        return Absent("robustness.fixed_frames")
    if samples.fields[states[0]].shape[1] <= history + first:
        return Absent("robustness.no_frame_left")
    slow = {n: samples.fields[n].copy() for n in states}
    for frames in slow.values():  # odd ones lie halfway between their neighbours; a last one stays
        frames[:, 1:-1:2] = (frames[:, :-2:2] + frames[:, 2::2]) / 2
    slow |= {name: _pairs_alike(samples.fields[name]) for name in forcings}

    def later(fields: Arrays) -> dict[str, np.ndarray]:
        return {n: x[:, first:] if n in (*states, *forcings) else x for n, x in fields.items()}

    truth = description.truth(later(samples.fields))
    means = description.truth(later(trial.train_mean))
    given = {1.0: later(samples.fields), 0.5: later(samples.fields | slow)}
    return curve(
        {rate: trial.errors(description.given(x), truth, means) for rate, x in given.items()}, seed
    )


def _double(trial: Trial, schema: Schema, count: int, seed: int) -> Result | Absent:
    samples = solved_in_time(schema, count, seed)
    if isinstance(samples, Absent):
        return samples
    description, whole, history = trial.description, samples.fields, trial.history
    states, forcings = description.states, description.forcings
    slow = {**whole, **{name: whole[name][:, ::2] for name in states}}
    slow |= {name: _pairs_alike(whole[name])[:, ::2] for name in forcings}
    given, truth = description.given(slow), description.truth(slow)
    finer = {n: whole[n][:, 2 * history - 1 :] if n in states else whole[n] for n in truth}

    def between(frames: Arrays, before: Arrays) -> dict[str, np.ndarray]:
        joined = {n: np.concatenate([before[n][:, -1:], frames[n]], axis=1) for n in states}
        for n, x in joined.items():  # all frames but the first, each after its middle with before
            pairs = np.stack([(x[:, :-1] + x[:, 1:]) / 2, x[:, 1:]], axis=2)
            joined[n] = pairs.reshape(len(x), -1, *x.shape[2:])
        return {**frames, **joined}

    expected = description.truth(trial.train_mean)
    means = between(expected, {n: trial.train_mean[n][:, :history] for n in states})
    means = {n: np.broadcast_to(mean, finer[n].shape) for n, mean in means.items()}
    kept = {n: np.broadcast_to(given[n][:, -1:], finer[n].shape) for n in states}
    answer = between(trial.predict(given, truth), given)
    ways = {"model": answer, "mean_field": means, "persistence": {**means, **kept}}
    doubled = {who: errors_of(frames, finer) for who, frames in ways.items()}
    return curve({1.0: trial.errors(given, truth), 2.0: doubled}, seed)


def _pairs_alike(frames: np.ndarray) -> np.ndarray:
    """Return frames 2k and 2k + 1 as the mean of both; a last one without a partner stays."""
    alike, last = frames.copy(), frames.shape[1] // 2 * 2
    alike[:, 0:last:2] = alike[:, 1:last:2] = (frames[:, 0:last:2] + frames[:, 1:last:2]) / 2
    return alike


def over_time(
    trial: Trial, samples: Split, schema: Schema, count: int, seed: int, threshold: float
) -> Result | Absent:
    """Return how errors grow, `within` the trained duration and `beyond` it.

    Beyond it the solver goes on to twice the duration, where the model rolls out and no forcing
    would have to be invented. Either has the `time` of each predicted frame, the relative L2 of
    each frame as a curve does, and `usable`: by who predicted, the time from the last given frame
    to the first whose error is above the threshold, as median over samples with its interval. It is
    none where half of the samples do not get there; `reached` is the share that does. An error that
    is not a number is above.
    """
    description = trial.description
    if not description.states:
        return Absent("robustness.no_states")
    beyond: Result | Absent | Split
    if description.forcings:
        beyond = Absent("robustness.forced")
    elif not description.any_steps:
        beyond = Absent("robustness.fixed_frames")
    else:
        beyond = solved_in_time(schema, count, seed, duration=2)
    if isinstance(beyond, Split):
        beyond = _grown(trial, beyond, seed, threshold)
    (time,) = (axis for axis in schema.axes if axis.name == "time")
    return {
        "threshold": threshold,
        "unit": time.units,
        "trained_until": float(time.points[-1]),
        "within": _grown(trial, samples, seed, threshold),
        "beyond": beyond,
    }


def _grown(trial: Trial, samples: Split, seed: int, threshold: float) -> Result:
    description = trial.description
    states = description.states
    given, whole = description.given(samples.fields), description.truth(samples.fields)
    truth = {n: whole[n] for n in states}
    expected = {n: description.truth(trial.train_mean)[n] for n in states}
    ways = {"model": trial.predict(given, whole)}
    if all(expected[n].shape[1] == truth[n].shape[1] for n in states):
        ways["mean_field"] = expected
    ways["persistence"] = kept_frames(states, given, expected, truth)
    (time,) = (axis for axis in samples.schema.axes if axis.name == "time")
    before, *times = time.points[-truth[states[0]].shape[1] - 1 :].tolist()
    found: Result = {"samples": len(samples), "time": times, "relative_l2": {}, "usable": {}}
    for who, predicted in ways.items():
        by_state = [of_frames(np.broadcast_to(predicted[n], t.shape), t) for n, t in truth.items()]
        frames = [dict(zip(truth, fields, strict=True)) for fields in zip(*by_state, strict=True)]
        errors, known = (np.array([of(f) for f in frames]) for of in (relative_l2, measured))
        pairs = zip(errors, known, strict=True)
        found["relative_l2"][who] = along([frame[there] for frame, there in pairs], seed)
        above = known & ~(errors <= threshold)
        reached = above.any(axis=0)
        first = np.where(reached, (np.array(times) - before)[np.argmax(above, axis=0)], math.inf)
        ends = zip(("median", "low", "high"), median_interval(first, seed), strict=True)
        found["usable"][who] = {
            **{name: None if v is None or math.isinf(v) else v for name, v in ends},
            "reached": float(np.mean(reached)),
        }
    return found
