"""Check that a policy that is said to be optimal earns the value that is said to be the optimum's."""

from __future__ import annotations

import math

import numpy as np

from hacontrol_benchmarks.judging.transition import ExactTransition
from hacontrol_envs import ControlProblem, Solution
from hacontrol_envs.arrays import Floats

LEFT = 1e-2
"""Discount factor e^{-rho t} at which paths over an infinite horizon end, with the known value of their last states
added: were the value wrong by a constant, 99 % of it would show."""

WEIGHTS = (-1 / 21, 14 / 21, -56 / 21, 64 / 21)
"""Weights of values at steps h, h/2, h/4, h/8, whose sum is free of the errors in h, h^2 and h^3."""

ROUNDING, BIAS = 1e-12, 1e-6
"""Least standard error of the sampled and of the continuous value, relative to the value. The bias that `WEIGHTS` leave
is 1e-7 on LQR at h = 0.04, where nothing is random."""


def attained(problem: ControlProblem, h: float, seed: int, rows: int) -> dict[str, float]:
    """Return the mean of discounted rewards less the known value at the start, in standard errors, and that error.

    The error is relative to |value|. "sampled" is `solution(h).policy`, each action held for h, against
    `solution(h).value`, without bias, as transition and expected reward of a step are exact. "continuous" is
    `solution().policy` against `solution().value`: holding an action for h costs c_1 h + c_2 h^2 + ... of value, and
    steps h, h/2, h/4, h/8 are combined so that only O(h^4) is left.

    Args:
        problem: problem with a known optimum.
        h: longest time step.
        seed: seed of initial states and noise.
        rows: number of paths.
    """
    optimum, held = problem.solution(), problem.solution(dt=h)
    assert optimum is not None
    assert held is not None
    gap, start = _earned(problem, held, h, seed, rows)
    sampled = _score(gap, start, ROUNDING, held.error)
    parts = [_earned(problem, optimum, h / 2**i, seed, rows) for i in range(len(WEIGHTS))]
    total: Floats = sum((w * gap for w, (gap, _) in zip(WEIGHTS, parts, strict=True)), np.zeros(rows))
    continuous = _score(total, parts[0][1], BIAS, optimum.error)
    names = ("sampled", "sampled_error", "continuous", "continuous_error")
    return {"step": h, **dict(zip(names, sampled + continuous, strict=True))}


def _score(gap: Floats, value: Floats, least: float, stated: float) -> tuple[float, float]:
    """Return the mean gap in standard errors, and that error over the mean |value|, at least `least` and `stated`."""
    size = float(np.abs(value).mean())
    error = max(float(gap.std(ddof=1)) / math.sqrt(len(gap)) / size, least, stated / size)
    return float(gap.mean()) / size / error, error


def _earned(problem: ControlProblem, optimum: Solution, dt: float, seed: int, rows: int) -> tuple[Floats, Floats]:
    """Return each path's discounted rewards less the value at the start, and that value; the seed alone fixes starts.

    Of each step gamma^{k+1} (V(X(z)) - V(X(-z)))/2 is subtracted, z the step's noise: odd in z, hence zero in the mean
    whatever V is, and most of the variance.
    """
    x, exact = problem.initial_state(np.random.default_rng(seed), rows), ExactTransition(problem, dt)
    end = problem.horizon or math.log(1 / LEFT) / problem.discount
    steps = round(end / dt)
    rng = np.random.default_rng([seed, steps])
    start = np.asarray(optimum.value(np.zeros(rows), x))
    gap, weight = -start, 1.0
    for k in range(steps):
        t, noise = np.full(rows, k * dt), rng.standard_normal((rows, exact.noise_dim))
        a = np.asarray(optimum.policy(t, x))
        reward, after, mirrored = exact.reward(t, x, a), exact.step(t, x, a, noise), exact.step(t, x, a, -noise)
        odd = (optimum.value(t + dt, after) - optimum.value(t + dt, mirrored)) / 2
        gap, weight, x = gap + weight * (reward - exact.gamma * odd), weight * exact.gamma, after
    last = problem.terminal_reward(x) if problem.horizon else optimum.value(t + dt, x)
    return gap + weight * last, start
