"""The vorticity of a plane flow on the unit torus in time: ETDRK4, products without aliasing.

    omega_t + v . grad omega = nu Laplacian omega + f
    v = (psi_y, -psi_x),   -Laplacian psi = omega

In coefficients, with `k = (k_x, k_y)`, the velocity as one complex function `z = v_x + i v_y` is
`z_k = omega_k (k_x + i k_y) / (2 pi |k|^2)`. The nonlinear term is minus the curl of the divergence
of `v v`: `4 pi^2` times `k_x^2 - k_y^2` by the coefficients of `v_x v_y`, minus `k_x k_y` by those
of `v_x^2 - v_y^2`. Both are in those of `z^2` (`mno.scenarios.kernels.transforms`). A mean of
the vorticity, which no flow on a torus has, is kept and moves nothing.

Glossary
    omega       rows of coefficients with `k_y` from 0 on, shape `(waves, chunks, 2, 8)`: wave of
                `x` from `-cutoff` on, chunk of waves of `y`, real or imaginary parts, wave in it
    z           rows of these waves, then of their opposites, `(waves, 2 chunks, 2, 8)`
    fixed       for each row of `omega`: two vectors of `(k_x + i k_y) / (2 pi |k|^2)`, two of what
                the coefficients of products are multiplied by, two of the forcing
    weights     for each row of `omega`: six vectors, `mno.scenarios.kernels.runge_kutta.etdrk4`
"""

import math

import numpy as np

from mno.core.compiled import compiled, inlined, named
from mno.core.errors import MnoError
from mno.core.vectors import Address
from mno.scenarios.kernels.runge_kutta import etdrk4
from mno.scenarios.kernels.transforms import square_on_torus, torus_points, torus_square
from mno.scenarios.kernels.vectors import HALF, LANES, ROW, Row, emitted, load, store

STEP = 1.5  # length of a step times the rate at which the fastest speed turns the shortest wave
LIMIT = 2.0  # where the flow has become so fast that steps are this long, they are done again
LEG = 1.0  # time after which steps are chosen anew, at most
ATTEMPTS = 8
SIX = 6 * HALF  # bytes of six vectors
_WHOLE, _HALF, _Q, _FIRST, _MIDDLE, _LAST = range(0, SIX, HALF)


def _spread(omega: Row, fixed: Address, z: Address, opposite: Address) -> None:
    """Store the velocity of a row and of its opposite."""
    turn = load(fixed)
    store(turn * omega, z)
    store((turn * omega.conjugate_if(True)).times(-1.0), opposite)


def _term(fixed: Address, squared: Address, opposite: Address) -> Row:
    """Return the nonlinear term and the forcing of a row, from the square of the velocity."""
    up, down, (first, second) = load(squared), load(opposite), load(fixed, 1)
    swapped = Row(up.im + down.im, down.re - up.re)
    straight = Row(up.re + down.re, up.im - down.im)
    return swapped.times(first) + straight.times(second) + load(fixed, 2)


@emitted
def _begin(omega: Address, fixed: Address, z: Address, z_opposite: Address) -> None:
    _spread(load(omega), fixed, z, z_opposite)


def _stage(kind):
    """Return a function that does a stage of ETDRK4 with all rows: `a`, `b`, `c`, or the `end`."""

    @emitted
    def stage(  # type: ignore[no-untyped-def]
        omega, fixed, weights, squared, squared_opposite, z, z_opposite, here, before, total
    ):
        def weighted(row: Row, weight: int) -> Row:
            return row.times(weights.load(weight))

        term = _term(fixed, squared, squared_opposite)
        if kind in "ab":
            now = load(omega)
            state = weighted(now, _HALF) + weighted(term, _Q)
        if kind == "a":
            store(state, here)
            store(term, before)
            store(weighted(now, _WHOLE) + weighted(term, _FIRST), total)
        if kind == "c":
            change = term + term - load(before)
            state = weighted(load(here), _HALF) + weighted(change, _Q)
        if kind in "bc":
            store(load(total) + weighted(term, _MIDDLE), total)
        if kind == "end":
            state = load(total) + weighted(term, _LAST)
            store(state, omega)
        _spread(state, fixed, z, z_opposite)

    def over_rows(omega, fixed, weights, squared, z, here, before, total):
        waves, chunks = omega.shape[0], omega.shape[1]
        for wave in range(waves):
            for chunk in range(chunks):
                row = wave * chunks + chunk
                up = ROW * (2 * wave * chunks + chunk)
                down = ROW * ((2 * (waves - 1 - wave) + 1) * chunks + chunk)
                stage(
                    omega.ctypes.data + ROW * row,
                    fixed.ctypes.data + SIX * row,
                    weights.ctypes.data + SIX * row,
                    squared.ctypes.data + up,
                    squared.ctypes.data + down,
                    z.ctypes.data + up,
                    z.ctypes.data + down,
                    here.ctypes.data + ROW * row,
                    before.ctypes.data + ROW * row,
                    total.ctypes.data + ROW * row,
                )

    return inlined(named(over_rows, f"stage_{kind}"))


_stage_a, _stage_b, _stage_c, _stage_end = (_stage(kind) for kind in ("a", "b", "c", "end"))


@compiled
def advance(omega, fixed, weights, steps, squaring, work, velocities):
    """Take steps of ETDRK4, in place.

    `squaring` is what `torus_square` makes; `work` are three arrays like `omega`, `velocities` two
    like `z`. Returns the square of the largest speed at the beginning of any step and at the end.
    """
    here, before, total = work
    z, squared = velocities
    waves, chunks = omega.shape[0], omega.shape[1]
    for wave in range(waves):
        for chunk in range(chunks):
            row = wave * chunks + chunk
            _begin(
                omega.ctypes.data + ROW * row,
                fixed.ctypes.data + SIX * row,
                z.ctypes.data + ROW * (2 * wave * chunks + chunk),
                z.ctypes.data + ROW * ((2 * (waves - 1 - wave) + 1) * chunks + chunk),
            )
    fastest = square_on_torus(z, squaring, squared)
    for _ in range(steps):
        _stage_a(omega, fixed, weights, squared, z, here, before, total)
        square_on_torus(z, squaring, squared)
        _stage_b(omega, fixed, weights, squared, z, here, before, total)
        square_on_torus(z, squaring, squared)
        _stage_c(omega, fixed, weights, squared, z, here, before, total)
        square_on_torus(z, squaring, squared)
        _stage_end(omega, fixed, weights, squared, z, here, before, total)
        fastest = max(fastest, square_on_torus(z, squaring, squared))
    return fastest


class VorticityFlow:
    """Flows of one viscosity and forcing, for one thread.

    Waves reach up to a cutoff along either axis, at least 1. The forcing is given by coefficients
    of `f` with `k_x` from `-cutoff` and `k_y` from 0 to `cutoff`. Products are taken on `points`
    along each axis; the fewest that are enough if not given.
    """

    def __init__(
        self, cutoff: int, viscosity: float, forcing: np.ndarray, points: int | None = None
    ) -> None:
        self.cutoff, self.viscosity = cutoff, viscosity
        points = points or torus_points(cutoff)
        shape, self._squaring = torus_square(cutoff, points)
        chunks = shape[1] // 2
        x = np.arange(-cutoff, cutoff + 1.0)[:, None]
        y = np.arange(LANES * chunks * 1.0)[None, :]
        y[y > cutoff] = 0.0
        squares = x**2 + y**2
        per = np.where(squares > 0.0, 2.0 * np.pi * squares, np.inf)
        scale = np.pi**2 / points**2
        self._squares = squares.astype(np.int64)
        fixed = np.zeros((*squares.shape, 6))
        fixed[:, :, 0], fixed[:, :, 1] = x / per, y / per
        fixed[:, :, 2], fixed[:, :, 3] = scale * (x**2 - y**2), -2.0 * scale * x * y
        fixed[:, : cutoff + 1, 4:] = np.stack([np.real(forcing), np.imag(forcing)], axis=-1)
        fixed[:, cutoff + 1 :] = 0.0
        self._fixed = self._in_vectors(fixed)
        self._work = np.zeros((3, shape[0], chunks, 2, LANES))
        self._velocities = np.zeros((2, *shape))
        self._length, self._weights = 0.0, self._fixed

    def _in_vectors(self, values: np.ndarray) -> np.ndarray:
        """Return values of shape `(waves, waves of y, kinds)` with eight waves of `y` last."""
        waves, _, kinds = values.shape
        return np.ascontiguousarray(values.reshape(waves, -1, LANES, kinds).swapaxes(2, 3))

    def rows(self, coefficients: np.ndarray) -> np.ndarray:
        """Return what `advance` takes for coefficients laid out as those of the forcing."""
        parts = [np.real(coefficients), np.imag(coefficients)]
        padded = np.zeros((*self._squares.shape, 2))
        padded[:, : self.cutoff + 1] = np.stack(parts, axis=-1)
        return self._in_vectors(padded)

    def coefficients(self, rows: np.ndarray) -> np.ndarray:
        """Return the coefficients of rows."""
        values = rows.swapaxes(2, 3).reshape(len(rows), -1, 2)
        return (values[..., 0] + 1j * values[..., 1])[:, : self.cutoff + 1]

    def integrate(self, omega: np.ndarray, duration: float, step: float = STEP) -> None:
        """Advance rows in time, in place.

        The time is divided into equal legs, and these into equal steps, as many as the speed at the
        beginning of the leg asks for. An `MnoError` says that the speed grew without bound.
        """
        legs = math.ceil(duration / LEG)
        leg, shortest = duration / legs, 2.0 * np.pi * self.cutoff
        for _ in range(legs):
            start, work = omega.copy(), leg * shortest * self.speed(omega)
            for _ in range(ATTEMPTS):
                steps = max(1, math.ceil(work / step))
                met = leg * shortest * self.take(omega, leg, steps)
                if met <= steps * step * LIMIT / STEP:
                    break
                omega[:] = start
                work = min(4.0 * max(work, step), met)  # in this order a NaN does not count
            else:
                raise MnoError(
                    f"the flow could not be followed: it grew faster in a time of {leg:.2g} than "
                    "steps were made shorter; lower forcing or vorticity_scale"
                )

    def speed(self, omega: np.ndarray) -> float:
        """Return the largest speed at the points of products."""
        return self._steps(omega, 0)

    def take(self, omega: np.ndarray, duration: float, steps: int) -> float:
        """Take equal steps, in place; return the largest speed that has been met."""
        if duration / steps != self._length:
            self._length = duration / steps
            rates = -self.viscosity * 4.0 * np.pi**2 * np.arange(2.0 * self.cutoff**2 + 1)
            table = etdrk4(rates, self._length)[:, self._squares]
            self._weights = self._in_vectors(np.moveaxis(table, 0, -1))
        return self._steps(omega, steps)

    def _steps(self, omega: np.ndarray, steps: int) -> float:
        fastest = advance(
            omega, self._fixed, self._weights, steps, self._squaring, self._work, self._velocities
        )
        return math.sqrt(fastest)


def waves_of(values: np.ndarray, cutoff: int) -> np.ndarray:
    """Return the coefficients of values at points, shape `(n, n)`, of a real function on a torus.

    They have shape `(2 cutoff + 1, cutoff + 1)`: `k_x` from `-cutoff` on, `k_y` from 0 on.
    Those that the points do not hold, and those of two points, are zero.
    """
    n = len(values)
    held = min(cutoff, (n - 1) // 2)
    coefficients = np.zeros((2 * cutoff + 1, cutoff + 1), np.complex128)
    found = np.fft.rfft2(values)[np.arange(-held, held + 1), : held + 1] / n**2
    coefficients[cutoff - held : cutoff + held + 1, : held + 1] = found
    return coefficients


def values_of(coefficients: np.ndarray, points: int, finer: int = 1) -> np.ndarray:
    """Return the values of coefficients at points, or at some times as many."""
    cutoff = coefficients.shape[1] - 1
    skip = -(-(2 * cutoff + 1) // (points * finer))
    n = points * finer * skip
    spectrum = np.zeros((n, n // 2 + 1), np.complex128)
    spectrum[np.arange(-cutoff, cutoff + 1), : cutoff + 1] = coefficients
    return n**2 * np.fft.irfft2(spectrum, (n, n))[::skip, ::skip]


_CIRCLE = np.exp(2j * np.pi * (np.arange(32) + 0.5) / 32)


class PlainFlow:
    """Flows of one viscosity and forcing by numpy alone: the method stated a second time.

    The nonlinear term is `-v . grad omega`, as it stands, and the coefficients of ETDRK4 are
    contour integrals (Kassam and Trefethen 2005, doi:10.1137/S1064827502410633). Points along each
    axis are more than three times the cutoff; `forcing` has the values of `f` at them.
    """

    def __init__(self, cutoff: int, points: int, viscosity: float, forcing: np.ndarray) -> None:
        x = np.fft.fftfreq(points, 1.0 / points)[:, None]
        y = np.fft.rfftfreq(points, 1.0 / points)[None, :]
        self._kept = (np.abs(x) <= cutoff) & (np.abs(y) <= cutoff)
        self._squares = np.where(self._kept, x**2 + y**2, 0.0).astype(np.int64)
        self._slopes = 2j * np.pi * x, 2j * np.pi * y
        self._inverse = 1.0 / (4.0 * np.pi**2 * np.maximum(self._squares, 1))
        self._forcing = np.where(self._kept, np.fft.rfft2(forcing), 0.0)
        self._shortest, self._points = 2.0 * np.pi * cutoff, points
        self._viscosity = viscosity

    def integrate(self, vorticity: np.ndarray, duration: float) -> np.ndarray:
        """Return the vorticity after some time, values at the points."""
        omega = np.where(self._kept, np.fft.rfft2(vorticity), 0.0)
        legs = math.ceil(duration / LEG)
        leg = duration / legs
        for _ in range(legs):
            work, met = leg * self._shortest * self._term(omega)[1], math.inf
            after, steps = omega, 0
            while met > steps * LIMIT:
                steps = max(1, math.ceil(work / STEP))
                after, speed = self._steps(omega, leg, steps)
                met = leg * self._shortest * speed
                work = min(4.0 * max(work, STEP), met)
            omega = after
        return np.fft.irfft2(omega, (self._points, self._points))

    def _term(self, omega: np.ndarray) -> tuple[np.ndarray, float]:
        """Return the nonlinear term with the forcing, and the largest speed."""
        along_x, along_y = self._slopes
        psi = omega * self._inverse
        fields = np.stack([along_y * psi, -along_x * psi, along_x * omega, along_y * omega])
        u, v, by_x, by_y = np.fft.irfft2(fields, (self._points, self._points))
        term = np.where(self._kept, np.fft.rfft2(-u * by_x - v * by_y), 0.0) + self._forcing
        return term, math.sqrt(np.max(u**2 + v**2))

    def _steps(self, w: np.ndarray, leg: float, steps: int) -> tuple[np.ndarray, float]:
        dt = leg / steps
        rates = -4.0 * np.pi**2 * self._viscosity * dt * np.arange(self._squares.max() + 1)
        z = rates[:, None] + _CIRCLE
        e = np.exp(z)
        q = (np.exp(z / 2) - 1) / z
        first = (-4 - z + e * (4 - 3 * z + z**2)) / z**3
        middle = 2 * (2 + z + e * (z - 2)) / z**3
        last = (-4 - 3 * z - z**2 + e * (4 - z)) / z**3
        contours = np.stack([q, first, middle, last]).mean(axis=2).real
        q, first, middle, last = dt * contours[:, self._squares]
        whole, half = np.exp(rates)[self._squares], np.exp(rates / 2)[self._squares]
        fastest = 0.0
        for _ in range(steps):
            n_0, speed = self._term(w)
            fastest = max(fastest, speed)
            a = half * w + q * n_0
            n_a, _ = self._term(a)
            b = half * w + q * n_a
            n_b, _ = self._term(b)
            c = half * a + q * (2 * n_b - n_0)
            n_c, _ = self._term(c)
            w = whole * w + first * n_0 + middle * (n_a + n_b) + last * n_c
        return w, max(fastest, self._term(w)[1])
