"""What bounds are made of, whether time is continuous or discrete: coordinates, functions, and what these say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np

from hacontrol_envs import Problem
from hacontrol_envs.arrays import Floats

Policy: TypeAlias = Callable[[Any, Floats], Floats]
"""Function (t, x) -> physical actions (N, m)."""


class Barrier(NamedTuple):
    """e(s) = exp(k (q - 1)), q = z or (z + 1)^2/4, with z = side (s_i - center)/half: 1 on an edge, less inside."""

    i: int
    """Number of the coordinate."""
    scale: float
    """side/half."""
    center: float
    """The middle of the region."""
    kind: int
    """1 for an exponential, 2 for a Gaussian."""
    k: float
    """The exponent."""

    def jet(self, s: Floats) -> tuple[Floats, Floats, Floats]:
        """Return e and its first two derivatives in s_i, each (...), at values (...) of s_i."""
        z = self.scale * (s - self.center)
        q, first, second = (z, np.ones_like(z), 0.0) if self.kind == 1 else ((z + 1) ** 2 / 4, (z + 1) / 2, 0.5)
        e = np.exp(self.k * (q - 1))
        slope = self.k * first
        return e, e * slope * self.scale, e * (self.k * second + slope**2) * self.scale**2


class At(Protocol):
    """What a candidate says at points (t, x) under actions a."""

    @property
    def t(self) -> Floats:
        """Times, (N,)."""

    @property
    def x(self) -> Floats:
        """States, (N, n)."""

    @property
    def a(self) -> Floats:
        """Actions, (N, m)."""

    @property
    def s(self) -> Floats:
        """Points in coordinates, (N, k)."""

    @property
    def residual(self) -> Floats:
        """What W falls short of its equation: h, or r + beta E W(X') - W, (N,)."""

    @property
    def weight(self) -> Floats:
        """psi, (N,)."""

    @property
    def yielded(self) -> Floats:
        """What psi loses by discounting, relative to psi: per unit of time, or per period, (N,)."""

    @property
    def size(self) -> Floats:
        """The size of the equation's terms, (N,)."""

    def excess(self, barrier: Barrier) -> Floats:
        """Return (L - rate) e, or beta E e(X') - e, (N,), under the law weighted by psi."""

    def select(self, rows: Any) -> At:
        """Return the points at some rows, given as a mask or as indices."""

    def joined(self, other: Any) -> At:
        """Return these points followed by others."""

    def replaced(self, rows: Any, other: Any) -> At:
        """Return these points with those of another at rows given as a mask (N,)."""


class Frame(Protocol):
    """Coordinates s of states, in which regions are boxes; see `Coordinates`."""

    states: int
    size: int
    timed: bool
    horizon: float
    evaluations: int

    @property
    def problem(self) -> Problem:
        """The problem."""

    @property
    def ends(self) -> tuple[Floats, Floats]:
        """Least and largest s of the states, (n,) each, infinite where nothing bounds them."""

    @property
    def constrained(self) -> Floats:
        """Components (n,) at whose ends choices are cut so that paths stay."""

    @property
    def reflecting(self) -> Floats:
        """Components (n,) at whose ends paths are reflected."""

    def expansion(self, low: Floats, high: Floats, degree: int) -> Any:
        """Return the polynomials of a total degree on a box of s.

        Args:
            low: least values of the box.
            high: largest values of the box.
            degree: the total degree.
        """

    def of(self, t: Floats, x: Floats) -> Floats:
        """Return s (N, k) at times t (N,) and states x (N, n)."""

    def back(self, s: Floats) -> tuple[Floats, Floats]:
        """Return times (N,) and states (N, n) at s (N, k)."""


class Candidate(Protocol):
    """A function W = V + b p to bound values with; see `Value` and `PeriodValue`."""

    @property
    def coordinates(self) -> Frame:
        """Coordinates of its states."""

    @property
    def lasting(self) -> float:
        """What a reward of one for all time is worth."""

    def plus(self, expansion: Any, weights: Floats) -> Candidate:
        """Return W plus the factor b times a sum of polynomials with weights (K,)."""

    def lifted(self, share: float) -> Candidate:
        """Return W + share psi."""

    def value(self, t: Floats, x: Floats) -> Floats:
        """Return W (N,) at times t (N,) and states x (N, n)."""

    def weight(self, t: Floats, x: Floats) -> Floats:
        """Return psi (N,) at times t (N,) and states x (N, n)."""

    def factors(self, t: Floats, x: Floats) -> Floats:
        """Return b (N,) at times t (N,) and states x (N, n)."""

    def rates(self, t: Floats, x: Floats, a: Floats) -> At:
        """Return what W says at times t (N,) and states x (N, n) under actions a (N, m).

        Args:
            t: times, (N,).
            x: states, (N, n).
            a: actions, (N, m).
        """

    def rows(self, expansion: Any, at: Any) -> Floats:
        """Return what b times each polynomial takes from the residual, over psi, (N, K)."""

    def slopes(self, expansion: Any, s: Floats, i: int) -> tuple[Floats, Floats]:
        """Return slopes over psi in the coordinate i, of b times each polynomial (N, K), and of W (N,).

        Args:
            expansion: the polynomials.
            s: points, (N, k).
            i: number of the coordinate.
        """

    def played(self, policy: Policy, t: Floats, x: Floats) -> Floats:
        """Return the admissible actions (N, m) of a policy at times t (N,) and states x (N, n).

        Args:
            policy: a function (t, x) -> actions.
            t: times, (N,).
            x: states, (N, n).
        """

    def greedy(self, t: Floats, x: Floats) -> Floats:
        """Return the actions (N, m) that W finds best at times t (N,) and states x (N, n)."""

    def loss(self, at: Any) -> Floats:
        """Return what the actions of some points lose against the greedy ones, (N,)."""
