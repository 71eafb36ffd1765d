"""Right and wrong solutions of Brock and Mirman's problem, and what fixed saving shares earn there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy

from hacontrol_benchmarks.measure.planted import Kinds, Planted, Policy, exactly, off, rough, wiggly
from hacontrol_envs import BrockMirman
from hacontrol_envs.arrays import Floats

Value = Callable[[Any, Floats], Floats]


def share_value(problem: BrockMirman, s: float) -> Value:
    """Return the value of saving the share s for ever, A + B log K + C log Z, from V = log c + beta E V(X')."""
    alpha, beta, rho = problem.capital_share, problem.discount_factor, problem.productivity_persistence
    B = alpha / (1 - alpha * beta)
    C = (1 + beta * B) / (1 - beta * rho)
    A = (np.log(1 - s) + beta * B * np.log(s)) / (1 - beta)
    return lambda t, x: A + B * np.log(x[:, 0]) + C * np.log(x[:, 1])


def _share(problem: BrockMirman, s: float, value: Value | None = None) -> Planted:
    """Plant a fixed share, cut to the box, beside a value or alone."""
    s = float(problem.action.clip(np.array([s]))[0])

    def policy(t: Any, x: Floats) -> Floats:
        return np.full((len(x), 1), s)

    return Planted(policy if value is None else (value, policy), exactly(share_value(problem, s)))


def _best(problem: BrockMirman, value: Value | None = None) -> Planted:
    return _share(problem, problem.saving_share, value)


def _wrong(problem: BrockMirman, change: Callable[[Floats, Floats], Floats]) -> Planted:
    """Plant a wrong value, a function of the right one and of states, beside the optimal policy."""
    right = problem.solution().value
    return _best(problem, lambda t, x: change(np.asarray(right(t, x)), x))


def _size(problem: BrockMirman) -> float:
    x = problem.initial_state(np.random.default_rng(0), 256)
    return float(np.abs(problem.solution().value(0.0, x)).mean())


def _scaled(problem: BrockMirman, rng: np.random.Generator) -> Planted:
    factor = off(rng)
    return _wrong(problem, lambda v, x: factor * v)


def _shifted(problem: BrockMirman, rng: np.random.Generator) -> Planted:
    c = (off(rng) - 1) * _size(problem)
    return _wrong(problem, lambda v, x: v + c)


def _homogeneous(problem: BrockMirman, rng: np.random.Generator) -> Planted:
    """Plant V* + f(log Z), where f = beta E f, 1 to 50 % of V* at the starts.

    Where persistence is positive log Z is an Ornstein-Uhlenbeck process seen once a period, and f Kummer's function, an
    eigenfunction of it. Elsewhere V* is shifted.
    """
    size, rho = (off(rng) - 1) * _size(problem), problem.productivity_persistence
    if rho <= 0:
        return _wrong(problem, lambda v, x: v + size)
    order = np.log(problem.discount_factor) / np.log(rho) / 2

    def raised(v: Floats, x: Floats) -> Floats:
        z = np.log(x[:, 1]) / problem.productivity_deviation
        wrong: Floats = v + size * scipy.special.hyp1f1(order, 0.5, z**2 / 2)
        return wrong

    return _wrong(problem, raised)


def _along_capital(
    change: Callable[[Policy, float, float], Policy], problem: BrockMirman, size: float, often: float
) -> Planted:
    """Plant the optimal share, changed along log capital."""
    changed = change(problem.solution().policy, size, often)
    return Planted(lambda t, x: problem.action.clip(changed(t, np.log(x))), None)


KINDS: Kinds = {
    "optimum with V": lambda problem, rng: _best(problem, problem.solution().value),
    "optimum": lambda problem, rng: _best(problem),
    "policy scaled": lambda problem, rng: _share(problem, off(rng) * problem.saving_share),
    "policy scaled, V right": lambda problem, rng: _share(
        problem, off(rng) * problem.saving_share, problem.solution().value
    ),
    "policy wiggly": lambda problem, rng: _along_capital(wiggly, problem, off(rng) - 1, rng.uniform(2, 20)),
    "policy rough": lambda problem, rng: _along_capital(rough, problem, off(rng) - 1, rng.uniform(20, 300)),
    "V scaled": _scaled,
    "V shifted": _shifted,
    "V and homogeneous": _homogeneous,
}
