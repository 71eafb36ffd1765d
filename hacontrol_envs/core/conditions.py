"""What a discrete-time economy of savers declares of its equilibrium, so that whoever solves it need know no more."""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hacontrol_envs.arrays import Array, Floats
from hacontrol_envs.core.discrete import Successors


class Observed(NamedTuple):
    """What an observation of an environment says of a saver and of the others."""

    x: Floats
    """Points, (..., n)."""
    law: Floats | None
    """Laws (..., n_e, n_a), where they are observed."""


Consumption = Callable[[Array, Array], Array]
"""c (...) at points x (..., n) with resources m (...)."""


class EquilibriumConditions(abc.ABC):
    """Savers who divide resources, c + a' = m(x) with a' >= a_min, so that at every point x

        u'(c(x)) = max{ u'(m(x) - a_min), beta E[ R(x') u'(c(x')) | x, a' ] },

    R = dm/da: the Euler equation, with its inequality where a' = a_min. A point x (..., n) is all that a choice depends
    on, of the saver and of the economy. Functions are written against the array API and take any leading axes.
    """

    discount_factor: float
    """beta, the discount factor per period."""
    limit: float
    """a_min, the least that can be saved."""

    @abc.abstractmethod
    def resources(self, x: Array) -> Array:
        """Return m(x), (...), the resources that are consumed or saved at points x (..., n)."""

    @abc.abstractmethod
    def gross_return(self, x: Array) -> Array:
        """Return R(x), (...), what one more unit saved the period before adds to resources at points x (..., n)."""

    @abc.abstractmethod
    def following(self, x: Array, saving: Array, capital: Array) -> Successors:
        """Return the points x' (..., S, n) that may follow, and their probabilities (..., S).

        Args:
            x: points, (..., n).
            saving: a', (...).
            capital: the mean of a' over all savers, (...); only `PopulationConditions` reads it.
        """

    @abc.abstractmethod
    def marginal_utility(self, c: Array) -> Array:
        """Return u'(c), (...), at consumption c (...)."""

    @abc.abstractmethod
    def inverse_marginal_utility(self, u: Array) -> Array:
        """Return the consumption c, (...), at which u'(c) = u, for u (...)."""

    @abc.abstractmethod
    def coordinates(self, x: Array) -> Array:
        """Return points x (..., n) in coordinates (..., k) in which choices vary evenly, for their approximation."""

    @abc.abstractmethod
    def simple_consumption(self, x: Array, resources: Array) -> Array:
        """Return a rule of thumb for c, (...), between 0 and m - a_min, at points x (..., n) with resources m (...)."""

    def near_consumption(self) -> Consumption | None:
        """Return a rule near the equilibrium's; None unless something simpler than the equilibrium is known.

        It may exceed the resources: there a saver is at the limit.
        """
        return None

    @abc.abstractmethod
    def start(self, rng: np.random.Generator, size: int) -> Floats:
        """Draw points (size, n) to start from."""

    @abc.abstractmethod
    def observed(self, y: Floats) -> Observed:
        """Return the points, and any laws, that observations y of the environment stand for, in physical units."""

    @abc.abstractmethod
    def action(self, x: Array, saving: Array) -> Array:
        """Return the action (..., m) of the problem's environment that saves a' (...) at points x (..., n)."""


class PopulationConditions(EquilibriumConditions):
    """Equilibrium conditions of many different savers: the economy's state is an aggregate state z and a law of (a, e).

    Laws are histograms (..., n_e, n_a) of mass one. What matters to everyone is the mean of a, capital; it is part of
    every point, and its next value is the mean of a' under the law.
    """

    assets: Floats
    """Nodes of the law, (n_a,)."""
    states: int
    """n_e, the number of idiosyncratic states e."""
    representative_capital: float
    """Mean assets if savers pooled their risks: with risks of their own they save more, but not many times as much."""
    spread: float
    """Roughly the standard deviation of log capital."""

    @abc.abstractmethod
    def place(self, assets: Floats, e: Any, z: Any, capital: Floats) -> Floats:
        """Return points (..., n) of savers in economies.

        Args:
            assets: a of each saver, (...).
            e, z: numbers of the saver's own and of the aggregate state, (...).
            capital: mean assets of each economy, (...).
        """

    @abc.abstractmethod
    def capital_of(self, law: Array) -> Array:
        """Return mean assets (...) of laws (..., n_e, n_a)."""

    @abc.abstractmethod
    def populations(self, rng: np.random.Generator, near: bool, size: int) -> tuple[NDArray[np.int64], Floats]:
        """Draw states z (size,) and laws (size, n_e, n_a) to start from.

        Args:
            rng: generator of the draws.
            near: whether laws are near the equilibrium's; otherwise they have a simple form.
            size: number of economies.
        """

    @abc.abstractmethod
    def scaled(self, law: Floats, factor: Floats) -> Floats:
        """Return laws (..., n_e, n_a) with all wealth above the limit times factors (...)."""

    @abc.abstractmethod
    def moved(
        self, law: Floats, saving: Floats, z: NDArray[np.int64], rng: np.random.Generator
    ) -> tuple[NDArray[np.int64], Floats]:
        """Draw the states (...) and laws (..., n_e, n_a) of economies a period later.

        Args:
            law: laws now, (..., n_e, n_a).
            saving: a' of the savers in each cell of the law, (..., n_e, n_a).
            z: numbers of the aggregate states now, (...).
            rng: generator of the next aggregate states.
        """
