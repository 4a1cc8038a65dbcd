"""An answer to a question asked backwards: draws of what is not known, and how good they are."""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mno.core.absent import Absent
from mno.core.errors import InputError
from mno.data.parts import seen
from mno.data.reading import Split, StoredSplit
from mno.inverse.chains import Chains, follow, follow_exactly, smooth, warm_up
from mno.inverse.question import Observations, Unknowns
from mno.inverse.run import Run

with warnings.catch_warnings():
    warnings.simplefilter("ignore", FutureWarning)  # of what it will be one day
    try:
        import arviz
    except FileNotFoundError:  # another process noted at this moment that it was warned today
        import arviz

CHAINS, SOLVED_CHAINS = 16, 4
MOST_RHAT, LEAST_DRAWS = 1.01, 400
"""Beyond these, chains have not converged: R-hat of any number, and effective draws of each."""
_MEMBERS, _PRIOR = 200, 1000  # of the smoother, and draws of the prior that are kept
_WARM_UP = 150
_PILOT = 20  # solves, at least, by which the surrogate's error is learned; a quarter at most
_SEVERAL = 4  # errors for each unknown, from which on a plane is put through them
_FOLDS = 5  # parts of the errors, each of which is kept from the others once

Told = Callable[[str, int, int], None]


class Posterior:
    """What readings say of a run's unknown inputs, that are standard normal numbers a priori.

    The likelihood is normal, of independent errors of the readings.
    """

    def __init__(self, run: Run, unknowns: Unknowns, observations: Observations) -> None:
        self.run, self.unknowns, self.observations = run, unknowns, observations
        self._read = torch.from_numpy(observations.value)
        self._noise = torch.from_numpy(observations.noise)
        self._lacks = torch.zeros(1, len(self._read), dtype=torch.float64)
        self._root = torch.diag(self._noise)  # of the covariance of readings about predictions
        self.reckoned = 0  # errors of the surrogate that are known

    def predicted(self, z: Tensor) -> Tensor:
        """Return what the surrogate says would have been read, `(chains, readings)`, float64."""
        return self.observations.of(self.run.predicted(self.unknowns(z))).double()

    def likelihood(self, z: Tensor) -> Tensor:
        """Return the logarithm of the likelihood by the surrogate, `(chains,)`, up to a constant.

        What is known of the surrogate's error (`learn_error`) is taken off and added to the noise.
        """
        apart = self._corrected(z) - self._read
        apart = torch.linalg.solve_triangular(self._root, apart.mT, upper=False)
        return -0.5 * (apart**2).sum(0)

    def _corrected(self, z: Tensor) -> Tensor:
        return self.predicted(z) + _with_one(z)[:, : len(self._lacks)] @ self._lacks

    def learn_error(self, errors: np.ndarray, at: Tensor | None, likely: Tensor) -> None:
        """Reckon with errors of the surrogate, `(samples, readings)`: truth less what it says.

        Their mean is made good, or the plane through them where they are of numbers that are
        known, `at`, `(samples, unknowns)`, and several for each. The covariance of what that leaves
        is added to the noise; where there are few samples for the readings, less is held of what it
        says of two readings together. It is as much larger, or smaller, as answers would be farther
        off than they claim, where these are moves between numbers that are `likely`,
        `(members, unknowns)`, and each fifth of the errors is kept from the others.

        Source:
            Kaipio and Somersalo, "Statistical inverse problems: discretization, model reduction
            and inverse crimes", doi:10.1016/j.cam.2005.09.027: the error as one more noise.
        """
        found = torch.from_numpy(errors)
        if len(found) < 2:
            return
        self.reckoned = len(found)
        if at is None or len(at) < _SEVERAL * at.shape[1]:
            at = torch.empty(len(found), 0, dtype=found.dtype)
        terms = _with_one(at)
        self._lacks, covariance = self._fitted(found, terms)
        with torch.no_grad():
            moves = self._corrected(likely)
        moves, fold = moves - moves.mean(0), torch.arange(len(found)) % _FOLDS
        ratios = [torch.tensor(np.nan)]
        for held in range(min(_FOLDS, len(found))) if len(found) > 2 else ():
            lacks, others = self._fitted(found[fold != held], terms[fold != held])
            weights = torch.linalg.solve(others, moves.mT)
            apart = ((found[fold == held] - terms[fold == held] @ lacks) @ weights).square().mean(0)
            apart += (weights * self._noise[:, None]).square().sum(0)
            ratios.append((apart / (moves * weights.mT).sum(1)).nanmean())
        scale = torch.stack(ratios).nanmean().nan_to_num(1.0)
        self._root = torch.linalg.cholesky(scale * covariance)

    def _fitted(self, errors: Tensor, terms: Tensor) -> tuple[Tensor, Tensor]:
        """Return errors as sums of terms, and the covariance of readings about predictions then."""
        samples, readings = errors.shape
        lacks, together = torch.linalg.pinv(terms) @ errors, samples / (samples + 2.0 * readings)
        left = errors - terms @ lacks
        found = together * left.mT @ left / max(samples - terms.shape[1], 1)
        return lacks, found + torch.diag((1.0 / together - 1.0) * found.diagonal() + self._noise**2)

    def variances(self) -> dict[str, float]:
        """Return how far readings of each field are from predictions, as squares in its unit.

        It is the mean over those there are, the surrogate's error included.
        """
        spread, found = (self._root**2).sum(1), dict[str, list[Tensor]]()
        counts = [len(block.frames) for block in self.observations.blocks]
        for block, own in zip(self.observations.blocks, spread.split(counts), strict=True):
            found.setdefault(block.field, []).append(own)
        return {name: float(torch.cat(parts).mean()) for name, parts in found.items()}

    def errors_on(self, split: Split | StoredSplit) -> np.ndarray:
        """Return the surrogate's errors on samples of its dataset, read as the run was."""
        surrogate = self.run.surrogate
        description = surrogate.description
        whole = seen(split, description.part)
        fields = {name: array[:] for name, array in whole.fields.items()}
        told = surrogate.predict(description.given(fields), steps=self.run.steps)
        true = description.truth(fields)
        both = ({n: torch.from_numpy(f[n]) for n in told} for f in (true, told))
        true, told = (self.observations.of(fields).double().numpy() for fields in both)
        return (true - told)[np.isfinite(true).all(axis=1)]

    def errors_at(self, z: Tensor) -> tuple[np.ndarray, Tensor]:
        """Return the surrogate's errors, by the solver where it does not refuse, and where."""
        solved = self.solved(z.numpy())
        z = z[[one is not None for one in solved]]
        if not len(z):
            return np.empty((0, len(self._read))), z
        with torch.no_grad():
            predicted = self.predicted(z).numpy()
        return np.stack([one for one in solved if one is not None]) - predicted, z

    def exact(self, z: np.ndarray) -> np.ndarray:
        """Return the logarithm of the likelihood by the solver, `(chains,)`, up to a constant.

        It is minus infinity where the solver refuses.
        """
        lacks = (np.inf if one is None else one - self.observations.value for one in self.solved(z))
        return np.array([-0.5 * float(((apart / self._noise) ** 2).sum()) for apart in lacks])

    def solved(self, z: np.ndarray) -> list[np.ndarray | None]:
        """Return what would have been read by the solver, `(readings,)` of each of the chains.

        There is none where it refuses.
        """
        unknowns = [self.unknowns(one[None]) for one in torch.from_numpy(z)]
        runs = [{name: values[0].numpy() for name, values in own.items()} for own in unknowns]
        return [
            None if found is None else self.observations.of(found).double()[0].numpy()
            for found in self.run.solved(runs)
        ]


def _with_one(z: Tensor) -> Tensor:
    return torch.cat([z.new_ones(len(z), 1), z], dim=1)


@dataclass(frozen=True, eq=False)
class Answer:
    """What is known now of the unknowns."""

    draws: arviz.InferenceData  # posterior, prior, sample_stats (likelihoods) and observed_data
    z: np.ndarray  # the numbers that they are made of, `(chains, draws, numbers)`
    rhat: float  # the greatest of any number
    effective: float  # draws, the least of any number
    is_exact: bool  # whether the solver had the last word
    accepted: float  # share of proposals that were taken
    solves: int  # how often the solver was asked

    @property
    def has_converged(self) -> bool:
        """Whether the chains say the same."""
        return self.rhat <= MOST_RHAT and self.effective >= LEAST_DRAWS


def infer(
    posterior: Posterior, validation: Split | StoredSplit | None, draws: int, solves: int,
    seed: int, told: Told,
) -> Answer:  # fmt: skip
    """Draw from a posterior, by the surrogate, and exactly where the solver may be asked.

    A smoother's ensemble is where chains begin. Both reckon with the surrogate's error, as the
    validation split of the run's dataset shows it, and chains, where the solver may be asked, as a
    part of the solves does; the others accept or refuse what chains propose.

    Args:
        posterior: What is asked.
        validation: Samples on which the surrogate's error is seen; none if there are none.
        draws: Of each of sixteen chains, where the solver is not asked.
        solves: How often it is, at most; 0 for never.
        seed: Of all that is drawn.
        told: Called with what is done, how much of it, and of how much.

    Raises:
        InputError: There is no solver to ask, or no likelihood where the prior has its mass.
    """
    if solves and isinstance(posterior.run.solver, Absent):
        raise InputError(f"--solves {solves}: {posterior.run.solver}; leave it out")
    if solves and solves < 10 * SOLVED_CHAINS:
        raise InputError(f"--solves {solves}: expected 0, or at least {10 * SOLVED_CHAINS}")
    rng = torch.Generator().manual_seed(seed)
    observed, count = posterior.observations, posterior.unknowns.count
    none, at = np.empty((0, len(observed.value))), None
    errors = none if validation is None else posterior.errors_on(validation)
    noise = np.sqrt(observed.noise**2 + (errors**2).sum(0) / max(len(errors), 1))
    ensemble = smooth(
        posterior.predicted, torch.from_numpy(observed.value), torch.from_numpy(noise),
        count, max(_MEMBERS, 2 * count), rng,
    )  # fmt: skip
    with torch.no_grad():
        known = posterior.likelihood(ensemble).isfinite()
    if int(known.sum()) < CHAINS:
        raise InputError("the model answers no number where the prior has mass; correct the prior")
    ensemble, asked = ensemble[known], 0
    if solves:
        asked = min(max(_PILOT, _SEVERAL * count), solves // 4)
        told("solving", 0, asked)
        errors, at = posterior.errors_at(ensemble[-asked:])
    posterior.learn_error(errors, at, ensemble)
    kernel, place = warm_up(
        posterior.likelihood, ensemble, CHAINS, _WARM_UP, rng,
        lambda done, of: told("warming up", done, of),
    )  # fmt: skip
    if solves:
        left = (solves - asked) // SOLVED_CHAINS - 1
        place = kernel.at(place.z[:SOLVED_CHAINS])
        found = follow_exactly(
            kernel, place, posterior.exact, left, rng, lambda done, of: told("solving", done, of)
        )
    else:
        found = follow(kernel, place, draws, rng, lambda done, of: told("drawing", done, of))
    return _answer(posterior, found, asked, bool(solves), rng)


def _answer(
    posterior: Posterior, found: Chains, asked: int, is_exact: bool, rng: torch.Generator
) -> Answer:
    count = found.z.shape[-1]

    def fields(z: np.ndarray) -> dict[str, np.ndarray]:
        return {
            name: values.float().numpy().reshape(*z.shape[:2], *values.shape[1:])
            for name, values in posterior.unknowns(torch.from_numpy(z.reshape(-1, count))).items()
        }

    # One draw of each of as many equal parts, so that chance is not taken for what was learned.
    ranks = torch.rand(_PRIOR, count, generator=rng).argsort(0).double()
    prior = torch.special.ndtri((ranks + 0.5) / _PRIOR)[None].numpy()
    told = arviz.from_dict(
        posterior=fields(found.z),
        prior=fields(prior),
        sample_stats={"lp": found.likelihood},
        observed_data={"readings": posterior.observations.value},
    )
    numbers: Any = arviz.convert_to_dataset({"z": found.z})
    scores: list[Any] = [arviz.ess(numbers), arviz.rhat(numbers)]
    effective, rhat = (score["z"].to_numpy() for score in scores)
    least, most = float(effective.min()), float(rhat.max())
    if not math.isfinite(most):  # a chain that stays where it is has none
        least, most = 0.0, math.inf
    return Answer(told, found.z, most, least, is_exact, found.accepted, asked + found.solves)


def rows_of(answer: Answer) -> list[dict[str, Any]]:
    """Return what is known of each unknown: of a field, the mean over its places.

    There are `name`, `prior` and `posterior` (mean and standard deviation), the `interval` that
    holds it with 90 %, and `learned`, the share of its prior variance that the readings took away.
    """
    rows = []
    groups: Any = answer.draws
    for name in groups.posterior.data_vars:
        before, after = groups.prior[name].to_numpy()[0], groups.posterior[name].to_numpy()
        after = after.reshape(-1, *after.shape[2:])
        low, high = np.quantile(after, [0.05, 0.95], axis=0)
        was, now = before.var(axis=0, ddof=1), after.var(axis=0, ddof=1)
        rows.append({
            "name": str(name),
            "prior": [float(before.mean()), float(np.sqrt(was.mean()))],
            "posterior": [float(after.mean()), float(np.sqrt(now.mean()))],
            "interval": [float(low.mean()), float(high.mean())],
            "learned": float(1.0 - now.mean() / max(float(was.mean()), 1e-300)),
        })  # fmt: skip
    return rows
