"""Exponential, softplus and their relatives on vectors, by polynomials.

A NaN passes through all of them. Polynomials are Chebyshev fits; their errors, relative to the
function's value, are below 5e-7.
"""

from __future__ import annotations

from numba.core import types

from mno.scan.cpu.vectors import AVX512, VECTOR, Lanes, emitted

LOG2E = 1.4426950408889634
# (2**r - 1) / r on [-1/2, 1/2], highest power first.
EXP2_COEFFICIENTS = (0.00133908674, 0.00966637369, 0.055503571, 0.240223489, 0.693147188)
# log(1 + e) / e on [0, 1], highest power first.
LOG1P_COEFFICIENTS = (0.0052534578, -0.0295885074, 0.078361668, -0.136747697, 0.191114311)
LOG1P_COEFFICIENTS += (-0.248443699, 0.333192713, -0.499995015, 0.999999971)
# d/dz (exp(z) - 1) / z for |z| <= log(2) / 2: the Taylor series, highest power first.
PHI_SLOPE_COEFFICIENTS = (1 / 5760, 1 / 840, 1 / 144, 1 / 30, 1 / 8, 1 / 3, 1 / 2)
# Adding it rounds to an integer, which is then in the low bits of the sum.
_ROUNDING = 12582912.0
_LOWEST, _HIGHEST = -126.0, 127.0


def polynomial(x: Lanes, coefficients: tuple[float, ...]) -> Lanes:
    """Evaluate a polynomial, highest power first."""
    value = x.constant(coefficients[0])
    for coefficient in coefficients[1:]:
        value = value * x + coefficient
    return value


def exp2(x: Lanes) -> Lanes:
    """Return 2**x."""
    return exp2_in_parts(x)[0]


def exp2_in_parts(x: Lanes) -> tuple[Lanes, Lanes, Lanes]:
    """Return 2**x, the integer nearest to x, and (2**r - 1) / r, r being x minus that integer."""
    if AVX512:
        whole = x.rounded()
        r = x - whole
        slope = polynomial(r, EXP2_COEFFICIENTS)
        return (slope * r + 1.0).scaled(whole), whole, slope
    x = x.where(">", _LOWEST, _LOWEST).where("<", _HIGHEST, _HIGHEST)
    shifted = x + _ROUNDING
    whole = shifted - _ROUNDING
    r = x - whole
    slope = polynomial(r, EXP2_COEFFICIENTS)
    return (slope * r + 1.0).add_to_exponent(shifted), whole, slope


def decay_and_hold(rate: Lanes, inverse: Lanes, dt: Lanes) -> tuple[Lanes, Lanes]:
    """Return a = exp(dt A) and (a - 1) / A, given A log2(e) and 1 / A.

    Where dt A is small, (a - 1) / dt A is the slope of the exponential's own polynomial: nothing
    cancels, and nothing is divided by zero.
    """
    a, whole, slope = exp2_in_parts(rate * dt)
    return a, whole.choose("==", 0.0, slope * (dt * LOG2E), (a - 1.0) * inverse)


def hold_by_rate(rate: Lanes, inverse: Lanes, dt: Lanes, a: Lanes, hold: Lanes) -> Lanes:
    """Return the derivative of (a - 1) / A by A."""
    x = rate * dt
    near = polynomial(x * (1 / LOG2E), PHI_SLOPE_COEFFICIENTS) * (dt * dt)
    return x.absolute().choose("<", 0.5, near, (dt * a - hold) * inverse)


@emitted(VECTOR)
def softplus(x: Lanes) -> Lanes:
    """Return log(1 + exp(x))."""
    e = exp2(x.absolute() * -LOG2E)
    return polynomial(e, LOG1P_COEFFICIENTS) * e + x.choose(">", 0.0, x, 0.0)


@emitted(types.UniTuple(VECTOR, 2))
def softplus_and_slope(x: Lanes) -> list[Lanes]:
    """Return log(1 + exp(x)) and its derivative, 1 / (1 + exp(-x))."""
    e = exp2(x.absolute() * -LOG2E)
    value = polynomial(e, LOG1P_COEFFICIENTS) * e + x.choose(">", 0.0, x, 0.0)
    return [value, x.choose(">", 0.0, 1.0, e) / (e + 1.0)]


@emitted(VECTOR)
def by_log2e(x: Lanes) -> Lanes:
    """Return x log2(e)."""
    return x * LOG2E
