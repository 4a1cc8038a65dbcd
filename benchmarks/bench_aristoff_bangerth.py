"""A coefficient asked of readings: chains through the solver, and through what stands in for it."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from ruamel.yaml import YAML
from torch import Tensor

from benchmarks.membrane_batch import Membrane, Readings
from benchmarks.page import Section, Table, figure
from benchmarks.timing import use_threads
from mno.core.forecast import TaskConfig
from mno.core.readings import to_points
from mno.data.parts import seen
from mno.data.reading import Schema, Split
from mno.inverse.chains import Chains, follow, follow_exactly, smooth, warm_up
from mno.inverse.infer import MOST_RHAT, arviz
from mno.nn.config import ModelConfig
from mno.scenarios.aristoff_bangerth import AristoffBangerth, AristoffBangerthParameters
from mno.training.config import TrainConfig
from mno.training.fit import train

THREADS = 1
HERE = Path(__file__).parent
REFERENCE = HERE / "results/aristoff_bangerth.json"
PUBLISHED: dict[str, Any] = YAML(typ="safe").load(HERE / "aristoff_bangerth.yaml")
SCENARIO = AristoffBangerth(AristoffBangerthParameters(), 32)
FINE, LAPACK = Membrane(32), Membrane(32, by_lapack=True)
COARSER = Membrane(16), Membrane(8)
DEVIATION, NOISE = SCENARIO.parameters.log_deviation, float(PUBLISHED["noise"])
READ = torch.tensor(PUBLISHED["readings"], dtype=torch.float64).flatten()
FARTHEST = 12.0  # from the middle of the prior, in its deviations: numbers are finite within

BLOCKS, CHAINS, MEMBERS, WARM_UP = 64, 16, 400, 150
SOLVES, HELD_OUT, WIDER = 4000, 400, 1.3  # to learn from, about the smoother's ensemble
PEER, SOLVER = "the solver, by LAPACK", "the solver"
DRAWS = {
    PEER: 400, SOLVER: 400, "two coarser meshes": 4000, "linear": 3000, "quadratic": 700,
    "operator": 30,
}  # fmt: skip
MODEL = ModelConfig.model_validate({"width": 16, "layers": 1, "mixer": "softmax"})
TRAINING = TrainConfig.model_validate(
    {"epochs": 8, "batch_size": 16, "learning_rate": 1e-2, "threads": 1}
)
COLUMNS = (
    "chains through", "error", "solves", "s, all", "accepted", "effective draws", "R-hat",
    "ms an effective draw", "with all before", "means within 3 errors",
)  # fmt: skip
Predict = Callable[[Tensor], Tensor]
"""Readings `(n, 169)` of what is asked, `(n, 64)`: logarithms over the prior's deviation."""
ABOUT = """The benchmark of Aristoff and Bangerth (arXiv:2102.07263), of the scenario
`aristoff_bangerth`: which coefficient, of 64 blocks, is it whose 169 readings are the published
ones, with an error of 0.05 each? A priori its logarithms are normal, of deviation 2. All sides are
drawn from by the Hamiltonian chains of `mno infer`, {chains} in a batch, which begin in a
smoother's ensemble. **The solver** gives values and, by its adjoint, gradients; its chains are
exact. It factors 32 x 32 elements in bands; the peer does so by LAPACK, through scipy. What stands
in for it is fitted to {solves:,} solves about that ensemble (wider by {wider}). **Two coarser
meshes**, of 16 x 16 and 8 x 8 elements: what the first lacks is linear in how far both are apart,
all in logarithms. Least squares of the readings' logarithms, **linear** and **quadratic**, and an
**operator** of the line ({model}, {epochs} epochs). Each proposes, by delayed acceptance, and the
solver accepts or refuses each proposal. *Error* is that of its readings on other such solves. Times
are processor seconds; *s, all* counts the smoother, the solves, the fit, the warm-up and the draws.
Effective draws are the least of the 64 blocks. Means are compared with those of a longer chain
through the solver ({effective:.0f} effective draws, R-hat {rhat:.3f}), in both standard errors.
Sides differ in how many draws they make, by what these cost."""


def coefficients(z: Tensor) -> Tensor:
    """Return coefficients of what is asked."""
    return (DEVIATION * z.clamp(-FARTHEST, FARTHEST)).exp()


def solved(z: Tensor, membrane: Membrane = FINE) -> Tensor:
    """Return a membrane's readings of what is asked, `(n, 169)`."""
    parts = [Readings.apply(some, membrane) for some in coefficients(z).split(CHAINS)]
    return torch.cat(parts)  # type: ignore[arg-type]


def likelihood_of(predict: Predict, noise: Tensor) -> Predict:
    """Return the logarithm of the likelihood by predictions of readings."""
    return lambda z: -0.5 * (((predict(z) - READ) / noise) ** 2).sum(1)


def exact(z: np.ndarray) -> np.ndarray:
    """Return the same by the solver, `(chains,)`."""
    apart = solved(torch.from_numpy(z)) - READ
    return -0.5 * (apart / NOISE).square().sum(1).numpy()


@dataclass(frozen=True)
class Found:
    """Draws of one side, and what they cost in processor seconds."""

    chains: Chains
    solves: int
    fitted: float
    drawn: float
    error: float = math.nan

    @property
    def rhat(self) -> float:
        """The greatest of any block."""
        return float(_score(arviz.rhat, self.chains.z).max())

    @property
    def effective(self) -> np.ndarray:
        """Effective draws of each block's mean."""
        return _score(arviz.ess, self.chains.z)

    @property
    def cost(self) -> float:
        """Milliseconds of an effective draw, with all that went before."""
        return 1e3 * (self.fitted + self.drawn) / float(self.effective.min())

    @property
    def each(self) -> float:
        """The same of the draws alone."""
        return 1e3 * self.drawn / float(self.effective.min())

    def row(self, name: str, reference: dict[str, Any]) -> tuple[str, ...]:
        """Return what a table says of it."""
        z, effective = self.chains.z, float(self.effective.min())
        means = DEVIATION * z.mean(axis=(0, 1))
        own = DEVIATION * _score(arviz.mcse, z)
        apart = np.abs(means - reference["means"]) / np.hypot(own, reference["standard_errors"])
        return (
            name,
            "" if math.isnan(self.error) else f"{self.error:.1%}",
            f"{self.solves:,}",
            figure(self.fitted + self.drawn),
            f"{self.chains.accepted:.1%}",
            f"{effective:.0f}",
            f"{self.rhat:.3f}",
            figure(self.each),
            figure(self.cost),
            f"{int((apart <= 3).sum())} of {BLOCKS}",
        )


def _score(score: Any, z: np.ndarray) -> np.ndarray:
    return score(arviz.convert_to_dataset({"z": z}))["z"].to_numpy()


def by_solver(draws: int, seed: int, membrane: Membrane = FINE) -> Found:
    """Draw through the solver."""
    start, rng = time.process_time(), torch.Generator().manual_seed(seed)
    ensemble = smoothed(rng, membrane)
    predict = partial(solved, membrane=membrane)
    likelihood = likelihood_of(predict, torch.full_like(READ, NOISE))
    counted = _Counted(likelihood)
    kernel, place = warm_up(counted, ensemble, CHAINS, WARM_UP, rng, _quiet)
    warm = time.process_time()
    found = follow(kernel, place, draws, rng, _quiet)
    return Found(found, counted.calls + 4 * MEMBERS, warm - start, time.process_time() - warm)


def by(fit: Callable[[Tensor, Tensor, Path], Predict], draws: int, rng: torch.Generator) -> Found:
    """Draw through what is fitted to solves, corrected by the solver."""
    start = time.process_time()
    ensemble = smoothed(rng)
    root = torch.linalg.cholesky(torch.cov(ensemble.mT) + 1e-3 * torch.eye(BLOCKS))
    normal = torch.randn(SOLVES, BLOCKS, generator=rng, dtype=torch.float64)
    z = ensemble.mean(0) + WIDER * normal @ root.mT
    with torch.no_grad():
        readings = solved(z)
    with TemporaryDirectory() as folder:
        predict = fit(z[HELD_OUT:], readings[HELD_OUT:], Path(folder))
    with torch.no_grad():
        told = predict(z[:HELD_OUT])
        members = ensemble[-HELD_OUT:]
        missed = (predict(members) - solved(members)).square().mean(0)
    error = float((told - readings[:HELD_OUT]).norm() / readings[:HELD_OUT].norm())
    likelihood = likelihood_of(predict, (missed + NOISE**2).sqrt())
    warm = WARM_UP if draws > 100 else 60
    kernel, place = warm_up(likelihood, ensemble, CHAINS, warm, rng, _quiet)
    fitted = time.process_time()
    found = follow_exactly(kernel, place, exact, draws, rng, _quiet, inner=1)
    solves = 4 * MEMBERS + SOLVES + HELD_OUT + found.solves
    return Found(found, solves, fitted - start, time.process_time() - fitted, error)


def smoothed(rng: torch.Generator, membrane: Membrane = FINE) -> Tensor:
    """Return an ensemble near the posterior, by the solver."""
    noise = torch.full_like(READ, NOISE)
    return smooth(partial(solved, membrane=membrane), READ, noise, BLOCKS, MEMBERS, rng)


class _Counted:
    def __init__(self, likelihood: Predict) -> None:
        self.likelihood, self.calls = likelihood, 0

    def __call__(self, z: Tensor) -> Tensor:
        self.calls += len(z)
        return self.likelihood(z)


def _quiet(done: int, of: int) -> None:
    pass


def polynomial(degree: int) -> Callable[[Tensor, Tensor, Path], Predict]:
    """Return a fit of the readings' logarithms by least squares, held back a little."""

    def fit(z: Tensor, readings: Tensor, folder: Path) -> Predict:
        middle, y = z.mean(0), readings.log()
        above = torch.triu_indices(BLOCKS, BLOCKS)

        def features(z: Tensor) -> Tensor:
            x = z.clamp(-FARTHEST, FARTHEST) - middle
            ones = torch.ones_like(x[:, :1])
            squares = [x[:, above[0]] * x[:, above[1]]] if degree == 2 else []
            return torch.cat([ones, x, *squares], dim=1)

        x = features(z)
        gram = x.mT @ x
        gram += 1e-4 * torch.diag(gram.diagonal())
        weights = torch.linalg.solve(gram, x.mT @ y)
        return lambda z: (features(z) @ weights).clamp_max(5.0).exp()

    return fit


def coarser(z: Tensor, readings: Tensor, folder: Path) -> Predict:
    """Return readings on a coarser mesh, times what it lacks as a still coarser one tells it.

    Its logarithm is linear in the difference of both meshes' logarithms at all places.
    """
    first, second = COARSER

    def told(z: Tensor) -> tuple[Tensor, Tensor]:
        found = solved(z, first)
        apart = found.log() - solved(z, second).log()
        return found, torch.cat([torch.ones_like(apart[:, :1]), apart], dim=1)

    with torch.no_grad():
        found, x = told(z)
    gram = x.mT @ x
    gram += 1e-4 * torch.diag(gram.diagonal())
    weights = torch.linalg.solve(gram, x.mT @ (readings / found).log())

    def predict(z: Tensor) -> Tensor:
        found, x = told(z)
        return found * (x @ weights).clamp(-1.0, 1.0).exp()

    return predict


def operator(z: Tensor, readings: Tensor, folder: Path) -> Predict:
    """Train an operator of the line, of both parts of a dataset."""
    fields = {
        "coefficient": coefficients(z).numpy().astype(np.float32),
        "readings": readings.numpy().reshape(-1, 13, 13).astype(np.float32),
    }
    own = SCENARIO.parameters.model_dump()
    schema = Schema(SCENARIO.name, SCENARIO.fields, SCENARIO.axes, (), own, resolution=32)
    samples, tenth = np.arange(len(z)), len(z) // 10
    parts: list[Any] = []
    for name, rows in (("train", samples[tenth:]), ("validation", samples[:tenth])):
        own_fields = {key: array[rows] for key, array in fields.items()}
        parts.append(seen(Split(name, schema, own_fields, rows), "both"))
    surrogate, _ = train(
        *parts, model=MODEL, task=TaskConfig(part="both"), config=TRAINING, seed=0, work=folder,
        quiet=True,
    )  # fmt: skip
    description = surrogate.description
    one = to_points(description.readings, {"coefficient": fields["coefficient"][:1]}, (13, 13))
    rest = {name: torch.from_numpy(array) for name, array in one.items()}
    first, last = description.readings["readings"][1:]

    def predict(z: Tensor) -> Tensor:
        values = coefficients(z).float()
        gaps = rest["coefficient"][:, BLOCKS:].expand(len(z), -1)
        given = {name: array.expand(len(z), -1) for name, array in rest.items()}
        given["coefficient"] = torch.cat([values, gaps], dim=1)
        found = surrogate.answers(surrogate.operator, given, None)["readings"]
        return found[:, first:last].double()

    return predict


def run() -> Section:
    """Draw by every side, and compare with the reference."""
    SCENARIO.compile()
    for membrane in (FINE, LAPACK, *COARSER):
        z = torch.zeros(1, BLOCKS, dtype=torch.float64, requires_grad=True)
        solved(z, membrane).sum().backward()
    sides = {PEER: by_solver(DRAWS[PEER], 1, LAPACK), SOLVER: by_solver(DRAWS[SOLVER], 1)}
    fits = {
        "two coarser meshes": coarser, "linear": polynomial(1), "quadratic": polynomial(2),
        "operator": operator,
    }  # fmt: skip
    for name, fit in fits.items():
        sides[name] = by(fit, DRAWS[name], torch.Generator().manual_seed(1))
    reference = json.loads(REFERENCE.read_text(encoding="utf-8"))
    rows = [found.row(name, reference) for name, found in sides.items()]
    return Section(
        "A coefficient asked of readings",
        (verdict(sides), about(reference), Table(COLUMNS, rows)),
    )


def about(reference: dict[str, Any]) -> str:
    """Return what was done, in words."""
    model = f"width {MODEL.width}, one layer of attention among blocks and places"
    return ABOUT.format(
        solves=SOLVES - HELD_OUT, chains=CHAINS, wider=WIDER, model=model, epochs=TRAINING.epochs,
        effective=reference["effective"], rhat=reference["rhat"],
    )  # fmt: skip


def verdict(sides: dict[str, Found]) -> str:
    """Return what has converged and is cheapest, in times of the solver, in sentences."""
    together = {name: found for name, found in sides.items() if found.rhat <= MOST_RHAT}
    apart = [name for name in sides if name not in together]
    best = min(together, key=lambda name: together[name].cost, default=SOLVER)
    peer, own, least = (sides[name].cost for name in (PEER, SOLVER, best))
    alone = sides[PEER].each / sides[best].each
    said = (
        f"**Asked were three times fewer processor seconds an effective draw than on a banded "
        f"Cholesky solver: {best} take {least:.3g} ms, {peer / least:.2g} times fewer than by "
        f"LAPACK's ({peer:.3g} ms; draws alone {alone:.2g} times), and {own / least:.2g} times "
        f"fewer than by ours ({own:.3g} ms). Ten thousand take {least / 6:.2g} minutes, all "
        f"counted.**"
    )
    if apart:
        said += (
            f" Beyond the R-hat of {MOST_RHAT:g} that was asked for: {', '.join(apart)}; where it "
            "is far beyond, effective draws and costs are no more than bounds in its favour."
        )
    return said


def keep_reference(draws: int, seed: int) -> None:
    """Draw a long chain through the solver, and keep the means of the logarithms."""
    found = by_solver(draws, seed)
    z = found.chains.z
    kept = {
        "what": "means of the logarithms of the 64 blocks, by chains through the solver",
        "chains": CHAINS,
        "draws": draws,
        "effective": float(found.effective.min()),
        "rhat": found.rhat,
        "processor_seconds": round(found.fitted + found.drawn, 1),
        "means": np.round(DEVIATION * z.mean(axis=(0, 1)), 5).tolist(),
        "deviations": np.round(DEVIATION * z.std(axis=(0, 1)), 5).tolist(),
        "standard_errors": np.round(DEVIATION * _score(arviz.mcse, z), 6).tolist(),
    }
    REFERENCE.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":  # python -m benchmarks.bench_aristoff_bangerth 2000
    use_threads(THREADS)
    keep_reference(int(sys.argv[1]), 0)
