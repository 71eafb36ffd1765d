"""The exact transition of a problem sampled at step dt, by which agents are judged whatever scheme they learnt on."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias, final

import numpy as np

from hacontrol_envs import Problem
from hacontrol_envs.arrays import Array, Floats

Policy: TypeAlias = "Callable[[Array, Floats], Any]"
"""Function of times (...) and physical states (..., n) that returns physical actions (..., m)."""


@final
@dataclass(frozen=True)
class ExactTransition:
    """Transition and expected reward of a step of length dt, the action held, both without discretisation error."""

    problem: Problem
    """The problem whose transition this is."""
    dt: float
    """Length of a step, in the problem's unit of time."""

    @property
    def gamma(self) -> float:
        """Discount factor of a step, e^{-rho dt}."""
        return math.exp(-self.problem.discount * self.dt)

    @property
    def noise_dim(self) -> int:
        """Number of standard normals that a step takes."""
        return self.problem.exact_noise_dim

    def step(self, t: Array, x: Floats, a: Floats, noise: Floats) -> Floats:
        """Return the state after a step, (..., n).

        Args:
            t: times at the start, (...).
            x: physical states at the start, (..., n).
            a: physical actions, held over the step, (..., m).
            noise: standard normals, (..., noise_dim).
        """
        after = self.problem.exact_step(t, x, a, self.dt, noise)
        assert after is not None  # `known_transition` has seen to it
        return after

    def transition(self, t: Array, x: Floats, a: Floats, noise: Floats) -> tuple[Floats, Floats]:
        """Return the state after a step, (..., n), and its expected reward, (...), computed together to save work.

        Args:
            t: times at the start, (...).
            x: physical states at the start, (..., n).
            a: physical actions, held over the step, (..., m).
            noise: standard normals, (..., noise_dim).
        """
        after, reward = self.problem.exact_transition(t, x, a, self.dt, noise)
        assert after is not None
        assert reward is not None
        return after, reward

    def reward(self, t: Array, x: Floats, a: Floats) -> Floats:
        """Return the expected discounted reward of a step, (...).

        Args:
            t: times at the start, (...).
            x: physical states at the start, (..., n).
            a: physical actions, held over the step, (..., m).
        """
        reward = self.problem.exact_reward(t, x, a, self.dt)
        assert reward is not None
        return reward


def known_transition(problem: Problem, dt: float) -> ExactTransition | None:
    """Return the exact transition, or None where the problem does not know it."""
    x = problem.some_states(np.random.default_rng(0), 1)
    a = problem.action.from_unit(np.zeros((1, problem.action.dimension)))
    t, noise = np.zeros(1), np.zeros((1, problem.exact_noise_dim))
    step = problem.exact_step(t, x, a, dt, noise)
    return None if step is None or problem.exact_reward(t, x, a, dt) is None else ExactTransition(problem, dt)


def act(problem: Problem, policy: Policy, t: Floats, x: Floats) -> Floats:
    """Return a policy's physical actions, clipped to the action box, in float64, (..., m).

    Args:
        problem: the problem, which has the box.
        policy: function of times and physical states that returns physical actions.
        t: times, (...).
        x: physical states, (..., n).

    Raises:
        FloatingPointError: an action is not finite.
    """
    a = np.asarray(policy(t, x), dtype=np.float64)
    if not np.isfinite(a).all():
        raise FloatingPointError("the policy returned an action that is not finite")
    return np.clip(a, problem.action.low, problem.action.high)
