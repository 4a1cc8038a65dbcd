"""Two reacting and diffusing species on a square in time, by a Runge-Kutta method of fourth order.

    u_t = D_u Laplacian u + u - u^3 - k - v        v_t = D_v Laplacian v + u - v

Glossary
    u, v            activator and inhibitor
    mobility_u      D_u / h^2, in one over the unit of time
    now, here       the state at the beginning of a step, and that of the current stage
    following       the state of the stage after
    kept            the state of the second stage; those of the others lie behind it
    numbers         D_u / h^2, D_v / h^2, k; `AHEAD` times the length of a step; `SHARES`

A row holds `row_width(n)` numbers of u, then as many of v: eight before the first cell, the last of
them its ghost; the cells; a ghost, and what fills up whole vectors. Ghosts hold their neighbour's
value, and the first and last rows are their own neighbours, so that nothing passes through the
wall. What lies beyond the second ghost is computed as if it were cells, between the ghost and zero.
So it stays finite, and no cell reads it.

LLVM does not vectorise a stage as one loop, since it cannot tell so many arrays apart, and several
loops are bound by loads and stores. So functions emit instructions, as in
`mno.scenarios.kernels.vectors`: eight cells of both species at a time. The two neighbours along an
axis are added first, then the two sums: so the scheme has all symmetries of the square to the last
bit. Nothing is reordered or contracted.

A step goes down the rows once: while the first stage is at a row, the second is at the row above,
and so on. So of each stage a few rows are kept rather than all, and these stay in the processor's
cache.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from numba.core import cgutils

from mno.core.compiled import compiled, inlined
from mno.core.vectors import INDEX, Address
from mno.scenarios.kernels.runge_kutta import ADVANCES, SHARES, STABLE, WEIGHTS
from mno.scenarios.kernels.vectors import HALF, LANES, Vector, beyond, emitted


@inlined
def row_width(n):
    """Return how many numbers a row of `n` cells takes for one species."""
    return (n + LANES - 1) // LANES * LANES + 2 * LANES


def _repeated(address: Address, count: int) -> list[Vector]:
    return [address.load_everywhere(8 * number) for number in range(count)]


class _Species:
    """Eight cells of one species, that many bytes beyond the address of a row."""

    def __init__(self, beyond: Address) -> None:
        self._beyond = beyond

    def at(self, row: Address) -> Address:
        """Return the address of the cells in a row."""
        return row.moved(self._beyond)

    def load(self, row: Address) -> Vector:
        """Load the cells of a row."""
        return self.at(row).load()

    def curvature(self, here: Address, up: Address, down: Address) -> Vector:
        """Return the Laplacian times the square of a cell's width."""
        cells, address = self.load(here), self.at(here)
        # A shuffle of whole vectors takes less time than one that straddles two cache lines.
        left = address.load(-HALF).followed_by(cells, range(LANES - 1, 2 * LANES - 1))
        right = cells.followed_by(address.load(HALF), range(1, LANES + 1))
        around = (self.load(up) + self.load(down)) + (left + right)
        return around - cells.constant(4.0) * cells


@contextmanager
def _along(vectors: Address, to_v: Address) -> Iterator[tuple[_Species, _Species]]:
    """Emit what is done with either species, eight cells after eight."""
    builder = vectors.builder
    with cgutils.for_range(builder, vectors.value) as loop:
        further = Address(builder, builder.mul(loop.index, INDEX(HALF)), Vector)
        yield _Species(further), _Species(further.moved(to_v))


def _rates(
    of_u: _Species, of_v: _Species, here: Address, up: Address, down: Address,
    numbers: Sequence[Vector],
) -> tuple[Vector, Vector]:  # fmt: skip
    mobility_u, mobility_v, offset = numbers
    u, v = of_u.load(here), of_v.load(here)
    spread_u = mobility_u * of_u.curvature(here, up, down)
    spread_v = mobility_v * of_v.curvature(here, up, down)
    return spread_u + (u - u * u * u - offset - v), spread_v + (u - v)


@emitted
def stage_between(here, up, down, now, following, to_v, vectors, numbers, advance):  # type: ignore[no-untyped-def]
    """Set a row of the next stage, `following = now + advance * rate(here)`.

    Rows are addresses of their first cells of u; those of v are `to_v` bytes further.
    """
    fixed, length = _repeated(numbers, 3), advance.load_everywhere()
    with _along(vectors, to_v) as both:
        for species, rate in zip(both, _rates(*both, here, up, down, fixed), strict=True):
            species.at(following).store(species.load(now) + length * rate)


@emitted
def stage_last(here, up, down, now, kept, distance, to_v, vectors, numbers, weight, shares):  # type: ignore[no-untyped-def]
    """Set a row of the state at the end of the step, `now`.

    It is the sum of `SHARES` of the states of all stages, and of `weight * rate(here)`. The state
    of the second stage is at `kept`, that of the third `distance` bytes further, and so on.
    """
    fixed, length = _repeated(numbers, 3), weight.load_everywhere()
    first, *others = _repeated(shares, len(SHARES))
    rows = [beyond(kept, distance, k) for k in range(len(others))]
    with _along(vectors, to_v) as both:
        for species, rate in zip(both, _rates(*both, here, up, down, fixed), strict=True):
            total = first * species.load(now)
            for share, row in zip(others, rows, strict=True):
                total = total + share * species.load(row)
            species.at(now).store(total + length * rate)


@emitted
def extremes(here, up, down, to_v, vectors, cells, largest):  # type: ignore[no-untyped-def]
    """Raise four vectors to the absolute values in a row: of u and its curvature, then of v.

    At `cells` are as many numbers as in a row: one for a cell, and zero beyond the last.
    """
    builder = here.builder
    slots = [cgutils.alloca_once(builder, Vector.llvm_type()) for _ in range(4)]
    for k, slot in enumerate(slots):
        builder.store(largest.load(HALF * k).value, slot)
    with _along(vectors, to_v) as both:
        counts = both[0].load(cells)
        for k, species in enumerate(both):
            values = species.load(here), species.curvature(here, up, down)
            for slot, value in zip(slots[2 * k :], values, strict=False):
                counted, most = value * counts, Vector(builder, builder.load(slot))
                builder.store(most.at_most(counted).at_most(-counted).value, slot)
    for k, slot in enumerate(slots):
        largest.store(Vector(builder, builder.load(slot)), HALF * k)


ACCURATE = 0.4  # length of a step times the rate that the state has
STAGES = len(WEIGHTS)
RING = 8  # rows that are kept of a stage, at least as many as there are stages
AHEAD = (*ADVANCES, WEIGHTS[-1])  # of a step, what the rate of each stage is multiplied by
FIRST_AHEAD, FIRST_SHARE = 3, 3 + STAGES  # places among `numbers`


@inlined
def _mirror(memory, row, n):
    """Let the ghosts of a row hold the values next to the wall."""
    for first in (row, row + row_width(n)):
        memory[first - 1] = memory[first]
        memory[first + n] = memory[first + n - 1]


@inlined
def _step(memory, first, n, numbers):
    """Take a step. Rows are given by where in memory their first cell of u is."""
    width, vectors = row_width(n), (n + LANES - 1) // LANES
    size, data = 2 * width, memory.ctypes.data
    table, stage_size = numbers.ctypes.data, RING * size
    for turn in range(n + STAGES - 1):
        for stage in range(max(0, turn - n + 1), min(STAGES, turn + 1)):
            row = turn - stage
            above, below = max(row - 1, 0), min(row + 1, n - 1)
            now, kept = first + row * size, first + (n + row % RING) * size
            if stage == 0:
                here, up, down = now, first + above * size, first + below * size
            else:
                ring = first + n * size + (stage - 1) * stage_size
                here, up = ring + row % RING * size, ring + above % RING * size
                down = ring + below % RING * size
            here, up, down = data + 8 * here, data + 8 * up, data + 8 * down
            ahead = table + 8 * (FIRST_AHEAD + stage)
            if stage < STAGES - 1:
                following = kept + stage * stage_size
                stage_between(
                    here, up, down, data + 8 * now, data + 8 * following, 8 * width, vectors,
                    table, ahead,
                )  # fmt: skip
                _mirror(memory, following, n)
            else:  # no stage reads this row of the old state any more
                stage_last(
                    here, up, down, data + 8 * now, data + 8 * kept, 8 * stage_size, 8 * width,
                    vectors, table, ahead, table + 8 * FIRST_SHARE,
                )  # fmt: skip
                _mirror(memory, now, n)


@inlined
def _steps(memory, first, n, mobility_u, mobility_v, interval, fineness, cells, largest):
    """Return the number of steps in an interval that begins with this state."""
    width, vectors, data = row_width(n), (n + LANES - 1) // LANES, memory.ctypes.data
    size = 2 * width
    largest[:] = 0.0
    for row in range(n):
        up, down = first + max(row - 1, 0) * size, first + min(row + 1, n - 1) * size
        extremes(
            data + 8 * (first + row * size), data + 8 * up, data + 8 * down, 8 * width, vectors,
            cells.ctypes.data, largest.ctypes.data,
        )  # fmt: skip
    u_max, u_curved, v_max, v_curved = [vector.max() for vector in largest]
    reaction = 3.0 * u_max**2 + 2.0
    possible = max(8.0 * mobility_u + reaction, 8.0 * mobility_v + 2.0)
    actual = reaction
    if u_max > 0.0:
        actual = max(actual, mobility_u * u_curved / u_max + reaction)
    if v_max > 0.0:
        actual = max(actual, mobility_v * v_curved / v_max + reaction)
    rate = max(possible / STABLE, actual / ACCURATE)
    return max(1, int(np.ceil(fineness * interval * rate)))


@inlined
def _keep(memory, first, n, frame):
    """Store a frame and go on from it as it is stored, so that each interval can be checked."""
    size = 2 * row_width(n)
    for i in range(n):
        row, stored = memory[first + i * size : first + i * size + n], frame[i]
        for j in range(n):
            stored[j] = row[j]
        for j in range(n):
            row[j] = stored[j]


@compiled
def solve_reaction_diffusion(
    activator, inhibitor, mobility_u, mobility_v, offset, interval, fineness, frames_u, frames_v
):
    """Integrate from an initial state, five-point finite volumes without flux through the wall.

    Between two frames all steps are equal. With a fineness of one there are as many as keep a step
    times the largest rate of the linearised equations below 9.6, which is stable, and a step times
    the rate at which the first of the two frames does change below 0.4. The former is, by
    Gershgorin, the larger of `8 D_u / h^2 + 3 max u^2 + 2` and `8 D_v / h^2 + 2`, the latter
    `max |D Laplacian w| / max |w| + 3 max u^2 + 2`. So a state with short waves is followed while
    they decay, and a smooth one in steps as long as can be.

    Args:
        activator: Cell values of `u` at the beginning, finite, float64, C order, shape `(n, n)`.
        inhibitor: The same of `v`.
        mobility_u: `D_u / h^2`, in one over the unit of time.
        mobility_v: `D_v / h^2`.
        offset: `k`.
        interval: Time between two frames.
        fineness: Factor by which steps are shorter than that; 1, or more.
        frames_u: Takes `u` at all frames from the initial state on; float32 or float64, shape
            `(frames, n, n)`.
        frames_v: The same of `v`.
    """
    n, width = len(activator), row_width(len(activator))
    memory = np.zeros((n + RING * (STAGES - 1)) * 2 * width + LANES)
    first = LANES + -(memory.ctypes.data // 8) % LANES  # the processor prefers whole vectors
    cells, largest = np.zeros(width), np.zeros((4, LANES))
    cells[:n] = 1.0
    numbers = np.array((mobility_u, mobility_v, offset, *AHEAD, *SHARES))
    for i in range(n):
        row = first + 2 * width * i
        memory[row : row + n] = activator[i]
        memory[row + width : row + width + n] = inhibitor[i]
    for frame in range(len(frames_u)):
        if frame > 0:
            steps = _steps(
                memory, first, n, mobility_u, mobility_v, interval, fineness, cells, largest
            )
            dt = interval / steps
            for stage in range(STAGES):
                numbers[FIRST_AHEAD + stage] = dt * AHEAD[stage]
            for _ in range(steps):
                _step(memory, first, n, numbers)
        _keep(memory, first, n, frames_u[frame])
        _keep(memory, first + width, n, frames_v[frame])
        for i in range(n):
            _mirror(memory, first + 2 * width * i, n)
