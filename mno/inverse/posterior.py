"""The posterior of a question: by a surrogate, with its gradients, and by the solver."""

import math

import numpy as np
import torch
from torch import Tensor

from mno.data.parts import seen
from mno.data.reading import Split, StoredSplit
from mno.inverse.question import Observations, Unknowns
from mno.inverse.run import Run


class Posterior:
    """What readings say of unknowns, that are standard normal numbers a priori.

    The likelihood is normal, of independent errors of the readings.

    Args:
        run: Of which unknowns are some inputs.
        unknowns: Made of the numbers.
        observations: What was read.
    """

    def __init__(self, run: Run, unknowns: Unknowns, observations: Observations) -> None:
        self.run, self.unknowns, self.observations = run, unknowns, observations
        self._read = torch.from_numpy(observations.value)
        self._noise = torch.from_numpy(observations.noise)
        self._bias = torch.zeros_like(self._read)
        self._root = torch.diag(self._noise)  # of the covariance of readings about predictions

    def predicted(self, z: Tensor) -> Tensor:
        """Return what the surrogate says would have been read, `(chains, readings)`, float64."""
        return self.observations.of(self.run.predicted(self.unknowns(z))).double()

    def likelihood(self, z: Tensor) -> Tensor:
        """Return the logarithm of the likelihood by the surrogate, `(chains,)`, up to a constant.

        What is known of the surrogate's error (`learn_error`) is taken off and added to the noise.
        """
        apart = self.predicted(z) + self._bias - self._read
        return _normal(torch.linalg.solve_triangular(self._root, apart.mT, upper=False))

    def learn_error(self, errors: np.ndarray) -> None:
        """Reckon with errors of the surrogate, `(samples, readings)`: truth less what it says.

        Their covariance is added to the noise; the fewer the samples, the less is held of what it
        says of two readings together.

        Source:
            Kaipio and Somersalo, "Statistical inverse problems: discretization, model reduction
            and inverse crimes", doi:10.1016/j.cam.2005.09.027: the error as one more noise.
        """
        found = torch.from_numpy(errors)
        samples, readings = found.shape
        if samples < 2:
            return
        self._bias, covariance = found.mean(0), torch.cov(found.mT).reshape(readings, readings)
        together = samples / (samples + readings)
        covariance = together * covariance + (1 - together) * torch.diag(covariance.diagonal())
        self._root = torch.linalg.cholesky(covariance + torch.diag(self._noise**2))

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
        whole = seen(split, description.part, description.skip)
        fields = {name: array[:] for name, array in whole.fields.items()}
        told = surrogate.predict(description.given(fields), steps=self.run.steps)
        true = description.truth(fields)
        both = ({n: torch.from_numpy(f[n]) for n in told} for f in (true, told))
        true, told = (self.observations.of(fields).double().numpy() for fields in both)
        return (true - told)[np.isfinite(true).all(axis=1)]

    def errors_at(self, z: Tensor) -> np.ndarray:
        """Return the surrogate's errors at some numbers, by the solver where it does not refuse."""
        found = [(one, self.solved(one.numpy())) for one in z]
        kept = [(one, solved) for one, solved in found if solved is not None]
        if not kept:
            return np.empty((0, len(self._read)))
        with torch.no_grad():
            predicted = self.predicted(torch.stack([one for one, _ in kept])).numpy()
        return np.stack([solved for _, solved in kept]) - predicted

    def exact(self, z: np.ndarray) -> float:
        """Return the same by the solver, of one chain; minus infinity where it refuses."""
        solved = self.solved(z)
        if solved is None:
            return -math.inf
        apart = (torch.from_numpy(solved) - self._read) / self._noise
        return float(_normal(apart[:, None])[0])

    def solved(self, z: np.ndarray) -> np.ndarray | None:
        """Return what would have been read by the solver, `(readings,)`; none where it refuses."""
        unknowns = self.unknowns(torch.from_numpy(z)[None])
        found = self.run.solved({name: values[0].numpy() for name, values in unknowns.items()})
        return None if found is None else self.observations.of(found).double()[0].numpy()


def _normal(apart: Tensor) -> Tensor:
    """Return the logarithm of a standard normal density of columns, up to a constant."""
    return -0.5 * (apart**2).sum(0)
