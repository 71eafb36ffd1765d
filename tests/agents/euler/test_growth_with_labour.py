"""A worked example: an economist's own growth model with elastic labour, learnt by DEQN, against collocation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from numpy.polynomial import chebyshev
from numpy.polynomial.hermite_e import hermegauss
from scipy.optimize import root

from hacontrol_agents import DEQN
from hacontrol_envs import EulerConditions, Successors
from hacontrol_envs.arrays import like, namespace

pytestmark = pytest.mark.slow

MIDDLE, HALF = np.array([12.5, 1.0]), np.array([0.3, 0.1])
"""A box of K and Z: about the steady state, and half-widths of log K and log Z, more than four standard deviations."""


@dataclass(frozen=True)
class Growth(EulerConditions):
    """max E sum beta^t (log c - psi n^{1+1/phi}/(1+1/phi)),  c + K' = (1-delta) K + Y,  Y = Z K^alpha n^{1-alpha}.

    log Z is autoregressive, and points are (K, Z). Work has psi n^{1/phi} c = (1-alpha) Y/n, so that Y = b(K, Z) c^-eta
    and what consuming c takes from (1-delta) K is c - b c^-eta.
    """

    discount_factor: float = 0.99
    alpha: float = 0.36
    delta: float = 0.025
    psi: float = 8.0
    phi: float = 1.0
    rho: float = 0.95
    sigma: float = 0.007
    limit = 0.0
    eta = property(lambda self: (1 - self.alpha) / (1 / self.phi + self.alpha))

    def conditions(self):
        return self

    def b(self, x):
        product = x[..., 1] * x[..., 0] ** self.alpha
        return product * ((1 - self.alpha) * product / self.psi) ** self.eta

    def resources(self, x):
        return (1 - self.delta) * x[..., 0]

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
        return 1 - self.delta + self.alpha * self.b(x) * c**-self.eta / x[..., 0]

    def following(self, x, saving, capital):
        (nodes, weights), xp = hermegauss(9), namespace(x)
        z = xp.exp(self.rho * xp.log(x[..., 1, None]) + like(self.sigma * nodes, x))
        return Successors(xp.stack(xp.broadcast_arrays(saving[..., None], z), -1), like(weights / weights.sum(), x))

    def marginal_utility(self, c):
        return 1 / c

    def inverse_marginal_utility(self, u):
        return 1 / u

    def coordinates(self, x):
        return namespace(x).log(x)

    def simple_consumption(self, x, resources):
        return 0.75 * self.b(x) ** (1 / (1 + self.eta))  # of output, if all of that were consumed

    def start(self, rng, size):
        return MIDDLE * np.exp(rng.uniform(-1, 1, (size, 2)) * HALF)


def output(model, x, c):
    """Y at x (..., 2), from the n that goes with c: again, and in other words."""
    product = x[..., 1] * x[..., 0] ** model.alpha
    n = ((1 - model.alpha) * product / (model.psi * c)) ** (1 / (1 / model.phi + model.alpha))
    return product * n ** (1 - model.alpha)


def moved(model, x, c, shock):
    saved = (1 - model.delta) * x[..., 0] + output(model, x, c) - c
    return np.stack(np.broadcast_arrays(saved, np.exp(model.rho * np.log(x[..., 1]) + model.sigma * shock)), -1)


def euler_gap(model, x, consumption, order=11):
    """log c of the Euler equation less log c at x (S, 2), where c(x) is a function."""
    c, (nodes, weights) = consumption(x), hermegauss(order)
    after = moved(model, x[:, None, :], c[:, None], nodes)
    later = consumption(after)
    paid = 1 - model.delta + model.alpha * output(model, after, later) / after[..., 0]
    return -np.log(model.discount_factor * np.sum(weights / weights.sum() * paid / later, axis=-1) * c)


def collocation(model, shape=(10, 9)):
    """c(x), whose log is the polynomial in logs that meets the Euler equation at Chebyshev's nodes."""
    nodes = np.stack(np.meshgrid(*map(chebyshev.chebpts1, shape), indexing="ij"), -1).reshape(-1, 2)
    x, first = MIDDLE * np.exp(nodes * HALF), np.zeros(shape)
    first[:2, 0] = -0.1, 0.15  # c is about 0.9 (K/12.5)^0.5

    def consumption(coefficients, x):
        u = np.log(x / MIDDLE) / HALF
        return np.exp(chebyshev.chebval2d(u[..., 0], u[..., 1], coefficients.reshape(shape)))

    found = root(lambda k: euler_gap(model, x, lambda at: consumption(k, at)), first.ravel(), tol=1e-13).x
    return lambda x: consumption(found, x)


def test_the_learnt_rule_is_that_of_collocation():
    """Where the economy goes: at 500 states after 200 periods under the rule found by collocation."""
    model, rng = Growth(), np.random.default_rng(0)
    known, x = collocation(model), np.tile(MIDDLE, (500, 1))
    for _ in range(200):
        x = moved(model, x, known(x), rng.standard_normal(500))
    assert np.abs(euler_gap(model, x, known, order=15)).max() < 1e-10  # off the nodes
    agent = DEQN(model, seed=0, iterations=12).learn()
    assert np.abs(agent.consumption(x) / known(x) - 1).max() < 1e-6
