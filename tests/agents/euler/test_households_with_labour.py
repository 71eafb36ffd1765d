"""A worked example: households who choose work, learnt by DEQN at many interest rates, and the one that clears markets.

A household maximises E sum beta^t (c^{1-gamma}/(1-gamma) - psi n^{1+1/phi}/(1+1/phi)) with c + a' = (1+r) a + w e n and
a' >= 0, where e is a chain. Firms pay r = alpha (K/L)^{alpha-1} - delta and w = (1-alpha) (K/L)^alpha.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from scipy.optimize import brentq

from hacontrol_agents import DEQN
from hacontrol_envs import EulerConditions, Successors, Transport, stationary_law
from hacontrol_envs.arrays import like, namespace
from hacontrol_envs.numerics.chains import rouwenhorst

pytestmark = pytest.mark.slow

ASSETS = 200.0 * np.linspace(0.0, 1.0, 400) ** 2.5
CAPITAL, RATE = 24.413959152318938, 0.013529325394933898
"""By sequence-jacobian 1.0.0 on this grid: brentq on hetblocks.hh_labor.hh.steady_state(backward_tol=1e-11, ...)."""
LOGS, CHAIN = rouwenhorst(0.966, 0.5, 3)
SKILL = np.exp(LOGS) / (np.exp(LOGS) @ [0.25, 0.5, 0.25])


@dataclass(frozen=True)
class Households(EulerConditions):
    """Points are (a, e, r), e the number of a state, and r stays.

    Work has psi n^{1/phi} = w e c^-gamma and earns w e n = b c^-eta: consuming c takes c - b c^-eta from (1+r) a.
    """

    discount_factor: float = 0.98
    gamma: float = 2.0
    psi: float = 1.0
    phi: float = 0.5
    alpha: float = 0.36
    delta: float = 0.025
    rates: tuple[float, float] = (0.011, 0.016)
    limit = 0.0
    eta = property(lambda self: self.gamma * self.phi)

    def conditions(self):
        return self

    def intensity(self, r):
        """K/L."""
        return (self.alpha / (r + self.delta)) ** (1 / (1 - self.alpha))

    def pay(self, x):
        """w e."""
        skill = like(SKILL, x)[namespace(x).astype(x[..., 1], namespace(x).int64)]
        return (1 - self.alpha) * self.intensity(x[..., 2]) ** self.alpha * skill

    def b(self, x):
        return self.pay(x) * (self.pay(x) / self.psi) ** self.phi

    def resources(self, x):
        return (1 + x[..., 2]) * x[..., 0]

    def spending(self, x, c):
        return c - self.b(x) * c**-self.eta

    def affordable(self, x, spending):
        """By Newton's method, which rises to c from below, as spending is concave in c."""
        b, eta = self.b(x), self.eta
        c = namespace(x).maximum(spending, b ** (1 / (1 + eta)))
        for _ in range(6):
            c = c - (c - b * c**-eta - spending) / (1 + eta * b * c ** (-eta - 1))
        return c

    def gross_return(self, x, c):
        return 1 + x[..., 2]

    def following(self, x, saving, capital):
        xp = namespace(x)
        after = xp.broadcast_arrays(saving[..., None], like(np.arange(3.0), x), x[..., 2, None])
        return Successors(xp.stack(after, -1), like(CHAIN, x)[xp.astype(x[..., 1], xp.int64)])

    def marginal_utility(self, c):
        return c**-self.gamma

    def inverse_marginal_utility(self, u):
        return u ** (-1 / self.gamma)

    def coordinates(self, x):
        xp = namespace(x)
        ends = [xp.astype(x[..., 1] == end, x.dtype) for end in (0, 2)]
        return xp.stack([xp.log(x[..., 0] + 0.5), x[..., 2], *ends], -1)

    def simple_consumption(self, x, resources):
        return self.affordable(x, resources - 0.99 * x[..., 0])  # of who runs assets down by 1 %

    def start(self, rng, size):
        assets = 120 * np.maximum(rng.uniform(-0.05, 1, size), 0.0) ** 3
        return np.stack([assets, rng.integers(0, 3, size), rng.uniform(*self.rates, size)], -1)


def points(assets, r):
    return np.stack(np.broadcast_arrays(assets, np.arange(3.0)[:, None], r), -1)


def aggregates(model, c, r):
    """K, L and the law where households consume c (3, n_a) on the grid."""
    x = points(ASSETS, r)
    saved = np.clip(model.resources(x) - model.spending(x, c), 0.0, ASSETS[-1])
    law = stationary_law(Transport(ASSETS, saved, CHAIN))
    hours = (model.pay(x) * c**-model.gamma / model.psi) ** model.phi
    return np.sum(law * ASSETS), np.sum(law * hours * SKILL[:, None]), law


def by_endogenous_grids(model, r):
    """c (3, n_a) on the grid, from a finer one."""
    assets = 250.0 * np.linspace(0.0, 1.0, 3000) ** 2.5
    x = points(assets, r)
    c = most = model.affordable(x, model.resources(x))
    for _ in range(1500):
        wanted = (model.discount_factor * (1 + r) * CHAIN @ c**-model.gamma) ** (-1 / model.gamma)
        own = (model.spending(x, wanted) + assets) / (1 + r)
        c = np.stack([np.interp(assets, *row) for row in zip(own, wanted, strict=True)])
        c = np.where(assets < own[:, :1], most, c)
    return np.stack([np.interp(ASSETS, assets, row) for row in c])


def test_markets_clear_where_the_sequence_space_method_says():
    model = Households()
    agent = DEQN(model, seed=0, iterations=10).learn()

    def excess(r):
        capital, labour, _ = aggregates(model, agent.consumption(points(ASSETS, r)), r)
        return capital - model.intensity(r) * labour

    rate = brentq(excess, *model.rates, xtol=1e-10)
    capital, _, _ = aggregates(model, agent.consumption(points(ASSETS, rate)), rate)
    assert capital == pytest.approx(CAPITAL, rel=3e-4)
    known = by_endogenous_grids(model, RATE)
    by_grids, _, law = aggregates(model, known, RATE)
    assert by_grids == pytest.approx(CAPITAL, rel=5e-4)
    error = np.abs(agent.consumption(points(ASSETS, RATE)) / known - 1)
    assert np.sum(law * error) < 1e-4
