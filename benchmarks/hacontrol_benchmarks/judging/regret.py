"""Regret: how much value a policy gives away in the environment's own sampled-data problem.

By the performance-difference lemma (Kakade and Langford, 2002), with the action held over steps of length dt,

    V*(0, x_0) - J(x_0) = E sum_k gamma^k A(t_k, x_k, a_k),    A(t, x, a) = Q*(t, x, a*(t, x)) - Q*(t, x, a) >= 0,
    Q*(t, x, a) = r_dt(t, x, a) + gamma E[ V*(t + dt, X_{t+dt}) | X_t = x, a ],    gamma = e^{-rho dt},

along the policy's *own* trajectory. V* and a* are the optimum of the sampled-data problem; the transition and the
reward of a step are exact in law. Only the states are random: the optimum, its tail and every reward cancel before
anything is averaged, so that a regret of 1e-12 is measured as such, where paired rollouts would drown it in noise.
Plain Monte Carlo still helps: sum_k gamma^k (A + r_dt) + gamma^K V*(t_K, x_K) - V*(0, x_0) has mean zero, and is a
control variate that takes out the noise which advantages share with rewards (nearly all of it for lognormal wealth).

The expectation over a step's noise is a quadrature, the same for both actions of a difference, so that the optimal
policy has exactly zero regret whatever the quadrature's error is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import numpy as np

from hacontrol_benchmarks.judging.loss import value_loss
from hacontrol_benchmarks.judging.transition import ExactTransition, Policy, act, known_transition
from hacontrol_envs import Problem, Solution
from hacontrol_envs.arrays import Floats
from hacontrol_envs.numerics.quadrature import gauss_hermite

REPLICATES = 4
"""Number of trajectories from each initial state."""


@dataclass(frozen=True)
class Regret:
    """The regret of a policy, averaged over initial states, and its size as a share."""

    optimal: float
    """Mean of V*(0, x_0) over the initial states."""
    regret: float
    """Mean of V*(0, x_0) - J(x_0) over the same initial states, in units of reward."""
    standard_error: float
    """Standard error of `regret` from the noise of trajectories, given the initial states, which all agents share."""
    loss: float
    """The regret as a share of value or wealth, by `value_loss`; 0 for the optimum."""
    loss_error: float
    """Change of `loss` if `regret` were one standard error larger."""
    horizon: float
    """Time up to which trajectories were followed; the policy is taken to be optimal from then on."""
    last_tenth: float
    """Share of `regret` that the last tenth of that time contributed: about what is neglected beyond it."""


def regret(
    problem: Problem, policy: Policy, dt: float, *, paths: int, max_steps: int, seed: int, tail: float = 1e-3
) -> Regret | None:
    """Estimate the regret of a policy; None if the exact transition or the sampled optimum is not known.

    Every initial state starts REPLICATES trajectories. Actions are clipped to the action box, as the environment does.
    Over a finite horizon trajectories end at T. Over an infinite one they end when e^{-rho t} < 1e-2 and the last tenth
    of the time contributed less than `tail` of the regret (under exponential decay about as much as is then neglected),
    or after `max_steps`.

    Args:
        problem: problem with a known optimum.
        policy: function of times (...) and physical states (..., n) that returns physical actions (..., m).
        dt: length of a step.
        paths: number of trajectories.
        max_steps: most steps of a trajectory over an infinite horizon.
        seed: seed of initial states and noise.
        tail: share of the regret that may be neglected.

    Raises:
        FloatingPointError: the policy returned an action, or reached a state, that is not finite.
    """
    optimum, exact = problem.solution(dt=dt), known_transition(problem, dt)
    if optimum is None or exact is None:
        return None
    rng = np.random.default_rng(seed)
    start = np.repeat(problem.initial_state(rng, max(paths // REPLICATES, 1)), REPLICATES, axis=0)
    first = np.asarray(optimum.value(np.zeros(len(start)), start))
    total, martingale, means = _follow(exact, optimum, policy, start, rng, max_steps, tail)
    lost, error = _controlled_mean(total, martingale - first)
    loss = value_loss(problem, optimum, start, lost)
    return Regret(
        optimal=float(first.mean()),
        regret=lost,
        standard_error=error,
        loss=loss,
        loss_error=abs(value_loss(problem, optimum, start, lost + error) - loss) if math.isfinite(loss) else 0.0,
        horizon=(len(means) - 1) * dt,
        last_tenth=_last_tenth(means) / means[-1] if means[-1] > 0 else 0.0,
    )


def _follow(
    exact: ExactTransition,
    optimum: Solution,
    policy: Policy,
    x: Floats,
    rng: np.random.Generator,
    max_steps: int,
    tail: float,
) -> tuple[Floats, Floats, list[float]]:
    """Follow trajectories; return each one's sum of gamma^k A and control variate, and means after each step.

    The control variate is sum gamma^k (A + r_dt) + gamma^K V*(x_K); the means are those of the first sum.
    """
    infinite, advantage = exact.problem.horizon is None, Advantage(exact, optimum)
    steps = max_steps if exact.problem.horizon is None else round(exact.problem.horizon / exact.dt)
    total, rewards, means, weight = np.zeros(len(x)), np.zeros(len(x)), [0.0], 1.0
    for k in range(steps):
        t = np.full(len(x), k * exact.dt)
        a = act(exact.problem, policy, t, x)
        lost, paid = advantage(t, x, a)
        total += weight * lost
        rewards += weight * paid
        x = exact.step(t, x, a, rng.standard_normal((len(x), exact.noise_dim)))
        means.append(float(total.mean()))
        weight *= exact.gamma
        if infinite and weight < 1e-2 and _last_tenth(means) <= tail * means[-1]:
            break
    if not (np.isfinite(total).all() and np.isfinite(rewards).all()):
        raise FloatingPointError("the policy led to states or rewards that are not finite")
    ahead = weight * np.asarray(optimum.value(np.full(len(x), (len(means) - 1) * exact.dt), x))
    return total, total + rewards + ahead, means


@final
class Advantage:
    """The advantage A(t, x, a) = Q*(t, x, a*) - Q*(t, x, a) >= 0, (...), lost by holding `a` for one step."""

    def __init__(self, exact: ExactTransition, optimum: Solution) -> None:
        self.exact, self.optimum = exact, optimum
        self.nodes, self.weights = gaussian_quadrature(exact.noise_dim)

    def __call__(self, t: Floats, x: Floats, a: Floats) -> tuple[Floats, Floats]:
        """Return A, and the step's expected reward r_dt(t, x, a)."""
        both = np.stack([np.asarray(self.optimum.policy(t, x)), a])
        value, reward = self.step_value(np.stack([t, t]), np.stack([x, x]), both)
        return value[0] - value[1], reward[1]

    def step_value(self, t: Floats, x: Floats, a: Floats) -> tuple[Floats, Floats]:
        """Return Q*(t, x, a), (...), of holding `a` for one step and being optimal then, and the step's reward r_dt.

        Args:
            t: times, (...).
            x: physical states, (..., n).
            a: physical actions, (..., m).
        """
        after, reward = self.exact.transition(t[..., None], x[..., None, :], a[..., None, :], self.nodes)
        later = np.asarray(self.optimum.value(np.broadcast_to(t[..., None] + self.exact.dt, after.shape[:-1]), after))
        value: Floats = reward[..., 0] + self.exact.gamma * (later @ self.weights)
        return value, reward[..., 0]


def gaussian_quadrature(dimension: int) -> tuple[Floats, Floats]:
    """Return nodes (k, d) and weights (k,) for E f(Z), Z standard normal in d dimensions.

    Gauss-Hermite with 7 nodes in each of up to 2 dimensions (exact up to degree 13). Beyond, the 2 d points
    +-sqrt(d) e_i, exact up to degree 3, and so for every linear-quadratic problem.
    """
    if dimension > 2:
        nodes = math.sqrt(dimension) * np.concatenate([np.eye(dimension), -np.eye(dimension)])
        return nodes, np.full(2 * dimension, 0.5 / dimension)
    return gauss_hermite(7, dimension)


def _controlled_mean(total: Floats, martingale: Floats) -> tuple[float, float]:
    """Return the mean of `total` given the starts, controlled by `martingale` of mean zero, and its standard error."""
    y, z = total.reshape(-1, REPLICATES), martingale.reshape(-1, REPLICATES)
    y_within, z_within = (part - part.mean(axis=1, keepdims=True) for part in (y, z))
    spread = float((z_within**2).sum())
    slope = float((y_within * z_within).sum()) / spread if spread > 0 else 0.0
    variance = float(((y_within - slope * z_within) ** 2).sum()) / (y.size - len(y))
    return float(y.mean() - slope * z.mean()), math.sqrt(variance / y.size)


def _last_tenth(means: list[float]) -> float:
    """Return what the last tenth of the steps added."""
    return means[-1] - means[-1 - max(1, len(means) // 10)]
