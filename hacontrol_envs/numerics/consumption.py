"""Merton's problem to rounding: the best portfolio, discounted integrals, and consumption that is held over a step."""

from __future__ import annotations

import math
from decimal import MAX_EMAX, MIN_EMIN, Decimal, localcontext
from typing import NamedTuple

import numpy as np
import scipy
from numpy.typing import NDArray

from hacontrol_envs.arrays import Floats
from hacontrol_envs.errors import ParameterError

DIGITS = 80
"""Decimal digits of the portfolio: more than cancel where rows of volatility are 1e-6 apart or nu is near 0."""
SERIES = np.array([(-1) ** n / (math.factorial(n) * (n + 2)) for n in range(12)])
"""Coefficients of int_0^1 s e^{-zs} ds in z."""
SMALL = 0.15
"""Largest |z| at which `SERIES` is used; beyond, the closed form loses at most two digits of sixteen."""
MOST_STEPS = 200_000
"""Most steps of backward induction, which take seconds."""


class Portfolio(NamedTuple):
    """Results of Merton's formulas, each rounded once."""

    fractions: Floats
    """pi* = (Sigma Sigma')^{-1} (mu - r_f)/g, fractions of wealth in the risky assets, (assets,)."""
    riskless_equivalent: float
    """M = r_f + (mu - r_f)'pi*/2, the riskless rate that is as good as the portfolio."""
    nu: float
    """nu = (rho - (1-g) M)/g, the best consumption per unit of wealth over an infinite horizon."""


def best_portfolio(
    expected_return: Floats, sigma: Floats, risk_free_rate: float, risk_aversion: float, discount: float
) -> Portfolio:
    """Return Merton's portfolio, by elimination in long decimals.

    mu - r_f, the elimination and rho - (1-g) M all cancel; 80 digits leave no trace of it.

    Args:
        expected_return: mu, (assets,), per unit of time.
        sigma: volatility, (assets, noise_dim), per square root of a unit of time.
        risk_free_rate: r_f, per unit of time.
        risk_aversion: g.
        discount: rho, per unit of time.
    """
    with localcontext() as context:
        context.prec, context.Emax, context.Emin = DIGITS, MAX_EMAX, MIN_EMIN
        S, rate, g = _decimals(sigma), Decimal(risk_free_rate), Decimal(risk_aversion)
        excess = _decimals(expected_return) - rate
        pi = _solve(S @ S.T, excess) / g
        M = rate + excess @ pi / 2
        nu = (Decimal(discount) - (1 - g) * M) / g
        return Portfolio(pi.astype(np.float64), float(M), float(nu))


def _decimals(numbers: Floats) -> NDArray[np.object_]:
    exact: NDArray[np.object_] = np.vectorize(Decimal, otypes=[object])(numbers)
    return exact


def _solve(matrix: NDArray[np.object_], right: NDArray[np.object_]) -> NDArray[np.object_]:
    """The solution of a positive definite system, by elimination without pivots."""
    table: NDArray[np.object_] = np.column_stack([matrix, right])
    for i in range(len(table)):
        table[i] = table[i] / table[i, i]
        others = np.arange(len(table)) != i
        table[others] -= table[others, i : i + 1] * table[i]
    solved: NDArray[np.object_] = table[:, -1]
    return solved


def discounting(rate: Floats | float, time: Floats | float) -> Floats:
    """Return int_0^time e^{-rate s} ds, for any sign of the rate."""
    result: Floats = time * scipy.special.exprel(-np.asarray(rate * time))
    return result


def discounted_time(rate: float, time: Floats | float) -> Floats:
    """Return int_0^time s e^{-rate s} ds, by its series where the closed form would cancel."""
    z, time = np.asarray(rate * time), np.asarray(time)
    far = np.where(np.abs(z) > SMALL, z, 1.0)
    closed = (-np.expm1(-far) - far * np.exp(-far)) / far / far
    series = np.polynomial.polynomial.polyval(np.where(np.abs(z) > SMALL, 0.0, z), SERIES)
    result: Floats = time * time * np.where(np.abs(z) > SMALL, closed, series)
    return result


def log_level(rate: float, M: float, bequest: float, left: Floats) -> tuple[Floats, Floats]:
    """Return h of the value V = f log x + h under log utility, and dh/dt, (...) each.

    -h_t + rho h = (M f - 1) - log f, h = 0 at the end, where f = b e^{-rho tau} + A(tau), A = int_0^tau e^{-rho s} ds
    and D = int_0^tau s e^{-rho s} ds. With A = e^{-rho tau} E, integration by parts and partial fractions give

        h = (M - rho) D + M b tau e^{-rho tau} - A log f - b e^{-rho tau} log(1 + E/b).

    Args:
        rate: rho, the discount rate.
        M: the riskless rate that is as good as the best portfolio.
        bequest: b, the weight of log utility of wealth at the end.
        left: tau, the time left, (...).
    """
    faded, A = np.exp(-rate * left), discounting(rate, left)
    log_f = np.log(bequest * faded + A)
    with np.errstate(divide="ignore"):
        gained = np.logaddexp(0.0, np.log(A) + rate * left - math.log(bequest))
    h = (M - rate) * discounted_time(rate, left) + faded * bequest * (M * left - gained) - A * log_f
    h_t = faded * (1 + log_f - (M - rate) * left - M * bequest * (1 - rate * left) - rate * bequest * gained)
    return h, h_t


def held_ratios(f_end: float, growth: float, g: float, dt: float, steps: int) -> tuple[Floats, Floats]:
    """Return k and f of V = f^g x^{1-g}/(1-g) with 0 .. steps steps to go, (steps + 1,) each, for g other than 1.

    Over a step k is held, and maximises (k^{1-g} int_0^dt e^{-c s} ds + e^{-c dt} f^g)/(1-g) with c = growth + (1-g) k,
    growth = rho - (1-g) M. Of kappa = k dt, phi = f/dt and z = c dt the first-order condition is

        int_0^1 e^{z (1-s)} (1 - kappa s) ds = (kappa phi)^g,

    whose left side is positive at 0 and negative beyond some kappa, while the right side rises from 0.

    Args:
        f_end: f at the end.
        growth: rho - (1-g) M, per unit of time.
        g: relative risk aversion.
        dt: length of a step.
        steps: number of steps.

    Raises:
        ParameterError: numbers that no float holds, or more than 200,000 steps.
    """
    if steps > MOST_STEPS:
        raise ParameterError(
            f"the horizon has {steps} steps of dt={dt}, of which backward induction takes at most {MOST_STEPS}: "
            "choose a longer dt"
        )
    k, phi = np.full(steps + 1, np.nan), np.full(steps + 1, f_end / dt)
    guess = 1 / (1 + f_end / dt)
    try:
        for n in range(1, steps + 1):
            guess = _best(float(phi[n - 1]), growth * dt, g, guess)
            k[n], phi[n] = guess / dt, _carried(float(phi[n - 1]), growth * dt, g, guess)
            if phi[n] == phi[n - 1]:
                k[n:], phi[n:] = k[n], phi[n]
                break
    except (OverflowError, ValueError, ZeroDivisionError) as error:
        raise ParameterError(
            f"no float holds what backward induction with dt={dt} and risk_aversion={g} needs {n} steps from the end: "
            "choose a shorter dt or horizon, or bring risk_aversion closer to 1"
        ) from error
    return k, phi * dt


def _terms(kappa: float, growth: float, g: float) -> tuple[float, float, float]:
    """z, and int_0^1 e^{z (1-s)} ds and int_0^1 s e^{z (1-s)} ds, both times e^{-max(z, 0)}."""
    z = growth + (1 - g) * kappa
    w = abs(z)
    a = -math.expm1(-w) / w if w else 1.0
    if w > SMALL:
        d = (a - math.exp(-w)) / w
    else:
        d = 0.0
        for coefficient in _BACKWARD:
            d = d * w + coefficient
    return z, a, d if z >= 0 else a - d


_BACKWARD = tuple(float(c) for c in SERIES[::-1])


def _best(phi: float, growth: float, g: float, guess: float) -> float:
    """The kappa of the first-order condition, from a bracket that grows around a guess."""
    log_phi = math.log(phi)

    def excess(y: float) -> float:
        """Left minus right side of the condition at kappa = e^y, over their sum: in [-1, 1]."""
        kappa = math.exp(y)
        z, a, d = _terms(kappa, growth, g)
        left, log_right = a - kappa * d, g * (y + log_phi) - max(z, 0.0)
        if left <= 0:
            return -1.0
        return -math.tanh((log_right - math.log(left)) / 2)

    y = math.log(guess)
    low, high, width = y, y, 1e-3
    while excess(low) <= 0:
        high, low, width = low, low - width, 4 * width
    width = 1e-3
    while excess(high) >= 0:
        low, high, width = high, high + width, 4 * width
    return math.exp(float(scipy.optimize.brentq(excess, low, high, xtol=1e-15, rtol=1e-15)))


def _carried(phi: float, growth: float, g: float, kappa: float) -> float:
    """phi one step earlier: phi^g becomes e^{-z} phi^g + kappa^{1-g} int_0^1 e^{-z s} ds."""
    z, a, _ = _terms(kappa, growth, g)
    log_gain = math.log(kappa * a) + max(z, 0.0) - g * math.log(kappa * phi)
    gained = log_gain if log_gain > 40 else math.log1p(math.exp(log_gain))
    return phi * math.exp((gained - z) / g)
