"""What an optimum's Euler equation needs, so that whoever solves it need know no more of the economy."""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hacontrol_envs.arrays import Array, Floats
from hacontrol_envs.core.discrete import Successors

Consumption = Callable[[Array, Array], Array]
"""c (...) at points x (..., n) with resources m (...)."""


class EulerConditions(abc.ABC):
    """Savers who divide resources, c + a' = m(x) with a' >= a_min, so that at every point x

        u'(c(x)) = max{ u'(m(x) - a_min), beta E[ R(x') u'(c(x')) | x, a' ] },

    R = dm/da: the Euler equation, with its inequality where a' = a_min. A point x (..., n) is all that a choice depends
    on, of the saver and of the economy. Functions are written against the array API and take any leading axes.

    Where work is chosen as well, it follows from x and c by its own first-order condition. Then the budget is

        s(x, c) + a' = m(x),    s(x, c) = c - what is earned by the work chosen with c,

    m is everything else, s increases in c, and m(x) - a_min in the Euler equation becomes `affordable(x, m - a_min)`.
    Utility must be separable between c and work, so that u'(c) depends on c only. (Preferences of Greenwood, Hercowitz
    and Huffman are met as well, with c less the cost of work in the place of c.)

    Whoever declares them (an economy, or a problem) returns them from `conditions()`; agents/README.md has an example.
    """

    discount_factor: float
    """beta, the discount factor per period."""
    limit: float
    """a_min, the least that can be saved."""

    @abc.abstractmethod
    def resources(self, x: Array) -> Array:
        """Return m(x), (...), the resources that are consumed or saved at points x (..., n)."""

    def spending(self, x: Array, c: Array) -> Array:
        """Return s, what consuming c (...) takes from resources, (...): c itself, unless work is chosen."""
        return c

    def affordable(self, x: Array, spending: Array) -> Array:
        """Return the c with s(x, c) = `spending`, (...); differentiable where x and `spending` are torch's."""
        return spending

    @abc.abstractmethod
    def gross_return(self, x: Array, c: Array) -> Array:
        """Return R(x, c), (...), what one more unit saved the period before adds to what is divided, at given c."""

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
        """Return a rule of thumb for c, (...), positive and affordable, at points x (..., n) with resources m (...)."""

    def near_consumption(self) -> Consumption | None:
        """Return a rule near the equilibrium's; None unless something simpler than the equilibrium is known.

        It may exceed the resources: there a saver is at the limit.
        """
        return None

    @abc.abstractmethod
    def start(self, rng: np.random.Generator, size: int) -> Floats:
        """Draw points (size, n) to start from."""


class PopulationConditions(EulerConditions):
    """Euler conditions of many different savers: the economy's state is an aggregate state z and the law of (a, e).

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
