"""The posterior of a question: by a surrogate, with its gradients, and by the solver."""

import numpy as np
import torch
from torch import Tensor

from mno.data.parts import seen
from mno.data.reading import Split, StoredSplit
from mno.inverse.question import Observations, Unknowns
from mno.inverse.run import Run

SEVERAL = 4  # errors for each unknown, from which on a plane is put through them
_FOLDS = 5  # parts of the errors, each of which is kept from the others once


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
        if at is None or len(at) < SEVERAL * at.shape[1]:
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
            left = found[fold == held] - terms[fold == held] @ lacks
            apart = (left @ weights).square().mean(0)
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
        alone = torch.diag((1.0 / together - 1.0) * found.diagonal() + self._noise**2)
        return lacks, found + alone

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
        found = []
        for solved in self.solved(z):
            apart = (np.inf if solved is None else solved - self.observations.value) / self._noise
            found.append(-0.5 * float((apart**2).sum()))
        return np.array(found)

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
