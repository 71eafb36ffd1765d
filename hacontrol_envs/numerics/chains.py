"""Finite Markov chains: discretised autoregressions, and unemployment that moves with the business cycle.

A chain is a matrix P with P[i, j] the probability of state j after state i.
"""

from __future__ import annotations

import numpy as np
import scipy
from numpy.typing import NDArray

from hacontrol_envs.arrays import Floats
from hacontrol_envs.errors import ParameterError

HINT = (
    'Rouwenhorst\'s is exact with any number of states (productivity_method="rouwenhorst"); otherwise take more states'
)


def rouwenhorst(persistence: float, deviation: float, states: int) -> tuple[Floats, Floats]:
    """Return x' = persistence x + noise as a chain of equidistant states, with the deviation and autocorrelation of x.

    Args:
        persistence: autocorrelation of x, in (-1, 1).
        deviation: unconditional standard deviation of x.
        states: n, the number of states, symmetric around 0; with one, x is always 0.

    Returns:
        States (n,) and chain (n, n); the stationary law is binomial. (Rouwenhorst 1995; Kopecky and Suen 2010.)
    """
    p = (1 + persistence) / 2
    chain = np.ones((1, 1))
    for n in range(1, states):
        larger = np.zeros((n + 1, n + 1))
        larger[:-1, :-1] += p * chain
        larger[:-1, 1:] += (1 - p) * chain
        larger[1:, :-1] += (1 - p) * chain
        larger[1:, 1:] += p * chain
        larger[1:-1] /= 2
        chain = larger
    reach = deviation * np.sqrt(states - 1)
    return np.linspace(-reach, reach, states), chain


def tauchen(persistence: float, deviation: float, states: int, reach: float = 3.0) -> tuple[Floats, Floats]:
    """Return x' = persistence x + Gaussian noise as a chain of equidistant states (Tauchen 1986).

    Probabilities are those of the cells around states, each tail from its own side; the states are then scaled so that
    the deviation of the chain, too, is `deviation`. The autocorrelation of the chain differs from `persistence`: see
    `autocorrelation`; with 5 states it is .9315 for .9 and .99999993 for .99.

    Args:
        persistence: autocorrelation of x, in (-1, 1).
        deviation: unconditional standard deviation of x.
        states: n, the number of states, symmetric around 0; with one, x is always 0.
        reach: the highest state for the probabilities, in deviations of x.

    Returns:
        States (n,) and chain (n, n).

    Raises:
        ParameterError: a state that is never left, to rounding, or never entered.
    """
    if states == 1:
        return np.zeros(1), np.ones((1, 1))
    x = np.linspace(-reach, reach, states)
    edges = np.concatenate([[-np.inf], (x[1:] + x[:-1]) / 2, [np.inf]])
    at = (edges - persistence * x[:, None]) / np.sqrt((1 - persistence) * (1 + persistence))
    low, high = at[:, :-1], at[:, 1:]
    chain: Floats = np.where(
        low > 0,
        scipy.special.ndtr(-low) - scipy.special.ndtr(-high),
        scipy.special.ndtr(high) - scipy.special.ndtr(low),
    )
    if not (np.all(np.diag(chain, 1) > 0) and np.all(np.diag(chain, -1) > 0)):
        raise ParameterError(
            f"Tauchen's method with {states} states has no chain of persistence {persistence:g}: some "
            f"state is never left; {HINT}"
        )
    return x * deviation / np.sqrt(stationary(chain) @ x**2), chain


def autocorrelation(x: Floats, chain: Floats) -> float:
    """Return Corr(x, x') of a chain (n, n) with levels x (n,) under its stationary law; 1 if x is constant."""
    law = stationary(chain)
    if (variance := law @ (x - law @ x) ** 2) == 0:
        return 1.0
    return float(1 - np.sum(law[:, None] * chain * (x - x[:, None]) ** 2) / (2 * variance))


def stationary(chain: Floats) -> Floats:
    """Find the stationary law of an irreducible chain (n, n), as accurate relative to small masses as to large.

    Elimination without subtraction finds it (Grassmann, Taksar and Heyman 1985).

    Raises:
        ParameterError: it is not irreducible.
    """
    left, n = np.array(chain, dtype=np.float64), len(chain)
    for k in range(n - 1, 0, -1):
        if not (leaves := left[k, :k].sum()) > 0:
            raise ParameterError(f"a chain has no one stationary law: from state {k} it comes to no lower one")
        left[:k, k] /= leaves
        left[:k, :k] += np.outer(left[:k, k], left[k, :k])
    law = np.ones(n)
    for k in range(1, n):
        law[k] = law[:k] @ left[:k, k]
    found: Floats = law / law.sum()
    if not np.all(found > 0):  # also where it is not a number
        raise ParameterError(f"a chain has no one stationary law: it never comes to state {int(np.argmin(found > 0))}")
    return found


def employment(
    aggregate: Floats, rates: tuple[float, float], durations: tuple[float, float], factors: tuple[float, float]
) -> Floats:
    """Return the chain of unemployment (state 0) and employment (1) along a chain of bad (0) and good (1) times.

    The share of unemployed is a function of the times alone, at every date. A spell lasts `durations` on average while
    times do not change; when they turn good, or bad, the probability of staying unemployed is `factors[0]` times that
    of continued good times, or `factors[1]` times that of continued bad ones (Den Haan, Judd and Juillard 2010).

    Args:
        aggregate: chain of the times, (2, 2).
        rates: unemployment rates in bad and in good times.
        durations: mean periods of a spell of unemployment in bad and in good times.
        factors: on turning good, and on turning bad.

    Returns:
        P(e'|e, Z, Z'), (2, 2, 2, 2).

    Raises:
        ParameterError: the rates cannot follow from these spells.
    """
    stay = 1 - 1 / np.asarray(durations)
    remain = np.array([[stay[0], factors[0] * stay[1]], [factors[1] * stay[0], stay[1]]])
    u = np.asarray(rates)
    lose = (u[None, :] - u[:, None] * remain) / (1 - u[:, None])
    if np.any(remain > 1) or np.any((lose < 0) | (lose > 1)):
        raise ParameterError(
            f"unemployment_rates={rates}, unemployment_durations={durations} and switching_factors={factors} leave no "
            f"probabilities: staying unemployed {remain.tolist()}, losing a job {lose.tolist()} (from, to bad and good "
            "times) must lie in [0, 1]"
        )
    chain: Floats = np.stack([np.stack([remain, 1 - remain], -1), np.stack([lose, 1 - lose], -1)], -2)
    return chain


def expected(chain: Floats, first: Floats, values: Floats, quarters: int) -> Floats:
    """Return expectations of values of a chain's states at quarters 0, 1, ..., (quarters + 1,).

    Args:
        chain: transition probabilities, (n, n).
        first: probabilities of the states at quarter 0, or a difference of such, (n,).
        values: value of each state, (n,).
        quarters: the last quarter.
    """
    found = np.empty(quarters + 1)
    for t in range(quarters + 1):
        found[t] = first @ values
        first = first @ chain
    return found


def draw(chain: Floats, first: NDArray[np.int64], uniforms: Floats) -> NDArray[np.int64]:
    """Draw paths of the chain, (T + 1, ...).

    Chains with a common order of their states are moved the same way by the same uniforms.

    Args:
        chain: transition probabilities, (n, n).
        first: numbers of the states at the start, (...).
        uniforms: uniform variates in [0, 1), (T, ...).
    """
    above = np.cumsum(chain, axis=1)[:, :-1]
    path = np.empty((len(uniforms) + 1, *np.shape(first)), dtype=np.int64)
    path[0] = first
    for t, u in enumerate(uniforms):
        path[t + 1] = np.sum(u[..., None] >= above[path[t]], axis=-1)
    return path
