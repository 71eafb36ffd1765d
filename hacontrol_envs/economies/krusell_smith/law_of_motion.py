"""Laws of motion of capital, as households believe and as an observer fits them, and nodes of policies in capital."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, final

import numpy as np
from numpy.polynomial import chebyshev
from numpy.typing import NDArray

from hacontrol_envs.arrays import Floats
from hacontrol_envs.numerics import chains

FEW = 60
"""Quarters in a state of Z below which it shares its slopes with the other states in a regression."""
SMALL = 1e-9
"""Smallest variation of a regressor, relative to 1; one that varies less counts as constant."""
FARTHEST = 3.0
"""Half-ranges from the middle of the nodes beyond which policies no longer change with capital."""


def by_state(z: NDArray[np.int64], regressors: Floats, y: Floats, states: int) -> tuple[Floats, Floats]:
    """Regress y (T, d) on regressors (T, n) by least squares, separately for every state in z (T,).

    Args:
        z: states of Z, (T,).
        regressors: regressors, the first of which is 1, (T, n).
        y: regressands, (T, d).
        states: number of states of Z.

    Returns:
        Coefficients (states, d, n), and R2 of the first y, (states,), NaN where a state is hardly seen.
    """
    pooled = _least_squares(regressors, y)
    common = _least_squares(np.hstack([np.eye(states)[z], regressors[:, 1:]]), y)
    found, r2 = np.empty((states, y.shape[1], regressors.shape[1])), np.full(states, np.nan)
    for state in range(states):
        here = z == state
        found[state] = common[[state, *range(states, len(common))]].T if np.any(here) else pooled.T
        if here.sum() >= FEW:
            found[state] = _least_squares(regressors[here], y[here]).T
            rest = y[here, 0] - regressors[here] @ found[state, 0]
            spread = np.var(y[here, 0])
            r2[state] = 1 - np.var(rest) / spread if spread > SMALL**2 else 1.0
    return found, r2


def _least_squares(regressors: Floats, y: Floats) -> Floats:
    found, *_ = np.linalg.lstsq(regressors, y, rcond=SMALL)
    return np.asarray(found, dtype=np.float64)


@final
@dataclass(frozen=True)
class LawOfMotion:
    """The law of motion log K' = b0(Z) + b1(Z) log K."""

    coefficients: Floats
    """Coefficients b by state of Z, (n_z, 2)."""

    def __call__(self, capital: Any, z: Any) -> Floats:
        """Return K' after capital K and states z, broadcasting."""
        b = self.coefficients[np.asarray(z)]
        following: Floats = np.exp(b[..., 0] + b[..., 1] * np.log(capital))
        return following

    def forecast(self, capital: Any, z: NDArray[np.int64]) -> Floats:
        """Forecast K (T + 1, ...) along states z (T + 1, ...) from the first K alone, `capital` (...)."""
        path = [np.asarray(capital, dtype=np.float64)]
        for now in z[:-1]:
            path.append(self(path[-1], now))
        return np.stack(path)

    def mean_capital(self, chain: Floats) -> float:
        """Return the mean of K over all times for Z moved by this chain: exact moments of log K, K as if lognormal.

        The mean over a path of 20 000 quarters may well be .15 % off.
        """
        shares, constants, slopes = chains.stationary(chain), self.coefficients[:, 0], self.coefficients[:, 1]
        one = np.eye(len(chain))
        # Sums over times when Z' is each state: of log K, and of the square of what it is above its mean.
        mean = np.linalg.solve(one - (chain * slopes[:, None]).T, chain.T @ (constants * shares)).sum()
        above = constants + (slopes - 1) * mean
        first = np.linalg.solve(one - (chain * slopes[:, None]).T, chain.T @ (above * shares))
        squares = chain.T @ (above**2 * shares + 2 * above * slopes * first)
        variance = np.linalg.solve(one - (chain * slopes[:, None] ** 2).T, squares).sum()
        return float(np.exp(mean + variance / 2))

    @classmethod
    def fitted(cls, z: NDArray[np.int64], capital: Floats, states: int) -> tuple[LawOfMotion, Floats]:
        """Fit a law of motion to paths by least squares; return it and R2, (states,).

        Args:
            z: states of Z, (T + 1,) or several paths (T + 1, ...).
            capital: K on these paths, of the same shape.
            states: number of states of Z.
        """
        x = np.log(capital)
        center, before, after = x.mean(), x[:-1].ravel(), x[1:].ravel()
        regressors = np.stack([np.ones(len(before)), before - center], axis=-1)
        b, r2 = by_state(z[:-1].ravel(), regressors, after[:, None], states)
        return cls(np.stack([b[:, 0, 0] - b[:, 0, 1] * center, b[:, 0, 1]], axis=-1)), r2


@final
@dataclass(frozen=True)
class Moment:
    """What households know of the law besides K: v = log mean of phi(e, a), less its usual value at this Z and K."""

    weights: Floats
    """Weights phi, (n_e, n_a)."""
    trend: Floats
    """Coefficients of the usual value, trend[Z, 0] + trend[Z, 1] log K, (n_z, 2)."""

    def of(self, law: Floats, capital: Any, z: Any) -> Floats:
        """Return v (...) of laws in states z.

        Args:
            law: laws of households, (..., n_e, n_a).
            capital: their K, (...).
            z: states of Z, (...).
        """
        mean, trend = np.sum(law * self.weights, axis=(-2, -1)), self.trend[np.asarray(z)]
        v: Floats = np.log(mean) - trend[..., 0] - trend[..., 1] * np.log(capital)
        return v


@final
@dataclass(frozen=True)
class Beliefs:
    """Beliefs about log K' given Z, and v' given (Z, Z'), as polynomials 1, x, x^2, v of x = log K - center and v."""

    coefficients: Floats
    """Coefficients of log K' and of v' at every Z', (n_z, 1 + n_z, 4)."""
    center: float
    """Log K at which x is zero."""

    def __call__(self, x: Any, v: Any, z: Any) -> tuple[Floats, Floats]:
        """Return log K' (...), and v' at every Z' (..., n_z), after log K, v and z (...), broadcasting."""
        d, b = np.asarray(x) - self.center, self.coefficients[np.asarray(z)]
        powers = np.stack(np.broadcast_arrays(1.0, d, d**2, v), axis=-1)
        said = np.sum(b * powers[..., None, :], axis=-1)
        return said[..., 0], said[..., 1:]

    @classmethod
    def fitted(
        cls, z: NDArray[np.int64], x: Floats, v: Floats, states: int, terms: int, center: float
    ) -> tuple[Beliefs, Floats]:
        """Fit beliefs to a path by least squares; return them and R2 of K', (states,).

        Args:
            z: states of Z, (T + 1,).
            x: log K, (T + 1,).
            v: the moment, (T + 1,).
            states: number of states of Z.
            terms: number of terms, from 1, x, x^2, v.
            center: log K at which x is zero in the polynomials.
        """
        d, coefficients = x[:-1] - center, np.zeros((states, 1 + states, 4))
        every = np.stack([np.ones(len(d)), d, d**2, v[:-1]], axis=-1)[:, :terms]
        capital, r2 = by_state(z[:-1], every, x[1:, None], states)
        coefficients[:, :1, :terms] = capital
        if terms == 4:
            moment, _ = by_state(states * z[:-1] + z[1:], every, v[1:, None], states * states)
            coefficients[:, 1:] = moment.reshape(states, states, 4)
        return cls(coefficients, center), r2


@final
@dataclass(frozen=True)
class Nodes:
    """Nodes of policies: Chebyshev in log K, times one or two in v.

    Between nodes policies are polynomials, beyond them straight lines, and constants beyond `FARTHEST`.
    """

    low: float
    """Lower end of the range of log K."""
    high: float
    """Upper end of the range of log K."""
    count: int
    """Number of Chebyshev nodes in log K."""
    bounds: Floats
    """Values of v at its nodes, (1,) or (2,)."""

    @property
    def size(self) -> int:
        """Number of all nodes."""
        return self.count * len(self.bounds)

    @cached_property
    def points(self) -> tuple[Floats, Floats]:
        """log K and v at the nodes, (size,) each; v varies fastest."""
        x = (self.low + self.high) / 2 + (self.high - self.low) / 2 * chebyshev.chebpts1(self.count)
        return np.repeat(x, len(self.bounds)), np.tile(self.bounds, self.count)

    @cached_property
    def inverse(self) -> Floats:
        """T^-1, (count, count), where T c are values at nodes of K for coefficients c of Chebyshev polynomials."""
        found = np.linalg.inv(chebyshev.chebvander(chebyshev.chebpts1(self.count), self.count - 1))
        return np.asarray(found, dtype=np.float64)

    def weights(self, x: Any, v: Any) -> Floats:
        """Return the weights (..., size) of the nodes' values in the value at log K and v (...)."""
        u = np.clip((2 * np.asarray(x) - self.low - self.high) / (self.high - self.low), -FARTHEST, FARTHEST)
        inside, degrees = np.clip(u, -1.0, 1.0), np.arange(self.count)
        basis = chebyshev.chebvander(inside, self.count - 1).reshape(*inside.shape, self.count)
        beyond = (u - inside)[..., None] * degrees**2 * np.sign(inside)[..., None] ** (degrees + 1)
        along_x = np.einsum("...i,ij->...j", basis + beyond, self.inverse)  # each row as in a batch of one
        if len(self.bounds) == 1:
            return np.asarray(along_x)
        share = np.clip((v - self.bounds[0]) / (self.bounds[1] - self.bounds[0]), -1.0, 2.0)
        both = along_x[..., None] * np.stack(np.broadcast_arrays(1 - share, share), axis=-1)[..., None, :]
        found: Floats = both.reshape(*both.shape[:-2], self.size)
        return found
