"""What a policy earns in a stationary problem of one state, by collocation."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.polynomial import chebyshev

from hacontrol_benchmarks.measure.planted import Policy, Worth
from hacontrol_envs import ControlProblem, Solution
from hacontrol_envs.arrays import Floats

GRIDS = {True: ((360, 3.0), (480, 4.0)), False: ((240, 1.2), (320, 1.4))}
"""Nodes, and half-widths in unit coordinates, by whether the state is on a logarithmic scale; the second pair is taken,
the first tells its error. On a linear scale learnt policies have kinks farther out, at the bounds of actions."""


def worth(problem: ControlProblem, policy: Policy, tilt: float) -> Callable[[Floats], Worth] | None:
    """Return what a policy earns, or None where its value is not found; see `loss`.

    Args:
        problem: a problem of one state, over an infinite horizon.
        policy: the policy.
        tilt: d log psi/ds, that of V*, or zero.
    """
    optimum, lost = problem.solution(), loss(problem, policy, tilt)
    if optimum is None or lost is None:
        return None

    def earned(x: Floats) -> Worth:
        gap = lost(x)
        return Worth(float(np.mean(optimum.value(0.0, x))) - gap.mean, gap.error)

    return earned


def loss(problem: ControlProblem, policy: Policy, tilt: float) -> Callable[[Floats], Worth] | None:
    """Return what a policy loses, V* - J, or None where its value is not found.

    J = V* + psi w, with psi = exp(tilt s) in unit coordinates s, and psi w solves rho f - L f = h, with h the HJB
    residual of V* under the policy. Slopes are zero at the ends, which is an error of the weight with which paths go
    there.

    Args:
        problem: a problem of one state, over an infinite horizon.
        policy: the policy.
        tilt: d log psi/ds, that of V*, or zero.
    """
    optimum = problem.solution()
    assert optimum is not None
    coarse, fine = (_excess(problem, optimum, policy, tilt, *grid) for grid in GRIDS[bool(problem.state.log[0])])
    if coarse is None or fine is None:
        return None

    def lost(x: Floats) -> Worth:
        means = [-float(one(x).mean()) for one in (coarse, fine)]
        return Worth(means[1], abs(means[1] - means[0]))

    return lost


def _excess(
    problem: ControlProblem, optimum: Solution, policy: Policy, tilt: float, size: int, half: float
) -> Callable[[Floats], Floats] | None:
    """Return J - V*, a function of states (N, 1), from collocation in so many nodes; None where it may be infinite."""
    s = -half * np.cos(np.pi * np.arange(size) / (size - 1))
    x = problem.state.from_unit(s[:, None])
    a = np.asarray(policy(np.zeros(size), x))
    m, columns = problem.state.ito(x, problem.drift(0.0, x, a), problem.diffusion(0.0, x, a))
    drift, variance = m[:, 0], (columns[:, 0] ** 2).sum(axis=1)
    rate = problem.discount - tilt * drift - tilt**2 * variance / 2
    if rate.min() <= 0 or optimum.jet is None:
        return None
    residual = problem.hjb_residual(0.0, x, a, optimum.jet(0.0, x)) * np.exp(-tilt * s)
    table, unit = chebyshev.chebvander(s / half, size - 1), np.eye(size)
    first, second = (table[:, : size - order] @ chebyshev.chebder(unit, order) / half**order for order in (1, 2))
    rows = rate[:, None] * table - (drift + tilt * variance)[:, None] * first - variance[:, None] / 2 * second
    rows[[0, -1]], residual[[0, -1]] = first[[0, -1]], 0.0
    weights = np.linalg.solve(rows, residual)

    def excess(x: Floats) -> Floats:
        s = problem.state.to_unit(x)[:, 0]
        found: Floats = np.exp(tilt * s) * chebyshev.chebval(s / half, weights)
        return found

    return excess
