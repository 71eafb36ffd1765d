"""A long path of a Krusell-Smith economy under a table of thresholds, compiled from beginning to end."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hacontrol_envs.arrays import Floats
from hacontrol_envs.numerics.compiled import compiled


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
    n, n_v = len(inverse), len(bounds)
    at, widths, slopes = np.empty(n_a), np.empty(n_a), np.empty(n_a)
    steps = assets[1:] - assets[:-1]
    moved = np.empty((n_e, n_a))
    basis, weights = np.empty(n), np.empty(n_k)
    kept = 0
    for t in range(len(z)):
        total, mean = 0.0, 0.0
        for f in range(n_e):
            for i in range(n_a):
                total += law[f, i] * assets[i]
                mean += law[f, i] * phi[f, i]
        capital[t] = total
        x = np.log(total)
        moment[t] = np.log(mean) - trend[z[t], 0] - trend[z[t], 1] * x
        if kept < len(laws) and t == kept * every:
            laws[kept] = law
            kept += 1
        if t == len(z) - 1:
            break
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
            share = min(max((moment[t] - bounds[0]) / (bounds[1] - bounds[0]), -1.0), 2.0)
        for j in range(n):
            w = 0.0
            for i in range(n):
                w += basis[i] * inverse[i, j]
            weights[j * n_v] = w * (1 - share)
            if n_v == 2:
                weights[j * n_v + 1] = w * share
        moved[:] = 0.0
        for f in range(n_e):
            last = n_a - 1
            while last > 0 and law[f, last] == 0.0:
                last -= 1
            at[:] = 0.0
            for j in range(n_k):
                w, row = weights[j], thresholds[z[t], j, f]
                for i in range(n_a):
                    at[i] += w * row[i]
            for i in range(n_a - 1):
                widths[i] = at[i + 1] - at[i]
            for i in range(1, n_a - 1):
                before, after = widths[i - 1], widths[i]
                below, above = steps[i - 1], steps[i]
                bent = (2 * after + before) * before * above + (after + 2 * before) * after * below
                slopes[i] = 3 * (before + after) * below * above / bent
            first, second = steps[0] / widths[0], steps[1] / widths[1]
            slopes[0] = min(max(first + widths[0] * (first - second) / (widths[0] + widths[1]), 0.0), 3 * first)
            slopes[n_a - 1] = steps[n_a - 2] / widths[n_a - 2]
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
                    s, left, right = (a - at[i]) / widths[i], widths[i] * slopes[i], widths[i] * slopes[i + 1]
                    rise = steps[i]
                    up = s * (left + s * (3 * rise - 2 * left - right + s * (left + right - 2 * rise))) / rise
                    moved[f, i] += mass * (1 - up)
                    moved[f, i + 1] += mass * up
        law[:] = 0.0
        for e in range(n_e):
            for f in range(n_e):
                p = income_chain[z[t], z[t + 1], e, f]
                if p != 0.0:
                    for i in range(n_a):
                        law[f, i] += p * moved[e, i]
