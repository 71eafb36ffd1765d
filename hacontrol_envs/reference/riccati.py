"""Riccati equations and the matrix exponentials of a linear system held over a step."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.integrate import solve_ivp
from scipy.linalg import expm, solve_continuous_are, solve_continuous_lyapunov, solve_discrete_are

from hacontrol_envs.arrays import Floats


class Quadratic(NamedTuple):
    """A value function -1/2 x'Px - c with its greedy feedback -Kx."""

    P: Floats
    c: Floats
    K: Floats


class HeldSystem(NamedTuple):
    """A linear-quadratic problem whose action is held over a step of length dt.

    X_{t+dt} = F x + G a + N(0, noise noise'), and the step's expected discounted cost is 1/2 (z'Mz + constant) with
    z = (x, a).
    """

    F: Floats
    G: Floats
    noise: Floats
    M: Floats
    constant: float


def continuous(A: Floats, B: Floats, Q: Floats, R: Floats, D: Floats, rho: float) -> Quadratic:
    """Stationary optimum: rho P = Q + A'P + PA - P B R^{-1} B'P and c = tr(DD'P) / (2 rho).

    One Newton step (Kleinman, 1968) polishes SciPy's stabilising solution to rounding.

    Raises:
        numpy.linalg.LinAlgError: (A - rho/2, B) cannot be stabilised, or the equation has no stabilising solution.
    """
    shifted = A - rho / 2 * np.eye(len(A))
    P = solve_continuous_are(shifted, B, Q, R)
    K = np.linalg.solve(R, B.T @ P)
    closed = shifted - B @ K
    if np.linalg.eigvals(closed).real.max() >= 0:
        raise np.linalg.LinAlgError("no stabilising solution")
    P = solve_continuous_lyapunov(closed.T, -(Q + K.T @ R @ K))
    P = (P + P.T) / 2
    spent = float(np.trace(D @ D.T @ P)) / 2
    return Quadratic(P, np.asarray(spent / rho if spent else 0.0), np.linalg.solve(R, B.T @ P))


def backward(
    A: Floats, B: Floats, Q: Floats, R: Floats, D: Floats, rho: float, horizon: float, terminal: Floats
) -> Callable[[Floats], Quadratic]:
    """Finite-horizon optimum as a function of time-to-go tau (k,): P (k, n, n), c (k,), K (k, m, n).

    dP/dtau = Q + A'P + PA - rho P - P B R^{-1} B'P and dc/dtau = tr(DD'P)/2 - rho c from P(0) = terminal, c(0) = 0, by
    the explicit Runge-Kutta method DOP853 with relative tolerance 1e-13 and its dense output.
    """
    n = len(A)
    S, covariance = B @ np.linalg.solve(R, B.T), D @ D.T

    def rate(tau: float, y: Floats) -> Floats:
        P = y[:-1].reshape(n, n)
        dP = Q + A.T @ P + P @ A - rho * P - P @ S @ P
        return np.append(dP.ravel(), np.sum(covariance * P) / 2 - rho * y[-1])

    start = np.append(terminal.ravel(), 0.0)
    run = solve_ivp(rate, (0.0, horizon), start, method="DOP853", rtol=1e-13, atol=1e-14, dense_output=True)

    def at(tau: Floats) -> Quadratic:
        y = run.sol(np.clip(tau, 0.0, horizon))
        P = np.moveaxis(y[:-1].reshape(n, n, -1), -1, 0)
        P = (P + P.swapaxes(-1, -2)) / 2
        return Quadratic(P, y[-1], np.linalg.solve(R, B.T @ P))

    return at


def hold(A: Floats, B: Floats, Q: Floats, R: Floats, D: Floats, rho: float, dt: float) -> HeldSystem:
    """The system and its cost over a step with the action held, by Van Loan's (1978) block exponentials."""
    n, m = B.shape
    joint = np.block([[A, B], [np.zeros((m, n + m))]])
    transition = expm(joint * dt)
    weight = np.block([[Q, np.zeros((n, m))], [np.zeros((m, n)), R]])
    M = integral(joint - rho / 2 * np.eye(n + m), weight, dt)
    w, V = np.linalg.eigh(integral(A.T, D @ D.T, dt))
    nodes, weights = np.polynomial.legendre.leggauss(24)
    times = dt * (nodes + 1) / 2
    spread = [np.exp(-rho * s) * np.sum(Q * integral(A.T, D @ D.T, s)) for s in times]
    noise = V @ np.diag(np.sqrt(np.maximum(w, 0.0))) @ V.T
    return HeldSystem(transition[:n, :n], transition[:n, n:], noise, M, float(dt / 2 * np.dot(weights, spread)))


def integral(F: Floats, W: Floats, dt: float) -> Floats:
    """int_0^dt e^{F's} W e^{Fs} ds for a symmetric W (Van Loan, 1978)."""
    n = len(F)
    block = expm(np.block([[-F.T, W], [np.zeros((n, n)), F]]) * dt)
    result = block[n:, n:].T @ block[:n, n:]
    symmetric: Floats = (result + result.T) / 2
    return symmetric


def sampled(held: HeldSystem, gamma: float) -> Quadratic:
    """Stationary optimum of the sampled-data problem: the discrete Riccati equation with cross terms."""
    n = len(held.F)
    Mxx, Mxa, Maa = held.M[:n, :n], held.M[:n, n:], held.M[n:, n:]
    root = np.sqrt(gamma)
    P = solve_discrete_are(root * held.F, root * held.G, Mxx, Maa, s=Mxa)
    spent = (held.constant + gamma * np.sum(held.noise @ held.noise.T * P)) / 2
    return Quadratic(P, np.asarray(spent / (1 - gamma) if spent else 0.0), improve(held, gamma, P)[0])


def sampled_backward(held: HeldSystem, gamma: float, steps: int, terminal: Floats) -> Quadratic:
    """Finite-horizon sampled-data optimum with k steps to go, k = 0 .. steps, stacked on the first axis."""
    P, c, K = [terminal], [0.0], [np.zeros(held.G.T.shape)]
    for _ in range(steps):
        gain, cost = improve(held, gamma, P[-1])
        c.append((held.constant + gamma * np.sum(held.noise @ held.noise.T * P[-1])) / 2 + gamma * c[-1])
        K.append(gain)
        P.append(cost)
    return Quadratic(np.stack(P), np.asarray(c), np.stack(K))


def improve(held: HeldSystem, gamma: float, P: Floats) -> tuple[Floats, Floats]:
    """Greedy gain against a continuation value -1/2 x'Px, and the cost matrix of using it for a step."""
    n = len(held.F)
    joint = np.hstack([held.F, held.G])
    H = held.M + gamma * joint.T @ P @ joint
    K = np.linalg.solve(H[n:, n:], H[n:, :n])
    cost = H[:n, :n] - H[:n, n:] @ K
    return K, (cost + cost.T) / 2
