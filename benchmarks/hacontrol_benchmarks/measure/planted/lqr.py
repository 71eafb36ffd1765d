"""Right and wrong solutions of linear-quadratic problems, and what linear policies earn there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy

from hacontrol_benchmarks.measure.planted import (
    JetFunction,
    Kinds,
    Planted,
    Worth,
    constant,
    exactly,
    growing,
    off,
    one_state,
    plus,
    rough,
    scaled,
    wiggly,
)
from hacontrol_envs import LQR, Jet
from hacontrol_envs.arrays import Floats

LARGEST = 600.0
"""Argument of Kummer's function from which on it counts as infinite."""
TIGHT = {"method": "DOP853", "rtol": 1e-12, "atol": 1e-13}
"""How differential equations are integrated."""


def linear_worth(problem: LQR, gain: Callable[[float], Floats], shift: Floats) -> Callable[[Floats], Worth]:
    """Return what a = -K(t) x + b earns, from minus its cost x'Px/2 + p'x + c.

    With F = A - B K: rho P = P_t + Q + K'RK + P F + F'P, rho p = p_t + (P B - K'R) b + F'p and
    rho c = c_t + b'Rb/2 + p'B b + tr(DD'P)/2.

    Args:
        problem: the problem.
        gain: K (m, n) at a time; constant over an infinite horizon.
        shift: b, (m,).
    """
    cost = _stationary_cost(problem, gain(0.0), shift) if problem.horizon is None else _cost(problem, gain, shift)
    if cost is None:
        return lambda x: Worth(-np.inf, 0.0)
    P, p, c = cost
    return exactly(lambda t, x: -np.einsum("ni,ij,nj->n", x, P, x) / 2 - x @ p - c)


def _stationary_cost(problem: LQR, K: Floats, b: Floats) -> tuple[Floats, Floats, float] | None:
    """Return P, p and c over an infinite horizon; None where states grow too fast."""
    A, B, Q, R, D, rho = problem.A, problem.B, problem.Q, problem.R, problem.D, problem.discount
    F, one = A - B @ K, np.eye(len(A))
    if np.linalg.eigvals(F).real.max() >= rho / 2:
        return None
    P = scipy.linalg.solve_continuous_lyapunov((F - rho / 2 * one).T, -(Q + K.T @ R @ K))
    p = np.linalg.solve(rho * one - F.T, (P @ B - K.T @ R) @ b)
    return P, p, float(b @ R @ b / 2 + p @ B @ b + np.trace(D @ D.T @ P) / 2) / rho


def _cost(problem: LQR, gain: Callable[[float], Floats], b: Floats) -> tuple[Floats, Floats, float]:
    """Return P, p and c at time 0, integrated back from the horizon."""
    A, B, Q, R, D, rho = problem.A, problem.B, problem.Q, problem.R, problem.D, problem.discount
    n, end = len(A), float(problem.horizon or 0.0)

    def back(left: float, y: Floats) -> Floats:
        P, p, K = y[: n * n].reshape(n, n), y[n * n : -1], gain(end - left)
        F = A - B @ K
        quadratic = Q + K.T @ R @ K + P @ F + F.T @ P - rho * P
        linear = (P @ B - K.T @ R) @ b + F.T @ p - rho * p
        last = b @ R @ b / 2 + p @ B @ b + np.trace(D @ D.T @ P) / 2 - rho * y[-1]
        return np.concatenate([quadratic.ravel(), linear, [last]])

    first = np.concatenate([problem.S.ravel(), np.zeros(n + 1)])
    y = scipy.integrate.solve_ivp(back, (0.0, end), first, **TIGHT).y[:, -1]
    return y[: n * n].reshape(n, n), y[n * n : -1], float(y[-1])


def best_gain(problem: LQR, t: float = 0.0) -> Floats:
    """Return the optimal gain K (m, n) at a time."""
    n = len(problem.A)
    found: Floats = -np.asarray(problem.solution().policy(np.full(n, t), np.eye(n))).T
    return found


def _linear(
    problem: LQR, factor: float = 1.0, bend: Any = 0.0, shift: Any = 0.0, *, value: JetFunction | None = None
) -> Planted:
    """Plant a = factor a*(t, x) - bend x + shift, beside a value or alone.

    Args:
        problem: the problem.
        factor: factor of the optimal policy.
        bend: what is added to the gain, (m, n) or zero.
        shift: what is added to actions, (m,) or zero.
        value: the value; None for none.
    """
    optimum, (n, m) = problem.solution(), problem.B.shape
    more, b = np.broadcast_to(bend, (m, n)).astype(float), np.broadcast_to(shift, m).astype(float)

    def policy(t: Any, x: Floats) -> Floats:
        played: Floats = factor * np.asarray(optimum.policy(t, x)) - x @ more.T + b
        return played

    worth = linear_worth(problem, lambda t: factor * best_gain(problem, t) + more, b)
    return Planted(policy if value is None else (value, policy), worth)


def _bent(problem: LQR, rng: np.random.Generator) -> Planted:
    gain = best_gain(problem)
    return _linear(problem, bend=(off(rng) - 1) * np.abs(gain).max() * rng.standard_normal(gain.shape))


def _shifted(problem: LQR, rng: np.random.Generator) -> Planted:
    return _linear(problem, shift=(off(rng) - 1) * 0.3 * problem.action.half_width)


def _smoothly_wiggly(problem: LQR, rng: np.random.Generator) -> Planted:
    """Plant a policy that oscillates within the box; what it earns is known for one state."""
    policy = wiggly(problem.solution().policy, off(rng) - 1, rng.uniform(2, 12) / problem.state.high[0])
    known = one_state.worth(problem, policy, 0.0) if len(problem.A) == 1 and problem.horizon is None else None
    return Planted(policy, known)


def _rough(problem: LQR, rng: np.random.Generator) -> Planted:
    return Planted(rough(problem.solution().policy, off(rng) - 1, rng.uniform(5, 200) / problem.state.high[0]), None)


def _wrong_value(problem: LQR, wrong: JetFunction) -> Planted:
    """Plant a wrong value beside the optimal policy."""
    optimum = problem.solution()
    return Planted((wrong, optimum.policy), exactly(optimum.value))


def _size(problem: LQR) -> float:
    x = problem.initial_state(np.random.default_rng(0), 256)
    return float(np.abs(problem.solution().value(0.0, x)).mean())


def _jet(problem: LQR) -> JetFunction:
    jet = problem.solution().jet
    assert jet is not None
    return jet


def _homogeneous(problem: LQR, rng: np.random.Generator) -> Planted:
    """Plant V* + f, where f solves rho f = f_t + L f under the optimal policy; its median is 1 to 50 % of V*."""
    size = (off(rng) - 1) * _size(problem)
    wrong = growing(size, problem.discount) if problem.horizon is not None else _kummer(problem, size)
    return _wrong_value(problem, plus(_jet(problem), wrong))


def _kummer(problem: LQR, size: float) -> JetFunction:
    """Return such an f of y = w'x, w a left eigenvector with a real eigenvalue -k of the closed loop.

    y is an Ornstein-Uhlenbeck process with volatility s = |D'w|, and f Kummer's function M(rho/2k, 1/2, k y^2/s^2).
    Where all eigenvalues are complex, a constant is returned, which solves no equation.
    """
    values, vectors = np.linalg.eig((problem.A - problem.B @ best_gain(problem)).T)
    real = np.flatnonzero(np.abs(values.imag) < 1e-12)
    if not len(real):
        return constant(size)
    k, w = -float(values[real[0]].real), vectors[:, real[0]].real
    bend = k / float(np.square(problem.D.T @ w).sum())
    order = problem.discount / k / 2

    def f(y: Floats) -> list[Floats]:
        z, (a, b) = bend * y**2, (order, 0.5)
        M = [
            np.where(z < LARGEST, scipy.special.hyp1f1(a + i, b + i, np.minimum(z, LARGEST)), np.inf) for i in range(3)
        ]
        slope = 2 * bend * y
        first, second = a / b * M[1], a * (a + 1) / b / (b + 1) * M[2]
        return [M[0], slope * first, 2 * bend * first + slope**2 * second]

    starts = problem.initial_state(np.random.default_rng(0), 256)
    share = size / float(np.median(np.abs(f(starts @ w)[0])))

    def jet(t: Any, x: Floats) -> Jet:
        with np.errstate(all="ignore"):  # far away it is more than floats hold
            v, v_y, v_yy = (share * part for part in f(x @ w))
        return Jet(v, np.zeros(len(x)), v_y[:, None] * w, v_yy[:, None, None] * np.outer(w, w))

    return jet


def _other_root(problem: LQR, rng: np.random.Generator) -> Planted:
    """Plant another solution of Riccati's equation with its policy, which lets a state grow.

    Solutions are the graphs of invariant subspaces of the Hamiltonian matrix: one stable eigenvalue, or a complex pair,
    is exchanged for the unstable one.
    """
    A, B, R, D, rho = problem.A, problem.B, problem.R, problem.D, problem.discount
    n, reach = len(A), B @ np.linalg.solve(R, B.T)
    shifted = A - rho / 2 * np.eye(n)
    values, vectors = np.linalg.eig(np.block([[shifted, -reach], [-problem.Q, -shifted.T]]))
    stable = values[values.real < 0]
    gone = stable[rng.integers(len(stable))]

    def near(value: complex, other: complex) -> bool:
        return bool(min(abs(value - other), abs(value - np.conj(other))) < 1e-9 * abs(other))

    chosen = [i for i, one in enumerate(values) if near(one, -gone) or (one.real < 0 and not near(one, gone))]
    X = vectors[:, chosen]
    P = (X[n:] @ np.linalg.inv(X[:n])).real
    P = (P + P.T) / 2
    K, c = np.linalg.solve(R, B.T @ P), float(np.trace(D @ D.T @ P)) / 2 / rho

    def wrong(t: Any, x: Floats) -> Jet:
        Px = x @ P
        v = -(x * Px).sum(axis=1) / 2 - c
        return Jet(v, np.zeros(len(x)), -Px, np.broadcast_to(-P, (len(x), n, n)))

    return Planted((wrong, lambda t, x: -x @ K.T), linear_worth(problem, lambda t: K, np.zeros(B.shape[1])))


def _scaled(problem: LQR, rng: np.random.Generator) -> Planted:
    """Plant V* scaled, with the policy that is greedy for it, whose gain is scaled as V* is."""
    factor = off(rng)
    return _linear(problem, factor, value=scaled(_jet(problem), factor))


FINITE: Kinds = {
    "optimum with V": lambda problem, rng: _linear(problem, value=_jet(problem)),
    "optimum": lambda problem, rng: _linear(problem),
    "policy scaled": lambda problem, rng: _linear(problem, off(rng)),
    "policy scaled, V right": lambda problem, rng: _linear(problem, off(rng), value=_jet(problem)),
    "policy shifted": _shifted,
    "policy wiggly": _smoothly_wiggly,
    "policy rough": _rough,
    "V scaled": lambda problem, rng: _wrong_value(problem, scaled(_jet(problem), off(rng))),
    "V scaled, greedy": _scaled,
    "V shifted": lambda problem, rng: _wrong_value(
        problem, plus(_jet(problem), constant((off(rng) - 1) * _size(problem)))
    ),
    "V and homogeneous": _homogeneous,
}
"""Over a finite horizon."""
KINDS: Kinds = {**FINITE, "policy bent": _bent, "other root": _other_root}
"""Over an infinite horizon."""
