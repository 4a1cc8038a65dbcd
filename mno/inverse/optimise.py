"""The best settings of a run: searched for by a model, and believed once the solver has seen them.

An optimum of a model is where the model flatters itself most. So each candidate is solved; what the
solver says is learned, by a correction there and by a fine-tuned copy of the model, and the search
goes on, until the solver finds what the model promised.
"""

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import minimize
from scipy.stats import qmc
from torch import Tensor

from mno.core.absent import Absent
from mno.core.errors import InputError, MnoError
from mno.data.normalise import Normaliser
from mno.data.parts import seen
from mno.data.reading import Split, StoredSplit
from mno.inverse.goal import Wanted, Worth
from mno.inverse.infer import Told
from mno.surrogate.surrogate import Surrogate

PROMISE = 1e-3  # share of the objective that a further search may promise when it ends
_STARTS, _ITERATIONS = 8, 60
_RADIUS, _SHRUNK, _GROWN = 0.2, 0.5, 2.0  # of the box, in shares of what may be set
_LEAST = 0.025  # smaller ones go too short a way for one solve
_MARGIN, _WIDEST = 1e-3, 1e-2  # deviations by which bounds are to hold; more until they do
_DEAR, _DEAREST = 3.0, 1e4  # price of a deviation that is missed, in sizes of the objective
_ROWS = 12  # bounds that a search looks at: those that hold least
_BESIDE = 256  # samples of the training data beside which a model is fine-tuned
_TUNING, _BATCH, _RATE = 60, 16, 2e-3  # steps of fine-tuning, samples of each, and their size


class Tried(NamedTuple):
    """Settings that were solved."""

    x: Tensor
    solved: Worth  # infinitely bad where the solver refused a member
    given: Mapping[str, Tensor]  # inputs of members that were solved, `(members, …)` by name
    found: Mapping[str, Tensor]  # what the model predicts, by the solver, likewise


@dataclass(frozen=True, eq=False)
class Best:
    """What a search has found."""

    x: Tensor  # of the settings that hold all bounds the best, else those that violate them least
    worth: Worth  # by the solver; by the model where it was not asked
    promised: Worth  # at best, as the model says after all that it has learned
    solves: int = 0  # how often the solver was asked
    tried: Sequence[Tried] = ()  # in order; the second is as near as may be to what the run was


def optimise(
    wanted: Wanted, training: Split | StoredSplit | None, solves: int, seed: int, told: Told
) -> Best:
    """Return the best settings that hold all bounds, or else those that violate them least.

    Args:
        wanted: The goal; its run's model is not changed.
        training: Samples beside which a copy of the model is fine-tuned; none for no fine-tuning.
        solves: How often the solver may be asked; 0 leaves the model with the last word.
        seed: Of starts and batches.
        told: Called with what is done, how much of it, and of how much.

    Raises:
        InputError: There is no solver to ask, or there are too few solves for all members.
        MnoError: The solver refuses all that was tried.
    """
    whole = _Box(torch.full((wanted.count,), 0.5, dtype=torch.float64), 0.5)
    starts = torch.from_numpy(qmc.Sobol(wanted.count, rng=seed).random(_STARTS))
    told("searching", 0, 1)
    x, promised = _search(wanted, whole, [*starts], [], _DEAR, _MARGIN)
    if not solves:
        return Best(x, promised, promised)
    if isinstance(wanted.run.solver, Absent):
        raise InputError(f"--solves {solves}: {wanted.run.solver}; say --solves 0")
    rounds = solves // wanted.members
    if rounds < 2:
        raise InputError(
            f"--solves {solves}: expected 0, or at least {2 * wanted.members}, two for each member"
        )
    tried = list[Tried]()
    for own in (x, wanted.nearest()):
        told("solving", len(tried) * wanted.members, solves)
        tried.append(_try(wanted, own))
    tuner = _Tuner(wanted, training, seed) if training else None
    tuned, radius, rng = wanted, _RADIUS, torch.Generator().manual_seed(seed)
    price, margin = _DEAR, 0.5 * _MARGIN
    while True:
        middle = min(tried, key=lambda one: _merit(wanted, one.solved, price))
        best = min(tried, key=lambda one: _order(wanted, one.solved))
        if math.isinf(best.solved.violation):
            raise MnoError("the solver refuses all candidates; narrow what may be set")
        margin = min(2.0 * margin, _WIDEST) if best.solved.violation > 0 else _MARGIN
        if tuner:
            tuned = tuner.learn(tried)
        cost = float(wanted.cost(best.solved))
        box, is_more = _Box(middle.x, radius), False
        while not is_more and box:  # where nothing is promised near by, further off
            drawn = torch.rand(2, wanted.count, generator=rng, dtype=torch.float64)
            known = [middle, *(one for one in tried if one is not middle)]
            x, promised = _search(tuned, box, [middle.x, *map(box.at, drawn)], known, price, margin)
            gain = cost - float(wanted.cost(promised))
            is_more = best.solved.violation > 0 or gain > PROMISE * abs(cost)
            radius, box = box.radius, box.larger()
        if len(tried) >= rounds or not is_more:
            return Best(best.x, best.solved, promised, len(tried) * wanted.members, tried)
        told("solving", len(tried) * wanted.members, solves)
        tried.append(_try(wanted, x))
        solved, before, hoped = (
            _merit(wanted, one, price) for one in (tried[-1].solved, middle.solved, promised)
        )
        change = _SHRUNK if before - solved < 0.25 * (before - hoped) else _GROWN
        radius = max(min(radius, 0.5) * change, _LEAST)
        if promised.violation > 0:  # it pays to miss a bound: it must not
            price = min(4.0 * price, _DEAREST)


def _order(wanted: Wanted, worth: Worth) -> tuple[float, float]:
    """Return what orders worths: their violation, and where there is none their cost."""
    return worth.violation, float(wanted.cost(worth))


def _merit(wanted: Wanted, worth: Worth, price: float) -> float:
    """Return the cost, with that of what bounds miss, which may be mended where it is little."""
    return float(wanted.cost(worth)) / wanted.size + price * worth.violation


def _try(wanted: Wanted, x: Tensor) -> Tried:
    """Solve the members of some settings."""
    own = wanted.inputs(x)
    members = [{n: v[m].numpy() for n, v in own.items()} for m in range(wanted.members)]
    answers = wanted.run.solved(members)
    kept = [m for m, answer in enumerate(answers) if answer is not None]
    found = [answer for answer in answers if answer is not None]
    fields = {name: torch.cat([one[name] for one in found]) for name in (found or [{}])[0]}
    refused = Worth(torch.tensor(math.inf), torch.tensor([-math.inf]))
    solved = wanted.worth(fields) if len(kept) == wanted.members else refused
    return Tried(x, solved, {name: values[kept] for name, values in own.items()}, fields)


class _Box(NamedTuple):
    """Settings near a place: where a search may go."""

    middle: Tensor
    radius: float

    @property
    def ends(self) -> tuple[Tensor, Tensor]:
        low, high = self.middle - self.radius, self.middle + self.radius
        return low.clamp(0.0, 1.0), high.clamp(0.0, 1.0)

    def larger(self) -> "_Box | None":
        """Return one that reaches further; none where this one reaches everywhere."""
        return None if self.radius >= 1.0 else _Box(self.middle, self.radius * _GROWN**2)

    def at(self, share: Tensor) -> Tensor:
        """Return settings some share of the way from the least to the greatest."""
        low, high = self.ends
        return low + share * (high - low)


class _Corrected:
    """A model that is right where settings were solved, the first of them most of all.

    What it lacks there is a plane through the first, as near to the others as may be.

    Source:
        Echeverria and Hemker, "Manifold mapping: a two-level optimization technique",
        doi:10.1007/s00791-008-0096-y.
    """

    def __init__(self, wanted: Wanted, known: Sequence[Tried]) -> None:
        self._wanted, self._first = wanted, known[0].x
        with torch.no_grad():
            said = [wanted.predicted(one.x) for one in known]
        pairs = zip(known, said, strict=True)
        lacks = torch.stack([_flat(one.solved) - _flat(worth) for one, worth in pairs])
        steps = torch.stack([one.x for one in known]) - self._first
        near = 1.0 / (1e-3 + steps[1:].norm(dim=1, keepdim=True)) ** 2  # those near by count more
        along = near * (lacks[1:] - lacks[0])
        self._lacks, self._slopes = lacks[0], torch.linalg.pinv(near * steps[1:], rtol=0.02) @ along

    def __call__(self, x: Tensor) -> Worth:
        said = self._wanted.predicted(x)
        lacks = self._lacks + (x - self._first) @ self._slopes
        return Worth(said.objective + lacks[0], said.slack + lacks[1:])


def _flat(worth: Worth) -> Tensor:
    return torch.cat([worth.objective[None], worth.slack])


def _search(
    wanted: Wanted, box: _Box, starts: Sequence[Tensor], tried: Sequence[Tried], price: float,
    margin: float,
) -> tuple[Tensor, Worth]:  # fmt: skip
    """Return the best settings in a box by the model, and what they are worth by it.

    One more number is by how much bounds, tightened by the margin, may be missed, which costs so
    much that none is where that is possible.
    """
    known = [one for one in tried if math.isfinite(one.solved.violation)]
    model, count = _Corrected(wanted, known) if known else wanted.predicted, wanted.count
    kept: dict[bytes, tuple[Worth, np.ndarray, np.ndarray, np.ndarray]] = {}

    def look(x: np.ndarray) -> tuple[Worth, np.ndarray, np.ndarray, np.ndarray]:
        """Return worth, slope of the cost, the bounds that hold least, and their slopes."""
        place = torch.from_numpy(np.clip(x[:count], 0.0, 1.0))
        key = place.numpy().tobytes()
        if key not in kept:
            place.requires_grad_()
            worth = model(place)
            rows = worth.slack.topk(min(_ROWS, len(worth.slack)), largest=False).values
            parts = [wanted.cost(worth), *rows]
            slopes = [torch.autograd.grad(p, place, retain_graph=True)[0].numpy() for p in parts]
            done = Worth(worth.objective.detach(), worth.slack.detach())
            kept.clear()
            kept[key] = done, slopes[0], rows.detach().numpy(), np.array(slopes[1:])
        return kept[key]

    size, (low, high) = wanted.size, box.ends
    limits = [*zip(low.tolist(), high.tolist(), strict=True), (0.0, None)]

    def cost(x: np.ndarray) -> tuple[float, np.ndarray]:
        worth, slope, *_ = look(x)
        return float(wanted.cost(worth)) / size + price * x[-1], np.append(slope / size, price)

    bounds = {
        "type": "ineq", "fun": lambda x: look(x)[2] + x[-1] - margin,
        "jac": lambda x: np.column_stack([look(x)[3], np.ones(len(look(x)[2]))]),
    }  # fmt: skip
    found: list[tuple[tuple[float, float], Tensor, Worth]] = []
    for start in starts:
        missed = max(margin - look(start.numpy())[2].min(initial=margin), 0.0)
        done = minimize(
            cost, np.append(start.numpy(), missed), jac=True, bounds=limits, method="SLSQP",
            constraints=bounds if len(look(start.numpy())[2]) else (),
            options={"maxiter": _ITERATIONS, "ftol": 1e-6},
        )  # fmt: skip
        worth, x = look(done.x)[0], torch.from_numpy(done.x[:count]).clamp(low, high)
        if math.isfinite(float(worth.objective)):
            found.append((_order(wanted, worth), x, worth))
    if not found:
        raise MnoError("the model answers no number within what may be set; narrow it")
    _, x, worth = min(found, key=lambda one: one[0])
    return x, worth


class _Tuner:
    """A copy of the model that learns what was solved, beside some of what it was trained on."""

    def __init__(self, wanted: Wanted, training: Split | StoredSplit, seed: int) -> None:
        self._wanted, surrogate = wanted, wanted.run.surrogate
        description = surrogate.description
        self._rng = torch.Generator().manual_seed(seed)
        whole = seen(training, description.part)
        rows = torch.randperm(len(whole.indices), generator=self._rng)[:_BESIDE].sort().values
        fields = {name: array[rows.numpy()] for name, array in whole.fields.items()}
        given, truth = description.given(fields), description.truth(fields)
        self._old = tuple(
            {name: torch.from_numpy(np.ascontiguousarray(a)) for name, a in part.items()}
            for part in (given, truth)
        )
        self._new, self._seen = list[tuple[Mapping[str, Tensor], Mapping[str, Tensor]]](), 0
        self._surrogate = Surrogate(description, copy.deepcopy(surrogate.operator))

    def learn(self, tried: Sequence[Tried]) -> Wanted:
        """Return the same goal with a model that has learned what was tried since."""
        run = self._wanted.run
        self._new += [(run.asked(one.given), one.found) for one in tried[self._seen :] if one.found]
        self._seen = len(tried)
        if self._new:
            self._tune()
        tuned = copy.copy(self._wanted)
        tuned.run = copy.copy(run)
        tuned.run.surrogate = self._surrogate
        return tuned

    def _tune(self) -> None:
        """Fit the copy to what was solved and as many of the other samples, in turn."""
        surrogate, half = self._surrogate, _BATCH // 2
        optimizer = torch.optim.Adam(surrogate.operator.parameters(), lr=_RATE, fused=True)
        new = tuple(
            {name: torch.cat([one[part][name] for one in self._new]) for name in self._new[0][part]}
            for part in (0, 1)
        )
        counts = len(self._old[0][next(iter(new[0]))]), len(next(iter(new[0].values())))
        for _ in range(_TUNING):
            rows, more = (torch.randint(n, (half,), generator=self._rng) for n in counts)
            given, truth = (
                {name: torch.cat([old[name][rows], own[name][more]]) for name in own}
                for old, own in zip(self._old, new, strict=True)
            )
            found = surrogate.answers(surrogate.operator, given, self._wanted.run.steps)
            optimizer.zero_grad()
            _error(surrogate.description.normaliser, found, truth, given).backward()
            optimizer.step()


def _error(
    normaliser: Normaliser, found: Mapping[str, Tensor], truth: Mapping[str, Tensor],
    given: Mapping[str, Tensor],
) -> Tensor:  # fmt: skip
    """Return the mean square of what predictions differ by, in deviations, where there is truth."""
    parts = []
    for name, values in truth.items():
        apart = normaliser.encode(name, found[name], given)
        apart = apart - normaliser.encode(name, values, given)
        there = torch.isfinite(values)
        parts.append(torch.where(there, apart, 0.0).square().sum() / there.sum().clamp_min(1))
    return torch.stack(parts).mean()
