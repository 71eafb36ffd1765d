"""Right and wrong solutions of Merton's problem, and what fixed portfolios earn there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy

from hacontrol_benchmarks.measure.planted import (
    JetFunction,
    Kinds,
    Planted,
    Policy,
    Worth,
    constant,
    exactly,
    growing,
    off,
    one_state,
    plus,
    rough,
    scaled,
    wiggly,
)
from hacontrol_envs import Jet, Merton
from hacontrol_envs.arrays import Floats


def timed_worth(problem: Merton, actions: Callable[[float], Floats]) -> Callable[[Floats], Worth]:
    """Return what actions earn that depend on time alone, over a finite horizon, at risk aversion g other than 1.

    J = u(x) [ int_0^T k^{1-g} e^{int_0^t G} dt + bequest e^{int_0^T G} ], G = (1 - g) (growth - g variance/2) - rho.

    Args:
        problem: the problem.
        actions: fractions and consumption per unit of wealth, (assets + 1,), at a time.
    """
    g, end = problem.risk_aversion, float(problem.horizon or 0.0)

    def forward(t: float, y: Floats) -> Floats:
        a = actions(t)
        load = problem.sigma.T @ a[:-1]
        growth = problem.risk_free_rate + problem.excess @ a[:-1] - a[-1]
        return np.array(
            [(1 - g) * (growth - g * (load @ load) / 2) - problem.discount, a[-1] ** (1 - g) * np.exp(y[0])]
        )

    power, paid = scipy.integrate.solve_ivp(forward, (0, end), np.zeros(2), "DOP853", rtol=1e-12, atol=1e-13).y[:, -1]
    factor = float(paid + problem.bequest * np.exp(power))
    return exactly(lambda t, x: factor * x[:, 0] ** (1 - g) / (1 - g))


def _proportional(problem: Merton, factor: Any, *, value: JetFunction | None = None, shift: Any = 0.0) -> Planted:
    """Plant the optimal policy times a factor and shifted, beside a value or alone.

    Args:
        problem: the problem.
        factor: a number, or one for each action.
        value: the value; None for none.
        shift: what is added to actions.
    """
    optimum = problem.solution()

    def policy(t: Any, x: Floats) -> Floats:
        played: Floats = np.asarray(optimum.policy(t, x)) * factor + shift
        return played

    def at(t: float) -> Floats:
        actions: Floats = policy(np.array([t]), np.ones((1, 1)))[0]
        return actions

    if problem.horizon is None:
        worth = exactly(lambda t, x: problem.constant_action_value(x, np.tile(at(0.0), (len(x), 1))))
    else:
        worth = timed_worth(problem, at)
    return Planted(policy if value is None else (value, policy), worth)


def _factors(problem: Merton, rng: np.random.Generator) -> Floats:
    return np.array([off(rng) for _ in range(problem.assets + 1)])


def _shifted(problem: Merton, rng: np.random.Generator) -> Planted:
    """Plant actions shifted within their box."""
    box = problem.action
    optimal = np.asarray(problem.solution().policy(np.zeros(1), np.ones((1, 1))))[0]
    goal = np.where(rng.random(len(optimal)) < 0.5, box.low, box.high)
    return _proportional(problem, 1.0, shift=abs(off(rng) - 1) * (goal - optimal))


def _wiggly(problem: Merton, rng: np.random.Generator) -> Planted:
    """Plant a policy that oscillates in log wealth; what it earns is known over an infinite horizon."""
    size, often, g = off(rng) - 1, rng.uniform(1, 6), problem.risk_aversion
    policy = _of_log(wiggly, problem, 0.5 * size, often)
    tilt = float((1 - g) * problem.state.half_width[0])
    return Planted(policy, one_state.worth(problem, policy, tilt) if problem.horizon is None else None)


def _of_log(change: Callable[[Policy, float, float], Policy], problem: Merton, size: float, often: float) -> Policy:
    """Return the optimal policy changed along log wealth."""
    changed = change(lambda t, s: problem.solution().policy(t, np.exp(s)), size, often)
    return lambda t, x: changed(t, np.log(x))


def _rough(problem: Merton, rng: np.random.Generator) -> Planted:
    return Planted(_of_log(rough, problem, 0.5 * (off(rng) - 1), rng.uniform(5, 200)), None)


def _jet(problem: Merton) -> JetFunction:
    jet = problem.solution().jet
    assert jet is not None
    return jet


def _wrong_value(problem: Merton, wrong: JetFunction) -> Planted:
    """Plant a wrong value beside the optimal policy."""
    optimum = problem.solution()
    return Planted((wrong, optimum.policy), exactly(optimum.value))


def _size(problem: Merton) -> float:
    x = problem.initial_state(np.random.default_rng(0), 256)
    return float(np.abs(problem.solution().value(0.0, x)).mean())


def _homogeneous(problem: Merton, rng: np.random.Generator) -> Planted:
    """Plant V* + f, where f solves rho f = f_t + L f under the optimal policy, 1 to 50 % of V* at the starts.

    Over an infinite horizon f = c x^m, m a root of m growth + m (m - 1) variance/2 = rho.
    """
    size = (off(rng) - 1) * _size(problem)
    if problem.horizon is not None:
        return _wrong_value(problem, plus(_jet(problem), growing(size, problem.discount)))
    a = np.asarray(problem.solution().policy(np.zeros(1), np.ones((1, 1))))[0]
    load = problem.sigma.T @ a[:-1]
    growth, variance = problem.risk_free_rate + problem.excess @ a[:-1] - a[-1], load @ load
    m = float(rng.choice(np.roots([variance / 2, growth - variance / 2, -problem.discount])))

    def power(t: Any, x: Floats) -> Jet:
        v = size * x[:, 0] ** m
        return Jet(v, np.zeros(len(x)), m * v[:, None] / x, m * (m - 1) * (v / x[:, 0] ** 2)[:, None, None])

    return _wrong_value(problem, plus(_jet(problem), power))


def _endless(problem: Merton, rng: np.random.Generator) -> Planted:
    """Plant the value and policy of the infinite horizon over a finite one, where it has no residual."""
    endless = Merton(**{**problem.parameters, "horizon": None})
    optimum = endless.solution()

    def at(t: float) -> Floats:
        actions: Floats = np.asarray(optimum.policy(np.array([t]), np.ones((1, 1))))[0]
        return actions

    return Planted((optimum.jet, optimum.policy), timed_worth(problem, at))


def _scaled(problem: Merton, rng: np.random.Generator) -> Planted:
    """Plant V* scaled, with the policy that is greedy for it."""
    factor, g = off(rng), problem.risk_aversion
    greedy = np.append(np.ones(problem.assets), factor ** (-1 / g))
    return _proportional(problem, greedy, value=scaled(_jet(problem), factor))


BOTH: Kinds = {
    "optimum with V": lambda problem, rng: _proportional(problem, 1.0, value=_jet(problem)),
    "optimum": lambda problem, rng: _proportional(problem, 1.0),
    "policy scaled": lambda problem, rng: _proportional(problem, _factors(problem, rng)),
    "policy scaled, V right": lambda problem, rng: _proportional(problem, _factors(problem, rng), value=_jet(problem)),
    "policy shifted": _shifted,
    "policy wiggly": _wiggly,
    "policy rough": _rough,
    "V scaled": lambda problem, rng: _wrong_value(problem, scaled(_jet(problem), off(rng))),
    "V scaled, greedy": _scaled,
    "V shifted": lambda problem, rng: _wrong_value(
        problem, plus(_jet(problem), constant((off(rng) - 1) * _size(problem)))
    ),
    "V and homogeneous": _homogeneous,
}
FINITE: Kinds = {**BOTH, "infinite horizon": _endless}
"""Over a finite horizon."""
KINDS: Kinds = BOTH
"""Over an infinite horizon."""
