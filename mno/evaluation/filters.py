"""What readings so far say of a state: the Kalman filter, and one that follows an ensemble.

`kalman_filter` is exact where the plant is linear and its errors are normal. With P the covariance
before a reading y = l + C z + v, v ~ N(0, R),

    S = C P C' + R,   K = P C' S^-1,   z <- z + K (y - l - C z),
    P <- (I - K C) P (I - K C)' + K R K'

(Kalman, 1960; the last line, by Bucy and Joseph, 1968, keeps P symmetric and positive).

`ensemble_filter` takes any model for the plant, and the spread of its members for P. The mean moves
as above, and the members' distances from it are multiplied by the symmetric square root of
(I + Y R^-1 Y')^-1, Y being the members' readings less their mean over sqrt(members - 1)
(the deterministic transform of Bishop, Etherton and Majumdar, 2001, as Hunt, Kostelich and
Szunyogh, 2007, eqs. 20 to 24 have it, without localisation). No random number enters a reading.

Both take many runs at once, whose gaps may differ. A reading that is missing is one that tells
nothing: its row of C is zero. Neither knows any step but its model's: a frame without readings is
one of NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from mno.core.errors import InputError, MnoError
from mno.evaluation.linear_state_space import Gaussian, LinearStateSpace, in_frames, symmetric


def kalman_filter(
    model: LinearStateSpace,
    readings: np.ndarray,
    controls: np.ndarray | None = None,
    *,
    first: Gaussian | None = None,
) -> Iterator[Gaussian]:
    """Yield, for each frame, what its and all earlier readings say of the components.

    `LinearStateSpace.state` has the states.

    Args:
        model: The plant.
        readings: Shape `(samples, frames, readings)`, NaN where there is none.
        controls: Shape `(samples, frames, controls)`, each until the next frame; that of the last
            is not used. None where the model has none.
        first: What is known of the first frame before it is read; the model's if not given.

    Yields:
        Mean `(samples, k)` and covariance `(samples, k, k)`.

    Raises:
        InputError: Shapes do not fit, or values are not finite.
    """
    sensors, count = model.sensors, model.dynamics.control.shape[1]
    readings, controls = _checked(readings, controls, len(sensors.level), count)
    samples, frames, _ = readings.shape
    scale = np.sqrt(np.diagonal(sensors.noise))  # so that units do not matter to rounding
    matrix, noise = sensors.matrix / scale[:, None], sensors.noise / np.outer(scale, scale)
    mean, covariance = first or model.first
    size = mean.shape[-1]
    covariance = np.broadcast_to(covariance, (samples, size, size))
    belief = Gaussian(np.broadcast_to(mean, (samples, size)), covariance)

    def each(belief: Gaussian) -> Iterator[Gaussian]:
        for frame in range(frames):
            if frame:
                belief = model.after(belief, controls[:, frame - 1])
            belief = _updated(belief, (readings[:, frame] - sensors.level) / scale, matrix, noise)
            yield belief

    return each(belief)


def _updated(belief: Gaussian, read: np.ndarray, matrix: np.ndarray, noise: np.ndarray) -> Gaussian:
    """Return what is believed once `(samples, readings)` are read, NaN where there is none."""
    mean, covariance = belief
    there = ~np.isnan(read)
    seen = matrix * there[..., None]
    errors = _of_those(noise, there)
    both = seen @ covariance
    gain = np.swapaxes(np.linalg.solve(both @ np.swapaxes(seen, 1, 2) + errors, both), 1, 2)
    news = np.nan_to_num(read) - (seen @ mean[..., None])[..., 0]
    kept = np.eye(mean.shape[1]) - gain @ seen
    covariance = kept @ covariance @ np.swapaxes(kept, 1, 2)
    covariance = covariance + gain @ errors @ np.swapaxes(gain, 1, 2)
    return Gaussian(mean + (gain @ news[..., None])[..., 0], symmetric(covariance))


def _of_those(noise: np.ndarray, there: np.ndarray) -> np.ndarray:
    """Return the covariance of readings' errors, those that are missing alone and of variance 1."""
    return np.where(there[:, :, None] & there[:, None, :], noise, np.eye(len(noise)))


@dataclass(frozen=True, eq=False)
class EnsembleModel:
    """A plant that an ensemble is sent through."""

    step: Callable[[np.ndarray, np.ndarray], np.ndarray]
    """From states `(batch, values)` and controls `(batch, controls)` to the next states."""
    observe: Callable[[np.ndarray], np.ndarray]
    """From states `(batch, values)` to what would be read of them, `(batch, readings)`."""
    noise: np.ndarray  # covariance of the readings' errors, positive, (readings, readings)
    process: np.ndarray | None = None
    """What the step does not know, as a factor of its covariance: `process @ n` is added to a
    state, n standard normal; `(values, numbers)`."""


def ensemble_filter(
    model: EnsembleModel, first: np.ndarray, readings: np.ndarray,
    controls: np.ndarray | None = None, *, members: int = 100, inflation: float = 1.0,
    seed: int = 0,
) -> Iterator[np.ndarray]:  # fmt: skip
    """Yield, for each frame, members that its and all earlier readings leave.

    Their mean and spread are what is believed, also of any function of a state.

    Args:
        model: The plant.
        first: What the state of a first frame may be, `(states, values)` or, of each run,
            `(samples, states, values)`; members are drawn from them, none twice.
        readings: Shape `(samples, frames, readings)`, NaN where there is none.
        controls: Shape `(samples, frames, controls)`; as for `kalman_filter`.
        members: How many states are followed for each sample.
        inflation: What members' distances from their mean are multiplied by before each reading.
        seed: Of draws; each sample has a stream of its own.

    Yields:
        Members, `(samples, members, values)`.

    Raises:
        InputError: Shapes do not fit, or there are fewer first states than members.
        MnoError: The model returned states that are not finite, or of another shape.
    """
    count = None if controls is None else np.shape(controls)[-1]
    readings, controls = _checked(readings, controls, len(model.noise), count or 0)
    samples, frames, _ = readings.shape
    if not 2 <= members <= first.shape[-2]:
        raise InputError(
            f"members={members} of {first.shape[-2]} first states; expected 2 or more, and as many "
            "states: give more first states, or take fewer members"
        )
    if not inflation > 0.0:
        raise InputError(f"inflation={inflation:g} must be positive; 1 leaves members as they are")
    streams = [np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(samples)]
    pools = np.broadcast_to(first, (samples, *first.shape[-2:])).astype(np.float64)
    pairs = zip(streams, pools, strict=True)
    states = np.stack([pool[rng.choice(len(pool), members, False)] for rng, pool in pairs])

    def each(states: np.ndarray) -> Iterator[np.ndarray]:
        for frame in range(frames):
            if frame:
                states = _sent(model, states, controls[:, frame - 1], streams, frame)
            centre = states.mean(axis=1, keepdims=True)
            states = centre + inflation * (states - centre)
            states = _transformed(model, states, readings[:, frame])
            yield states

    return each(states)


def _sent(
    model: EnsembleModel,
    states: np.ndarray,
    controls: np.ndarray,
    streams: list[np.random.Generator],
    frame: int,
) -> np.ndarray:
    samples, members, values = states.shape
    controls = np.repeat(controls, members, axis=0)
    found = np.asarray(model.step(states.reshape(-1, values), controls), dtype=np.float64)
    if found.shape != (samples * members, values) or not np.isfinite(found).all():
        raise MnoError(
            f"the ensemble's model returned shape {found.shape}, or values that are not finite, "
            f"for frame {frame}; expected {(samples * members, values)}, finite"
        )
    found = found.reshape(states.shape)
    if model.process is not None:
        numbers = model.process.shape[1]
        drawn = np.stack([rng.standard_normal((members, numbers)) for rng in streams])
        found = found + drawn @ model.process.T
    return found


def _transformed(model: EnsembleModel, states: np.ndarray, read: np.ndarray) -> np.ndarray:
    """Return members once `(samples, readings)` are read."""
    samples, members, values = states.shape
    seen = model.observe(states.reshape(-1, values)).reshape(samples, members, -1)
    centre, level = states.mean(axis=1, keepdims=True), seen.mean(axis=1, keepdims=True)
    there = ~np.isnan(read)
    # In units of the errors, which are then independent and of variance 1.
    factor = np.linalg.cholesky(_of_those(model.noise, there))
    spread = np.swapaxes((seen - level) * there[:, None], 1, 2)
    spread = np.swapaxes(np.linalg.solve(factor, spread), 1, 2) / np.sqrt(members - 1)
    news = np.where(there, read - level[:, 0], 0.0)[..., None]
    news = np.linalg.solve(factor, news)
    left, singular, right = np.linalg.svd(spread, full_matrices=False)
    distances = states - centre
    by_direction = np.swapaxes(left, 1, 2) @ distances
    moved = (singular / (1.0 + singular**2))[..., None] * (right @ news)
    shift = np.swapaxes(moved, 1, 2) @ by_direction / np.sqrt(members - 1)
    shrink = (1.0 / np.sqrt(1.0 + singular**2) - 1.0)[..., None]
    return centre + shift + distances + left @ (shrink * by_direction)


def _checked(
    readings: np.ndarray, controls: np.ndarray | None, number: int, count: int
) -> tuple[np.ndarray, np.ndarray]:
    readings = in_frames("readings", readings, ("samples", "frames", number), gaps=True)
    samples, frames, _ = readings.shape
    controls = np.empty((samples, frames, 0)) if controls is None else controls
    return readings, in_frames("controls", controls, (samples, frames, count))
