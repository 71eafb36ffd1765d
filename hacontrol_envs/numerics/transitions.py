"""Compiled exact transitions: what one held action does to every row of a batch, and the expected reward on the way.

A problem that has one returns it from `exact_transition`; a problem that has none runs through its NumPy coefficients.
Rows run inside and components outside, so that the compiler turns a row loop into vector instructions as it stands:
sums are never reassociated, and a row's bits do not depend on the batch.
"""

from __future__ import annotations

import math

import numpy as np

from hacontrol_envs.arrays import Array, Floats
from hacontrol_envs.numerics.compiled import compiled


@compiled
def linear_quadratic(
    x: Floats, a: Floats, noise: Floats, response: Floats, M: Floats, constant: float, x_next: Floats, reward: Floats
) -> None:
    """Write x_next = response' (x, a, noise) and reward = -1/2 (z'Mz + constant), z = (x, a), for every row.

    M is positive semidefinite: a sum that rounding leaves below zero is zero.

    Args:
        x, a, noise: (N, n), (N, m), (N, n) states, actions and standard normals.
        response: (n + m + n, n).
        M, constant: expected cost of a step, (n + m, n + m) and a number.
        x_next, reward: (N, n) and (N,), filled.
    """
    n, m, width = x.shape[1], a.shape[1], 64
    z, total, cost = np.empty((2 * n + m, width)), np.empty(width), np.empty(width)
    for first in range(0, len(x), width):  # a block of rows, transposed, so that rows are adjacent in memory
        rows = min(width, len(x) - first)
        for j in range(n):
            for i in range(rows):
                z[j, i] = x[first + i, j]
                z[n + m + j, i] = noise[first + i, j]
        for j in range(m):
            for i in range(rows):
                z[n + j, i] = a[first + i, j]
        for k in range(n):
            total[:rows] = 0.0
            for j in range(2 * n + m):
                weight = response[j, k]
                for i in range(rows):
                    total[i] += weight * z[j, i]
            for i in range(rows):
                x_next[first + i, k] = total[i]
        cost[:rows] = constant
        for k in range(n + m):
            total[:rows] = 0.0
            for j in range(n + m):
                weight = M[j, k]
                for i in range(rows):
                    total[i] += weight * z[j, i]
            for i in range(rows):
                cost[i] += total[i] * z[k, i]
        for i in range(rows):
            if cost[i] < 0:
                cost[i] = 0.0
            reward[first + i] = -cost[i] / 2


LEAST_WEALTH, MOST_UTILITY = 1e-300, 1e300
"""Least wealth after a step, and largest utility in absolute value: floats end there."""


def saturated(utility: Array) -> Array:
    """Return utility that NumPy's floats hold, as `portfolio` pays it; that of other libraries as it is."""
    return np.clip(utility, -MOST_UTILITY, MOST_UTILITY) if isinstance(utility, (np.ndarray, np.generic)) else utility


@compiled
def portfolio(
    x: Floats,
    a: Floats,
    noise: Floats,
    constants: Floats,
    excess: Floats,
    sigma: Floats,
    x_next: Floats,
    reward: Floats,
) -> None:
    """Write the wealth after a time dt and the expected discounted CRRA utility of consumption over it, for every row.

    With growth = r_f + excess'pi - k and variance = |sigma'pi|^2, log X gains (growth - variance/2) dt + pi'sigma dW.
    Then E int_0^dt e^{-rho s} u(k X_s) ds = u(k x) int_0^dt e^{-c s} ds, c = rho - (1-g)(growth - g variance/2), and at
    g = 1 log(k x) int_0^dt e^{-rho s} ds + (growth - variance/2) int_0^dt s e^{-rho s} ds.

    Args:
        x, a, noise: (N, 1) wealth, (N, assets + 1) fractions pi and k, (N, d) standard normals.
        constants: r_f, rho, g, dt and the two integrals of the logarithmic case.
        excess, sigma: (assets,) and (assets, d).
        x_next, reward: (N, 1) and (N,), filled.
    """
    (assets, d), width = sigma.shape, 256
    risk_free_rate, rho, g, dt, log_weight, log_drift_weight = constants
    root, scale, product = math.sqrt(dt), dt / (1 - g), g == math.floor(g) and g <= 16
    growth, variance, shock, loading, c = np.empty((5, width))
    for first in range(0, len(x), width):  # a block of rows, so that what is in between stays in the cache
        x_now, a_now, noise_now = x[first : first + width], a[first : first + width], noise[first : first + width]
        x_then, paid = x_next[first : first + width], reward[first : first + width]
        rows = len(paid)
        for i in range(rows):
            growth[i] = risk_free_rate - a_now[i, assets]
            c[i] = a_now[i, assets] * x_now[i, 0]
        for k in range(assets):
            weight = excess[k]
            for i in range(rows):
                growth[i] += weight * a_now[i, k]
        variance[:rows] = 0.0
        shock[:rows] = 0.0
        for j in range(d):
            loading[:rows] = 0.0
            for k in range(assets):
                weight = sigma[k, j]
                for i in range(rows):
                    loading[i] += weight * a_now[i, k]
            for i in range(rows):
                variance[i] += loading[i] * loading[i]
                shock[i] += loading[i] * noise_now[i, j]
        gain = shock
        for i in range(rows):
            gain[i] = (growth[i] - variance[i] / 2) * dt + root * shock[i]
        _grow(x_now, gain, x_then)
        if g == 1:
            for i in range(rows):
                drift = growth[i] - variance[i] / 2
                paid[i] = math.log(c[i]) * log_weight + drift * log_drift_weight
            continue
        z, held = growth, shock
        for i in range(rows):
            # (1 - e^{-z})/z likewise by its Taylor series for |z| < 1/20
            z[i] = (rho - (1 - g) * (growth[i] - g * variance[i] / 2)) * dt
            tail = 1 - z[i] * (1 / 6) * (1 - z[i] * (1 / 7) * (1 - z[i] * (1 / 8) * (1 - z[i] * (1 / 9))))
            held[i] = 1 - z[i] * (1 / 2) * (1 - z[i] * (1 / 3) * (1 - z[i] * (1 / 4) * (1 - z[i] * (1 / 5) * tail)))
        for i in range(rows):
            if not abs(z[i]) < 0.05:
                held[i] = -math.expm1(-z[i]) / z[i]
        if product:  # dividing by c is ten times cheaper than raising it to a power
            for _ in range(int(g) - 1):
                for i in range(rows):
                    held[i] /= c[i]
        else:
            for i in range(rows):
                held[i] *= c[i] ** (1 - g)
        for i in range(rows):
            paid[i] = scale * held[i]
        for i in range(rows):
            paid[i] = min(max(paid[i], -MOST_UTILITY), MOST_UTILITY)


@compiled
def _grow(x: Floats, gain: Floats, x_next: Floats) -> None:
    """Write x e^gain, (N, 1), as far as floats hold it."""
    for i in range(len(x)):
        # x e^v = x + x q, q = e^v - 1 by the Taylor series of e^{v/16} - 1 and q -> q (2 + q) four times, which is
        # exact to rounding for |v| < 1 ...
        v = gain[i] * (1 / 16)
        tail = 1 + v * (1 / 6) * (1 + v * (1 / 7) * (1 + v * (1 / 8) * (1 + v * (1 / 9) * (1 + v * (1 / 10)))))
        q = v * (1 + v * (1 / 2) * (1 + v * (1 / 3) * (1 + v * (1 / 4) * (1 + v * (1 / 5) * tail))))
        q *= 2 + q
        q *= 2 + q
        q *= 2 + q
        q *= 2 + q
        x_next[i, 0] = x[i, 0] + x[i, 0] * q
    for i in range(len(x)):
        if not abs(gain[i]) < 1.0:  # ... and by a call, which no vector instruction can make, for the others
            x_next[i, 0] = x[i, 0] * math.exp(gain[i])
    for i in range(len(x)):
        x_next[i, 0] = min(max(x_next[i, 0], LEAST_WEALTH), MOST_UTILITY)
