"""A service around a small model of Darcy flow that knows how far it may be trusted."""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import cache
from pathlib import Path

import numpy as np
import torch
from starlette.routing import Route

from mno.core.absent import Absent
from mno.data.normalise import Normaliser
from mno.data.reading import Schema, Split
from mno.evaluation.trust import calibrate
from mno.nn.config import ModelConfig
from mno.scenarios.base import make_scenario
from mno.serving.app import Service, ServingConfig
from mno.serving.model import Follower
from mno.serving.trial import TrialPage
from mno.surrogate.description import Description
from mno.surrogate.surrogate import Surrogate
from mno.surrogate.trust.config import TrustConfig
from mno.surrogate.trust.trust import Trust
from tests.support.running_service import Running, running

SIDE = 8
SAMPLES = 40


@cache
def solved(name: str, seed: int) -> Split:
    """Return solved samples of Darcy flow."""
    solver = make_scenario("darcy", SIDE, {})
    rows = []
    for number in range(SAMPLES):
        drawn = solver.sample(np.random.default_rng([seed, number]))
        rows.append({**drawn, **solver.solve(drawn)})
    fields = {field.name: np.stack([row[field.name] for row in rows]) for field in solver.fields}
    parameters = type(solver).Parameters().model_dump()
    schema = Schema(
        "darcy", solver.fields, solver.axes, solver.symmetries, parameters, resolution=SIDE
    )
    return Split(name, schema, fields, np.arange(SAMPLES))


def untrained(normaliser: Normaliser, seed: int = 0) -> Surrogate:
    """Return a model of Darcy flow with the weights it begins with."""
    torch.manual_seed(seed)
    description = Description(
        scenario="darcy",
        inputs={"permeability": "1"},
        outputs={"pressure": "1"},
        extent=(1.0, 1.0),
        reference_spacing=(1 / SIDE, 1 / SIDE),
        normaliser=normaliser,
        model=ModelConfig(width=8, layers=1, d_state=2, expand=1),
    )
    return Surrogate(description, description.build())


@cache
def trusted() -> tuple[Surrogate, Trust]:
    """Return such a model, and what its predictions are judged by."""
    train, validation = solved("train", 0), solved("validation", 1)
    surrogate = untrained(Normaliser.fit(train.fields))
    trust = calibrate(surrogate, train, validation, TrustConfig(), "0" * 64, 64)
    return surrogate, trust


class OneVersion:
    """A registry of one version."""

    def __init__(
        self,
        surrogate: Surrogate,
        trust: Trust | Absent,
        example: dict[str, np.ndarray] | None = None,
    ) -> None:
        self._surrogate, self._trust = surrogate, trust
        self._example = {"permeability": inputs(2)} if example is None else example

    def named(self) -> str:
        return "models:/mno-darcy/3"

    def load(self, uri: str) -> tuple[Surrogate, dict[str, np.ndarray], Trust | Absent]:
        return self._surrogate, self._example, self._trust


def inputs(samples: int, factor: float = 1.0) -> np.ndarray:
    """Return permeabilities like those of the training data, times a factor."""
    return factor * solved("test", 2).fields["permeability"][:samples]


def with_page(
    root: Path, limit: float = 60.0, config: ServingConfig | None = None
) -> AbstractContextManager[Running]:
    """Serve with the page for trying the model, in a workspace."""
    trials: list[TrialPage] = []

    def more(service: Service, follower: Follower) -> list[Route]:
        trials.append(TrialPage(service, follower, root, limit))
        return trials[0].routes()

    return running(OneVersion(*trusted()), config, more=more, at_end=lambda: trials[0].close())
