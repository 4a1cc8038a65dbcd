"""A service around a small model of Darcy flow that knows how far it may be trusted."""

from functools import cache

import numpy as np
import torch

from mno.data.normalise import Normaliser
from mno.data.reading import Schema, Split
from mno.evaluation.trust import calibrate
from mno.nn.config import ModelConfig
from mno.scenarios.base import make_scenario
from mno.serving.trial import TrialPage
from mno.surrogate.description import Description
from mno.surrogate.surrogate import Surrogate
from mno.surrogate.trust import TrustConfig
from tests.support.running_service import running

SIDE = 8
SAMPLES = 40


@cache
def solved(name, seed):
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


def untrained(normaliser, seed=0):
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
def trusted():
    train, validation = solved("train", 0), solved("validation", 1)
    surrogate = untrained(Normaliser.fit(train.fields))
    return surrogate, calibrate(surrogate, train, validation, TrustConfig(), "0" * 64, 64)


class OneVersion:
    def __init__(self, surrogate, trust, example=None):
        self._surrogate, self._trust = surrogate, trust
        self._example = {"permeability": inputs(2)} if example is None else example

    def named(self):
        return "models:/mno-darcy/3"

    def load(self, uri):
        return self._surrogate, self._example, self._trust


def inputs(samples, factor=1.0):
    return factor * solved("test", 2).fields["permeability"][:samples]


def with_page(root, limit=60.0, config=None, version=None):
    trials: list[TrialPage] = []

    def more(service, follower):
        trials.append(TrialPage(service, follower, root, limit))
        return trials[0].routes()

    version = version or OneVersion(*trusted())
    return running(version, config, more=more, at_end=lambda: trials[0].close())
