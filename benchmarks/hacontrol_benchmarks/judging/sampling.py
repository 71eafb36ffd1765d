"""Points (t, x) at which an agent is compared with the truth."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hacontrol_benchmarks.judging.transition import known_transition
from hacontrol_benchmarks.records.tasks import Evaluation
from hacontrol_envs import Problem
from hacontrol_envs.arrays import Floats

DRAWS = 4
"""Number of points taken from each trajectory."""


class Points(NamedTuple):
    """Times (k,) and states (k, n), as they are observed, in physical units."""

    t: Floats
    """Times, (k,)."""
    x: Floats
    """States as they are observed, in physical units, (k, n)."""


def box(problem: Problem, evaluation: Evaluation) -> Points:
    """Draw points that are uniform in unit coordinates of the state box, and in [0, T] where there is a horizon."""
    rng = np.random.default_rng(evaluation.seed + 1)
    x = problem.observe(problem.some_states(rng, evaluation.points))
    return Points(rng.uniform(0.0, problem.horizon or 0.0, evaluation.points), x)


def visited(problem: Problem, dt: float, evaluation: Evaluation) -> Points | None:
    """Draw states of the optimal policy at random times, the policy held over steps of length dt, exact in law.

    Times have density proportional to e^{-rho t} up to the horizon, or up to e^{-rho t} = 1e-2: states count as they
    do in the objective.

    Args:
        problem: problem with a known optimum.
        dt: length of a step.
        evaluation: number of points, most steps, and the judge's seed.

    Returns:
        The points; None where the exact transition is not known.
    """
    optimum, exact = problem.solution(dt=dt) or problem.solution(), known_transition(problem, dt)
    if optimum is None or exact is None:
        return None
    rng = np.random.default_rng(evaluation.seed + 2)
    paths = evaluation.points // DRAWS
    chosen = _random_steps(problem, dt, rng, (DRAWS, paths), evaluation.max_steps)
    x = problem.initial_state(rng, paths)
    seen: Floats = np.empty((DRAWS, paths, problem.observation.dimension))
    for k in range(chosen.max() + 1):
        y = problem.observe(x)
        seen = np.where((chosen == k)[..., None], y, seen)
        t = np.full(paths, k * dt)
        a, noise = np.asarray(optimum.policy(t, y)), rng.standard_normal((paths, exact.noise_dim))
        x = exact.step(t, x, a, noise)
    return Points(chosen.ravel().astype(np.float64) * dt, seen.reshape(-1, seen.shape[-1]))


def actions(problem: Problem, evaluation: Evaluation, size: int) -> Floats:
    """Draw physical actions (size, m), uniform in the action box.

    Args:
        problem: the problem, which has the box.
        evaluation: the judge's seed.
        size: number of actions.
    """
    rng = np.random.default_rng(evaluation.seed + 3)
    return rng.uniform(problem.action.low, problem.action.high, (size, problem.action.dimension))


def _random_steps(
    problem: Problem, dt: float, rng: np.random.Generator, shape: tuple[int, int], most: int
) -> NDArray[np.int64]:
    """Draw step numbers by inversion of the truncated exponential distribution."""
    rho, u = problem.discount, rng.uniform(size=shape)
    end = problem.horizon if problem.horizon is not None else -math.log(1e-2) / rho
    t = -np.log1p(u * math.expm1(-rho * end)) / rho if rho > 0 else u * end
    return np.minimum((t / dt).astype(np.int64), min(most, round(end / dt)) - 1)
