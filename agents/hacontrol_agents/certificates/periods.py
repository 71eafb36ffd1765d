"""Periods: candidates in discrete time, where an expectation takes the place of the generator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias, final

import numpy as np

from hacontrol_agents.certificates.candidate import Barrier, Policy
from hacontrol_agents.certificates.expansion import Expansion
from hacontrol_agents.certificates.extended import Extended, nearest
from hacontrol_agents.certificates.maximum import maximum_point
from hacontrol_envs import DiscreteProblem, Problem
from hacontrol_envs.arrays import Floats
from hacontrol_envs.errors import ParameterError

MOST_STATES, MOST_LEVELS = 3, 32
"""Most states of a problem that is certified, and most values of a state that counts as finite."""
DRAWN = 256
"""States that are drawn to see which components are finite."""

StateFunction: TypeAlias = Callable[[Floats], Floats]
"""Function of states (N, n) -> (N,)."""


def refuse_large(problem: DiscreteProblem) -> None:
    """Raise ParameterError if a problem has more states or actions than are searched."""
    n, m = problem.state.dimension, problem.action.dimension
    if n > MOST_STATES or m > 1:
        raise ParameterError(
            f"certify searches up to {MOST_STATES} states and one action in discrete time; "
            f"{type(problem).__name__} has {n} and {m}"
        )


@final
class States:
    """Points s = u(x), the unit coordinates of `problem.state`, and which of its components take few values."""

    timed, horizon = False, 0.0
    evaluations = 0

    def __init__(self, problem: DiscreteProblem) -> None:
        self.domain = problem.state
        n = self.domain.dimension
        self.problem, self.states, self.size = problem, n, n
        self.levels = self._finite()
        """Values in s of the components that take few, by number."""
        self.ends = self._ends()
        self.constrained = np.array([i not in self.levels for i in range(n)])
        self.reflecting = np.zeros(n, dtype=bool)

    def _finite(self) -> dict[int, Floats]:
        """Return the values of components that take few among many states and what follows them."""
        x = self.problem.some_states(np.random.default_rng(0), DRAWN)
        after = self.problem.successors(x, np.broadcast_to(self.problem.action.center, (DRAWN, 1))).x
        s = self.domain.to_unit(np.concatenate([x, after.reshape(-1, self.states)]))
        values = [np.unique(s[:, i]) for i in range(self.states)]
        return {i: levels for i, levels in enumerate(values) if len(levels) <= MOST_LEVELS}

    def _ends(self) -> tuple[Floats, Floats]:
        """Return the ends of what can be observed where states are observed as they are, and of finite components."""
        problem, ends = self.problem, [np.full(self.states, -np.inf), np.full(self.states, np.inf)]
        if type(problem).observe is Problem.observe:
            for end, bound in zip(ends, problem.observation_bounds, strict=True):
                known = np.isfinite(bound) & (~self.domain.log | (bound > 0))
                end[known] = self.domain.to_unit(np.where(known, bound, self.domain.low))[known]
        for i, levels in self.levels.items():
            ends[0][i], ends[1][i] = levels[0], levels[-1]
        return ends[0], ends[1]

    def expansion(self, low: Floats, high: Floats, degree: int) -> Extended:
        """Return polynomials of a total degree on a box of s, for each combination of finite components.

        Args:
            low: least values of the box.
            high: largest values of the box.
            degree: the total degree.
        """
        free = [i for i in range(self.states) if i not in self.levels]
        return Extended(self.levels, free, Expansion(low[free], high[free], degree))

    def of(self, t: Floats, x: Floats) -> Floats:
        """Return s (N, n) of states x (N, n)."""
        s: Floats = self.domain.to_unit(x)
        return s

    def back(self, s: Floats) -> tuple[Floats, Floats]:
        """Return times zero (N,) and states (N, n) at s (N, n), the nearest that there are."""
        snapped = np.clip(s, *self.ends)
        for i, levels in self.levels.items():
            snapped[:, i] = levels[nearest(levels, s[:, i])]
        return np.zeros(len(s)), self.domain.from_unit(snapped)


class Periods(NamedTuple):
    """What a candidate says at points under actions a; see `At`."""

    t: Floats
    """Times, zero, (N,)."""
    x: Floats
    """States, (N, n)."""
    a: Floats
    """Actions, (N, 1)."""
    s: Floats
    """Points in `States`, (N, n)."""
    after: Floats
    """What follows them, in `States`, (N, S, n)."""
    odds: Floats
    """beta times its probabilities, (N, S)."""
    residual: Floats
    """r + beta E W(X') - W, (N,)."""
    weight: Floats
    """psi, a constant, (N,)."""
    yielded: Floats
    """1 - beta, (N,)."""
    size: Floats
    """|r| + (1 - beta) psi, the size of the equation's terms, (N,)."""

    def excess(self, barrier: Barrier) -> Floats:
        """Return beta E e(X') - e, (N,)."""
        e, later = (barrier.jet(points[..., barrier.i])[0] for points in (self.s, self.after))
        found: Floats = (later * self.odds).sum(axis=1) - e
        return found

    def select(self, rows: Any) -> Periods:
        """Return the points at some rows, given as a mask or as indices."""
        return Periods._make(part[rows] for part in self)

    def joined(self, other: Periods) -> Periods:
        """Return these points followed by others."""
        return Periods._make(map(np.concatenate, zip(self, other, strict=True)))

    def replaced(self, rows: Any, other: Periods) -> Periods:
        """Return these points with those of another at rows given as a mask (N,)."""
        new = Periods._make(part.copy() for part in self)
        for part, instead in zip(new, other, strict=True):
            part[rows] = instead[rows]
        return new


@final
class PeriodValue:
    """W = V0 + psi p, with V0 a base, p polynomials and psi a constant."""

    def __init__(
        self, coordinates: States, base: StateFunction, psi: float, terms: tuple[tuple[Extended, Floats], ...] = ()
    ) -> None:
        """Combine a base and its corrections.

        Args:
            coordinates: coordinates of the problem.
            base: V0.
            psi: the constant.
            terms: polynomials with their weights.
        """
        self.coordinates, self.problem, self.base = coordinates, coordinates.problem, base
        self.psi, self.terms = psi, terms

    @property
    def lasting(self) -> float:
        """What a reward of one in all periods is worth, 1/(1 - beta)."""
        return 1 / (1 - self.problem.discount_factor)

    def plus(self, expansion: Extended, weights: Floats) -> PeriodValue:
        """Return W plus psi times a sum of polynomials with weights (K,)."""
        return PeriodValue(self.coordinates, self.base, self.psi, (*self.terms, (expansion, weights)))

    def lifted(self, share: float) -> PeriodValue:
        """Return W + share psi."""

        def base(x: Floats) -> Floats:
            return self.base(x) + share * self.psi

        return PeriodValue(self.coordinates, base, self.psi, self.terms)

    def value(self, t: Floats, x: Floats) -> Floats:
        """Return W (N,) at states x (N, n)."""
        s = self.coordinates.of(t, x)
        return np.asarray(self.base(x) + self.psi * sum(p.sum(s, weights) for p, weights in self.terms))

    def weight(self, t: Floats, x: Floats) -> Floats:
        """Return psi, (N,)."""
        return np.full(len(x), self.psi)

    def factors(self, t: Floats, x: Floats) -> Floats:
        """Return psi, (N,)."""
        return np.full(len(x), self.psi)

    def expected(self, x: Floats, a: Floats) -> tuple[Floats, Floats, Floats]:
        """Return beta E W(X') (N,), the states that may follow (N, S, n) and beta times their probabilities (N, S).

        Args:
            x: states, (N, n).
            a: actions, (N, 1).
        """
        self.coordinates.evaluations += len(x)
        after = self.problem.successors(x, a)
        states, odds = np.asarray(after.x), self.problem.discount_factor * np.asarray(after.probability)
        odds = np.broadcast_to(odds, states.shape[:-1])
        later = self.value(np.empty(0), states.reshape(-1, x.shape[1])).reshape(odds.shape)
        return (later * odds).sum(axis=1), states, odds

    def rates(self, t: Floats, x: Floats, a: Floats) -> Periods:
        """Return what W says at states x (N, n) under actions a (N, 1).

        Args:
            t: times, (N,).
            x: states, (N, n).
            a: actions, (N, m).
        """
        reward, (later, after, odds) = np.asarray(self.problem.reward(x, a)), self.expected(x, a)
        left, psi = np.full(len(x), 1 - self.problem.discount_factor), self.weight(t, x)
        s, s_after = (self.coordinates.of(t, points) for points in (x, after))
        residual = reward + later - self.value(t, x)
        return Periods(t, x, a, s, s_after, odds, residual, psi, left, np.abs(reward) + left * psi)

    def rows(self, expansion: Extended, at: Periods) -> Floats:
        """Return p - beta E p(X') of each polynomial, (N, K)."""
        later = expansion.values(at.after.reshape(-1, at.s.shape[1])).reshape(*at.odds.shape, len(expansion))
        return np.asarray(expansion.values(at.s) - np.einsum("nsk,ns->nk", later, at.odds))

    def slopes(self, expansion: Extended, s: Floats, i: int) -> tuple[Floats, Floats]:
        """Refuse: nothing is reflected in discrete time.

        Args:
            expansion: the polynomials.
            s: points, (N, k).
            i: number of the coordinate.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError("states are not reflected in discrete time")

    def played(self, policy: Policy, t: Floats, x: Floats) -> Floats:
        """Return the actions (N, 1) of a policy, which sees what is observed of the states, cut to their box.

        Args:
            policy: a function (t, x) -> actions.
            t: times, (N,).
            x: states, (N, n).
        """
        a = np.asarray(policy(t, self.problem.observe(x)), dtype=np.float64)
        return np.asarray(self.problem.action.clip(a.reshape(len(x), self.problem.action.dimension)))

    def greedy(self, t: Floats, x: Floats) -> Floats:
        """Return argmax_a { r + beta E W(X') }, (N, 1)."""

        def height(a: Floats) -> Floats:
            found = np.asarray(self.problem.reward(x, a[:, None])) + self.expected(x, a[:, None])[0]
            return np.where(np.isnan(found), -np.inf, found)

        box = self.problem.action
        return maximum_point(height, float(box.low[0]), float(box.high[0]), len(x))[:, None]

    def loss(self, at: Periods) -> Floats:
        """Return what the actions of some points lose in a period against W's greedy ones, (N,)."""
        best = self.rates(at.t, at.x, self.greedy(at.t, at.x)).residual
        return np.asarray(best - self.rates(at.t, at.x, at.a).residual)
