"""The posterior of a question: by a surrogate, with its gradients, and by the solver."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mno.core.absent import Absent
from mno.core.readings import Layout
from mno.core.workers import Worker
from mno.data.parts import seen
from mno.data.reading import Split, StoredSplit
from mno.evaluation.solver import solver_of
from mno.inverse.question import Observations, Unknowns
from mno.inverse.solving import solve_all
from mno.scenarios.part import PartOfScenario
from mno.sensors.inputs import RunInputs, read_whole
from mno.surrogate.surrogate import Surrogate


class Posterior:
    """What readings say of unknowns, that are standard normal numbers a priori.

    The likelihood is normal, of independent errors of the readings.

    Args:
        surrogate: Answers what would have been read.
        given: What it is given of the run, of which unknowns take some places.
        unknowns: Made of the numbers.
        observations: What was read.
        workers: Processes that solve side by side; if none, this one solves.

    Attributes:
        solver: The scenario that solves the run, or why there is none.
    """

    def __init__(
        self,
        surrogate: Surrogate,
        given: RunInputs,
        unknowns: Unknowns,
        observations: Observations,
        workers: Sequence[Worker] = (),
    ) -> None:
        self.unknowns, self.observations, self._workers = unknowns, observations, workers
        self._surrogate, self._steps, self._origin = surrogate, given.steps, given.origin
        arrays, _ = surrogate.at_points(given.inputs, given.steps)
        self._given = {name: torch.from_numpy(array) for name, array in arrays.items()}
        self._read = torch.from_numpy(observations.value)
        self._noise = torch.from_numpy(observations.noise)
        self._bias = torch.zeros_like(self._read)
        self._root = torch.diag(self._noise)  # of the covariance of readings about predictions
        self.solver = self._solver()
        self._whole: dict[str, np.ndarray] = {}

    def predicted(self, z: Tensor) -> Tensor:
        """Return what the surrogate says would have been read, `(chains, readings)`, float64."""
        own = {name: values.float() for name, values in self.unknowns(z).items()}
        given = {n: a.expand(len(z), *a.shape[1:]) for n, a in self._given.items()}
        found = self._surrogate.answers(self._surrogate.operator, {**given, **own}, self._steps)
        return self.observations.of(found).double()

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

    def errors_on(self, split: Split | StoredSplit) -> np.ndarray:
        """Return the surrogate's errors on samples of its dataset, read as the run was."""
        description = self._surrogate.description
        whole = seen(split, description.part, description.skip)
        fields = {name: array[:] for name, array in whole.fields.items()}
        told = self._surrogate.predict(description.given(fields), steps=self._steps)
        true = description.truth(fields)
        both = ({n: torch.from_numpy(f[n]) for n in told} for f in (true, told))
        true, told = (self.observations.of(fields).double().numpy() for fields in both)
        return (true - told)[np.isfinite(true).all(axis=1)]

    def errors_at(self, z: Tensor) -> np.ndarray:
        """Return the surrogate's errors at some numbers, by the solver where it does not refuse."""
        found = zip(z, self.solved(z.numpy()), strict=True)
        kept = [(one, solved) for one, solved in found if solved is not None]
        if not kept:
            return np.empty((0, len(self._read)))
        with torch.no_grad():
            predicted = self.predicted(torch.stack([one for one, _ in kept])).numpy()
        return np.stack([solved for _, solved in kept]) - predicted

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
        runs = []
        for one in torch.from_numpy(z):
            own = self.unknowns(one[None]).items()
            runs.append({**self._run(), **{n: v[0].numpy().astype(np.float32) for n, v in own}})
        return [
            self.observations.of(self._later(found)).double()[0].numpy() if found else None
            for found in solve_all(self.solver, runs, self._workers)
        ]

    def _solver(self) -> Any:
        if self._origin is None:
            return Absent("solver.run_not_recorded", {"run": "the run"})
        schema, part = self._origin.schema, self._surrogate.description.part
        layout = Layout(part, schema.fields, schema.axes)
        if layout.changes:
            schema = replace(schema, fields=layout.fields, axes=layout.axes, part=part)
        return solver_of(schema)

    def _run(self) -> dict[str, np.ndarray]:
        """Return what the solver is given of the run, as it takes it."""
        if not self._whole:
            assert self._origin is not None
            self._whole = read_whole(self._origin)
            if isinstance(self.solver, PartOfScenario):
                self._whole = self.solver.layout.of(self._whole, stacked=False)
        return self._whole

    def _later(self, solved: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
        """Return what the surrogate predicts of what was solved, `(1, *dims)` by name."""
        description = self._surrogate.description
        found = {name: torch.from_numpy(solved[name])[None] for name in description.outputs}
        forecast = description.forecast
        if forecast:
            steps = self._steps or forecast.steps
            for name in description.states:
                frames = slice(forecast.history, forecast.history + steps)
                found[name] = found[name][:, frames]
        return found


def _normal(apart: Tensor) -> Tensor:
    """Return the logarithm of a standard normal density of columns, up to a constant."""
    return -0.5 * (apart**2).sum(0)
