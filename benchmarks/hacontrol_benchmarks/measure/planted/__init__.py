"""Policies and values whose worth is known, right ones and wrong ones, for certificates to be tried on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from hacontrol_envs import Jet
from hacontrol_envs.arrays import Floats

Policy: TypeAlias = Callable[[Any, Floats], Floats]
"""Function of times and states (N, n) to actions (N, m)."""
JetFunction: TypeAlias = Callable[[Any, Floats], Jet]
"""Function of times and states (N, n) to a value with its derivatives."""


class Worth(NamedTuple):
    """What a policy earns from given states."""

    mean: float
    """Its mean over the states."""
    error: float
    """Estimated error of that."""


class Planted(NamedTuple):
    """What is given to `certify`, and what its policy earns."""

    agent: Any
    """An agent, a pair (V, policy) or a policy."""
    worth: Callable[[Floats], Worth] | None
    """Function of initial states (S, n) to what the policy earns from them; None where that is not known."""


Kind: TypeAlias = Callable[[Any, np.random.Generator], Planted]
"""Function that plants a right or wrong solution of a problem, given a generator that draws how wrong."""
Kinds: TypeAlias = Mapping[str, Kind]
"""By name."""


def exactly(value: Callable[[Any, Floats], Floats]) -> Callable[[Floats], Worth]:
    """Return the worth of a policy whose value (t, x) -> (N,) is known without an error."""
    return lambda x: Worth(float(np.mean(value(0.0, x))), 0.0)


def off(rng: np.random.Generator) -> float:
    """Draw a factor that is 1 to 50 % off, up or down."""
    factor: float = 1 + rng.choice([-1.0, 1.0]) * 0.01 * 50 ** rng.random()
    return factor


def scaled(jet: JetFunction, factor: float) -> JetFunction:
    """Return a value times a factor."""
    return lambda t, x: Jet(*(factor * part for part in jet(t, x)))


def plus(jet: JetFunction, other: JetFunction) -> JetFunction:
    """Return the sum of two values."""
    return lambda t, x: Jet(*(one + two for one, two in zip(jet(t, x), other(t, x), strict=True)))


def constant(c: float) -> JetFunction:
    """Return a value that is c everywhere."""

    def jet(t: Any, x: Floats) -> Jet:
        n = x.shape[1]
        return Jet(np.full(len(x), c), np.zeros(len(x)), np.zeros_like(x), np.zeros((len(x), n, n)))

    return jet


def growing(c: float, rate: float) -> JetFunction:
    """Return c e^{rate t}, which solves rate f = f_t."""

    def jet(t: Any, x: Floats) -> Jet:
        v = c * np.exp(rate * np.broadcast_to(t, len(x)))
        return constant(0.0)(t, x)._replace(v=v, v_t=rate * v)

    return jet


def wiggly(policy: Policy, size: float, often: float) -> Policy:
    """Return a policy times 1 + size sin(often x_1), as smooth as it is.

    Args:
        policy: the policy.
        size: relative size of the change.
        often: radians per unit of x_1.
    """
    return lambda t, x: policy(t, x) * (1 + size * np.sin(often * x[:, :1]))


def rough(policy: Policy, size: float, often: float) -> Policy:
    """Return a policy times 1 + size or 1 - size, which changes with the sign of sin(often x_1).

    Args:
        policy: the policy.
        size: relative size of the change.
        often: radians per unit of x_1.
    """
    return lambda t, x: policy(t, x) * (1 + size * np.sign(np.sin(often * x[:, :1])))
