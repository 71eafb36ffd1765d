"""The Bellman equation of a sampled-data problem on a grid, by policy iteration with splines.

    V(x) = max_a { R(x, a) + gamma E V(x_1'(x, a), x_2'(x, Z)) },        gamma = e^{-rho dt},

for two states, of which the action moves the first without noise, and noise moves the second without the action. a is
held over a step of length dt, R its expected discounted reward, Z a standard normal; steps and R are the problem's own,
exact ones. V is a quintic spline through the grid's nodes. It is linear in the values there, so that E acts along the
second state as one matrix, computed once, and a policy is worth the solution of a linear system.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import NamedTuple, final

import numpy as np
import scipy

from hacontrol_envs.arrays import Array, Floats
from hacontrol_envs.core.problem import ControlProblem
from hacontrol_envs.core.solution import Solution
from hacontrol_envs.errors import NumericalError
from hacontrol_envs.solvers.grid import MONOTONE, Grid
from hacontrol_envs.solvers.hjb import GridValue, difference

MOST_POLICIES = 50
"""Most policies before policy iteration is said not to converge; it converges in a handful."""
TOLERANCE = 1e-10
"""Relative change of the values at which policy iteration ends."""
SECTIONS = 36
"""Golden sections of the action box, after which 3e-8 of it is left."""
SHOCKS = np.linspace(-8.0, 8.0, 321)
"""Nodes of the trapezoidal rule for expectations over Z, closer than those of Gauss and Hermite: near a reflecting edge
x_2' is steep in Z."""


@final
class HeldGrid:
    """The Bellman equation of a problem with step dt at the N nodes of a grid I x J, in C order.

    Args:
        grid: the problem on nodes of its two states.
        dt: length of a step, in the problem's unit of time.
    """

    def __init__(self, grid: Grid, dt: float) -> None:
        self.grid, self.problem, self.dt = grid, grid.problem, dt
        self.gamma = float(np.exp(-grid.problem.discount * dt))

    @cached_property
    def _expectation(self) -> Floats:
        """E[V(x_1, x_2') | x_2] at the nodes of x_2 as a matrix on the values at these nodes, (J, J)."""
        density = np.exp(-(SHOCKS**2) / 2)
        J, weights = self.grid.shape[1], density / density.sum()
        x = np.repeat(self.grid.x[:J], len(SHOCKS), axis=0)
        a = self.problem.admissible(0.0, x, np.zeros((len(x), 1)), self.dt)
        after = self.problem.exact_step(0.0, x, a, self.dt, np.tile(SHOCKS, J)[:, None])
        shares = scipy.interpolate.make_interp_spline(self.grid.nodes[1], np.eye(J), k=5)(self._unit(after)[:, 1])
        matrix: Floats = np.einsum("q,jqm->jm", weights, shares.reshape(J, len(SHOCKS), J))
        return matrix

    def _unit(self, x: Floats | None) -> Floats:
        assert x is not None
        unit: Floats = np.clip(self.problem.state.to_unit(x), -1.0, 1.0)
        return unit

    def later(self, V: Floats) -> scipy.interpolate.RectBivariateSpline:
        """Return gamma E V(x_1', x_2') as a function of the unit coordinates of x_1' and x_2, from values V (N,)."""
        table = self.gamma * V.reshape(self.grid.shape) @ self._expectation.T
        return scipy.interpolate.RectBivariateSpline(*self.grid.nodes, table, kx=5, ky=5)

    def step(self, a: Floats) -> tuple[Floats, Floats]:
        """Return R (N,) of actions a (N, 1), and the unit coordinate of x_1' (N,)."""
        after, reward = self.problem.exact_transition(0.0, self.grid.x, a, self.dt, np.zeros(1))
        assert reward is not None
        return reward, self._unit(after)[:, 0]

    def improve(self, V: Floats) -> Floats:
        """Find the admissible actions (N, 1) that maximise R + gamma E V for values V (N,), by golden sections."""
        later, box = self.later(V), self.problem.action

        def height(a: Floats) -> Floats:
            reward, moved = self.step(a[:, None])
            total: Floats = reward + later.ev(moved, self.grid.unit[:, 1])
            return total

        edges = (self._admissible(np.full((len(V), 1), end)) for end in (box.low[0], box.high[0]))
        return golden_section(height, *edges)[:, None]

    def _admissible(self, a: Floats) -> Floats:
        rates: Floats = self.problem.admissible(0.0, self.grid.x, a, self.dt)[:, 0]
        return rates

    def evaluate(self, a: Floats, start: Floats) -> Floats:
        """Find the value (N,) of holding actions a (N, 1) for ever, V = R + gamma E V, by GMRES from `start` (N,)."""
        reward, moved = self.step(a)
        shares = scipy.interpolate.make_interp_spline(self.grid.nodes[0], np.eye(self.grid.shape[0]), k=5)(moved)
        shares = self.gamma * shares.reshape(*self.grid.shape, -1)

        def operator(V: Floats) -> Floats:
            expected = V.reshape(self.grid.shape) @ self._expectation.T
            left: Floats = V - np.einsum("ijm,mj->ij", shares, expected).ravel()
            return left

        size = (len(start), len(start))
        system, inverse = (
            scipy.sparse.linalg.LinearOperator(size, matvec=f, dtype=np.float64) for f in (operator, self._inverse(a))
        )
        V, failed = scipy.sparse.linalg.gmres(
            system, reward, x0=start, rtol=1e-11, atol=0.0, restart=100, maxiter=5, M=inverse
        )
        if failed or not np.all(np.isfinite(V)):
            raise NumericalError(f"GMRES has not converged on a grid {self.grid.shape} at dt={self.dt}")
        return np.asarray(V)

    def _inverse(self, a: Floats) -> Callable[[Floats], Floats]:
        """About (I - gamma E)^{-1}: 1 + 1/(lambda dt) where 1 - gamma E is 1 - e^{-lambda dt}, lambda = rho - L_a.

        Their product is between 1 and 1.3 for every lambda, so that GMRES converges in tens of steps however short dt.
        """
        rates = self.problem.discount * scipy.sparse.eye_array(len(a)) - self.grid.generator(a)
        solve = scipy.sparse.linalg.splu(rates.tocsc(), **MONOTONE).solve
        return lambda v: v + solve(v) / self.dt

    def solve(self, start: Floats) -> tuple[Floats, Floats]:
        """Find V (N,) and the actions (N, 1) that are best for it, from values `start` (N,).

        Raises:
            NumericalError: it does not converge.
        """
        V = start
        for _ in range(MOST_POLICIES):
            a = self.improve(V)
            before, V = V, self.evaluate(a, V)
            if np.abs(V - before).max() <= TOLERANCE * np.abs(V).max():
                return V, a
        raise NumericalError(f"policy iteration has not converged after {MOST_POLICIES} policies at dt={self.dt}")


def golden_section(height: Callable[[Floats], Floats], low: Floats, high: Floats) -> Floats:
    """Return the maximum points (N,) of N concave functions at once (Kiefer, 1953).

    Args:
        height: the functions, (N,) -> (N,).
        low, high: ends of the interval of each, (N,).
    """
    share = (np.sqrt(5) - 1) / 2
    left, right = high - share * (high - low), low + share * (high - low)
    below, above = height(left), height(right)
    for _ in range(SECTIONS):
        up = above > below
        low, high = np.where(up, left, low), np.where(up, high, right)
        kept, known = np.where(up, right, left), np.maximum(above, below)
        new = low + high - kept
        found = height(new)
        left, right = np.where(up, kept, new), np.where(up, new, kept)
        below, above = np.where(up, known, found), np.where(up, found, known)
    return (low + high) / 2


class Held(NamedTuple):
    """Solution of a sampled-data problem on a grid."""

    value: GridValue
    """The value V."""
    a: Floats
    """The best actions at the nodes, (N, 1)."""
    later: scipy.interpolate.RectBivariateSpline
    """gamma E V(x_1', x_2') as a function of the unit coordinates of x_1' and x_2."""


def refine(
    problem: ControlProblem,
    dt: float,
    maps: Sequence[Callable[[int], Floats]],
    shapes: Sequence[tuple[int, ...]],
    start: Callable[[Array, Array], Array],
) -> list[Held]:
    """Solve the Bellman equation on ever finer grids, each begun from the one before.

    Args:
        problem: what to solve.
        dt: length of its steps.
        maps: for each state what gives so many nodes, such as `edge_nodes`.
        shapes: nodes along each state, for each grid.
        start: values V(t, x) from which the first grid begins.
    """
    found: list[Held] = []
    for shape in shapes:
        nodes = tuple(place(count) for place, count in zip(maps, shape, strict=True))
        held = HeldGrid(Grid(problem, nodes), dt)
        V, a = held.solve((found[-1].value.value if found else start)(0.0, held.grid.x))
        found.append(Held(GridValue(held.grid, V), a, held.later(V)))
    return found


def held_solution(refined: Sequence[Held], policy: Callable[[Array, Array], Array]) -> Solution:
    """Return the finest as a Solution with this policy; its error is estimated by the distance to the one before."""
    coarse, fine = (held.value for held in refined[-2:])
    source = f"policy iteration with quintic splines on {' x '.join(map(str, fine.grid.shape))} nodes"
    return Solution(fine.value, policy, "numerical", source, difference(coarse, fine))
