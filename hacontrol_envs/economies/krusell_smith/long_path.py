"""A long path of a Krusell-Smith economy under a table of thresholds, compiled from beginning to end."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hacontrol_envs.arrays import Floats
from hacontrol_envs.numerics.compiled import compiled
from hacontrol_envs.numerics.egm import Cubic, interpolate, risen


@compiled
def simulate(
    thresholds: Floats,
    assets: Floats,
    range_: Floats,
    inverse: Floats,
    bounds: Floats,
    phi: Floats,
    trend: Floats,
    income_chain: Floats,
    z: NDArray[np.int64],
    law: Floats,
    capital: Floats,
    moment: Floats,
    every: int,
    laws: Floats,
) -> None:
    """Move a law by a policy and the lottery, quarter after quarter.

    Args:
        thresholds: of the policy, (n_z, n_k, n_e, n_a); see `egm`.
        assets: nodes of assets, (n_a,).
        range_: lowest and highest log K of the nodes, (2,).
        inverse: `Nodes.inverse`, (n, n).
        bounds: v at its nodes, (1,) or (2,).
        phi: weights of the moment, (n_e, n_a).
        trend: coefficients of the moment's usual value, (n_z, 2).
        income_chain: P(e'|e, Z, Z'), (n_z, n_z, n_e, n_e).
        z: path of the states of Z, (T + 1,).
        law: the law at the start, (n_e, n_a); overwritten by that of quarter T.
        capital: written: K at every quarter, (T + 1,).
        moment: written: v at every quarter, (T + 1,).
        every: quarters between laws that are kept.
        laws: written: the law at quarters 0, every, 2 every, ..., as many as there are, (count, n_e, n_a).
    """
    n_k, n_e, n_a = thresholds.shape[1:]
    steps, moved = assets[1:] - assets[:-1], np.empty((n_e, n_a))
    cubic = np.empty(n_a), np.empty(n_a), np.empty(n_a)
    basis, weights = np.empty(len(inverse)), np.empty(n_k)
    kept = 0
    for t in range(len(z)):
        total, mean = _means(law, assets, phi)
        capital[t] = total
        x = np.log(total)
        moment[t] = np.log(mean) - trend[z[t], 0] - trend[z[t], 1] * x
        if kept < len(laws) and t == kept * every:
            laws[kept] = law
            kept += 1
        if t < len(z) - 1:
            _weigh(x, moment[t], range_, inverse, bounds, basis, weights)
            _save(thresholds, assets, steps, z[t], weights, law, cubic, moved)
            _switch(moved, income_chain[z[t], z[t + 1]], law)


@compiled
def _means(law: Floats, assets: Floats, phi: Floats) -> tuple[float, float]:
    """Return the means of assets and of phi."""
    total, mean = 0.0, 0.0
    for f in range(law.shape[0]):
        for i in range(law.shape[1]):
            total += law[f, i] * assets[i]
            mean += law[f, i] * phi[f, i]
    return total, mean


@compiled
def _weigh(x: float, v: float, range_: Floats, inverse: Floats, bounds: Floats, basis: Floats, weights: Floats) -> None:
    """Write the weights of the nodes at log K and v, (n_k,); see `Nodes.weights`."""
    n, n_v = len(inverse), len(bounds)
    u = min(max((2 * x - range_[0] - range_[1]) / (range_[1] - range_[0]), -3.0), 3.0)
    inside = min(max(u, -1.0), 1.0)
    basis[0], basis[1] = 1.0, inside
    for j in range(2, n):
        basis[j] = 2 * inside * basis[j - 1] - basis[j - 2]
    if u != inside:
        for j in range(1, n):
            basis[j] += (u - inside) * j * j * inside ** (j + 1)
    share = 0.0
    if n_v == 2:
        share = min(max((v - bounds[0]) / (bounds[1] - bounds[0]), -1.0), 2.0)
    for j in range(n):
        w = 0.0
        for i in range(n):
            w += basis[i] * inverse[i, j]
        weights[j * n_v] = w * (1 - share)
        if n_v == 2:
            weights[j * n_v + 1] = w * share


@compiled
def _save(
    thresholds: Floats,
    assets: Floats,
    steps: Floats,
    z: int,
    weights: Floats,
    law: Floats,
    cubic: Cubic,
    moved: Floats,
) -> None:
    """Write the masses by what their households save, before e moves, (n_e, n_a)."""
    (n_e, n_a), (at, widths, slopes) = law.shape, cubic
    moved[:] = 0.0
    for f in range(n_e):
        last = n_a - 1
        while last > 0 and law[f, last] == 0.0:
            last -= 1
        interpolate(thresholds, z, f, weights, steps, cubic)
        i = 0
        for m in range(last + 1):
            mass = law[f, m]
            if mass == 0.0:
                continue
            a = assets[m]
            while i < n_a - 1 and at[i + 1] <= a:
                i += 1
            if a < at[0]:
                moved[f, 0] += mass
            elif i == n_a - 1:
                moved[f, i] += mass
            else:
                h, rise = widths[i], steps[i]
                up = risen((a - at[i]) / h, rise, h * slopes[i], h * slopes[i + 1]) / rise
                moved[f, i] += mass * (1 - up)
                moved[f, i + 1] += mass * up


@compiled
def _switch(moved: Floats, chain: Floats, law: Floats) -> None:
    """Write the law after e has moved by P(e'|e), (n_e, n_a)."""
    law[:] = 0.0
    for e in range(len(law)):
        for f in range(len(law)):
            p = chain[e, f]
            if p != 0.0:
                for i in range(law.shape[1]):
                    law[f, i] += p * moved[e, i]
