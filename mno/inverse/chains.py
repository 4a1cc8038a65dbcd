"""Draws of a posterior: Hamiltonian chains side by side, made exact by a solver, and a smoother.

All unknowns are standard normal before anything was read (`mno.inverse.priors` says of what):

    z        unknowns, `(chains, unknowns)`, nondimensional
    ll(z)    logarithm of the likelihood of what was read
    log posterior = ll(z) - |z|^2 / 2, up to a constant
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

Likelihood = Callable[[Tensor], Tensor]
"""Logarithms of likelihoods, `(chains,)`, of unknowns `(chains, unknowns)`, float64; not a number
where there is none. What chains follow needs gradients."""
Told = Callable[[int, int], None]

_WANTED = 0.8  # share of proposals that are taken, at which a chain moves fastest
_LENGTH = 1.5  # of a path, in deviations of the posterior: a quarter of a turn about its middle
_WINDOWS = (0.15, 0.4, 0.8)  # shares of the warm-up after which the covariance is estimated anew


class Place(NamedTuple):
    """Where chains are, `z`, with `ll` there and the gradient of the log posterior."""

    z: Tensor
    likelihood: Tensor
    slope: Tensor


@dataclass(frozen=True)
class Hamiltonian:
    """A step of Hamiltonian Monte Carlo, that leaves the posterior of a likelihood as it is.

    Momenta are standard normal in coordinates in which the posterior is about round: `factor` is a
    root of its covariance. The length of a step is drawn anew each time, alike for all chains.

    Source:
        Neal, "MCMC using Hamiltonian dynamics", arXiv:1206.1901, sections 3.2, 4.1 and 4.2.
    """

    likelihood: Likelihood
    factor: Tensor  # lower triangle, `(unknowns, unknowns)`
    step: float = 0.5
    leaps: int = 3

    def at(self, z: Tensor) -> Place:
        """Return what there is to know of a place."""
        z = z.detach().requires_grad_()
        with torch.enable_grad():
            likelihood = self.likelihood(z)
            (slope,) = torch.autograd.grad(likelihood.sum(), z)
        likelihood = likelihood.detach().nan_to_num(-math.inf)
        return Place(z.detach(), likelihood, slope - z.detach())

    def __call__(self, start: Place, rng: torch.Generator) -> tuple[Place, Tensor]:
        """Return where chains are next, and with which probability each took its proposal."""
        step = self.step * (0.8 + 0.4 * float(torch.rand((), generator=rng)))
        momentum = torch.randn(start.z.shape, generator=rng, dtype=start.z.dtype)
        place, p = start, momentum
        for _ in range(self.leaps):
            p = p + 0.5 * step * place.slope @ self.factor
            place = self.at(place.z + step * p @ self.factor.mT)
            p = p + 0.5 * step * place.slope @ self.factor
        gain = _energy(place, p) - _energy(start, momentum)
        chance = gain.nan_to_num(-math.inf).clamp_max(0.0).exp()
        taken = torch.rand(chance.shape, generator=rng, dtype=chance.dtype) < chance
        return _chosen(taken, place, start), chance


def _energy(place: Place, momentum: Tensor) -> Tensor:
    return place.likelihood - 0.5 * (place.z**2).sum(1) - 0.5 * (momentum**2).sum(1)


def _chosen(taken: Tensor, new: Place, old: Place) -> Place:
    return Place(
        torch.where(taken[:, None], new.z, old.z),
        torch.where(taken, new.likelihood, old.likelihood),
        torch.where(taken[:, None], new.slope, old.slope),
    )


def warm_up(
    likelihood: Likelihood, ensemble: Tensor, chains: int, steps: int, rng: torch.Generator,
    told: Told,
) -> tuple[Hamiltonian, Place]:  # fmt: skip
    """Bring chains from where they begin to where they belong, and fit the step to the posterior.

    They begin where the first of an ensemble, `(members, unknowns)`, are. The step's length is
    adapted in each, by the share of proposals that are taken; the covariance is first the
    ensemble's, then estimated from all chains together.
    """
    members, unknowns = ensemble.shape
    covariance = torch.eye(unknowns, dtype=ensemble.dtype)
    if members >= 2 * unknowns:  # fewer know nothing of some directions
        spread = torch.cov(ensemble.mT).reshape(unknowns, unknowns)
        least = 1e-10 * spread.diagonal().mean().clamp_min(1e-12)  # rounding leaves none below
        covariance = spread + least * covariance
    kernel = first = Hamiltonian(likelihood, torch.linalg.cholesky(covariance))
    place, seen = kernel.at(ensemble[:chains]), []
    renewals = {round(share * steps) for share in _WINDOWS}
    for number in range(steps):
        place, chance = kernel(place, rng)
        seen.append(place.z)
        moved = (float(chance.mean()) - _WANTED) / math.sqrt(1.0 + 0.1 * len(seen))
        step = min(kernel.step * math.exp(moved), 2.0)
        if number in renewals:  # steps by the covariance before say nothing of those to come
            later = torch.cat(seen[len(seen) // 2 :])
            kernel, step, seen = replace(kernel, factor=_root(later, kernel.factor)), first.step, []
        leaps = min(max(round(_LENGTH / step), 1), 32) if number >= min(renewals) else first.leaps
        kernel = replace(kernel, step=step, leaps=leaps)
        told(number + 1, steps)
    return kernel, place


def _root(z: Tensor, before: Tensor) -> Tensor:
    """Return a root of the covariance of rows, drawn to the one before where there are few.

    It is drawn so in coordinates in which that one is the identity: unknowns may be known within
    very different deviations, of which the least must not be lost.
    """
    count, unknowns = z.shape
    white = torch.linalg.solve_triangular(before, (z - z.mean(0)).mT, upper=False)
    weight = count / (count + 5.0 * unknowns)
    covariance = weight * white @ white.mT / max(count - 1, 1)
    spread = covariance.diagonal().mean().clamp_min(1e-12)
    drawn = covariance + (1.0 - weight) * spread * torch.eye(unknowns, dtype=z.dtype)
    return before @ torch.linalg.cholesky(drawn)


@dataclass(frozen=True, eq=False)
class Chains:
    """Draws of chains, `(chains, draws, unknowns)`, and how they came about."""

    z: np.ndarray
    likelihood: np.ndarray  # of each, `(chains, draws)`: the solver's where it was asked
    accepted: float  # share of proposals that were taken, by the solver where it was asked
    solves: int = 0


def follow(
    kernel: Hamiltonian, place: Place, draws: int, rng: torch.Generator, told: Told
) -> Chains:
    """Draw from the posterior of the kernel's likelihood."""
    found, chances = [], []
    for number in range(draws):
        place, chance = kernel(place, rng)
        found.append(place)
        chances.append(chance)
        told(number + 1, draws)
    return _chains(found, float(torch.stack(chances).mean()))


def follow_exactly(
    kernel: Hamiltonian, place: Place, exact: Callable[[np.ndarray], np.ndarray], draws: int,
    rng: torch.Generator, told: Told, inner: int = 5,
) -> Chains:  # fmt: skip
    """Draw from the posterior of an exact likelihood, by delayed acceptance.

    A proposal is where a chain is after `inner` steps of the kernel. It is solved, and taken with
    the probability that the ratio of exact likelihoods, by that of the kernel's, leaves: so a wrong
    kernel costs time, never truth. `exact` is asked for all chains that moved together, and may
    return minus infinity for what cannot be solved.

    Source:
        Christen and Fox, "Markov chain Monte Carlo using an approximation",
        doi:10.1198/106186005X76983; Lykkegaard et al., arXiv:2202.03876, for several steps.
    """
    known = torch.from_numpy(exact(place.z.numpy()))
    solves, taken, found = len(known), 0.0, []
    for number in range(draws):
        new = place
        for _ in range(inner):
            new, _ = kernel(new, rng)
        moved = (new.z != place.z).any(1)
        solved = known.clone()
        if moved.any():
            solved[moved] = torch.from_numpy(exact(new.z[moved].numpy()))
            solves += int(moved.sum())
        gain = (solved - known) - (new.likelihood - place.likelihood)
        draw = torch.rand(gain.shape, generator=rng, dtype=gain.dtype)
        kept = moved & (draw.log() < gain.nan_to_num(-math.inf))
        place, known = _chosen(kept, new, place), torch.where(kept, solved, known)
        taken += float(kept.double().mean()) / draws
        found.append(place._replace(likelihood=known))
        told(number + 1, draws)
    return _chains(found, taken, solves)


def _chains(found: list[Place], accepted: float, solves: int = 0) -> Chains:
    z = torch.stack([place.z for place in found], dim=1).numpy()
    likelihood = torch.stack([place.likelihood for place in found], dim=1).numpy()
    return Chains(z, likelihood, accepted, solves)


def smooth(
    predict: Callable[[Tensor], Tensor], read: Tensor, noise: Tensor, unknowns: int, members: int,
    rng: torch.Generator, rounds: int = 4,
) -> Tensor:  # fmt: skip
    """Return an ensemble near the posterior, `(members, unknowns)`: exact where all is linear.

    In each of some rounds the members move towards what was `read`, `(readings,)`, of standard
    deviation `noise` times the root of the number of rounds, as the ensemble's own covariances say;
    `predict` returns what each would have read, `(members, readings)`.

    Source:
        Emerick and Reynolds, "Ensemble smoother with multiple data assimilation",
        doi:10.1016/j.cageo.2012.03.011.
    """
    z = torch.randn(members, unknowns, generator=rng, dtype=torch.float64)
    for _ in range(rounds):
        with torch.no_grad():
            told = predict(z).double()
        dz, dy = z - z.mean(0), told - told.mean(0)
        spread = dy.mT @ dy / (members - 1) + rounds * torch.diag(noise**2)
        gain = torch.linalg.solve(spread, dy.mT @ dz / (members - 1))
        drawn = torch.randn(told.shape, generator=rng, dtype=torch.float64)
        z = z + (read + math.sqrt(rounds) * noise * drawn - told) @ gain
    return z
