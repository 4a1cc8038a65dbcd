"""Chains and the smoother of `mno infer` against a posterior that linear algebra knows."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import torch

from benchmarks.page import Section, Table, figure
from mno.inverse.chains import follow, smooth, warm_up

THREADS = 1
NODES, MODES, DURATION, DECAY = 100, 20, 0.01, 1.5
CHAINS, WARM_UP, DRAWS = 40, 150, 600
RUNS, OF_A_RUN = 300, (16, 300)  # inferred for the coverage, each by so many chains and draws
ABOUT = f"""The problem that CUQIpy and UM-Bridge call heat-1d (Alghamdi et al., arXiv:2305.16951):
of u_t = u_xx on the unit interval, u = 0 at both ends, what the temperature was at first is
inferred from that at t = {DURATION}, at {NODES} nodes, or at those of the left half. It is a sum
of {MODES} sines, sin(i pi x) / i^{DECAY}, times numbers that are standard normal a priori; the
noise is of 0.1 %, or 5 %, of the root mean square of what is read. Map and noise are linear and
normal, so that the posterior is known. The likelihood is the exact map's, without any surrogate:
what is measured are the chains and the smoother."""
AGREE = """**Agreement**, in coordinates in which the true posterior is standard normal: the largest
error of a mean and of an entry of the covariance, and how many of all of them are within two
standard errors, as they should be 95 % of the time; the errors are estimated from chains, or
ensembles, that are independent of each other. An ensemble is told to be small by its covariance,
which it is exact in as it grows: `mno infer` takes 200 members, and only to begin chains there."""
COVER = f"""**Coverage** of intervals of 90 %, of all numbers of {RUNS} runs that are drawn from the
prior and read with noise, by {OF_A_RUN[0]} chains of {OF_A_RUN[1]} draws; in brackets two standard
errors, from one run to another. The processor's seconds are those of a run."""


@dataclass(frozen=True)
class Case:
    """A linear map `(readings, unknowns)`, and the noise of what is read."""

    title: str
    map: np.ndarray
    noise: float

    def read(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Draw unknowns, and what is read of them."""
        true = rng.standard_normal(MODES)
        return true, self.map @ true + self.noise * rng.standard_normal(len(self.map))

    def posterior(self, read: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return its mean and covariance."""
        covariance = np.linalg.inv(self.map.T @ self.map / self.noise**2 + np.eye(MODES))
        return covariance @ self.map.T @ read / self.noise**2, covariance


def cases() -> list[Case]:
    """Return both: explicit steps in time of central differences, as the problem says."""
    x = np.arange(1, NODES + 1) / (NODES + 1)
    steps = int(np.ceil(DURATION * 2.5 * (NODES + 1) ** 2))
    number = DURATION / steps * (NODES + 1) ** 2
    step = np.diag(np.full(NODES, 1 - 2 * number))
    step += np.diag(np.full(NODES - 1, number), 1) + np.diag(np.full(NODES - 1, number), -1)
    modes = np.arange(1, MODES + 1)
    whole = np.linalg.matrix_power(step, steps) @ (
        np.sin(np.pi * np.outer(x, modes)) / modes**DECAY
    )
    found = []
    for title, rows, level in (
        ("all nodes, 0.1 %", NODES, 1e-3),
        ("left half, 5 %", NODES // 2, 0.05),
    ):
        size = np.sqrt((whole[:rows] ** 2).sum(axis=1).mean())  # of readings, over the prior
        found.append(Case(title, whole[:rows], level * float(size)))
    return found


def drawn(case: Case, read: np.ndarray, chains: int, draws: int, seed: int) -> np.ndarray:
    """Return draws by chains that begin as those of `mno infer`, `(chains, draws, unknowns)`."""
    rng = torch.Generator().manual_seed(seed)
    matrix, data = torch.from_numpy(case.map), torch.from_numpy(read)

    def likelihood(z: torch.Tensor) -> torch.Tensor:
        return -0.5 * (((z @ matrix.mT - data) / case.noise) ** 2).sum(1)

    first = torch.from_numpy(ensemble(case, read, 200, seed))
    kernel, place = warm_up(likelihood, first, chains, WARM_UP, rng, lambda done, of: None)
    return follow(kernel, place, draws, rng, lambda done, of: None).z


def ensemble(case: Case, read: np.ndarray, members: int, seed: int) -> np.ndarray:
    """Return the smoother's ensemble, `(members, unknowns)`."""
    rng, matrix = torch.Generator().manual_seed(seed), torch.from_numpy(case.map)
    noise = torch.full((len(read),), case.noise, dtype=torch.float64)
    data = torch.from_numpy(read)
    return smooth(lambda z: z @ matrix.mT, data, noise, MODES, members, rng).numpy()


def apart(
    draws: np.ndarray, mean: np.ndarray, covariance: np.ndarray
) -> tuple[float, float, float]:
    """Return the largest errors of mean and covariance, and the share within two of their errors.

    Draws are `(chains, draws, unknowns)`, of independent chains.
    """
    white = np.linalg.solve(np.linalg.cholesky(covariance), (draws - mean)[..., None])[..., 0]
    of_mean = white.mean(axis=1)
    products = np.einsum("cdi,cdj->cij", white, white) / white.shape[1] - np.eye(MODES)
    of_covariance = products[:, *np.triu_indices(MODES)]
    both = np.concatenate([of_mean, of_covariance], axis=1)
    errors = both.std(axis=0, ddof=1) / np.sqrt(len(both))
    worst = [float(abs(one.mean(axis=0)).max()) for one in (of_mean, of_covariance)]
    return worst[0], worst[1], float((abs(both.mean(axis=0)) < 2 * errors).mean())


def coverage(case: Case, runs: int, chains: int, draws: int) -> tuple[float, float, float]:
    """Return the share of numbers within their intervals, its standard error, and seconds a run."""
    shares, start = [], time.process_time()
    for run in range(runs):
        true, read = case.read(np.random.default_rng(run))
        found = drawn(case, read, chains, draws, run).reshape(-1, MODES)
        low, high = np.quantile(found, [0.05, 0.95], axis=0)
        shares.append(float(((low <= true) & (true <= high)).mean()))
    seconds = (time.process_time() - start) / runs
    return float(np.mean(shares)), float(np.std(shares, ddof=1) / np.sqrt(runs)), seconds


def run() -> Section:
    """Compare draws of both kinds on both cases, and count how often intervals hold the truth."""
    agree, cover = [], []
    for case in cases():
        _, read = case.read(np.random.default_rng(10**6))
        mean, covariance = case.posterior(read)
        by_chains = drawn(case, read, CHAINS, DRAWS, 0)
        sides = {f"{CHAINS} chains of {DRAWS} draws": by_chains}
        for members in (200, 2000, 20000):
            many = np.stack([ensemble(case, read, members, seed) for seed in range(40)])
            sides[f"40 ensembles of {members} members"] = many
        for side, draws in sides.items():
            *errors, share = apart(draws, mean, covariance)
            agree.append((case.title, side, *map(figure, errors), f"{share:.0%}"))
        share, error, seconds = coverage(case, RUNS, *OF_A_RUN)
        cover.append((case.title, f"{share:.1%} (± {2 * error:.1%})", figure(seconds)))
    columns = ("case", "draws", "error of a mean", "of a covariance", "within two errors")
    counted = ("case", "coverage", "processor's seconds")
    parts = (ABOUT, AGREE, Table(columns, agree), COVER, Table(counted, cover))
    return Section("Heat, asked backwards", parts)
