"""Coordinates: unit coordinates of a problem's state, and of time over a finite horizon, with Ito's formula in them."""

from __future__ import annotations

from typing import final

import numpy as np

from hacontrol_agents.certificates.expansion import Expansion, Motion
from hacontrol_envs import ControlProblem, Jet
from hacontrol_envs.arrays import Floats

ROUNDING = 1e-12
"""Relative distance from an edge that is rounding."""


def lifetime(problem: ControlProblem) -> float:
    """Return the time for which rewards count: 1/rho, or T if that is shorter."""
    rho, horizon = problem.discount, problem.horizon
    return float(1 / rho if horizon is None else min(horizon, 1 / max(rho, 1e-9)))


@final
class Coordinates:
    """Points s = u(x), the unit coordinates of `problem.state`; over a finite horizon s = (u(x), 2 t/T - 1)."""

    def __init__(self, problem: ControlProblem) -> None:
        self.problem, self.states = problem, problem.state.dimension
        self.timed, self.horizon = problem.horizon is not None, problem.horizon or 0.0
        self.size = self.states + self.timed
        self.evaluations = 0
        """Points at which `motion` evaluated the problem's coefficients so far."""

    @property
    def ends(self) -> tuple[Floats, Floats]:
        """Least and largest s of the states, (n,) each, infinite where they may leave the box."""
        high = np.where(self.problem.state.closed, 1.0, np.inf)
        return -high, high

    @property
    def constrained(self) -> Floats:
        """Components (n,) at whose ends actions are cut so that paths stay."""
        return self.problem.state.constrained

    @property
    def reflecting(self) -> Floats:
        """Components (n,) at whose ends paths are reflected."""
        cut: Floats = self.problem.state.closed & ~self.problem.state.constrained
        return cut

    def expansion(self, low: Floats, high: Floats, degree: int) -> Expansion:
        """Return the polynomials of a total degree on a box of s.

        Args:
            low: least values of the box.
            high: largest values of the box.
            degree: the total degree.
        """
        return Expansion(low, high, degree)

    def of(self, t: Floats, x: Floats) -> Floats:
        """Return s (N, k) at times t (N,) and states x (N, n)."""
        u: Floats = self.problem.state.to_unit(x)
        return np.concatenate([u, (2 * t / self.horizon - 1)[:, None]], axis=1) if self.timed else u

    def back(self, s: Floats) -> tuple[Floats, Floats]:
        """Return times (N,) and states (N, n) at s (N, k)."""
        x = self.snapped(self.problem.state.from_unit(s[:, : self.states]))
        return (self.horizon * (s[:, -1] + 1) / 2 if self.timed else np.zeros(len(s))), x

    def snapped(self, x: Floats) -> Floats:
        """Return states (N, n) with those a rounding away from a closed edge put on it, where actions are cut."""
        domain = self.problem.state
        for edge in (domain.low, domain.high):
            x = np.where(domain.closed & (np.abs(x - edge) <= ROUNDING * np.abs(edge)), edge, x)
        return x

    def motion(self, t: Floats, x: Floats, a: Floats) -> Motion:
        """Return the motion of s under held actions.

        Args:
            t: times, (N,).
            x: states, (N, n).
            a: actions, (N, m).
        """
        self.evaluations += len(x)
        problem = self.problem
        drift, columns = problem.state.ito(x, problem.drift(t, x, a), problem.diffusion(t, x, a))
        if self.timed:
            drift = np.concatenate([drift, np.full((len(x), 1), 2 / self.horizon)], axis=1)
            columns = np.concatenate([columns, np.zeros((len(x), 1, columns.shape[-1]))], axis=1)
        return Motion(drift, columns)

    def inward(self, x: Floats, jet: Jet) -> tuple[Floats, Floats, Floats]:
        """Return a function's value (N,), gradient (N, k) and Hessian (N, k, k) in s, given its jet at states x."""
        first, second = self.problem.state.unit_derivatives(x)
        along = jet.v_x / first  # dx/du = 1/u', and d2x/du2 = -u''/u'^3
        bend = jet.v_xx / first[:, :, None] / first[:, None, :]
        bend[:, range(self.states), range(self.states)] -= jet.v_x * second / first**3
        if not self.timed:
            return jet.v, along, bend
        clock = np.asarray(jet.v_t) * self.horizon / 2
        wide = np.zeros((len(x), self.size, self.size))
        wide[:, :-1, :-1] = bend
        return jet.v, np.concatenate([along, clock[:, None]], axis=1), wide

    def outward(self, x: Floats, value: Floats, slope: Floats, bend: Floats) -> Jet:
        """Return the jet of a function, given its derivatives in s.

        Args:
            x: states, (N, n).
            value: the function, (N,).
            slope: its gradient, (N, k).
            bend: its Hessian, (N, k, k).
        """
        first, second = self.problem.state.unit_derivatives(x)
        along = slope[:, : self.states]
        v_xx = bend[:, : self.states, : self.states] * first[:, :, None] * first[:, None, :]
        v_xx[:, range(self.states), range(self.states)] += along * second
        v_t = slope[:, -1] * 2 / self.horizon if self.timed else np.zeros(len(x))
        return Jet(value, v_t, along * first, v_xx)
