"""One step with the action held over it: exact in law or, of a diffusion, Euler-Maruyama or Milstein."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from hacontrol_envs.arrays import Array, Floats, dot
from hacontrol_envs.core.parameters import one_of
from hacontrol_envs.core.problem import ControlProblem, Problem
from hacontrol_envs.errors import ParameterError

Step: TypeAlias = Callable[[Floats, Floats, Floats, Floats, Floats, Floats], None]
"""A function of t (N,), x (N, n), a (N, m) and standard normals (N, noise_dim) that fills X_{t+dt} (N, n) and the
reward of the step (N,)."""

LONGEST = 1e100
"""Longest step, in the problem's unit of time."""
FLOOR = 1e-6
"""Fraction of the low end of its box at or above which a discretised step keeps a state on a logarithmic scale."""


class Integrator(NamedTuple):
    """A step and the number of standard normals per row that it uses."""

    step: Step
    """The step, which fills the next states and rewards."""
    noise_dim: int
    """Standard normals per row."""


def schemes(problem: Problem) -> tuple[str, ...]:
    """Return the schemes that a problem may be stepped by: all for a diffusion, the law alone for other problems."""
    return tuple(SCHEMES) if isinstance(problem, ControlProblem) else ("exact",)


def integrator(problem: Problem, dt: float, scheme: str = "exact") -> Integrator:
    """Return the step of a problem by a scheme.

    The reward of a step is its exact conditional expectation where the problem knows it, otherwise
    r(t, x, a) int_0^dt e^{-rho s} ds, whatever the scheme.

    Args:
        problem: the problem to step.
        dt: length of the step, in the problem's unit of time.
        scheme: one of `SCHEMES`.

    Raises:
        ParameterError: no such scheme; "exact" where the exact transition is not known; a dt too long to compute with.
    """
    one_of("scheme", scheme, SCHEMES)
    if dt > LONGEST:
        raise ParameterError(f"dt={dt} is too long a step: at most {LONGEST:g}")
    if scheme not in schemes(problem):
        raise ParameterError(f"{type(problem).__name__} moves in discrete time: scheme must be 'exact', got {scheme!r}")
    normals = problem.exact_noise_dim if scheme == "exact" else problem.noise_dim
    found = Integrator(partial(SCHEMES[scheme], problem, dt), normals)  # a partial, as closures cannot be pickled
    x, a = _middle(problem)
    x_next, reward = np.empty_like(x), np.empty(1)
    try:
        with np.errstate(all="ignore"):
            found.step(np.zeros(1), x, a, np.zeros((1, found.noise_dim)), x_next, reward)
        finite = bool(np.all(np.isfinite(x_next)) and np.all(np.isfinite(reward)))
    except (OverflowError, ZeroDivisionError, np.linalg.LinAlgError):
        finite = False
    if not finite:
        raise ParameterError(f"dt={dt} is too long a step: the {scheme} step from the middle of the box is not finite")
    return found


def _middle(problem: Problem) -> tuple[Floats, Floats]:
    """A state and an action, (1, n) and (1, m), in the middle of things."""
    a: Floats = problem.action.from_unit(np.zeros((1, problem.action.dimension)))
    if isinstance(problem, ControlProblem):
        return problem.state.from_unit(np.zeros((1, problem.state.dimension))), a
    return problem.some_states(np.random.default_rng(0), 1), a


def _exact(
    problem: Problem, dt: float, t: Floats, x: Floats, a: Floats, noise: Floats, x_next: Floats, reward: Floats
) -> None:
    """The exact transition itself."""
    moved, paid = problem.exact_transition(t, x, a, dt, noise, (x_next, reward))
    if moved is None:
        known = ", ".join(repr(scheme) for scheme in SCHEMES if scheme != "exact")
        raise ParameterError(f"{type(problem).__name__} does not know its exact transition: use scheme {known}")
    if moved is not x_next:
        x_next[...] = moved
        reward[...] = _held_reward(problem, t, x, a, dt) if paid is None else paid


def _euler(
    problem: ControlProblem, dt: float, t: Floats, x: Floats, a: Floats, noise: Floats, x_next: Floats, reward: Floats
) -> None:
    """X + b dt + sigma dW: strong order 1/2, weak order 1."""
    a = problem.admissible(t, x, a, dt)
    moved = problem.drift(t, x, a) * dt + _apply(problem.diffusion(t, x, a), noise * np.sqrt(dt))
    x_next[...], reward[...] = _keep_inside(problem, x + moved), step_reward(problem, t, x, a, dt)


def _milstein(
    problem: ControlProblem, dt: float, t: Floats, x: Floats, a: Floats, noise: Floats, x_next: Floats, reward: Floats
) -> None:
    """Strong order 1 without derivatives, for noise that commutes: L^j sigma_k = L^k sigma_j for all columns j, k.

    With y_j = x + b dt + sigma_j sqrt(dt), X + b dt + sigma dW
    + sum_{j,k} (sigma_k(y_j) - sigma_k(x)) / sqrt(dt) * (dW_j dW_k - [j = k] dt) / 2. Additive noise, scalar noise and
    diagonal noise commute. Kloeden and Platen (1992), Numerical Solution of Stochastic Differential Equations, 11.1.
    """
    root = np.sqrt(dt)
    a = problem.admissible(t, x, a, dt)
    sigma, dW = problem.diffusion(t, x, a), noise * root
    moved = x + problem.drift(t, x, a) * dt
    reached = moved + _apply(sigma, dW)
    for j in range(problem.noise_dim):
        support = _keep_inside(problem, moved + sigma[..., j] * root)
        area = dW[..., j, None] * dW / 2
        area[..., j] -= dt / 2
        reached = reached + _apply((problem.diffusion(t, support, a) - sigma) / root, area)
    x_next[...], reward[...] = _keep_inside(problem, reached), step_reward(problem, t, x, a, dt)


SCHEMES: dict[str, Callable[..., None]] = {
    "exact": _exact,
    "euler": _euler,
    "milstein": _milstein,
}


def step_reward(problem: ControlProblem, t: Array, x: Floats, a: Floats, dt: float) -> Floats:
    """Return E[ int_0^dt e^{-rho s} r ds ], (...), where the problem knows it, otherwise r int_0^dt e^{-rho s} ds.

    Args:
        problem: the problem that is stepped.
        t: time, a number or (...).
        x: states, (..., n).
        a: physical actions, (..., m), held over the step.
        dt: length of the step, in the problem's unit of time.
    """
    exact = problem.exact_reward(t, x, a, dt)
    return _held_reward(problem, t, x, a, dt) if exact is None else exact


def _held_reward(problem: Any, t: Array, x: Floats, a: Floats, dt: float) -> Floats:
    rho = problem.discount
    held: Floats = problem.reward(t, x, a) * (-np.expm1(-rho * dt) / rho if rho else dt)
    return held


def _apply(sigma: Floats, dW: Floats) -> Floats:
    """sigma dW for every row, (..., n, d) x (..., d) -> (..., n)."""
    applied: Floats = dot(sigma, dW[..., None, :])
    return applied


def _keep_inside(problem: ControlProblem, x: Floats) -> Floats:
    """A state on a logarithmic scale is positive, and edges are obeyed; a discretised step need not know that."""
    log = problem.state.log
    positive = np.where(log, np.maximum(x, FLOOR * problem.state.low), x) if log.any() else x
    inside: Floats = problem.state.confine(positive)
    return inside
