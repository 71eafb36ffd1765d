"""The endogenous grid method (Carroll 2006) on (a, e, Z, K), and the policy functions that come out of it.

A policy is a table of *thresholds*: at thresholds[z, k, e, i] the household owns just what makes it choose
a' = assets[i] in state (e, z) when capital is at node k. Below the first it is constrained. Unlike a' at fixed assets,
a threshold is smooth in capital, kink and all, so that it is interpolated there by polynomials; in between, a' is the
monotone cubic of Fritsch and Butland (1984) through the thresholds, one-sided at the first.

Loops call no other compiled function; see `compiled`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hacontrol_envs.arrays import Floats
from hacontrol_envs.numerics.compiled import compiled


def asset_grid(low: float, high: float, nodes: int) -> Floats:
    """Place nodes from `low` to `high`, dense at `low`: a = low + (high - low) u^2.5 with u uniform, (nodes,).

    The lottery spreads wealth by a variance in proportion to the square of the spacing, so that the spacing where most
    wealth is decides how true capital is: of several forms this one came nearest with the same nodes.

    Args:
        low, high: least and largest assets.
        nodes: number of nodes.
    """
    grid: Floats = low + (high - low) * np.linspace(0.0, 1.0, nodes) ** 2.5
    return grid


@compiled
def iterate(
    thresholds: Floats,
    assets: Floats,
    weights: Floats,
    gross: Floats,
    income: Floats,
    forecast_gross: Floats,
    forecast_income: Floats,
    chain: Floats,
    discount_factor: float,
    risk_aversion: float,
    most: int,
    tolerance: float,
) -> tuple[int, float]:
    """Iterate on the Euler equation u'(c) = beta E[(1 + r') u'(c')], in place.

    Powers are taken of consumption relative to the lowest that may follow, so that none overflows whatever the risk
    aversion; where zero may follow (no income at a limit of zero), consumption is zero.

    Args:
        thresholds: assets at which each node is chosen, (n_z, n_k, n_e, n_a).
        assets: nodes, (n_a,).
        weights: of tomorrow's capital between the nodes, for every z', (n_z, n_k, n_z, n_k).
        gross, forecast_gross: 1 + r today, (n_z, n_k), and at tomorrow's capital, (n_z, n_k, n_z).
        income, forecast_income: from work, today, (n_z, n_k, n_e), and tomorrow, (n_z, n_k, n_z, n_e).
        chain: P(z', e'|z, e), (n_z, n_e, n_z, n_e).
        discount_factor, risk_aversion: beta per period, and gamma of u(c) = c^{1-gamma}/(1-gamma).
        most: iterations.
        tolerance: of the largest change of a threshold relative to consumption.

    Returns:
        Iterations and the last change: not a number as soon as one is not, infinite where consumption is negative.
    """
    n_z, n_k, n_e, n_a = thresholds.shape
    future, known = np.empty((n_e, n_a)), thresholds.copy()
    simple = risk_aversion == 1.0 or risk_aversion == 2.0
    later, lowest = np.empty((1 if simple else n_z * n_e, n_a)), np.ones(n_a)
    at, widths, slopes, marginal = np.empty(n_a), np.empty(n_a), np.empty(n_a), np.empty(n_a)
    steps, change = assets[1:] - assets[:-1], np.inf
    count = 0
    while count < most and change > tolerance:
        count += 1
        change = 0.0
        for z in range(n_z):
            for k in range(n_k):
                future[:] = 0.0
                if not simple:
                    lowest[:] = np.inf
                for y in range(n_z):
                    R = forecast_gross[z, k, y]
                    for f in range(n_e):
                        at[:] = 0.0
                        for j in range(n_k):
                            w = weights[z, k, y, j]
                            row = known[y, j, f]
                            if w != 0.0:
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
                        end = first + widths[0] * (first - second) / (widths[0] + widths[1])
                        slopes[0] = min(max(end, 0.0), 3 * first)
                        slopes[n_a - 1] = steps[n_a - 2] / widths[n_a - 2]
                        y_f = forecast_income[z, k, y, f]
                        i = 0
                        for m in range(n_a):
                            a = assets[m]
                            while i < n_a - 1 and at[i + 1] <= a:
                                i += 1
                            if a < at[0]:
                                save = assets[0]
                            elif i == n_a - 1:
                                save = assets[i] + slopes[i] * (a - at[i])
                            else:
                                h = widths[i]
                                t = (a - at[i]) / h
                                left, right = h * slopes[i], h * slopes[i + 1]
                                rise = steps[i]
                                bend = 3 * rise - 2 * left - right
                                save = assets[i] + t * (left + t * (bend + t * (left + right - 2 * rise)))
                            marginal[m] = R * a + y_f - save
                        if risk_aversion == 1.0:
                            for m in range(n_a):
                                marginal[m] = R / marginal[m]
                        elif risk_aversion == 2.0:
                            for m in range(n_a):
                                marginal[m] = R / (marginal[m] * marginal[m])
                        else:
                            for m in range(n_a):
                                later[y * n_e + f, m] = marginal[m]
                                if not marginal[m] >= lowest[m]:
                                    lowest[m] = marginal[m]
                            continue
                        for e in range(n_e):
                            p = chain[z, e, y, f]
                            if p != 0.0:
                                for m in range(n_a):
                                    future[e, m] += p * marginal[m]
                if not simple:
                    for y in range(n_z):
                        R = forecast_gross[z, k, y]
                        for f in range(n_e):
                            for m in range(n_a):
                                if lowest[m] == 0.0:
                                    marginal[m] = R
                                else:
                                    marginal[m] = R * (later[y * n_e + f, m] / lowest[m]) ** -risk_aversion
                            for e in range(n_e):
                                p = chain[z, e, y, f]
                                if p != 0.0:
                                    for m in range(n_a):
                                        future[e, m] += p * marginal[m]
                R = gross[z, k]
                for e in range(n_e):
                    y_e = income[z, k, e]
                    for m in range(n_a):
                        u = discount_factor * future[e, m]
                        if risk_aversion == 1.0:
                            c = 1 / u
                        elif risk_aversion == 2.0:
                            c = 1 / np.sqrt(u)
                        else:
                            c = lowest[m] * u ** (-1 / risk_aversion)
                        found = (c + assets[m] - y_e) / R
                        moved = abs(found - thresholds[z, k, e, m])
                        if c > 0.0:
                            moved /= c
                        elif not (c == 0.0 and moved == 0.0):
                            moved = np.inf if c <= 0.0 else np.nan
                        if change == change and not moved <= change:
                            change = moved
                        thresholds[z, k, e, m] = found
        known[:] = thresholds
    return count, change


@compiled
def choose(
    thresholds: Floats,
    assets: Floats,
    z: NDArray[np.int64],
    weights: Floats,
    points: Floats,
    e: NDArray[np.int64],
    out: Floats,
) -> None:
    """Fill `out` with the savings a' of households in N economies.

    Args:
        thresholds: assets at which each node is chosen, (n_z, n_k, n_e, n_a).
        assets: nodes, (n_a,).
        z: aggregate states, (N,).
        weights: of capital between the nodes, (N, n_k).
        points: own assets, (N, m).
        e: own states, (N, m).
        out: a', (N, m).
    """
    n_k, n_e, n_a = thresholds.shape[1:]
    at, slopes = np.empty((n_e, n_a)), np.empty((n_e, n_a))
    for n in range(len(points)):
        at[:] = 0.0
        for j in range(n_k):
            w = weights[n, j]
            if w != 0.0:
                for f in range(n_e):
                    for i in range(n_a):
                        at[f, i] += w * thresholds[z[n], j, f, i]
        for f in range(n_e):
            for i in range(1, n_a - 1):
                before, after = at[f, i] - at[f, i - 1], at[f, i + 1] - at[f, i]
                below, above = assets[i] - assets[i - 1], assets[i + 1] - assets[i]
                bent = (2 * after + before) * before * above + (after + 2 * before) * after * below
                slopes[f, i] = 3 * (before + after) * below * above / bent
            before, after = at[f, 1] - at[f, 0], at[f, 2] - at[f, 1]
            first, second = (assets[1] - assets[0]) / before, (assets[2] - assets[1]) / after
            slopes[f, 0] = min(max(first + before * (first - second) / (before + after), 0.0), 3 * first)
            slopes[f, n_a - 1] = (assets[n_a - 1] - assets[n_a - 2]) / (at[f, n_a - 1] - at[f, n_a - 2])
        i = 0
        for m in range(points.shape[1]):
            a, f = points[n, m], e[n, m]
            if a < at[f, 0]:
                out[n, m] = assets[0]
                continue
            if a >= at[f, n_a - 1]:
                out[n, m] = assets[n_a - 1] + slopes[f, n_a - 1] * (a - at[f, n_a - 1])
                continue
            if i < n_a - 2 and at[f, i + 1] <= a < at[f, i + 2]:
                i += 1
            elif not at[f, i] <= a < at[f, i + 1]:
                low, high = 0, n_a - 1
                while high - low > 1:
                    middle = (low + high) // 2
                    if at[f, middle] <= a:
                        low = middle
                    else:
                        high = middle
                i = low
            h, rise = at[f, i + 1] - at[f, i], assets[i + 1] - assets[i]
            t, left, right = (a - at[f, i]) / h, h * slopes[f, i], h * slopes[f, i + 1]
            out[n, m] = assets[i] + t * (left + t * (3 * rise - 2 * left - right + t * (left + right - 2 * rise)))
