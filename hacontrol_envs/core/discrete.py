"""DiscreteProblem: a controlled Markov chain in discrete time, its expectation and its Bellman residual."""

from __future__ import annotations

import abc
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, final

from hacontrol_envs.arrays import Array, Floats, namespace
from hacontrol_envs.core.problem import Problem
from hacontrol_envs.errors import ParameterError

if TYPE_CHECKING:
    from hacontrol_envs.core.conditions import EulerConditions


class Successors(NamedTuple):
    """The states that may follow, and how likely each is."""

    x: Array
    """Next states, (..., S, n)."""
    probability: Array
    """Their probabilities, (..., S); they sum to one."""


class Observed(NamedTuple):
    """What an observation of an environment says of a saver and of the others."""

    x: Floats
    """Points of the problem's `conditions`, (..., n)."""
    law: Floats | None
    """Laws (..., n_e, n_a), where they are observed."""


class DiscreteProblem(Problem):
    """Maximise E sum_k beta^k r(X_k, A_k) with X_{k+1} = f(X_k, A_k, xi_{k+1}), one step a period.

    The value function solves the Bellman equation V(x) = max_a { r(x, a) + beta E[V(X') | x, a] }. What the generator
    is to a diffusion, the expectation E[. | x, a] is here, and the Bellman residual takes the place of the HJB residual
    (Stokey and Lucas, 1989, Recursive Methods in Economic Dynamics).

    A subclass states `transition`, `reward`, `successors`, `initial_state`, `discount_factor`, the boxes and
    `noise_dim`. Time is in periods, so that `discount` is -log(beta) and gamma of an environment is beta.
    """

    discount_factor: float
    """beta, the discount factor per period."""
    horizon = None

    @property
    def discount(self) -> float:  # type: ignore[override]
        """The discount rate -log(beta), per period."""
        return -math.log(self.discount_factor)

    @abc.abstractmethod
    def transition(self, x: Floats, a: Floats, noise: Floats) -> Floats:
        """Return the next states X', (..., n).

        Args:
            x: states, (..., n).
            a: physical actions, (..., m).
            noise: standard normals, (..., noise_dim).
        """

    @abc.abstractmethod
    def reward(self, x: Array, a: Array) -> Array:
        """Return r(x, a), (...), the reward of a period in states x (..., n) under actions a (..., m)."""

    def period(self, x: Floats, a: Floats, noise: Floats) -> tuple[Floats, Floats]:
        """Return `transition` and `reward` of the same period, which some problems compute at once to save work.

        Args:
            x, a, noise: see `transition`.
        """
        return self.transition(x, a, noise), self.reward(x, a)

    @abc.abstractmethod
    def successors(self, x: Array, a: Array) -> Successors:
        """Return what follows x (..., n) under a (..., m): every state of discrete shocks, else a quadrature rule."""

    def conditions(self) -> EulerConditions | None:
        """Return the Euler equation that an optimum, or the equilibrium of its economy, meets; None by default.

        A problem that declares it also translates: `decode_observation` and `action_of_saving`.
        """
        return None

    def decode_observation(self, y: Floats) -> Observed:
        """Return the points of `conditions` that observations y (..., k), in physical units, tell: y, by default."""
        return Observed(y, None)

    def action_of_saving(self, x: Array, saving: Array) -> Array:
        """Return the action (..., m) that saves a' (...) at points x (..., n) of `conditions`.

        Raises:
            NotImplementedError: the problem does not say.
        """
        raise NotImplementedError(f"{type(self).__name__} does not say which action saves how much")

    @final
    def expectation(self, x: Array, a: Array, value: Callable[[Array], Array]) -> Array:
        """Return E[value(observe(X')) | x, a], (...).

        Args:
            x: states, (..., n).
            a: physical actions, (..., m).
            value: a function of what is observed of states, (..., k) -> (...).
        """
        after = self.successors(x, a)
        return namespace(x).sum(value(self.observe(after.x)) * after.probability, axis=-1)

    @final
    def bellman_residual(self, x: Array, a: Array, value: Callable[[Array], Array]) -> Array:
        """Return r + beta E[V(X')] - V, (...): zero at the optimum, and <= 0 for any other action there.

        Args:
            x: states, (..., n).
            a: physical actions, (..., m).
            value: V, a function of what is observed of states, (..., k) -> (...).
        """
        later = self.expectation(x, a, value)
        return self.reward(x, a) + self.discount_factor * later - value(self.observe(x))

    @final
    def exact_step(self, t: Array, x: Floats, a: Floats, dt: float, noise: Floats) -> Floats:
        """Return the next states, (..., n): a step is one period.

        Raises:
            ParameterError: dt is not 1.
        """
        self._refuse_other_step(dt)
        return self.transition(x, a, noise)

    def _refuse_other_step(self, dt: float) -> None:
        if dt != 1:
            raise ParameterError(f"{type(self).__name__} moves once a period: dt must be 1, got {dt}")

    @final
    def exact_reward(self, t: Array, x: Floats, a: Floats, dt: float) -> Floats:
        """Return the reward of the period, (...)."""
        paid: Floats = self.reward(x, a)
        return paid

    @final
    def exact_transition(
        self, t: Array, x: Floats, a: Floats, dt: float, noise: Floats, out: tuple[Floats, Floats] | None = None
    ) -> tuple[Floats, Floats]:
        """Return `period`, the next states and the reward, in new arrays.

        Raises:
            ParameterError: dt is not 1.
        """
        self._refuse_other_step(dt)
        return self.period(x, a, noise)
