"""An answer to a question asked backwards: draws of what is not known, and how good they are."""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from mno.core.absent import Absent
from mno.core.errors import InputError
from mno.data.reading import Split, StoredSplit
from mno.inverse.chains import Chains, follow, follow_exactly, smooth, warm_up
from mno.inverse.posterior import SEVERAL, Posterior

with warnings.catch_warnings():
    warnings.simplefilter("ignore", FutureWarning)  # of what it will be one day
    import arviz

CHAINS, SOLVED_CHAINS = 16, 4
MOST_RHAT, LEAST_DRAWS = 1.01, 400
"""Beyond these, chains have not converged: R-hat of any number, and effective draws of each."""
_MEMBERS, _PRIOR = 200, 1000  # of the smoother, and draws of the prior that are kept
_WARM_UP = 150
_PILOT = 20  # solves, at least, by which the surrogate's error is learned; a quarter at most

Told = Callable[[str, int, int], None]


@dataclass(frozen=True, eq=False)
class Answer:
    """What is known now of the unknowns.

    Attributes:
        draws: ArviZ's groups: posterior, prior, sample_stats (likelihoods) and observed_data.
        z: The numbers that they are made of, `(chains, draws, numbers)`.
        rhat, effective: The greatest R-hat of any number, and the least effective draws.
        is_exact: Whether the solver had the last word.
        accepted: Share of proposals that were taken.
        solves: How often the solver was asked.
    """

    draws: arviz.InferenceData
    z: np.ndarray
    rhat: float
    effective: float
    is_exact: bool
    accepted: float
    solves: int

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
        asked = min(max(_PILOT, SEVERAL * count), solves // 4)
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
        flat = posterior.unknowns(torch.from_numpy(z.reshape(-1, count)))
        return {
            name: values.float().numpy().reshape(*z.shape[:2], *values.shape[1:])
            for name, values in flat.items()
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
