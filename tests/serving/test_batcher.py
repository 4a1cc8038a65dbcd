"""Requests are answered as if each were alone: together, in parts, and on several cores."""

from __future__ import annotations

import itertools
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from small_service import untrained

from mno.core.errors import InputError
from mno.data.normalise import Normaliser
from mno.serving.batcher import Batcher, BusyError
from mno.serving.model import Served
from mno.serving.protocol import PredictionRequest
from mno.surrogate.surrogate import Surrogate


def surrogate(seed: int = 0) -> Surrogate:
    names = ("permeability", "pressure")
    return untrained(Normaliser(dict.fromkeys(names, 0.0), dict.fromkeys(names, 1.0)), seed)


class Gate:
    """A model behind a gate, so that requests wait until it is opened."""

    def __init__(self, served: Served) -> None:
        self.served, self.opened, self.asked = served, threading.Event(), threading.Event()

    def __call__(self) -> Served:
        self.asked.set()
        self.opened.wait(30)
        return self.served


@pytest.fixture
def parts_of_two(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have requests of more than two samples of 8 x 8 points cut."""
    monkeypatch.setattr("mno.serving.batcher.POINTS", 2 * 8 * 8)


@pytest.fixture
def served() -> Served:
    return Served("models:/mno-darcy/1", surrogate(), {})


def fields(rng: np.random.Generator, samples: int, side: int = 8) -> np.ndarray:
    return rng.random((samples, side, side), dtype=np.float32)


def request(permeability: np.ndarray) -> PredictionRequest:
    return PredictionRequest({"permeability": permeability})


def test_waiting_requests_share_a_pass_and_get_their_own_answers(served):
    gate, sizes = Gate(served), []
    batcher = Batcher(gate, 8, 100, 2**24, sizes.append, cores=1)
    rng = np.random.default_rng(0)
    given = [fields(rng, n, side) for n, side in [(1, 8), (2, 8), (1, 12), (3, 8), (4, 8), (1, 12)]]
    first = batcher.ask(request(given[0]))
    gate.asked.wait(30)
    others = [batcher.ask(request(array)) for array in given[1:]]
    gate.opened.set()
    for array, future in zip(given, [first, *others], strict=True):
        answer = future.result(30)
        alone = served.surrogate.predict({"permeability": array})
        assert answer.served is served
        assert np.allclose(answer.predictions["pressure"], alone["pressure"], atol=1e-6)
    batcher.close()
    # 1 + 2 + 3 share a pass, 4 more would be too many; the two of another grid share one, too.
    assert sizes == [6, 2, 4]


def test_a_bad_request_spoils_none_of_those_that_wait_with_it(served):
    gate = Gate(served)
    batcher = Batcher(gate, 8, 100, 2**24, cores=1)
    rng = np.random.default_rng(1)
    first = batcher.ask(request(fields(rng, 1)))
    gate.asked.wait(30)
    bad = fields(rng, 1)
    bad[0, 3, 3] = np.nan
    good = batcher.ask(request(fields(rng, 1)))
    spoiled = batcher.ask(request(bad))
    gate.opened.set()
    assert np.isfinite(good.result(30).predictions["pressure"]).all()
    assert first.result(30)
    with pytest.raises(InputError, match="missing"):
        spoiled.result(30)
    batcher.close()


def test_too_many_are_turned_away_and_those_who_left_cost_nothing(served):
    gate, sizes = Gate(served), []
    batcher = Batcher(gate, 8, 2, 2**24, sizes.append, cores=1)
    asked = request(fields(np.random.default_rng(2), 1))
    first = batcher.ask(asked)
    gate.asked.wait(30)
    gone, stays = batcher.ask(asked), batcher.ask(asked)
    with pytest.raises(BusyError):
        batcher.ask(asked)
    assert batcher.waiting == 2
    assert gone.cancel()
    gate.opened.set()
    assert first.result(30) and stays.result(30)
    batcher.close()
    assert sizes == [2]


def test_closing_answers_what_waits(served):
    batcher = Batcher(lambda: served, 8, 100, 2**24)
    asked = request(fields(np.random.default_rng(3), 1))
    futures = [batcher.ask(asked) for _ in range(20)]
    batcher.close()
    assert all(future.done() for future in futures)


def test_a_large_request_is_answered_in_parts_by_all_cores(served, parts_of_two):
    sizes = []
    batcher = Batcher(lambda: served, 8, 100, 2**24, sizes.append, cores=2)
    given = {"permeability": fields(np.random.default_rng(4), 7)}
    answer = batcher.ask(PredictionRequest(given)).result(30)
    batcher.close()
    assert sorted(sizes) == [1, 2, 2, 2]
    whole = served.surrogate.predict(given)
    assert np.allclose(answer.predictions["pressure"], whole["pressure"], atol=1e-6)


def test_a_large_request_does_not_hold_up_small_ones(served, parts_of_two):
    begun, go_on = threading.Event(), threading.Event()
    passes = []

    def told(samples: int) -> None:
        passes.append(samples)
        begun.set()
        go_on.wait(30)

    batcher = Batcher(lambda: served, 8, 100, 2**24, told, cores=1)
    rng = np.random.default_rng(5)
    large = batcher.ask(request(fields(rng, 12)))
    begun.wait(30)  # its first part is at work, the others are cut
    small = [batcher.ask(request(fields(rng, 1, side))) for side in (6, 7)]
    go_on.set()
    batcher.close()
    assert passes == [2, 2, 1, 2, 1, 2, 2, 2]  # they take turns
    assert large.result().predictions["pressure"].shape == (12, 8, 8)
    assert [f.result().predictions["pressure"].shape[1] for f in small] == [6, 7]


def test_a_part_that_fails_fails_its_request_alone(served, parts_of_two):
    batcher = Batcher(lambda: served, 8, 100, 2**24, cores=2)
    rng = np.random.default_rng(6)
    bad = fields(rng, 9)
    bad[5, 3, 3] = np.nan
    spoiled = batcher.ask(request(bad))
    good = [batcher.ask(request(fields(rng, 1))) for _ in range(5)]
    with pytest.raises(InputError, match="missing"):
        spoiled.result(30)
    assert all(np.isfinite(each.result(30).predictions["pressure"]).all() for each in good)
    batcher.close()


def test_an_answer_comes_from_one_model_though_another_takes_over(parts_of_two):
    versions = [Served(f"models:/mno-darcy/{seed}", surrogate(seed), {}) for seed in (1, 2)]
    another = itertools.cycle(versions)  # each time that it is asked for
    batcher = Batcher(lambda: next(another), 8, 100, 2**24, cores=2)
    rng, answers = np.random.default_rng(7), []
    for _ in range(10):
        given = {"permeability": fields(rng, 4)}
        answers.append((given, batcher.ask(PredictionRequest(given))))
    for given, future in answers:
        answer = future.result(30)
        whole = answer.served.surrogate.predict(given)
        assert np.allclose(answer.predictions["pressure"], whole["pressure"], atol=1e-6)
    batcher.close()
    assert {future.result().served.name for _, future in answers} == {"mno-darcy/1", "mno-darcy/2"}


def test_many_clients_of_different_grids_get_their_own_answers(served):
    batcher = Batcher(lambda: served, 8, 100, 2**24, cores=3)

    def client(seed: int) -> None:
        rng = np.random.default_rng(seed)
        for _ in range(8):
            given = {"permeability": fields(rng, int(rng.integers(1, 20)), int(rng.integers(6, 9)))}
            answer = batcher.ask(PredictionRequest(given)).result(60)
            alone = served.surrogate.predict(given)
            assert np.allclose(answer.predictions["pressure"], alone["pressure"], atol=1e-6)

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(client, range(12)))
    batcher.close()
