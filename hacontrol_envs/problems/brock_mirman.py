"""BrockMirman-v0: stochastic growth with full depreciation and log utility; the optimum saves a constant share."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import numpy as np

from hacontrol_envs.arrays import Array, Floats, like, namespace
from hacontrol_envs.core import parameters as read
from hacontrol_envs.core.conditions import EulerConditions
from hacontrol_envs.core.discrete import DiscreteProblem, Successors
from hacontrol_envs.core.domain import Domain
from hacontrol_envs.core.registration import register
from hacontrol_envs.core.solution import Solution
from hacontrol_envs.errors import ParameterError
from hacontrol_envs.numerics.quadrature import gauss_hermite

ORDER = 9
"""Nodes of Gauss and Hermite's rule for productivity: exact for polynomials in log Z to degree 17."""
LEAST_DEVIATION = 1e-10
"""Least deviation of log productivity, so that its box has a width."""
MOST_LOG = 600.0
"""Largest |log K| and log Z over the box."""


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class BrockMirman(DiscreteProblem):
    """Save out of the output of a single capital stock that is used up within the period.

    Y = Z K^alpha, K' = s Y, c = (1 - s) Y, u = log c, log Z' = rho_z log Z + sigma_z xi with xi standard normal.
    The optimal share is s* = alpha beta in every state, and V = A + B log K + C log Z with

        B = alpha/(1 - alpha beta),   C = 1/((1 - alpha beta)(1 - beta rho_z)),
        A = (log(1 - s*) + beta B log s*)/(1 - beta)

    (Brock and Mirman, 1972; Stokey and Lucas, 1989, section 2.2). Learners meet the problem in the box of +-4 standard
    deviations of log K and log Z under the optimal policy.
    """

    discount_factor: float = 0.96
    """beta, from one period to the next, between 0 and 1."""
    capital_share: float = 0.36
    """alpha, the elasticity of output in capital, between 0 and 1."""
    productivity_persistence: float = 0.9
    """rho_z, autocorrelation of log Z from one period to the next."""
    productivity_deviation: float = 0.04
    """Standard deviation of log Z under its stationary law."""

    noise_dim = 1
    time_unit = "periods"
    action = Domain(["saving share"], [0.01], [0.99], units="share of output")

    def __post_init__(self) -> None:
        for name in ("discount_factor", "capital_share"):
            if not 0 < read.number(name, getattr(self, name)) < 1:
                raise ParameterError(f"{name} must lie between 0 and 1, got {getattr(self, name)!r}")
        if not abs(read.number("productivity_persistence", self.productivity_persistence)) < 1:
            raise ParameterError(f"productivity_persistence must lie in (-1, 1), got {self.productivity_persistence!r}")
        read.number("productivity_deviation", self.productivity_deviation, above=0.0)
        if not 0.01 < self.saving_share < 0.99:
            raise ParameterError(f"capital_share * discount_factor must lie in (.01, .99), got {self.saving_share:.4g}")
        self._refuse_what_no_float_holds()
        _ = self.state

    def _refuse_what_no_float_holds(self) -> None:
        if self.productivity_deviation < LEAST_DEVIATION:
            raise ParameterError(
                f"productivity_deviation must be at least {LEAST_DEVIATION:g}, got {self.productivity_deviation!r}: "
                "the box of +-4 deviations would have no width"
            )
        center, spread = self._log_capital
        low, high = center - 4 * spread, max(center + 4 * spread, 4 * self.productivity_deviation)
        if max(-low, high) > MOST_LOG:
            raise ParameterError(
                f"no float holds the box of capital and productivity, from e^{low:.0f} to e^{high:.0f}: lower "
                f"productivity_deviation={self.productivity_deviation!r} or capital_share={self.capital_share!r}"
            )

    @property
    def saving_share(self) -> float:
        """The optimal saving share s* = alpha beta."""
        return self.capital_share * self.discount_factor

    @property
    def _log_capital(self) -> tuple[float, float]:
        """Mean and standard deviation of log K under the optimal policy."""
        alpha, rho = self.capital_share, self.productivity_persistence
        variance = (1 + alpha * rho) / ((1 - alpha) * (1 + alpha) * (1 - alpha * rho))
        return math.log(self.saving_share) / (1 - alpha), self.productivity_deviation * math.sqrt(variance)

    @property
    def state(self) -> Domain:  # type: ignore[override]
        """The box of capital and productivity."""
        (center, spread), deviation = self._log_capital, self.productivity_deviation
        low, high = ([math.exp(center + sign * 4 * spread), math.exp(sign * 4 * deviation)] for sign in (-1, 1))
        return Domain(["capital", "productivity"], low, high, "log", units=("goods", ""))

    def initial_state(self, rng: np.random.Generator, size: int) -> Floats:
        """Uniform in the middle half of the box, in logarithms."""
        found: Floats = self.state.from_unit(rng.uniform(-0.5, 0.5, (size, 2)))
        return found

    def output(self, x: Array) -> Array:
        """Return output Y = Z K^alpha, (...), in states x (..., 2)."""
        return x[..., 1] * x[..., 0] ** self.capital_share

    def reward(self, x: Array, a: Array) -> Array:
        """log c, the utility of consumption in a period."""
        return namespace(x).log((1 - a[..., 0]) * self.output(x))

    def transition(self, x: Floats, a: Floats, noise: Floats) -> Floats:
        """Return what was saved as capital, and productivity, whose logarithm is autoregressive."""
        after: Floats = self._next(x, a, noise[..., 0])
        return after

    def successors(self, x: Array, a: Array) -> Successors:
        """Return the next states at the nodes of Gauss and Hermite's rule for productivity."""
        nodes, weights = gauss_hermite(ORDER, 1)
        after = self._next(x[..., None, :], a[..., None, :], like(nodes[:, 0], x))
        return Successors(after, like(weights, x))

    def _next(self, x: Array, a: Array, shock: Array) -> Array:
        xp, rho = namespace(x), self.productivity_persistence
        innovation = self.productivity_deviation * math.sqrt((1 - rho) * (1 + rho))
        capital, productivity = a[..., 0] * self.output(x), xp.exp(rho * xp.log(x[..., 1]) + innovation * shock)
        return xp.stack(xp.broadcast_arrays(capital, productivity), axis=-1)

    def conditions(self) -> EulerConditions:
        """Return the Euler equation 1/c = beta E[alpha Z' K'^(alpha-1) / c']."""
        return _Conditions(self)

    def action_of_saving(self, x: Array, saving: Array) -> Array:
        """The share of output that is saved."""
        return (saving / self.output(x))[..., None]

    def solution(self, dt: float | None = None) -> Solution:
        """The closed form, which is the same for any `dt` asked for: the only step is one period."""
        alpha, beta, rho, s = self.capital_share, self.discount_factor, self.productivity_persistence, self.saving_share
        consumed, fading = (1 - alpha) + alpha * (1 - beta), (1 - beta) + beta * (1 - rho)  # 1 - s, 1 - beta rho
        B, C = alpha / consumed, 1 / (consumed * fading)
        A = (math.log(consumed) + beta * B * math.log(s)) / (1 - beta)

        def value(t: Array, x: Array) -> Array:
            xp = namespace(x)
            return A + B * xp.log(x[..., 0]) + C * xp.log(x[..., 1])

        def policy(t: Array, x: Array) -> Array:
            return namespace(x).full_like(x[..., :1], s)

        return Solution(value, policy, "closed form", "Brock and Mirman (1972)", 0.0)


@final
class _Conditions(EulerConditions):
    """Points are the problem's states (K, Z); there is one saver, who owns all capital."""

    limit = 0.0

    def __init__(self, problem: BrockMirman) -> None:
        self._problem, self.discount_factor = problem, problem.discount_factor

    def resources(self, x: Array) -> Array:
        """Y."""
        return self._problem.output(x)

    def gross_return(self, x: Array, c: Array) -> Array:
        """alpha Y/K."""
        return self._problem.capital_share * self._problem.output(x) / x[..., 0]

    def following(self, x: Array, saving: Array, capital: Array) -> Successors:
        """The problem's own successors."""
        return self._problem.successors(x, self._problem.action_of_saving(x, saving))

    def marginal_utility(self, c: Array) -> Array:
        """1/c."""
        return 1 / c

    def inverse_marginal_utility(self, u: Array) -> Array:
        """1/u."""
        return 1 / u

    def coordinates(self, x: Array) -> Array:
        """log K and log Z."""
        return namespace(x).log(x)

    def simple_consumption(self, x: Array, resources: Array) -> Array:
        """Half of output."""
        return resources / 2

    def start(self, rng: np.random.Generator, size: int) -> Floats:
        """States all over the problem's box."""
        return self._problem.some_states(rng, size)


register("BrockMirman-v0", BrockMirman, dt=1.0, max_episode_steps=100)
