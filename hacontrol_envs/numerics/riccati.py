"""Riccati equations and a linear system held over a step."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import scipy

from hacontrol_envs.arrays import Floats
from hacontrol_envs.errors import NumericalError, ParameterError
from hacontrol_envs.numerics import riccati_map
from hacontrol_envs.numerics.riccati_map import EPS, Span, symmetric

NODES = 8
"""Gauss-Legendre nodes over a time in which e^{2As} changes by less than a third: exact to rounding."""
SERIES = 14
"""Terms of the series of int_0^s e^{Au} du, for s at the nodes of that rule."""
WORST = 1e-6
"""Relative error beyond which a Riccati solution is refused."""


class InfiniteCostError(NumericalError):
    """The least cost grows without bound as the horizon does: no control keeps it finite."""


class Quadratic(NamedTuple):
    """A value function -1/2 x'Px - c with its greedy feedback -Kx."""

    P: Floats
    """Cost matrix, (..., n, n)."""
    c: Floats
    """Cost of the noise, (...)."""
    K: Floats
    """Gain, (..., m, n)."""
    error: float = 0.0
    """Relative error of P, in units of sqrt(P_ii P_jj): from rounding, or what Newton's method would still change."""


class Core(NamedTuple):
    """A linear-quadratic problem in y = T x, all of the state that its cost sees, now or later."""

    T: Floats
    """The map from x to y, (k, n)."""
    matrices: tuple[Floats, Floats, Floats, Floats, Floats]
    """A, B, Q, R and D of the problem in y."""
    terminal: Floats
    """S of the problem in y, (k, k)."""

    @classmethod
    def of(
        cls,
        A: Floats,
        B: Floats,
        Q: Floats,
        R: Floats,
        D: Floats,
        S: Floats,
        tolerance: float,
        order: Sequence[int] | None = None,
    ) -> Core:
        """Find what the cost of a problem in x (n,) sees; see `riccati_map.seen`.

        Args:
            A, B, Q, R, D: the problem, with n states; see `continuous`.
            S: terminal cost, (n, n).
            tolerance: relative size below which a link between states, or to the cost, counts as rounding.
            order: numbers of the states, those to keep in y first; None takes them as they stand.
        """
        T, states = riccati_map.seen(A, (Q, S), tolerance, order)
        among = np.ix_(states, states)
        A, B, D = (riccati_map.moved(T, part, tolerance) for part in (A[:, states], B, D))
        return cls(T.astype(np.float64), (A, B, Q[among], R, D), S[among])

    def lift(self, found: Quadratic) -> Quadratic:
        """Return a solution in y as one in x."""
        return Quadratic(symmetric(self.T.T @ found.P @ self.T), found.c, found.K @ self.T, found.error)


class HeldSystem(NamedTuple):
    """A linear-quadratic problem whose action is held over a step of length dt.

    X_{t+dt} = F x + G a + N(0, covariance), covariance = noise noise', and the step's expected discounted cost is
    1/2 (z'Mz + constant) with z = (x, a).
    """

    F: Floats
    """Response of the state to the state, (n, n)."""
    G: Floats
    """Response of the state to the action, (n, m)."""
    noise: Floats
    """Symmetric root of the covariance, (n, n)."""
    M: Floats
    """Cost matrix of (x, a), (n + m, n + m)."""
    constant: float
    """Cost of the noise of the step."""
    covariance: Floats
    """Covariance of the next state, (n, n)."""
    change: Floats
    """e^{(A - rho/2) dt} - I, which is more precise than F at a short step."""
    decay: float
    """rho dt: a step is discounted by e^{-rho dt}."""


@np.errstate(all="ignore")
def continuous(A: Floats, B: Floats, Q: Floats, R: Floats, D: Floats, rho: float) -> Quadratic:
    """Find the stationary optimum: rho P = Q + A'P + PA - P B R^{-1} B'P and c = tr(DD'P) / (2 rho).

    P is the least solution, the limit of finite horizons, found as such by doubling; where (A - rho/2, Q) is not
    detectable it is not the stabilising one. Newton's method (Kleinman, 1968), which shares nothing with the doubling,
    then corrects P to rounding and says how far it was off.

    Args:
        A, B: state and control matrix, (n, n) and (n, m).
        Q, R: state and control cost, (n, n) and (m, m).
        D: noise matrix, (n, d).
        rho: discount rate.

    Raises:
        InfiniteCostError: the cost is infinite under any control.
        NumericalError: P cannot be told to a relative error of `WORST`.
    """
    shifted: Floats = A - rho / 2 * np.eye(len(A))
    Q, S, unit = in_like_units(Q, symmetric(B @ np.linalg.solve(R, B.T)))
    P = _limit(riccati_map.short_span(shifted, S, Q, np.asarray(riccati_map.pace(shifted, S, Q))))

    def newton(P: Floats) -> Newton:
        rest = Q + 2 * symmetric(shifted.T @ P) - P @ S @ P
        size = abs(Q) + 2 * symmetric(abs(shifted).T @ abs(P)) + abs(P) @ abs(S) @ abs(P)
        return Newton(shifted - S @ P, symmetric(rest), symmetric(size))

    P, error = _polished(P, newton)
    P = P * unit
    return Quadratic(P, _per_unit(np.sum(D @ D.T * P) / 2, rho), np.linalg.solve(R, B.T @ P), error)


@np.errstate(all="ignore")
def sampled(held: HeldSystem) -> Quadratic:
    """Find the stationary optimum of the sampled-data problem: the discrete Riccati equation with cross terms.

    It is found as in `continuous`, in terms of F - I, so that short steps cost no digits.

    Raises:
        InfiniteCostError, NumericalError: see `continuous`.
    """
    n, gamma = len(held.F), math.exp(-held.decay)
    P, M = _limit(sampled_span(held)), held.M

    def newton(P: Floats) -> Newton:
        K = improve(held, P)[0]
        moved = math.sqrt(gamma) * held.G @ K
        change, most = held.change - moved, abs(held.change) + abs(moved)
        rest = M[:n, :n] - 2 * symmetric(M[:n, n:] @ K) + K.T @ M[n:, n:] @ K
        rest = rest + 2 * symmetric(change.T @ P) + change.T @ P @ change
        size = abs(M[:n, :n]) + 2 * symmetric(abs(M[:n, n:]) @ abs(K)) + abs(K).T @ abs(M[n:, n:]) @ abs(K)
        size = size + 2 * symmetric(most.T @ abs(P)) + most.T @ abs(P) @ abs(change)
        cayley = np.linalg.solve(2 * np.eye(n) + change, change)
        left = (np.eye(n) - cayley) / math.sqrt(2)
        return Newton(np.asarray(cayley, np.float64), symmetric(left.T @ rest @ left), symmetric(left.T @ size @ left))

    P, error = _polished(P, newton)
    spent = held.constant + gamma * np.sum(held.covariance * P)
    return Quadratic(P, _per_unit(spent / 2, -math.expm1(-held.decay)), improve(held, P)[0], error)


def in_like_units(Q: Floats, S: Floats) -> tuple[Floats, Floats, float]:
    """Return Q / unit, S unit and the power of two `unit` that makes them equally large; P is then in that unit."""
    sizes = [float(np.abs(part).max()) for part in (Q, S)]
    if not all(map(math.isfinite, sizes)):
        raise NumericalError("what control does for its cost, B R^{-1} B', is more than floats hold")
    unit = 2.0 ** round(math.log2(sizes[0]) / 2 - math.log2(sizes[1]) / 2) if min(sizes) > 0 else 1.0
    return Q / unit, S * unit, unit


def _limit(span: Span) -> Floats:
    P = riccati_map.limit(span)
    if P is None:
        raise InfiniteCostError("the least cost grows with the horizon without bound, or beyond what floats hold")
    return P


class Newton(NamedTuple):
    """Coefficients of Newton's correction X of P: closed' X + X closed + rest = 0, closed being stable."""

    closed: Floats
    """Stable matrix that multiplies X, (n, n)."""
    rest: Floats
    """Remainder of the equation of P, (n, n)."""
    size: Floats
    """The sum of the sizes of what cancels in `rest`."""


def _polished(P: Floats, newton: Callable[[Floats], Newton]) -> tuple[Floats, float]:
    """P after Newton's corrections, as long as each is less than half of the one before, and its relative error."""
    last, noise = math.inf, np.zeros_like(P)
    for _ in range(10):
        step, scale = newton(P), np.sqrt(np.where(np.diag(P) > 0, np.diag(P), 1.0))
        if not (np.isfinite(step.rest).all() and np.linalg.eigvals(step.closed).real.max() < 0):
            raise NumericalError("rounding hides whether the optimal feedback keeps the cost finite")
        change, noise = (_sized(step.closed, part, scale) for part in (step.rest, EPS * step.size))
        now = float(abs(change).max())
        if not now < last / 2:
            break
        P, last = P + symmetric(change * np.outer(scale, scale)), now
    error = max(last, float(abs(noise).max()))
    if not error < WORST:
        raise NumericalError(f"the Riccati equation can be solved to a relative error of {error:.1e} only")
    return P, error


def _sized(closed: Floats, rest: Floats, scale: Floats) -> Floats:
    """The solution X of closed' X + X closed + rest = 0 over scale_i scale_j; huge where closed is hardly stable."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        X: Floats = scipy.linalg.solve_continuous_lyapunov(
            (closed / scale * scale[:, None]).T, -rest / np.outer(scale, scale)
        )
    return X


def _per_unit(spent: float, rate: float) -> Floats:
    return np.asarray(spent / rate if spent else 0.0)


@np.errstate(all="ignore")
def hold(A: Floats, B: Floats, Q: Floats, R: Floats, D: Floats, rho: float, dt: float) -> HeldSystem:
    """Return the system and its cost over a step with the action held.

    All integrals are taken over dt / 2^k, in which little happens, and doubled k times: int_0^2h is int_0^h and that
    moved by h. Sums of positive matrices do not cancel, as block exponentials (Van Loan, 1978) do of stiff systems.

    Args:
        A, B, Q, R, D, rho: see `continuous`.
        dt: length of the step.

    Raises:
        ParameterError: a step over which numbers outgrow what floats hold.
    """
    (n, m), eye = B.shape, np.eye(len(A))
    rate = 2 * min(np.abs(A).sum(axis=0).max(), np.abs(A).sum(axis=1).max()) + rho
    k = max(0, math.ceil(math.log2(4 * rate * dt))) if rate * dt > 0 else 0
    h = dt / 2**k
    points, weights = np.polynomial.legendre.leggauss(NODES)
    s, w = h * (points + 1) / 2, (h / 2 * weights)[:, None, None]
    phi = _integrated(A, s)
    F = eye + A @ phi
    joint = np.concatenate(
        [np.concatenate([F, phi @ B], axis=-1), np.broadcast_to(np.eye(n + m)[n:], (NODES, m, n + m))], axis=-2
    )
    weight, fade = np.block([[Q, np.zeros((n, m))], [np.zeros((m, n)), R]]), np.exp(-rho * s)
    spread = F @ (D @ D.T) @ F.swapaxes(-1, -2)
    C, M = (
        np.sum(w * spread, axis=0),
        np.sum(w * fade[:, None, None] * (joint.swapaxes(-1, -2) @ weight @ joint), axis=0),
    )
    left = (h - s) * _faded(rho * (h - s))
    constant = float(np.sum(w[:, 0, 0] * fade * left * np.sum(Q * spread, axis=(-2, -1))))
    phi, shifted = _integrated(A, np.array([h]))[0], A - rho / 2 * eye
    change = shifted @ _integrated(shifted, np.array([h]))[0]
    for _ in range(k):
        F, fade = scipy.linalg.expm(A * h), math.exp(-rho * h)
        joint = np.block([[F, phi @ B], [np.eye(n + m)[n:]]])
        constant += fade * (constant + float(np.sum(M[:n, :n] * C)))
        M = symmetric(M + fade * joint.T @ M @ joint)
        C, phi = symmetric(C + F @ C @ F.T), phi + F @ phi
        change, h = 2 * change + change @ change, 2 * h
    if not all(np.isfinite(part).all() for part in (M, C, change, constant)):
        raise ParameterError(f"dt={dt} is too long a step: over it the state, or its cost, outgrows what floats hold")
    values, V = np.linalg.eigh(C)
    noise = (V * np.sqrt(np.maximum(values, 0.0))) @ V.T
    return HeldSystem(scipy.linalg.expm(A * dt), phi @ B, noise, M, constant, C, change, rho * dt)


def _integrated(A: Floats, times: Floats) -> Floats:
    """int_0^s e^{Au} du for short times s (k,), (k, n, n)."""
    step, eye = A * times[:, None, None], np.eye(len(A))
    total = np.zeros_like(step)
    for j in range(SERIES, 1, -1):
        total = step @ (eye + total) / j
    return times[:, None, None] * (eye + total)


def _faded(z: Floats) -> Floats:
    """(1 - e^{-z}) / z."""
    some = np.where(z > 0, z, 1.0)
    return np.where(z > 0, -np.expm1(-some) / some, 1.0)


def sampled_span(held: HeldSystem) -> Span:
    """Return the discounted map of a cost over one step, for M and F with a = v - M_aa^{-1} M_ax x put in."""
    n, fade = len(held.F), math.exp(-held.decay / 2)
    M, G = held.M, fade * held.G
    crossed = np.linalg.solve(M[n:, n:], np.hstack([M[n:, :n], G.T]))
    change = held.change - G @ crossed[:, :n]
    H = M[:n, :n] - M[:n, n:] @ crossed[:, :n]
    return Span(np.eye(n) + change, change, symmetric(G @ crossed[:, n:]), symmetric(H))


@np.errstate(all="ignore")
def sampled_backward(held: HeldSystem, steps: int, terminal: Floats) -> Quadratic:
    """Find the finite-horizon sampled-data optimum with k steps to go, k = 0 .. steps, stacked on the first axis.

    The map of 2^j steps takes what is known of 0 .. 2^j - 1 steps to go to the next 2^j.

    Args:
        held: the problem over one step.
        steps: number of steps of the horizon.
        terminal: cost matrix at the end, (n, n).
    """
    P, span, gamma = terminal[None], sampled_span(held), math.exp(-held.decay)
    while len(P) <= steps:
        P, span = np.concatenate([P, span(P)]), span.twice()
    P = P[: steps + 1]
    spent = (held.constant + gamma * np.sum(held.covariance * P[:-1], axis=(-2, -1))) / 2
    K = np.concatenate([np.zeros((1, *held.G.T.shape)), improve(held, P[:-1])[0]])
    return Quadratic(P, np.append(0.0, scipy.signal.lfilter([1.0], [1.0, -gamma], spent)), K)


def improve(held: HeldSystem, P: Floats) -> tuple[Floats, Floats]:
    """Return the greedy gain against values -1/2 x'Px, and the cost matrix of using it for a step, (..., n, n)."""
    n = len(held.F)
    joint = np.hstack([held.F, held.G])
    H = held.M + math.exp(-held.decay) * joint.T @ P @ joint
    K = np.linalg.solve(H[..., n:, n:], H[..., n:, :n])
    return K, symmetric(H[..., :n, :n] - H[..., :n, n:] @ K)
