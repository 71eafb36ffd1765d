"""How capital moves, as households believe and as an observer says, and capital as a coordinate of policies."""

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
"""A state of Z seen fewer times than this shares its slopes with the others in a regression."""
SMALL = 1e-9
"""Beside 1, a regressor that moves less does not move."""
FARTHEST = 3.0
"""Half-ranges from the middle beyond which policies no longer change with capital."""


def by_state(z: NDArray[np.int64], regressors: Floats, y: Floats, states: int) -> tuple[Floats, Floats]:
    """Least squares of y (T, d) on regressors (T, n), the first of which is 1, for every state in z (T,).

    Returns:
        Coefficients (states, d, n), and R2 of the first y, (states,), not a number where a state is hardly seen.
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
    """log K' = b0(Z) + b1(Z) log K."""

    coefficients: Floats
    """b, (n_z, 2)."""

    def __call__(self, capital: Any, z: Any) -> Floats:
        """K' after capital K and states z, broadcasting."""
        b = self.coefficients[np.asarray(z)]
        following: Floats = np.exp(b[..., 0] + b[..., 1] * np.log(capital))
        return following

    def forecast(self, capital: Any, z: NDArray[np.int64]) -> Floats:
        """K (T + 1, ...) of which only the first, `capital` (...), is given, along states z (T + 1, ...)."""
        path = [np.asarray(capital, dtype=np.float64)]
        for now in z[:-1]:
            path.append(self(path[-1], now))
        return np.stack(path)

    def mean_capital(self, chain: Floats) -> float:
        """The mean of K over all times, for Z moved by this chain: moments of log K solved for, K as if lognormal.

        A path's mean over 20 000 quarters may well be .15 % off.
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
        """By least squares on a path z (T + 1,), K (T + 1,), or on several (T + 1, ...); and R2, (states,)."""
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
    """phi, (n_e, n_a)."""
    trend: Floats
    """The usual value is trend[Z, 0] + trend[Z, 1] log K, (n_z, 2)."""

    def of(self, law: Floats, capital: Any, z: Any) -> Floats:
        """v (...) of laws (..., n_e, n_a) with these K and z (...)."""
        mean, trend = np.sum(law * self.weights, axis=(-2, -1)), self.trend[np.asarray(z)]
        v: Floats = np.log(mean) - trend[..., 0] - trend[..., 1] * np.log(capital)
        return v


@final
@dataclass(frozen=True)
class Beliefs:
    """log K' given Z, and v' given (Z, Z'), as polynomials 1, x, x^2, v of x = log K - center and v."""

    coefficients: Floats
    """(n_z, 1 + n_z, 4): of log K' and of v' at every Z'."""
    center: float

    def __call__(self, x: Any, v: Any, z: Any) -> tuple[Floats, Floats]:
        """log K' (...), and v' at every Z' (..., n_z), after log K, v and z (...), broadcasting."""
        d, b = np.asarray(x) - self.center, self.coefficients[np.asarray(z)]
        powers = np.stack(np.broadcast_arrays(1.0, d, d**2, v), axis=-1)
        said = np.sum(b * powers[..., None, :], axis=-1)
        return said[..., 0], said[..., 1:]

    @classmethod
    def fitted(
        cls, z: NDArray[np.int64], x: Floats, v: Floats, states: int, terms: int, center: float
    ) -> tuple[Beliefs, Floats]:
        """By least squares with so many terms on a path z, log K and v, (T + 1,) each; and R2 of K', (states,)."""
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
    """Chebyshev nodes in log K, times two in v or one: polynomials, straight lines beyond, and constants far beyond."""

    low: float
    """The lowest log K."""
    high: float
    """The highest."""
    count: int
    """Nodes of K."""
    bounds: Floats
    """v at its nodes, (1,) or (2,)."""

    @property
    def size(self) -> int:
        """Nodes in all."""
        return self.count * len(self.bounds)

    @cached_property
    def points(self) -> tuple[Floats, Floats]:
        """log K and v at the nodes, (size,) each; v varies fastest."""
        x = (self.low + self.high) / 2 + (self.high - self.low) / 2 * chebyshev.chebpts1(self.count)
        return np.repeat(x, len(self.bounds)), np.tile(self.bounds, self.count)

    @cached_property
    def inverse(self) -> Floats:
        """Values at nodes of K = T c, c the coefficients of Chebyshev polynomials; T^-1, (count, count)."""
        found = np.linalg.inv(chebyshev.chebvander(chebyshev.chebpts1(self.count), self.count - 1))
        return np.asarray(found, dtype=np.float64)

    def weights(self, x: Any, v: Any) -> Floats:
        """Of the nodes' values in that at log K and v (...), (..., size)."""
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
