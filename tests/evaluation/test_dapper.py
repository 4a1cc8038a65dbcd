"""The filters beside DAPPER's, which others wrote and test.

It is no dependency: `pip install dapper` in an environment of its own, with this project's packages
beside it, and without the package `tests` that it brings along and that hides ours.
"""

import numpy as np
import pytest

from mno.evaluation.filters import EnsembleModel, ensemble_filter, kalman_filter
from mno.evaluation.linear_state_space import (
    Dynamics,
    Gaussian,
    LinearStateSpace,
    Sensors,
    States,
)

pytestmark = pytest.mark.slow
pytest.importorskip("dapper", reason="DAPPER is not installed; it is only compared with")


def quietly(experiment, model, states, readings):
    from dapper.tools import progressbar

    progressbar.disable_progbar = True
    experiment.assimilate(model, states, readings, liveplots=False)
    return experiment.stats


def test_the_kalman_filter_is_dappers():
    import dapper.mods as modelling
    from dapper.da_methods import ExtKF

    rng = np.random.default_rng(0)
    size, steps = 5, 30
    a = np.linalg.qr(rng.normal(size=(size, size)))[0] * 0.95
    c = rng.normal(size=(3, size))
    roots = [rng.normal(size=(n, n)) for n in (size, 3, size)]
    process, noise, first = (root @ root.T + np.eye(len(root)) for root in roots)
    hidden = modelling.HiddenMarkovModel(
        {
            "M": size, "model": lambda x, t, dt: x @ a.T, "linear": lambda x, t, dt: a,
            "noise": modelling.GaussRV(C=process),
        },
        {"M": 3, "model": lambda x: x @ c.T, "linear": lambda x: c, "noise": noise},
        modelling.Chronology(1, dko=1, K=steps),
        modelling.GaussRV(mu=np.ones(size), C=first),
    )  # fmt: skip
    states, readings = hidden.simulate()
    theirs = quietly(ExtKF(), hidden, states, readings)
    model = LinearStateSpace(
        Dynamics(a, np.empty((size, 0)), np.zeros(size), process),
        States(np.zeros(size), np.eye(size), np.eye(size), np.zeros(size)),
        Sensors(np.zeros(3), c, noise),
        Gaussian(np.ones(size), first),
    )
    # DAPPER's first frame is not read.
    unread = np.concatenate([np.full((1, 3), np.nan), np.stack(readings)])[None]
    ours = list(kalman_filter(model, unread))[1:]
    np.testing.assert_allclose([belief.mean[0] for belief in ours], theirs.mu.a, rtol=1e-8)
    spread = [np.sqrt(np.diagonal(belief.covariance[0])) for belief in ours]
    np.testing.assert_allclose(spread, theirs.spread.a, rtol=1e-8)


@pytest.mark.parametrize("members", [6, 100])
def test_an_ensemble_is_transformed_as_dappers(members):
    import dapper.mods as modelling
    from dapper.da_methods.ensemble import EnKF_analysis

    rng = np.random.default_rng(1)
    root = rng.normal(size=(8, 8))
    noise, read = root @ root.T + np.eye(8), rng.normal(size=8)
    first = rng.normal(size=(members, 20))
    theirs = EnKF_analysis(first, np.tanh(first[:, :8]), modelling.GaussRV(C=noise), read, "Sqrt")
    model = EnsembleModel(lambda x, u: x, lambda x: np.tanh(x[:, :8]), noise)
    (ours,) = ensemble_filter(model, first, read[None, None], members=members)
    by_first = [one[np.argsort(one[:, 0])] for one in (ours[0], theirs)]
    np.testing.assert_allclose(*by_first, rtol=1e-8, atol=1e-10)


def test_a_chaotic_plant_is_followed_as_well_as_by_dapper():
    """Lorenz (1996) with 40 numbers, as Sakov and Oke (2008) have it: an error of about 0.18."""
    from dapper.da_methods import EnKF
    from dapper.mods.Lorenz96 import step
    from dapper.mods.Lorenz96.sakov2008 import HMM
    from dapper.tools.seeding import set_seed

    set_seed(3)
    HMM.tseq.Ko = 600
    states, readings = HMM.simulate()
    inflation, members, settled = 1.02, 100, 200
    theirs = quietly(EnKF("Sqrt", N=members, infl=inflation), HMM, states, readings)
    dt = HMM.tseq.dt
    model = EnsembleModel(lambda x, u: step(x, 0.0, dt), lambda x: x, np.eye(40))
    first = HMM.X0.sample(members)
    unread = np.concatenate([np.full((1, 40), np.nan), np.stack(readings)])[None]
    ours = [one[0].mean(axis=0) for one in ensemble_filter(
        model, first, unread, members=members, inflation=inflation
    )]  # fmt: skip
    truth = states[1:][: len(readings)]
    errors = [
        np.sqrt(np.square(found - truth).mean(axis=1))[settled:].mean()
        for found in (np.array(ours[1:]), theirs.mu.a)
    ]
    assert errors[0] == pytest.approx(errors[1], rel=0.02)
    assert 0.1 < errors[0] < 0.25
