"""PortfolioTrading-v0: an expected return that moves, and trades that cost the more the faster they are."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import final

import numpy as np
import scipy

from hacontrol_envs.arrays import Array, Floats, namespace
from hacontrol_envs.core import parameters as read
from hacontrol_envs.core.domain import Domain
from hacontrol_envs.core.problem import ControlProblem
from hacontrol_envs.core.registration import register
from hacontrol_envs.errors import ParameterError
from hacontrol_envs.numerics.cache import cached_by_step

WIDTH = 4.0
"""Half-width of the state box, in stationary standard deviations of the expected return and of Merton's position."""


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class PortfolioTrading(ControlProblem):
    """Trade towards Merton's portfolio while it moves, at a cost that grows with the speed of trading.

    State: the position X in a risky asset, as a fraction of capital, and its expected excess return mu. The action is
    the speed of trading, dX = a dt with |a| <= bound, and dmu = kappa (m - mu) dt + eta dW. The reward is the
    certainty-equivalent return of an investor of relative risk aversion g, less what trading costs:

        r = X mu - g sigma^2 X^2/2 - lambda |a|^p/p,   1 < p <= 2.

    Without cost the position would always be Merton's, mu/(g sigma^2), and at a constant return it stays there. With
    p = 2 and no bound the problem is linear-quadratic (Garleanu and Pedersen, 2016). Trades of real size cost about
    the power p = 3/2 of their speed (the square-root law of impact; Almgren, Thum, Hauptmann and Li, 2005), and there
    no closed form is known: rho V = X mu - g sigma^2 X^2/2 + kappa (m - mu) V_mu + eta^2/2 V_mumu + h(V_X), with
    h(q) = (1 - 1/p) |q|^{p/(p-1)} / lambda^{1/(p-1)} up to |q| = lambda bound^{p-1} and linear beyond. The best action
    is sign(q) (|q|/lambda)^{1/(p-1)}, cut to the bound, at q = V_X.

    Learners meet mu within four stationary standard deviations of m, and the positions that are Merton's there; paths
    may leave this box. Time is in years.
    """

    mean_return: float = 0.05
    """m, the mean of the expected excess return. [1/year]."""
    mean_reversion: float = 0.5
    """kappa, how fast the expected return goes back to its mean. [1/year]."""
    return_volatility: float = 0.06
    """eta, the volatility of the expected return. [1/year^(3/2)]."""
    volatility: float = 0.2
    """sigma, the volatility of the asset. [1/year^(1/2)]."""
    risk_aversion: float = 2.0
    """g, relative risk aversion."""
    trading_cost: float = 0.1
    """lambda, the marginal cost of trading at the speed of all capital in a year. [year^(p-1)]."""
    cost_exponent: float = 1.5
    """p, the power of the speed of trading that its cost goes with, above 1 and at most 2."""
    trading_bound: float = 2.0
    """The largest speed of trading. [1/year]."""
    discount: float = 0.1
    """rho, the rate at which returns are discounted. [1/year]."""

    horizon = None
    noise_dim = 1
    controlled_diffusion = False
    time_unit = "years"

    def __post_init__(self) -> None:
        read.number("mean_return", self.mean_return)
        positive = ("mean_reversion", "return_volatility", "volatility", "risk_aversion", "trading_cost")
        for name in (*positive, "trading_bound", "discount"):
            read.number(name, getattr(self, name), above=0.0)
        if read.number("cost_exponent", self.cost_exponent, above=1.0) > 2:
            raise ParameterError(f"cost_exponent must be at most 2, got {self.cost_exponent!r}")
        _ = self.state, self.action

    @property
    def return_deviation(self) -> float:
        """eta/sqrt(2 kappa), the stationary standard deviation of the expected return."""
        return float(self.return_volatility / np.sqrt(2 * self.mean_reversion))

    @property
    def risk_price(self) -> float:
        """g sigma^2, by which Merton's position is the expected return divided."""
        return self.risk_aversion * self.volatility**2

    @cached_property
    def state(self) -> Domain:  # type: ignore[override]
        """Positions and expected returns within `WIDTH` standard deviations."""
        ends = [self.mean_return + side * WIDTH * self.return_deviation for side in (-1, 1)]
        low, high = ([end / self.risk_price, end] for end in ends)
        return Domain(["position", "expected return"], low, high, units=["share of capital", "1/year"])

    @cached_property
    def action(self) -> Domain:  # type: ignore[override]
        """Speeds of trading up to the bound."""
        return Domain(["speed of trading"], [-self.trading_bound], [self.trading_bound], units="1/year")

    def drift(self, t: Array, x: Array, a: Array) -> Array:
        pull = self.mean_reversion * (self.mean_return - x[..., 1])
        return namespace(x).stack([a[..., 0], pull], axis=-1)

    def diffusion(self, t: Array, x: Array, a: Array) -> Array:
        xp, one = namespace(x), namespace(x).ones_like(x[..., 0])
        return xp.stack([0 * one, self.return_volatility * one], axis=-1)[..., None]

    def reward(self, t: Array, x: Array, a: Array) -> Array:
        """X mu - g sigma^2 X^2/2 - lambda |a|^p/p, returns per year."""
        position = x[..., 0]
        return position * x[..., 1] - self.risk_price / 2 * position**2 - self._cost(a[..., 0])

    def _cost(self, speed: Array) -> Array:
        return self.trading_cost / self.cost_exponent * abs(speed) ** self.cost_exponent

    def maximiser(self, t: Array, x: Array, v_x: Array, v_xx: Array) -> Array:
        """Return sign(V_X) (|V_X|/lambda)^{1/(p-1)}, cut to the bound."""
        xp, power = namespace(x), self.cost_exponent - 1
        slope = v_x[..., :1] / self.trading_cost
        size = xp.clip(abs(slope), 0.0, self.trading_bound**power)
        return self.action.clip(xp.sign(slope) * size ** (1 / power))

    def initial_state(self, rng: np.random.Generator, size: int) -> Floats:
        """The expected return from its stationary law, the position Merton's at another draw from it."""
        drawn: Floats = self.mean_return + self.return_deviation * rng.standard_normal((size, 2))
        return drawn / [self.risk_price, 1.0]

    def exact_step(self, t: Array, x: Floats, a: Floats, dt: float, noise: Floats) -> Floats:
        """Return X + a dt and a Gaussian expected return."""
        keep = math.exp(-self.mean_reversion * dt)
        spread = self.return_deviation * math.sqrt(-math.expm1(-2 * self.mean_reversion * dt))
        later = self.mean_return + keep * (x[..., 1] - self.mean_return) + spread * noise[..., 0]
        return np.stack([x[..., 0] + a[..., 0] * dt, later], axis=-1)

    def exact_reward(self, t: Array, x: Floats, a: Floats, dt: float) -> Floats:
        """Return the integral of X_s E[mu_s] - g sigma^2 X_s^2/2 - lambda |a|^p/p, with X_s = X + a s."""
        (one, time, square), (decayed, late, _) = self._moments(dt)
        position, speed, above = x[..., 0], a[..., 0], x[..., 1] - self.mean_return
        earned = self.mean_return * (position * one + speed * time) + above * (position * decayed + speed * late)
        risk = position**2 * one + 2 * position * speed * time + speed**2 * square
        reward: Floats = earned - self.risk_price / 2 * risk - self._cost(speed) * one
        return reward

    @cached_by_step
    def _moments(self, dt: float) -> Floats:
        """int_0^dt s^k e^{-c s} ds, (2, 3): for c of rho and rho + kappa, and k of 0, 1 and 2."""
        c, k = np.array([[self.discount], [self.discount + self.mean_reversion]]), np.arange(3)
        moments: Floats = scipy.special.gamma(k + 1) * scipy.special.gammainc(k + 1, c * dt) / c ** (k + 1)
        return moments


register("PortfolioTrading-v0", PortfolioTrading, dt=0.05, max_episode_steps=200)
