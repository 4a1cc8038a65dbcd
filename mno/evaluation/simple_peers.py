"""Simple peers: what a good engineer tries before any network, fitted within a minute.

Two are guesses: the training split's `mean` and, of states, `persistence`. The others regress
principal components y of what is predicted on those of what is given, and its scalars, x:

    ridge               y = W x, with a penalty on |W|^2
    quadratic           y = W (x, products of pairs of the first x), with that penalty, too
    gaussian_process    y = k(x) (K + s^2 I)^-1 Y, the mean of a Gaussian process with Matérn's
                        kernel of order 5/2, k = (1 + r + r^2 / 3) exp(-r), r = sqrt(5) |x - x'| / l
                        (Rasmussen and Williams, 2006, eqs. 2.25 and 4.17)

with means taken off first. A field is normalised as a model's is, less its mean field, and divided
by the root of the number of its values, so that its variance is about one in all, as a scalar's is.
A missing value counts as the mean field's, and what is missing is given beside, as a number that is
one or zero. Hyperparameters are those of least relative L2 on the
validation split, to which nothing is fitted. Of states all later frames are predicted at once,
whatever a model's scheme.

They know one grid, that of training: a component has a number for each of its points.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Self, TypeAlias

import numpy as np
from scipy.linalg import cho_factor, cho_solve, eigh, solve

from mno.core.absent import Absent
from mno.core.errors import InputError
from mno.data.normalise import Normaliser
from mno.evaluation.evaluator import AnySplit, batches, kept_frames, mean_fields, some_samples
from mno.evaluation.trial import errors_of
from mno.surrogate.description import Description

GUESSES = ("mean", "persistence")
COMPONENTS = 300  # at most, of what is given and of what is predicted
MOST_SAMPLES = 4000
"""Training samples that components and Gaussian processes are made of, at most; where there are
more, as many evenly spread over the split."""
_SEARCHED = 1000  # of those, by which a Gaussian process's hyperparameters are found roughly
_VALIDATED = 500  # validation samples that choose, at most
_AT_A_TIME = 32  # samples that are predicted
_COLUMNS = 4096  # of which a copy in double precision is made at a time

Arrays: TypeAlias = Mapping[str, np.ndarray]
Answer: TypeAlias = Callable[[Arrays], dict[str, np.ndarray]]
Map: TypeAlias = Callable[[np.ndarray], np.ndarray]
Settings: TypeAlias = dict[str, float]
Grids: TypeAlias = Mapping[str, tuple[tuple[float, ...], float]]  # values, and where to begin


@dataclass(frozen=True, eq=False)
class Peer:
    """A simple peer, fitted."""

    name: str
    settings: Settings
    """Hyperparameters by name, as chosen on the validation split; a guess has none."""
    samples: int  # training samples that it was fitted to
    seconds: float  # processor time of fitting and choosing
    predict: Answer
    """Returns outputs, `(samples, *dims)`, for what a model is given, in physical units. States
    have their first frames, as many as in training; forcings may have more. An `InputError` says
    that a field is missing, of another grid or other frames than in training, or not positive where
    its logarithm is taken."""
    asked: int | None = None
    """Of how many test samples it is asked, where an answer takes long; of all if not given."""


def fit_peer(
    name: str, training: AnySplit, validation: AnySplit, description: Description
) -> Peer | Absent:
    """Fit the peer of this name: `mean`, `persistence`, `ridge`, `quadratic`, `gaussian_process`.

    It is given and predicts what a model of the description does, whose normaliser it takes. Other
    names are refused, and a validation split of another grid.
    """
    if name not in (*GUESSES, *_METHODS):
        raise InputError(f"{name!r} is no peer; choose one of {', '.join((*GUESSES, *_METHODS))}")
    if description.observes:
        return Absent("peers.observer")
    if description.coordinates and not description.readings:
        return Absent("peers.points")
    if name == "persistence" and not description.states:
        return Absent("robustness.no_states")
    start = time.process_time()
    if name in GUESSES:
        guess = _guess(name, training, description)
        return Peer(name, {}, len(training), time.process_time() - start, guess)

    method, variables = _METHODS[name], _Variables.fit(training, description)
    x, y = variables.of(training)
    some = some_samples(validation, _VALIDATED)
    given, truth = description.given(some.fields), description.truth(some.fields)
    asked = variables.given(given)

    def fitted(settings: Settings, samples: int) -> Map:
        rows = np.arange(samples) * len(x) // samples
        return method.fit(x[rows], y[rows], variables.numbers, settings)

    def error(settings: Settings, samples: int) -> float:
        found = variables.outputs.fields(fitted(settings, samples)(asked), given)
        return float(np.nan_to_num(errors_of(found, truth).mean(), nan=math.inf))

    whole = min(len(x), MOST_SAMPLES) if method.by_samples else len(x)
    grids = {k: g for k, g in method.grids.items() if k != "weight" or variables.numbers}
    settings = {key: first for key, (_, first) in grids.items()}
    for samples in sorted({min(whole, _SEARCHED), whole} if method.by_samples else {whole}):
        settings = _least(grids, settings, partial(error, samples=samples))
    model = fitted(settings, whole)

    def answer(inputs: Arrays) -> dict[str, np.ndarray]:
        return variables.outputs.fields(model(variables.given(inputs)), inputs)

    return Peer(name, settings, whole, time.process_time() - start, answer)


def errors_of_peer(peer: Peer, split: AnySplit, description: Description) -> np.ndarray:
    """Return the relative L2 of every sample of a split, the mean over outputs, `(samples,)`."""
    errors = [
        errors_of(peer.predict(description.given(part)), description.truth(part))
        for part in batches(split, _AT_A_TIME)
    ]
    return np.concatenate(errors)


def _guess(name: str, training: AnySplit, description: Description) -> Answer:
    means = description.truth({n: m[None] for n, m in mean_fields(training).items()})

    def answer(inputs: Arrays) -> dict[str, np.ndarray]:
        samples = len(next(iter(inputs.values())))
        mean = {n: np.repeat(m.astype(np.float32), samples, axis=0) for n, m in means.items()}
        if name == "mean":
            return mean
        return mean | kept_frames(description.states, inputs, mean, mean)

    return answer


@dataclass(frozen=True, eq=False)
class PrincipalComponents:
    """The principal components of some fields over samples, those of most variance first."""

    normaliser: Normaliser
    shapes: Mapping[str, tuple[int, ...]]  # of one sample, by name
    mean: np.ndarray  # of the normalised fields, one after the other, shape (values,)
    vectors: np.ndarray  # orthonormal, shape (values, components)

    @classmethod
    def fit(cls, normaliser: Normaliser, fields: Arrays, given: Arrays) -> Self:
        """Find those of fields `(samples, *dims)`, at most `COMPONENTS`; fewer where less varies.

        Among what is `given` of the same samples is what fields are less, if they are.
        """
        shapes = {name: field.shape[1:] for name, field in fields.items()}
        rows = _rows(normaliser, shapes, fields, given)
        counts = len(rows) - np.isnan(rows).sum(axis=0)
        mean = np.nansum(rows, axis=0, dtype=np.float64) / np.maximum(counts, 1)
        rows -= mean.astype(np.float32)
        np.nan_to_num(rows, copy=False)
        vectors = leading_vectors(rows, COMPONENTS)
        return cls(normaliser, shapes, mean.astype(np.float32), vectors.astype(np.float32))

    def of(self, fields: Arrays, given: Arrays) -> np.ndarray:
        """Return the components of fields, shape `(samples, components)`, float64."""
        rows = _rows(self.normaliser, self.shapes, fields, given) - self.mean
        return (np.nan_to_num(rows, copy=False) @ self.vectors).astype(np.float64)

    def fields(self, components: np.ndarray, given: Arrays) -> dict[str, np.ndarray]:
        """Return the fields that have these components, in physical units, float32."""
        rows = components.astype(np.float32) @ self.vectors.T + self.mean
        found, start = {}, 0
        for name, shape in self.shapes.items():
            values = math.prod(shape)
            part = rows[:, start : start + values].reshape(len(rows), *shape)
            found[name] = self.normaliser.decode(name, part * np.float32(math.sqrt(values)), given)
            start += values
        return found


def leading_vectors(rows: np.ndarray, most: int) -> np.ndarray:
    """Return the orthonormal directions in which rows `(samples, values)` vary most.

    They are the eigenvectors of the covariance of rows whose means are zero, found by the products
    of samples with each other where these are fewer than values (Sirovich, 1987, part I): `(values,
    components)`, float64, those of most variance first, at most so many, fewer where less varies.
    """
    by_samples = rows.shape[0] < rows.shape[1]
    wide = rows if by_samples else rows.T
    products, size = sum(block @ block.T for block in _double(wide)), len(wide)
    variances, vectors = eigh(products, subset_by_index=(max(size - most, 0), size - 1))
    kept = np.flatnonzero(variances > max(1e-12 * variances[-1], 1e-30))[::-1]
    vectors = vectors[:, kept]
    if by_samples:
        vectors = vectors / np.sqrt(variances[kept])
        vectors = np.concatenate([block.T @ vectors for block in _double(wide)])
    return vectors


def _rows(
    normaliser: Normaliser, shapes: Mapping[str, tuple[int, ...]], fields: Arrays, given: Arrays
) -> np.ndarray:
    """Return normalised fields of these shapes, one after the other, `(samples, values)`."""
    rows = []
    for name, shape in shapes.items():
        if name not in fields or fields[name].shape[1:] != shape:
            found = f"has shape {fields[name].shape}" if name in fields else "is missing"
            raise InputError(
                f"field {name} {found}; expected {('samples', *shape)}, of the training split's "
                "grid and frames: give it so, or fit the peer to other data"
            )
        part = normaliser.encode(name, np.asarray(fields[name], dtype=np.float32), given)
        values = math.prod(shape)
        rows.append(part.reshape(len(part), values) / np.float32(math.sqrt(values)))
    return np.concatenate(rows, axis=1)


def _gaps(description: Description, given: Arrays) -> np.ndarray:
    """Return which values are missing of the fields that may have gaps, `(samples, values)`."""
    samples = len(next(iter(given.values())))
    gaps = [np.isnan(given[name]).reshape(samples, -1) for name in description.gaps]
    return np.concatenate(gaps, axis=1) if gaps else np.zeros((samples, 0), bool)


def _double(rows: np.ndarray) -> Iterator[np.ndarray]:
    """Yield columns, some after others, in double precision, so that no copy of all is made."""
    for start in range(0, rows.shape[1], _COLUMNS):
        yield rows[:, start : start + _COLUMNS].astype(np.float64)


@dataclass(frozen=True, eq=False)
class _Variables:
    """What is regressed: x (scalars, what is missing, components of what is given), and y."""

    description: Description
    inputs: PrincipalComponents
    outputs: PrincipalComponents
    missing: np.ndarray
    """Of the values of all fields with gaps, side by side, those that are missing in some samples
    and not in others; of such as are missing together the first."""

    @classmethod
    def fit(cls, training: AnySplit, description: Description) -> Self:
        some, normaliser = some_samples(training, MOST_SAMPLES).fields, description.normaliser
        given = description.given(some)
        inputs = {name: given[name] for name in description.fields}
        kinds = (inputs, description.truth(some))
        x, y = (PrincipalComponents.fit(normaliser, f, given) for f in kinds)
        gaps = _gaps(description, given)
        varies = np.flatnonzero(gaps.any(axis=0) & ~gaps.all(axis=0))
        _, first = np.unique(gaps[:, varies], axis=1, return_index=True)
        return cls(description, x, y, varies[np.sort(first)])

    @property
    def numbers(self) -> int:
        """How many numbers stand before the components in x."""
        return len(self.description.scalars) + len(self.missing)

    def given(self, fields: Arrays) -> np.ndarray:
        frames = {name: self.inputs.shapes[name][0] for name in self.description.forcings}
        fields = {n: f[:, : frames[n]] if n in frames else f for n, f in fields.items()}
        components = self.inputs.of(fields, fields)
        if not self.numbers:
            return components
        shapes: dict[str, tuple[int, ...]] = dict.fromkeys(self.description.scalars, ())
        numbers = [_gaps(self.description, fields)[:, self.missing].astype(np.float32)]
        if shapes:
            numbers.insert(0, _rows(self.description.normaliser, shapes, fields, fields))
        return np.concatenate([*numbers, components], axis=1)

    def of(self, split: AnySplit) -> tuple[np.ndarray, np.ndarray]:
        """Return x and y of the samples of a split that have a true value."""
        xs, ys = [], []
        for fields in batches(split, 256):
            truth = self.description.truth(fields)
            known = [~np.isnan(f).reshape(len(f), -1).all(axis=1) for f in truth.values()]
            rows = np.any(known, axis=0)
            given = self.description.given(fields)
            xs.append(self.given(given)[rows])
            ys.append(self.outputs.of(truth, given)[rows])
        return np.concatenate(xs), np.concatenate(ys)


def _polynomial(x: np.ndarray, y: np.ndarray, scalars: int, settings: Settings) -> Map:
    """Fit `ridge`, or, where there are `products` of the first components, `quadratic`.

    The `penalty` is in units of the total variance of what y is regressed on.
    """
    linear, squared = (scalars + int(settings.get(n, 0)) for n in ("components", "products"))
    pairs = np.triu_indices(min(squared, x.shape[1])) if "products" in settings else None

    def features(x: np.ndarray) -> np.ndarray:
        if pairs is None:
            return x[:, :linear]
        return np.concatenate([x[:, :linear], x[:, pairs[0]] * x[:, pairs[1]]], axis=1)

    a = features(x)
    centre, level = a.mean(axis=0), y.mean(axis=0)
    a = a - centre
    few = len(a) < a.shape[1]  # then the same weights are found among the samples
    moments = a @ a.T if few else a.T @ a
    moments.flat[:: len(moments) + 1] += settings["penalty"] * (np.trace(moments) or 1.0)
    right = y - level if few else a.T @ (y - level)
    weights = solve(moments, right, assume_a="pos")
    weights = a.T @ weights if few else weights
    return lambda x: (features(x) - centre) @ weights + level


def _gaussian_process(x: np.ndarray, y: np.ndarray, scalars: int, settings: Settings) -> Map:
    """Fit a process of unit variance; its length is in root mean square distances of samples.

    Each component is over its standard deviation to a `power`, scalars times a `weight`.
    """
    x = x[:, : scalars + int(settings["components"])]
    spread = np.maximum(x.std(axis=0), 1e-12)
    factors = spread ** -settings["power"]
    factors[:scalars] *= settings.get("weight", 1.0)
    factors /= settings["length"] * math.sqrt(2.0 * np.square(spread * factors).sum())
    places, level = x * factors, y.mean(axis=0)
    kernel = _matern(places, places)
    kernel.flat[:: len(kernel) + 1] += settings["noise"]
    factor = cho_factor(kernel, lower=True, overwrite_a=True, check_finite=False)
    weights = cho_solve(factor, y - level, check_finite=False)
    return lambda x: _matern(x[:, : len(factors)] * factors, places) @ weights + level


def _matern(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the kernel of order 5/2 between places `(rows, numbers)`, in units of the length."""
    r = a @ (-2.0 * b.T)
    r += np.square(a).sum(axis=1)[:, None]
    r += np.square(b).sum(axis=1)
    np.sqrt(5.0 * np.maximum(r, 0.0, out=r), out=r)
    kernel = np.exp(-r)
    kernel *= 1.0 + r * (1.0 + r / 3.0)
    return kernel


@dataclass(frozen=True)
class _Method:
    """How a peer is fitted, and what its hyperparameters may be."""

    fit: Callable[[np.ndarray, np.ndarray, int, Settings], Map]
    grids: Grids
    by_samples: bool = False  # whether it costs the cube of their number


_SIZES = ((18, 37, 75, 150, 300), 150)
_PENALTIES = (tuple(10.0**k for k in range(-9, 2)), 1e-4)
_METHODS = {
    "ridge": _Method(_polynomial, {"components": _SIZES, "penalty": _PENALTIES}),
    "quadratic": _Method(
        _polynomial,
        {"components": _SIZES, "products": ((5, 10, 20, 40), 20), "penalty": _PENALTIES},
    ),
    "gaussian_process": _Method(
        _gaussian_process,
        {
            "components": _SIZES,
            "power": ((0.0, 0.25, 0.5, 0.75, 1.0), 0.0),
            "length": ((0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0), 2.0),
            "noise": (tuple(10.0**k for k in range(-7, 1)), 1e-4),
            "weight": ((0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0), 1.0),
        },
        by_samples=True,
    ),
}


def _least(grids: Grids, settings: Settings, error: Callable[[Settings], float]) -> Settings:
    """Go from settings to neighbours on their grids until none has less error."""
    found, moved = {tuple(settings.values()): error(settings)}, True
    while moved:
        moved = False
        for name, (values, _) in grids.items():
            at = values.index(settings[name])
            for value in values[max(at - 1, 0) : at + 2]:
                candidate = {**settings, name: value}
                key = tuple(candidate.values())
                if key not in found:
                    found[key] = error(candidate)
                    if found[key] < found[tuple(settings.values())]:
                        settings, moved = candidate, True
    return settings
